"""RULES 6.9: where somebody was last Tuesday, and who has come up most."""

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from tests.fixtures.paging import pages
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import NOON, WEDNESDAY, WEEKLY, event, local_date, selector
from tests.service.leaderboard.steps import applied, define, maintained
from tests.service.leaderboard.test_maintenance import DUE

DAY = timedelta(days=1)
EU = {"region": "EU"}


def night(days: int) -> datetime:
    """Soon after the end of the date that is so many days after Wednesday."""
    return (NOON + (days + 1) * DAY).replace(hour=0, minute=5)


async def told(service: Service, user: str, **fields: Any) -> list[tuple[int, int, float]]:
    """Day of the month, rank, score; read in pages of 2."""
    request = pb.ListDailyRanksRequest(leaderboard="weekly", user_id=user, page_size=2, **fields)
    found = await pages(service.stub.ListDailyRanks, request, "daily_ranks")
    return [(one.date.day, one.rank, one.score) for page in found for one in page]


async def three_days(service: Service, **fields: Any) -> None:
    """a leads, c overtakes both in the end; b does nothing after the first day."""
    await define(service, "weekly", schedule=WEEKLY, **fields)
    for day, scores in enumerate(({"a": 9, "b": 5, "c": 1}, {"c": 5}, {"c": 9})):
        at = NOON + day * DAY
        await applied(
            service,
            *(event((user, day), score, user=user, at=at, attributes=EU) for user, score in scores.items()),
        )
        for _ in range(2):
            await maintained(service, night(day))
        await applied(service, event((day, "after"), 1, user="late", at=night(day)))


async def test_each_date_has_the_ranks_at_its_end_also_of_who_did_nothing(service: Service) -> None:
    await three_days(service, daily_rank_depth=10)
    assert await told(service, "b") == [(6, 3, 5), (5, 3, 5), (4, 2, 5)]
    assert await told(service, "c") == [(6, 1, 15), (5, 2, 6), (4, 3, 1)]
    assert await told(service, "c", until_date=local_date(date(2026, 3, 5))) == [(5, 2, 6), (4, 3, 1)]
    assert await told(service, "nobody") == []


async def test_a_dates_ranks_are_read_from_the_first_on(service: Service) -> None:
    await three_days(
        service, daily_rank_depth=10, breakdown_attributes=["region"], profile_attributes=["region"]
    )

    async def snapshot(day: int, size: int = 2, **fields: Any) -> list[tuple[int, str, str, float]]:
        request = pb.ListDailyMembersRequest(
            leaderboard="weekly", date=local_date(date(2026, 3, day)), page_size=size, **fields
        )
        found = await pages(service.stub.ListDailyMembers, request, "members")
        return [(each.rank, each.user_id, each.name, each.score) for page in found for each in page]

    assert await snapshot(4) == [(1, "a", "A", 9), (2, "b", "B", 5), (3, "c", "C", 1)]
    last = [(1, "c", "C", 15), (2, "a", "A", 9), (3, "b", "B", 5), (4, "late", "Late", 2)]
    assert await snapshot(6) == await snapshot(6, 1) == await snapshot(6, 0) == last
    assert await snapshot(6, segment=EU) == last[:3]
    assert await snapshot(3) == []
    await maintained(service, DUE)
    assert await snapshot(6) == last
    request = pb.ListDailyMembersRequest(leaderboard="weekly", date=local_date(date(2026, 3, 6)), page_size=1)
    response = await service.stub.ListDailyMembers(request)
    assert (response.date.day, response.run.start_date.day) == (6, 2)
    assert dict(response.members[0].attributes) == EU


async def test_they_stay_when_the_run_is_archived(service: Service) -> None:
    await three_days(service, daily_rank_depth=10)
    await maintained(service, DUE)
    assert (await told(service, "c"))[-1] == (4, 3, 1)


async def test_only_so_many_are_kept_of_each_segment_and_none_where_none_are_asked_for(
    service: Service,
) -> None:
    await three_days(service, daily_rank_depth=1, breakdown_attributes=["region"])
    assert await told(service, "c", segment=EU) == await told(service, "c") == [(6, 1, 15)]
    await define(service, "plain")
    await maintained(service, night(4))
    assert await service.database.fetchval("SELECT count(*) FROM kept_days WHERE board = 'plain'") == 0


@pytest.mark.parametrize(
    ("mode", "ranks"),
    [(board_pb.RANK_MODE_COMPETITION, [1, 1, 3]), (board_pb.RANK_MODE_DENSE, [1, 1, 2])],
)
async def test_ties_are_numbered_as_the_board_numbers_them(
    service: Service, mode: board_pb.RankMode.ValueType, ranks: list[int]
) -> None:
    await define(service, "weekly", schedule=WEEKLY, rank_mode=mode, daily_rank_depth=9)
    await applied(
        service, *(event(user, score, user=user) for user, score in {"a": 5, "b": 5, "c": 3}.items())
    )
    await maintained(service, night(0))
    assert [rank for user in "abc" for _, rank, _ in await told(service, user)] == ranks


async def test_who_has_come_up_most_comes_first(service: Service) -> None:
    await three_days(service, daily_rank_depth=10)
    response = await service.stub.ListClimbers(
        pb.ListClimbersRequest(selector=selector("weekly", day=WEDNESDAY))
    )
    assert [
        (
            climber.user_id,
            climber.name,
            climber.first_rank,
            climber.first_date.day,
            climber.last_rank,
            climber.last_date.day,
        )
        for climber in response.climbers
    ] == [("c", "C", 3, 4, 1, 6)]
