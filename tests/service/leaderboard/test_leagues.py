"""RULES 6.12 over the wire: cohorts fill, a week ends, users go up and down, once, whatever fails."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from shared import faults
from shared.errors import from_rpc_error
from tests.service.leaderboard.conftest import Service, replica
from tests.service.leaderboard.messages import (
    NEXT_WEEK,
    NOON,
    WEDNESDAY,
    WEEKLY,
    apply,
    event,
    local_date,
    revert,
)
from tests.service.leaderboard.steps import applied, define, found, maintained, ranking, rebuilt
from tests.service.leaderboard.test_hidden import exclusion
from tests.service.leaderboard.test_maintenance import DUE

WEEK = timedelta(days=7)
MONDAY = datetime(2026, 3, 9, 9, tzinfo=UTC)
"""The next run has begun, and the one before is not final."""

STAYS, UP, DOWN = (
    board_pb.LEAGUE_OUTCOME_STAYS,
    board_pb.LEAGUE_OUTCOME_PROMOTED,
    board_pb.LEAGUE_OUTCOME_DEMOTED,
)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


async def league(service: Service, size: int = 3, up: int = 1, down: int = 1, **fields: Any) -> None:
    divisions = [board_pb.Division(key=key, achievement=f"in-{key}") for key in ("bronze", "silver", "gold")]
    rules = board_pb.League(
        divisions=divisions, cohort_size=size, promoted_count=up, demoted_count=down, **fields
    )
    await define(service, "league", schedule=WEEKLY, league=rules)


async def scored(service: Service, scores: Mapping[str, int], *, at: datetime = NOON) -> None:
    """In the order in which they are given."""
    for user, score in scores.items():
        await applied(service, event((user, at), score, user=user, at=at))


async def standing(service: Service, user: str, day: Any = WEDNESDAY) -> board_pb.LeagueStanding:
    request = pb.GetLeagueStandingRequest(leaderboard="league", user_id=user, run_date=day)
    return (await service.stub.GetLeagueStanding(request)).standing


async def cohorts(service: Service, users: str, day: Any = WEDNESDAY) -> list[str]:
    found = [await standing(service, user, day) for user in users]
    return [
        f"{league_standing.division} {league_standing.segment.get('cohort', '-')}"
        for league_standing in found
    ]


async def test_cohorts_fill_as_users_become_active(service: Service) -> None:
    await league(service)
    await scored(service, {"a": 5, "b": 9, "c": 7, "d": 1})
    assert await cohorts(service, "abcd") == ["bronze 1"] * 3 + ["bronze 2"]
    told = await standing(service, "c")
    assert [(member.rank, member.user_id, member.name) for member in told.members] == [
        (1, "b", "B"),
        (2, "c", "C"),
        (3, "a", "A"),
    ]
    assert (told.rank, told.outcome, told.next_division, told.waiting) == (2, STAYS, "bronze", False)
    assert told.promotion_distance == 2
    assert not told.HasField("demotion_distance")  # nobody goes down from the lowest
    first = await standing(service, "b")
    assert (first.outcome, first.next_division) == (UP, "silver")
    assert not first.HasField("promotion_distance")
    assert [user for _, user, _ in await ranking(service, "league")] == ["b", "c", "a", "d"]


async def test_who_is_not_active_is_told_the_division_that_waits(service: Service) -> None:
    await league(service)
    told = await standing(service, "nobody")
    assert (told.division, dict(told.segment), told.rank, told.next_division) == ("bronze", {}, 0, "bronze")


async def test_a_week_ends_and_users_go_up_and_down(service: Service) -> None:
    await league(service)
    await scored(service, {"a": 5, "b": 9, "c": 7, "d": 1})
    await maintained(service, DUE)
    moves = [(change.user_id, change.league_move) for change in await found(service)]
    assert [
        (user, move.from_division, move.to_division, move.promoted, move.achievement) for user, move in moves
    ] == [
        ("b", "bronze", "silver", True, "in-silver"),
        ("d", "bronze", "silver", True, "in-silver"),
    ]
    assert (await standing(service, "b")).outcome == UP
    later = DUE + timedelta(hours=1)
    await scored(service, {"d": 1, "a": 3, "b": 2}, at=later)
    assert await cohorts(service, "abd", NEXT_WEEK) == ["bronze 1", "silver 1", "silver 1"]
    told = await standing(service, "b", NEXT_WEEK)
    assert (told.outcome, told.demotion_distance) == (UP, 1)
    assert (await standing(service, "d", NEXT_WEEK)).outcome == DOWN
    await maintained(service, DUE + WEEK)
    assert (await standing(service, "d", local_date(date(2026, 3, 18)))).division == "bronze"
    assert (await standing(service, "b", local_date(date(2026, 3, 18)))).division == "gold"


async def test_who_is_active_before_the_last_week_is_final_waits_and_then_sits_where_it_led(
    service: Service,
) -> None:
    await league(service)
    await scored(service, {"a": 5, "b": 9, "c": 7})
    await scored(service, {"b": 2, "c": 4}, at=MONDAY)
    told = await standing(service, "b", NEXT_WEEK)
    assert (told.waiting, dict(told.segment), told.division) == (True, {}, "bronze")
    assert await ranking(service, "league", day=NEXT_WEEK) == [(1, "c", 4), (2, "b", 2)]
    await maintained(service, DUE)
    assert await cohorts(service, "bc", NEXT_WEEK) == ["silver 1", "bronze 1"]
    for _ in range(2):
        in_silver = await ranking(service, "league", {"division": "silver", "cohort": "1"}, NEXT_WEEK)
        assert in_silver == [(1, "b", 2)]
        await rebuilt(service)
    await applied(service, event("more", 3, user="b", at=MONDAY + timedelta(hours=8)))
    assert (await standing(service, "b", NEXT_WEEK)).members[0].score == 5


async def test_a_void_before_the_end_counts_and_who_has_nothing_left_was_not_active(service: Service) -> None:
    await league(service, inactive_policy=board_pb.INACTIVE_POLICY_DROP)
    await scored(service, {"a": 5, "b": 9})
    await maintained(service, DUE)
    at = DUE + timedelta(hours=1)
    await scored(service, {"b": 4, "a": 6}, at=at)
    await service.participant.RevertEntries(revert(("b", at), user="b", now=at))
    assert (await standing(service, "b", NEXT_WEEK)).rank == 0
    await maintained(service, DUE + WEEK)
    third = local_date(date(2026, 3, 18))
    assert (await standing(service, "b", third)).division == "bronze"
    assert (await standing(service, "a", third)).division == "silver"


async def test_who_is_not_active_keeps_the_division_or_drops_one(service: Service) -> None:
    await league(service)
    await scored(service, {"a": 5, "b": 9})
    await maintained(service, DUE)
    await scored(service, {"a": 5}, at=DUE + timedelta(hours=1))
    await maintained(service, DUE + WEEK)
    assert (await standing(service, "b", local_date(date(2026, 3, 18)))).division == "silver"


async def test_ties_at_the_line_are_broken_as_the_board_breaks_them(service: Service) -> None:
    await league(service, size=4, up=2)
    await applied(service, *(event(user, 5, user=user, minutes=n) for n, user in enumerate("dbca")))
    await maintained(service, DUE)
    assert [change.user_id for change in await found(service)] == ["d", "b"]


async def test_who_is_excluded_takes_no_seat_and_does_not_go_up(service: Service) -> None:
    await league(service)
    await applied(service, exclusion("x", "a", 1))
    await scored(service, {"a": 9, "b": 5, "c": 4, "d": 3, "e": 2})
    assert await cohorts(service, "abcde") == ["bronze -", *["bronze 1"] * 3, "bronze 2"]
    await applied(service, exclusion("y", "b", 1))
    await maintained(service, DUE)
    assert [change.user_id for change in await found(service)] == ["c", "e"]


@pytest.mark.parametrize(
    "point",
    ["maintenance.before_commit", "maintenance.after_commit", "ending.before_commit", "ending.after_commit"],
)
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_each_goes_up_once_when_every_step_fails(service: Service, point: str, nth: int) -> None:
    await league(service, size=2)
    await scored(service, {user: 20 - n for n, user in enumerate("abcdef")})
    await scored(service, {"a": 1, "b": 2}, at=MONDAY)
    faults.arm(f"leaderboard.{point}=error@{nth}")
    for _ in range(3):
        try:
            await maintained(service, DUE)
        except grpc.aio.AioRpcError:
            continue
    assert Counter(change.user_id for change in await found(service)) == Counter("ace")
    assert await cohorts(service, "ab", NEXT_WEEK) == ["silver 1", "bronze 1"]


async def test_two_replicas_fill_the_same_cohorts_and_none_twice(service: Service) -> None:
    await league(service, size=4)
    users = [f"u{number}" for number in range(42)]
    async with replica(service.dsn, service.sets_url) as other:
        await asyncio.gather(
            *(
                stub.ApplyEntries(apply(event(user, 1 + n, user=user)))
                for n, user in enumerate(users)
                for stub in (service.participant, other)
            )
        )
    counts = await service.database.fetch(
        "SELECT cohort, count(*) AS seated, max(member_count) AS counted "
        "FROM seats JOIN cohorts USING (board, run_start, division, cohort) GROUP BY cohort ORDER BY cohort"
    )
    assert [tuple(row) for row in counts] == [*((n, 4, 4) for n in range(1, 11)), (11, 2, 2)]


async def from_zones(service: Service, zones: str, *, at: datetime = NOON) -> None:
    """Users a, b, ... one after the other: of New York, Berlin or Tokyo."""
    names = {"N": "America/New_York", "B": "Europe/Berlin", "T": "Asia/Tokyo"}
    for user, zone in zip("abcdefghij", zones, strict=False):
        await applied(service, event((user, at), 1, user=user, at=at, zone=names[zone]))


async def test_users_of_nearby_zones_are_put_together_where_a_league_asks_for_it(service: Service) -> None:
    await league(service, size=2, zone_band_count=3)
    await from_zones(service, "TBTNTNBB")
    assert await cohorts(service, "abcdefgh") == [f"bronze {n}" for n in (1, 1, 2, 3, 2, 3, 4, 4)]
    assert [tuple(row) for row in await service.database.fetch(CREW)] == [
        (1, 2, 2, False),
        (2, 2, 2, False),
        (3, 2, 0, False),
        (4, 2, 1, False),
    ]


CREW = "SELECT cohort, member_count, band, is_filling FROM cohorts ORDER BY run_start DESC, division, cohort"


async def test_who_waits_is_put_together_by_the_zone_of_then(service: Service) -> None:
    await league(service, size=2, zone_band_count=3)
    await applied(service, event("x", 1, user="x"))
    await from_zones(service, "TTBNB", at=MONDAY)
    assert (await standing(service, "a", NEXT_WEEK)).waiting
    await maintained(service, DUE)
    assert await cohorts(service, "abcde", NEXT_WEEK) == [f"bronze {n}" for n in (1, 1, 2, 3, 2)]
    assert [tuple(row) for row in await service.database.fetch(CREW)][:3] == [
        (1, 2, 2, False),
        (2, 2, 1, False),
        (3, 1, 0, True),
    ]


async def test_a_league_may_begin_or_cease_to_balance_zones_in_a_run(service: Service) -> None:
    await league(service, size=2)
    await from_zones(service, "T")
    rules = board_pb.League(
        divisions=[
            board_pb.Division(key=key, achievement=f"in-{key}") for key in ("bronze", "silver", "gold")
        ],
        cohort_size=2,
        zone_band_count=3,
    )
    await service.definitions.update(board_pb.Leaderboard(key="league", league=rules), "league")
    await from_zones(service, "TBNT")
    assert await cohorts(service, "abcd") == [f"bronze {n}" for n in (1, 1, 2, 3)]
    rules.zone_band_count = 0
    await service.definitions.update(board_pb.Leaderboard(key="league", league=rules), "league")
    await from_zones(service, "TBNTTT")
    assert await cohorts(service, "ef") == ["bronze 3", "bronze 4"]


async def test_two_replicas_balance_zones_and_fill_no_cohort_beyond_its_size(service: Service) -> None:
    await league(service, size=4, zone_band_count=3)
    zones = ("America/New_York", "Europe/Berlin", "Asia/Tokyo")
    async with replica(service.dsn, service.sets_url) as other:
        await asyncio.gather(
            *(
                stub.ApplyEntries(apply(event(n, 1 + n, user=f"u{n}", zone=zones[n % 3])))
                for n in range(42)
                for stub in (service.participant, other)
            )
        )
    counts = await service.database.fetch(
        "SELECT cohort, count(*) AS seated, max(member_count) AS counted, bool_or(is_filling) AS has_room "
        "FROM seats JOIN cohorts USING (board, run_start, division, cohort) GROUP BY cohort ORDER BY cohort"
    )
    assert sum(row["seated"] for row in counts) == 42
    assert all(row["seated"] == row["counted"] <= 4 for row in counts)
    assert all(row["has_room"] is (row["seated"] < 4) for row in counts)
    assert sum(row["has_room"] for row in counts) <= 3


async def test_a_board_that_is_no_league_is_refused_by_name(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.GetLeagueStanding(pb.GetLeagueStandingRequest(leaderboard="weekly", user_id="a"))
    assert from_rpc_error(raised.value).reason == "LEAGUE_NOT_FOUND"


@pytest.mark.parametrize("seed", range(3))
async def test_seasons_equal_an_obvious_recomputation(service: Service, seed: int) -> None:
    """Some weeks of random activity: divisions and cohorts against a plain simulation."""
    random = Random(seed)
    await league(service, size=3, inactive_policy=board_pb.INACTIVE_POLICY_DROP)
    users = [f"u{n}" for n in range(12)]
    division: dict[str, int] = {}
    for week in range(4):
        monday = DUE + WEEK * week + timedelta(hours=2)
        active = random.sample(users, random.randint(4, 12))
        scores = {user: random.randint(1, 6) for user in active}
        for minute, user in enumerate(active):
            at = monday + timedelta(minutes=minute)
            await applied(service, event((week, user), scores[user], user=user, at=at))
        waiting: dict[int, list[list[tuple[int, int, str]]]] = {0: [[]], 1: [[]], 2: [[]]}
        for minute, user in enumerate(active):
            sitting = waiting[division.get(user, 0)]
            if len(sitting[-1]) == 3:
                sitting.append([])
            sitting[-1].append((-scores[user], minute, user))
        after = {user: max(0, number - 1) for user, number in division.items()}
        for number, all_of_division in waiting.items():
            for cohort in all_of_division:
                for place, (_, _, user) in enumerate(sorted(cohort)):
                    goes_up = place == 0 and number < 2
                    goes_down = number > 0 and place == len(cohort) - 1 and not goes_up
                    after[user] = number + goes_up - goes_down
        await maintained(service, DUE + WEEK * (week + 1))
        division = after
        stored = await service.database.fetch("SELECT user_id, division FROM divisions")
        assert {row["user_id"]: row["division"] for row in stored} == division, week
