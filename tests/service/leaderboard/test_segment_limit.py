"""RULES 6.13: a board has only so many segments; users beyond are in the whole only, and are counted."""

import asyncio
from datetime import timedelta

from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from tests.service.leaderboard.conftest import Service, replica
from tests.service.leaderboard.messages import NOON, WEDNESDAY, WEEKLY, apply, event, user_update
from tests.service.leaderboard.steps import applied, define, maintained, projected, ranking, rebuilt
from tests.service.leaderboard.test_maintenance import DUE


async def listed(service: Service) -> tuple[list[tuple[str, int]], int]:
    """Each city with its members, and how many are beyond."""
    response = await service.stub.ListSegments(
        pb.ListSegmentsRequest(leaderboard="cities", run_date=WEDNESDAY)
    )
    found = [(one.segment["city"], one.member_count) for one in response.segments if one.segment]
    return sorted(found), response.beyond_count


async def two_of_three(service: Service) -> None:
    """Of four users in three cities the last two found no room."""
    await define(service, "cities", schedule=WEEKLY, breakdown_attributes=["city"], segment_limit=2)
    for number, (user, city) in enumerate(
        {"a": "Ulm", "b": "Bonn", "c": "Kiel", "d": "Kiel", "e": "Ulm"}.items()
    ):
        await applied(service, event(user, 9 - number, user=user, attributes={"city": city}))


async def test_who_is_beyond_is_in_the_whole_only_and_counted(service: Service) -> None:
    await two_of_three(service)
    assert await listed(service) == ([("Bonn", 1), ("Ulm", 2)], 2)
    assert [user for _, user, _ in await ranking(service, "cities")] == ["a", "b", "c", "d", "e"]
    assert await ranking(service, "cities", {"city": "Kiel"}) == []


async def test_the_archive_keeps_the_count(service: Service) -> None:
    await two_of_three(service)
    await maintained(service, DUE)
    assert await listed(service) == ([("Bonn", 1), ("Ulm", 2)], 2)


async def test_who_moves_out_of_a_segment_into_one_too_many_leaves_it(service: Service) -> None:
    await two_of_three(service)
    await applied(service, user_update("moves", {"city": "Kiel"}, user="b"))
    assert await listed(service) == ([("Ulm", 2)], 3)
    await applied(service, user_update("back", {"city": "Bonn"}, user="b", snapshot=3))
    await applied(service, user_update("joins", {"city": "Bonn"}, user="c", snapshot=2))
    assert await listed(service) == ([("Bonn", 2), ("Ulm", 2)], 1)
    sets = await projected(service)
    await rebuilt(service)
    assert await projected(service) == sets


async def test_a_higher_limit_lets_in_whoever_is_heard_of_next(service: Service) -> None:
    await two_of_three(service)
    board = (await service.stub.GetLeaderboard(pb.GetLeaderboardRequest(key="cities"))).leaderboard
    board.segment_limit = 3
    await service.definitions.update(board)
    await applied(service, event("again", 1, user="d", minutes=1, attributes={"city": "Kiel"}))
    assert await listed(service) == ([("Bonn", 1), ("Kiel", 1), ("Ulm", 2)], 1)


async def test_two_replicas_let_in_no_more_than_one_would(service: Service) -> None:
    await define(service, "cities", schedule=WEEKLY, breakdown_attributes=["city"], segment_limit=5)
    async with replica(service.dsn, service.sets_url) as other:
        await asyncio.gather(
            *(
                participant.ApplyEntries(
                    apply(
                        *(
                            event(
                                (side, number),
                                1,
                                user=f"{side}-{number}",
                                attributes={"city": f"{side}-{number}"},
                            )
                            for number in range(half, half + 4)
                        )
                    )
                )
                for side, participant in enumerate((service.participant, other))
                for half in (0, 4)
            )
        )
    cities, beyond_count = await listed(service)
    assert (len(cities), beyond_count) == (5, 11)


async def test_each_run_has_its_own_segments(service: Service) -> None:
    await two_of_three(service)
    await applied(
        service, event("next", 1, user="c", at=NOON + timedelta(days=7), attributes={"city": "Kiel"})
    )
    assert await listed(service) == ([("Bonn", 1), ("Ulm", 2)], 2)
    assert await service.database.fetchval("SELECT count(*) FROM segments WHERE segment <> ''") == 3


async def test_a_league_has_as_many_cohorts_as_it_needs(service: Service) -> None:
    league = board_pb.League(divisions=[board_pb.Division(key=key) for key in ("low", "high")], cohort_size=2)
    await define(service, "league", schedule=WEEKLY, league=league)
    await applied(service, *(event(number, 1, user=f"u{number}") for number in range(4)))
    assert await service.database.fetchval("SELECT count(*) FROM cohorts") == 2
