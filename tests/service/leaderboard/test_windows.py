"""RULES 6.1: a board with a daily window counts what happens in it by the user's clock."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import NOON, WEDNESDAY, apply, event, local_date, revert
from tests.service.leaderboard.steps import applied, define, maintained, ranking
from tests.service.leaderboard.test_maintenance import DUE


def at(hour: int, minute: int = 0, day: int = 4) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def daily(start: str, end: str, **fields: Any) -> board_pb.RunSchedule:
    return board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY, start_time=start, end_time=end, **fields)


async def test_only_what_happens_in_the_window_counts_by_the_users_clock(service: Service) -> None:
    await define(service, "office", schedule=daily("09:00", "17:00"))
    await applied(
        service,
        event("early", 1, user="ada", at=at(8, 59)),
        event("first", 2, user="ada", at=at(9)),
        event("last", 4, user="ada", at=at(16, 59)),
        event("late", 8, user="ada", at=at(17)),
        event("tokyo", 16, user="ren", at=at(0, 30), zone="Asia/Tokyo"),
        event("night", 32, user="ren", at=at(9), zone="Asia/Tokyo"),
    )
    assert await ranking(service, "office") == [(1, "ren", 16), (2, "ada", 6)]


async def test_behind_midnight_it_counts_in_the_run_of_its_own_date(service: Service) -> None:
    await define(service, "owls", schedule=daily("22:00", "06:00"))
    await applied(
        service,
        event("evening", 1, at=at(23)),
        event("night", 2, at=at(1, day=5)),
        event("morning", 4, at=at(6, day=5)),
    )
    assert await ranking(service, "owls") == [(1, "ada", 1)]
    assert await ranking(service, "owls", day=local_date(date(2026, 3, 5))) == [(1, "ada", 2)]


@pytest.mark.parametrize("aggregation", board_pb.ScoreAggregation.values()[1:])
async def test_what_is_taken_out_leaves_what_the_window_still_has(
    service: Service, aggregation: board_pb.ScoreAggregation.ValueType
) -> None:
    """The best, the newest and the latest outside of the window are none."""
    await define(service, "office", schedule=daily("09:00", "17:00"), aggregation=aggregation)
    await applied(
        service,
        event("kept", 3, at=at(10)),
        event("gone", 5, at=at(12)),
        event("outside", 9, at=at(18)),
    )
    await service.participant.RevertEntries(revert("gone"))
    assert await ranking(service, "office") == [(1, "ada", 3)]
    around = await service.stub.GetMember(
        pb.GetMemberRequest(
            selector=pb.SegmentSelector(leaderboard="office", run_date=WEDNESDAY), user_id="ada"
        )
    )
    assert around.standing.member.reach_time.ToDatetime(tzinfo=UTC) == at(10)


async def test_a_board_that_is_newer_than_the_events_takes_those_in_its_window(service: Service) -> None:
    await define(service, "other")
    await applied(service, event("in", 1, at=at(10)), event("out", 2, at=at(18)))
    await define(service, "office", schedule=daily("09:00", "17:00"))
    await applied(service, event("now", 4, at=at(11)))
    assert await ranking(service, "office") == [(1, "ada", 5)]


async def test_a_repeating_board_that_ends_counts_nothing_after_it(service: Service) -> None:
    schedule = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_WEEK, end_date=WEDNESDAY)
    await define(service, "ending", schedule=schedule)
    (in_time, late) = await applied(
        service, event("in time", 1, at=NOON), event("late", 1, at=NOON + timedelta(days=1))
    )
    assert in_time.effects.leaderboards[0].run.end_date == WEDNESDAY
    assert not late.effects.leaderboards
    assert await maintained(service, DUE - timedelta(days=4)) == 1


async def test_runs_say_how_far_they_have_come(service: Service) -> None:
    await define(service, "weekly", schedule=board_pb.RunSchedule(unit=board_pb.RUN_UNIT_WEEK))
    await define(service, "all-time")
    await service.participant.ApplyEntries(apply(event(1, 1)))
    await maintained(service, DUE)
    for board, status in (
        ("weekly", board_pb.RUN_STATUS_FINALIZED),
        ("all-time", board_pb.RUN_STATUS_RUNNING),
    ):
        response = await service.stub.ListRuns(pb.ListRunsRequest(leaderboard=board))
        assert [run.status for run in response.runs] == [status]
