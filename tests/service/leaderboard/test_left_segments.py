"""RULES 6.13: a segment that everybody has left counts for the limit no more, and nothing is left of it."""

import asyncio
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import grpc.aio
import pytest

from services.leaderboard.projection import MARKER, REGISTRY
from shared import faults
from tests.service.leaderboard.conftest import Service, are_marked, replica
from tests.service.leaderboard.messages import NOON, WEEKLY, apply, event, revert, user_update
from tests.service.leaderboard.steps import applied, define, maintained, projected, ranking, rebuilt
from tests.service.leaderboard.test_hidden import exclusion
from tests.service.leaderboard.test_lost_keys import is_rebuilding, texts
from tests.service.leaderboard.test_segment_limit import listed

LATER = timedelta(minutes=10)
ROWS = "SELECT count(*) FROM segments WHERE segment <> ''"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def city(name: str) -> dict[str, str]:
    return {"city": name}


async def cities(service: Service, limit: int = 2) -> None:
    """Ada in Ulm and Bob in Bonn; there is no room for a third city."""
    await define(service, "cities", schedule=WEEKLY, breakdown_attributes=["city"], segment_limit=limit)
    await applied(
        service,
        event("a", 9, user="ada", attributes=city("Ulm")),
        event("b", 7, user="bob", attributes=city("Bonn")),
    )


async def cleaned(service: Service, at: datetime = NOON) -> None:
    await maintained(service, at)


async def test_the_place_of_a_segment_that_was_left_is_another_s(service: Service) -> None:
    await cities(service)
    await applied(service, user_update("moves", city("Ulm"), user="bob"))
    await cleaned(service)
    await applied(service, event("c", 5, user="cyd", attributes=city("Kiel")))
    assert await listed(service) == ([("Kiel", 1), ("Ulm", 2)], 0)
    assert await ranking(service, "cities", city("Kiel")) == [(1, "cyd", 5)]


async def test_its_sorted_sets_and_its_name_are_gone_and_the_others_stay_trusted(service: Service) -> None:
    await cities(service)
    await applied(service, user_update("moves", city("Ulm"), user="bob"))
    before = {name: members for name, members in (await projected(service)).items() if members}
    await cleaned(service)
    names = set(texts(await service.sets.hkeys(REGISTRY))) - {MARKER}
    assert {f"laurel:{{{name}}}:order" for name in names} == set(before)
    assert await projected(service) == before
    assert await service.database.fetchval(ROWS) == 1
    assert await are_marked(service.database, service.sets)
    assert not await is_rebuilding(service, "cities", city("Ulm"))
    assert not await is_rebuilding(service, "cities", city("Bonn"))


async def test_who_comes_back_finds_the_segment_as_new(service: Service) -> None:
    await cities(service)
    await applied(service, user_update("moves", city("Ulm"), user="bob"))
    await cleaned(service)
    await applied(service, user_update("back", city("Bonn"), user="bob", snapshot=3))
    assert await listed(service) == ([("Bonn", 1), ("Ulm", 1)], 0)
    sets = await projected(service)
    await rebuilt(service)
    assert await projected(service) == sets


async def test_a_segment_of_somebody_who_is_not_ranked_now_stays(service: Service) -> None:
    """Excluded, or without a score since a void: who comes back needs no place."""
    await cities(service, limit=3)
    await applied(service, event("c", 5, user="cyd", attributes=city("Kiel")), exclusion("x", "bob", 1))
    await service.participant.RevertEntries(revert("c", user="cyd"))
    await cleaned(service)
    assert await service.database.fetchval(ROWS) == 3
    await applied(service, event("d", 1, user="dan", attributes=city("Rome")))
    assert await listed(service) == ([("Ulm", 1)], 1)


async def test_another_replica_that_remembers_the_segment_asks_again(service: Service) -> None:
    await cities(service)
    async with replica(service.dsn, service.sets_url) as other:
        await other.ApplyEntries(apply(event("b2", 1, user="bob", minutes=1, attributes=city("Bonn"))))
        await other.ApplyEntries(apply(event("k", 1, user="kim", attributes=city("Kiel"))))
        await applied(service, user_update("moves", city("Ulm"), user="bob"))
        await cleaned(service)
        await applied(service, event("c", 5, user="cyd", attributes=city("Rome")))
        await other.ApplyEntries(apply(event("d", 1, user="dan", attributes=city("Bonn"))))
        await other.ApplyEntries(apply(event("e", 1, user="eve", attributes=city("Rome"))))
    assert await listed(service) == ([("Rome", 2), ("Ulm", 2)], 2)


async def test_who_was_stored_before_and_is_projected_after_does_not_bring_anybody_back(
    service: Service,
) -> None:
    await cities(service)
    faults.arm("leaderboard.apply.after_store=error@1")
    stale = event("stale", 1, user="bob", minutes=1, attributes=city("Bonn"))
    with pytest.raises(grpc.aio.AioRpcError):
        await applied(service, stale)
    await applied(service, user_update("moves", city("Ulm"), user="bob"))
    await cleaned(service)
    await applied(service, stale)
    await applied(service, event("c", 5, user="cyd", attributes=city("Bonn")))
    assert await ranking(service, "cities", city("Bonn")) == [(1, "cyd", 5)]


async def test_what_dies_before_it_is_committed_has_everything_filled_again(service: Service) -> None:
    await cities(service)
    await applied(service, user_update("moves", city("Ulm"), user="bob"))
    faults.arm("leaderboard.cleaning.before_commit=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await cleaned(service)
    assert await ranking(service, "cities", city("Ulm")) == [(1, "ada", 9), (2, "bob", 7)]
    await rebuilt(service)
    await cleaned(service, NOON + LATER)
    assert await service.database.fetchval(ROWS) == 1
    assert await are_marked(service.database, service.sets)


@pytest.mark.parametrize("seed", range(3))
async def test_however_users_move_the_limit_holds_and_the_sets_are_those_of_a_rebuild(
    service: Service, seed: int
) -> None:
    await define(service, "cities", schedule=WEEKLY, breakdown_attributes=["city"], segment_limit=3)
    draw = random.Random(seed)
    now = NOON

    async with replica(service.dsn, service.sets_url) as other:

        async def events(number: int) -> None:
            for turn in range(20):
                command = event(
                    (number, turn),
                    draw.randint(1, 3),
                    user=f"{number}-{draw.randint(0, 2)}",
                    minutes=turn,
                    attributes=city(draw.choice("abcdefgh")),
                    snapshot=turn + 1,
                )
                await (service.participant, other)[number].ApplyEntries(apply(command))

        async def clean() -> None:
            nonlocal now
            for _ in range(8):
                now += LATER
                await cleaned(service, now)
                assert await service.database.fetchval(ROWS) <= 3

        await asyncio.gather(events(0), events(1), clean())
        await cleaned(service, now + LATER)
    sets = {name: members for name, members in (await projected(service)).items() if members}
    await rebuilt(service)
    assert await projected(service) == sets
    assert await service.database.fetchval(ROWS) == len(sets) - 1
