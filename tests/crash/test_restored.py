"""A service's database is put back to an earlier time, or lost whole: `laurel doctor` sends again what it lacks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import grpc.aio
import pytest
from laurel.orchestrator.v1 import event_pb2, examination_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from deploy.local.databases import database_name, owner_name
from tests.fixtures import clock
from tests.fixtures.clients import ingest
from tests.fixtures.invariants import violations
from tests.fixtures.ledger import fetch, read_ledger
from tests.fixtures.system import System, event
from tests.fixtures.waiting import until

USERS = 4
DAYS = 4
EXAMINING = examination_pb2.EXAMINATION_STAGE_EXAMINING
HEALING = examination_pb2.EXAMINATION_STAGE_HEALING


async def live(system: System, name: str) -> None:
    """Some users do this and that, on several days; some of it is undone or refused."""
    first = clock.now() - timedelta(days=DAYS)

    async def act(day: int, user: int) -> None:
        at = (first + timedelta(days=day, minutes=user)).timestamp()
        request = event(f"user-{user}", f"{name}-{day}", value=3 + user, at=at, region=f"r{user % 2}")
        reply = await ingest(system, request)
        assert isinstance(reply, event_pb2.IngestEventResponse)
        if (day + user) % 4 == 0:
            undoing = pb.VoidEntryRequest(
                entry_id=reply.entry_id, reason="a slip", request_id=f"{name}-{day}-{user}"
            )
            await system.orchestrator.VoidEntry(undoing, wait_for_ready=True)

    for day in range(DAYS):
        await asyncio.gather(*(act(day, user) for user in range(USERS)))
    gift = pb.TransferPointsRequest(
        user_id="user-0",
        to_user_id="user-3",
        points_system="xp",
        amount=1,
        request_id=f"{name}-gift",
    )
    given = await system.orchestrator.TransferPoints(gift, wait_for_ready=True)
    undoing = pb.VoidEntryRequest(entry_id=given.entry_id, reason="a slip", request_id=f"{name}-no-gift")
    await system.orchestrator.VoidEntry(undoing, wait_for_ready=True)
    await ingest(system, event("user-1", f"{name}-buy", metric="purchases"))
    await ingest(system, event("user-2", f"{name}-too-much", metric="purchases", value=1_000))


@asynccontextmanager
async def _administrator(system: System) -> AsyncIterator[asyncpg.Connection]:
    postgres = system.stack.postgres
    assert postgres is not None
    connection = await asyncpg.connect(postgres.admin_dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def keep(system: System, service: str) -> None:
    """A copy of a service's database as it is now."""
    name = database_name(service)
    system.stack.stop_service(service)
    async with _administrator(system) as administrator:
        await administrator.execute(
            f"CREATE DATABASE {name}_kept TEMPLATE {name} OWNER {owner_name(service)}"
        )
    system.stack.start_service(service)


async def put_back(system: System, service: str) -> None:
    """The copy takes the place of the database."""
    name = database_name(service)
    system.stack.stop_service(service)
    async with _administrator(system) as administrator:
        await administrator.execute(f"DROP DATABASE {name}")
        await administrator.execute(f"ALTER DATABASE {name}_kept RENAME TO {name}")
    system.stack.start_service(service)


async def lose(system: System, service: str) -> None:
    """The database is gone; what is started makes an empty one."""
    system.stack.stop_service(service)
    async with _administrator(system) as administrator:
        await administrator.execute(f"DROP DATABASE {database_name(service)}")
    system.stack.up()


async def examined(system: System) -> examination_pb2.Examination:
    """An examination of the whole ledger, once the orchestrator has found a service again that was started."""

    async def began() -> bool:
        try:
            await system.orchestrator.ExamineLedger(pb.ExamineLedgerRequest(restart=True))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    await until(began, seconds=30, what="all services answer")
    while True:
        response = await system.orchestrator.ExamineLedger(pb.ExamineLedgerRequest())
        if response.examination.stage != EXAMINING:
            return response.examination


async def healed(system: System) -> examination_pb2.Examination:
    while True:
        request = pb.HealLedgerRequest(reason="put back")
        response = await system.orchestrator.HealLedger(request, wait_for_ready=True)
        if response.examination.stage != HEALING:
            return response.examination


def lacking(examination: examination_pb2.Examination) -> set[str]:
    return {
        each.service
        for each in examination.services
        if each.missing_count + each.undoing_count + each.definition_count
    }


async def settled(system: System) -> None:
    async def closed() -> bool:
        return not (await read_ledger(system)).unfinished

    await until(closed, seconds=30, what="every saga is closed")


async def scores(system: System) -> list[asyncpg.Record]:
    return await fetch(
        system,
        "leaderboard",
        "SELECT user_id, board, run_start, segment, score FROM scores WHERE score IS NOT NULL ORDER BY 1, 2, 3",
    )


async def test_services_that_were_put_back_get_what_they_lack_and_are_believed_again(system: System) -> None:
    await live(system, "before")
    for service in ("streak", "points"):
        await keep(system, service)
    await live(system, "after")
    await settled(system)
    before = await scores(system)
    for service in ("streak", "points"):
        await put_back(system, service)
    examination = await examined(system)
    assert lacking(examination) == {"streak", "points"}
    assert not any(each.unknown_count for each in examination.services)
    assert not list((await healed(system)).failures)
    assert await violations(system) == []
    assert await scores(system) == before
    # What is told of their users from now on is not taken for old.
    await live(system, "later")
    await settled(system)
    assert await violations(system) == []


async def test_services_that_lost_their_databases_get_all_of_it_again(system: System) -> None:
    await live(system, "at-last")
    await settled(system)
    for service in ("achievement", "leaderboard"):
        await lose(system, service)
    examination = await examined(system)
    assert lacking(examination) == {"achievement", "leaderboard"}
    assert [each.service for each in examination.services if each.definition_count] == [
        "achievement",
        "leaderboard",
    ]
    assert not list((await healed(system)).failures)
    assert await violations(system) == []
    await live(system, "for-good")
    await settled(system)
    assert await violations(system) == []
    assert not lacking(await examined(system))


async def test_nothing_is_healed_that_was_not_examined(system: System) -> None:
    async with _orchestrator(system) as connection:
        await connection.execute("DELETE FROM examination")
    with pytest.raises(grpc.aio.AioRpcError, match="examined to its end"):
        await system.orchestrator.HealLedger(pb.HealLedgerRequest(reason="too early"))


async def test_what_only_services_know_is_counted_and_left_alone(system: System) -> None:
    reply = await ingest(system, event("user-0", "extra"))
    assert isinstance(reply, event_pb2.IngestEventResponse)
    async with _orchestrator(system) as connection:
        await connection.execute("DELETE FROM entries WHERE entry_id = $1", UUID(reply.entry_id))
    examination = await examined(system)
    assert [each.unknown_count for each in examination.services] == [1, 1, 1, 1]
    assert not lacking(await healed(system))


@asynccontextmanager
async def _orchestrator(system: System) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(system.stack.service_dsn("orchestrator"))
    try:
        yield connection
    finally:
        await connection.close()
