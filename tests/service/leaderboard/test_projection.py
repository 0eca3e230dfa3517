"""RULES 6.7: the sorted sets can be lost at any moment, and nothing is lost with them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from deploy.local.valkey import ValkeyServer
from services.leaderboard.projection import MARKER, REGISTRY
from shared import faults
from tests.service.leaderboard.conftest import Service, are_marked, replica, started
from tests.service.leaderboard.messages import WEEKLY, apply, event, revert, selector, user_update
from tests.service.leaderboard.steps import applied, define, projected, ranking, rebuilt, standings

EU = {"region": "EU"}
ASIA = {"region": "AS"}
PATIENCE_SECONDS = 20.0


@pytest.fixture
async def own_valkey(server_directory: Path, tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A server that the test may kill."""
    server = ValkeyServer.start(server_directory / tmp_path.name)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


async def is_rebuilding(service: Service) -> bool:
    response = await service.stub.ListRankedMembers(
        pb.ListRankedMembersRequest(selector=selector("all-time"))
    )
    return response.rebuilding


async def until_complete(service: Service) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await is_rebuilding(service):
            continue  # the call has waited for the service


async def some_boards(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "dense", rank_mode=board_pb.RANK_MODE_DENSE, breakdown_attributes=["region"])
    await define(service, "weekly", schedule=WEEKLY)
    await applied(
        service,
        *(
            event(number, 1 + number % 4, user=f"u{number}", attributes=EU if number % 2 else ASIA)
            for number in range(20)
        ),
        user_update("moves", ASIA, user="u1"),
    )
    await service.participant.RevertEntries(revert(3, user="u3"))


async def test_a_rebuild_gives_what_the_events_gave(service: Service) -> None:
    await some_boards(service)
    sets = await projected(service)
    assert await rebuilt(service) == 19 * 3
    assert await projected(service) == sets


async def test_emptied_sets_are_noticed_answered_for_and_filled_again(service: Service) -> None:
    await some_boards(service)
    await until_complete(service)
    sets, ranks = await projected(service), await ranking(service, "dense", ASIA)
    await service.sets.flushdb()
    assert await is_rebuilding(service)
    assert await ranking(service, "dense", ASIA) == ranks
    await until_complete(service)
    assert await projected(service) == sets


async def test_ranks_in_outcomes_are_right_while_the_sets_are_empty(service: Service) -> None:
    await some_boards(service)
    await until_complete(service)
    await service.sets.flushdb()
    whole, *_ = await standings(service, event("late", 3, user="u0", minutes=9, attributes=ASIA))
    assert (whole.leaderboard, whole.score, whole.previous_rank, whole.rank) == ("all-time", 4, 15, 5)


async def test_the_sets_of_a_server_that_was_restored_from_an_old_copy_are_not_trusted(
    service: Service,
) -> None:
    await some_boards(service)
    await until_complete(service)
    await service.database.execute("UPDATE projection SET marker = marker || '-of-another-server'")
    marker = await service.database.fetchval("SELECT marker FROM projection")
    await service.sets.hset(REGISTRY, MARKER, marker)
    assert await is_rebuilding(service)


async def test_a_replica_that_starts_fills_empty_sets(service: Service) -> None:
    await some_boards(service)
    await until_complete(service)
    sets = await projected(service)
    await service.sets.flushdb()
    async with replica(service.dsn, service.sets_url):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await are_marked(service.database, service.sets):
                continue  # the call has waited for the service
    assert await projected(service) == sets


async def test_events_go_on_during_a_rebuild(service: Service) -> None:
    await some_boards(service)

    async def events() -> None:
        for number in range(40):
            await applied(service, event(f"during-{number}", 1, user=f"u{number % 20}", minutes=number))

    await asyncio.gather(events(), *(rebuilt(service) for _ in range(6)))
    sets = await projected(service)
    await rebuilt(service)
    assert await projected(service) == sets


async def test_a_late_write_does_not_bring_back_what_is_stale(service: Service) -> None:
    await define(service, "all-time")
    faults.arm("leaderboard.apply.after_store=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await applied(service, event(1, 5))
    await applied(service, event(2, 6, user="bob"), event(3, 5, minutes=1))
    sets = await projected(service)
    (late,) = await standings(service, event(1, 5))
    assert (late.score, late.rank, late.previous_rank) == (5, 2, 0)
    assert await projected(service) == sets
    assert await ranking(service, "all-time") == [(1, "ada", 10), (2, "bob", 6)]


@pytest.mark.servers
async def test_while_the_sets_are_away_events_are_unavailable_and_then_answered_once(
    service_database: Callable[[str], Awaitable[str]], own_valkey: ValkeyServer
) -> None:
    async with started(service_database, own_valkey.url) as service:
        await define(service, "all-time")
        await applied(service, event(1, 5, user="bob"))
        own_valkey.kill()
        request = apply(event(2, 7))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.participant.ApplyEntries(request)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        own_valkey.restart()
        response = await service.participant.ApplyEntries(request)
        (standing,) = response.outcomes[0].effects.leaderboards
        assert (standing.score, standing.rank, standing.previous_rank) == (7, 1, 0)
        await until_complete(service)
        assert await ranking(service, "all-time") == [(1, "ada", 7), (2, "bob", 5)]


@pytest.mark.servers
async def test_reversals_too_are_finished_when_the_sets_are_back(
    service_database: Callable[[str], Awaitable[str]], own_valkey: ValkeyServer
) -> None:
    async with started(service_database, own_valkey.url) as service:
        await define(service, "all-time")
        await applied(service, event(1, 5, user="bob"), event(2, 7))
        own_valkey.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await service.participant.RevertEntries(revert(2))
        own_valkey.restart()
        response = await service.participant.RevertEntries(revert(2))
        assert response.outcomes[0].reverted
        assert response.outcomes[0].effects.leaderboards[0].previous_rank == 1
        await until_complete(service)
        assert await ranking(service, "all-time") == [(1, "bob", 5)]
