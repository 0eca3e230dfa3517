"""RULES 6.3: a streak that is alive is on the live board of a run from its beginning on, whatever is said of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.leaderboard.domain.boards import segment_text
from shared.rpc.convert import to_timestamp
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import (
    WEEKLY,
    Recorded,
    event,
    local_date,
    streak_change,
    streak_effect,
)
from tests.service.leaderboard.steps import applied, define, maintained, projected, ranking

WEEK: Final = date_pb2.LocalDate(year=2026, month=11, day=23)
BEGUN: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
"""The week of the 23rd, a Monday, has begun in the first zone, and in no other."""
BEFORE_OVER: Final = datetime(2026, 11, 23, 14, tzinfo=UTC)
"""The week before is final."""
PRO: Final = {"plan": "pro"}


def noon(day: int) -> datetime:
    return datetime(2026, 11, day, 12, tzinfo=UTC)


def alive(
    user: str, day: int, length: int, version: int = 1, attributes: Mapping[str, str] | None = None
) -> participant_pb.Command:
    """An event with which a period qualified."""
    reached = Recorded(noon(day).date(), length, noon(day), f"{user}{day}")
    effects = Effects(streaks=[streak_effect(version, length, length, at=noon(day), periods=[reached])])
    return event(f"{user}{day}", 1, user=user, at=noon(day), attributes=attributes or {}, effects=effects)


async def live(service: Service) -> list[tuple[int, str, float]]:
    return await ranking(service, "weekly-streaks", day=WEEK)


async def differences(service: Service) -> Sequence[pb.ProjectionDifference]:
    return (await service.stub.VerifyProjection(pb.VerifyProjectionRequest())).differences


async def test_who_has_done_nothing_yet_is_on_the_board_as_soon_as_the_run_begins(service: Service) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY, breakdown_attributes=["plan"])
    await applied(service, alive("ada", 20, 4, attributes=PRO), alive("bob", 21, 2))
    assert await live(service) == []
    await maintained(service, BEGUN)
    assert await live(service) == [(1, "ada", 4), (2, "bob", 2)]
    assert await ranking(service, "weekly-streaks", PRO, day=WEEK) == [(1, "ada", 4)]
    assert [list(found) for found in await service.database.fetch(SEGMENTS)] == [[""], [segment_text(PRO)]]
    assert not await differences(service)


async def test_who_comes_alive_where_the_run_before_goes_on_is_on_the_board_of_the_next_at_once(
    service: Service,
) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    await applied(service, alive("ada", 20, 4))
    await maintained(service, BEGUN)
    await applied(service, alive("bob", 22, 1))
    assert await live(service) == [(1, "ada", 4), (2, "bob", 1)]
    assert not await differences(service)


async def test_what_was_said_before_a_run_began_and_came_after_it_is_there_when_the_run_before_is_over(
    service: Service,
) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    await applied(service, alive("ada", 20, 4))
    await maintained(service, BEGUN)
    await applied(service, alive("bob", 21, 1))
    assert await live(service) == [(1, "ada", 4)]
    await maintained(service, BEFORE_OVER)
    assert await live(service) == [(1, "ada", 4), (2, "bob", 1)]
    assert not await differences(service)


async def test_what_is_said_later_takes_the_place_of_what_was_carried(service: Service) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    await applied(service, alive("ada", 20, 4), alive("bob", 21, 2), alive("cy", 21, 1))
    await maintained(service, BEGUN)
    on_sunday = streak_change(
        "broke", 2, 0, 2, user="bob", at=noon(23), periods=[Recorded(noon(22).date(), 0)]
    )
    on_monday = streak_change(
        "midnight", 2, 0, 1, user="cy", at=noon(24), periods=[Recorded(noon(23).date(), 0)]
    )
    await applied(service, alive("ada", 23, 5, version=2), on_sunday, on_monday)
    assert await live(service) == [(1, "ada", 5), (2, "cy", 0)]
    assert not await differences(service)


async def test_whom_a_crash_kept_from_the_sorted_sets_is_told_to_them_by_the_next_pass(
    service: Service,
) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    await applied(service, alive("ada", 20, 4), alive("bob", 21, 2))
    await maintained(service, BEGUN)
    whole = await projected(service)
    await service.database.execute("TRUNCATE run_starts")
    await service.stub.RebuildProjection(pb.RebuildProjectionRequest())
    (held,) = [key async for key in service.sets.scan_iter("laurel:{*:2026-11-23:*held")]
    (order,) = [key async for key in service.sets.scan_iter("laurel:{*:2026-11-23:*order")]
    await service.sets.hdel(held, "ada")
    await service.sets.zremrangebyrank(order, 0, 0)
    await service.sets.hset(held, "", "1")
    assert await live(service) == [(1, "bob", 2)]
    await maintained(service, BEGUN)
    assert await live(service) == [(1, "ada", 4), (2, "bob", 2)]
    assert await projected(service) == whole


async def test_a_run_into_which_nothing_goes_on_is_not_opened(service: Service) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    broke = streak_change("broke", 2, 0, 4, at=noon(21), periods=[Recorded(noon(20).date(), 0)])
    await applied(service, alive("ada", 19, 4), broke)
    await maintained(service, BEGUN)
    runs = (await service.stub.ListRuns(pb.ListRunsRequest(leaderboard="weekly-streaks"))).runs
    assert [run.start_date.day for run in runs] == [16]


@pytest.mark.parametrize(
    ("year", "shown"), [pytest.param(2020, [], id="over"), pytest.param(2100, [(1, "ada", 4)], id="open")]
)
async def test_of_an_imports_history_those_runs_get_a_live_board_that_are_still_open(
    service: Service, year: int, shown: list[tuple[int, str, float]]
) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    then = datetime(year, 11, 20, 12, tzinfo=UTC)
    reached = Recorded(then.date(), 4, then, "then")
    effects = Effects(streaks=[streak_effect(1, 4, 4, at=then, periods=[reached])])
    await applied(service, event("then", 1, at=then, effects=effects))
    now = then + timedelta(days=7)
    await service.participant.RunMaintenance(
        participant_pb.RunMaintenanceRequest(now=to_timestamp(now), history=True)
    )
    assert await ranking(service, "weekly-streaks", day=local_date(now.date())) == shown


SEGMENTS: Final = "SELECT segment FROM segments WHERE run_start = '2026-11-23' ORDER BY segment"
