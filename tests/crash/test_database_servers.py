"""The database server dies, and its standby takes over, or a backup is put back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from laurel.orchestrator.v1 import event_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from deploy.local.config import StackConfig
from deploy.local.postgres import PostgresServer
from deploy.local.stack import Stack
from tests.crash.conftest import SETTINGS
from tests.fixtures.clients import ingest
from tests.fixtures.invariants import violations
from tests.fixtures.ledger import read_ledger
from tests.fixtures.standby import Pair, copy_of, dsn_of
from tests.fixtures.system import System, connect, event
from tests.fixtures.waiting import until
from tests.fixtures.world import CONFIGURATION

CALLERS = 6
EVENTS = 12
"""Of each caller, before and after the failure."""
OnAnswer: TypeAlias = Callable[[tuple[int, int], event_pb2.IngestEventResponse], None]


@asynccontextmanager
async def system_on(dsn: str, home: Path) -> AsyncIterator[System]:
    """A system on a server of ours, with the world of tests/fixtures/world.py in it."""
    config = StackConfig(home=home, port_base=0, postgres_admin_dsn=dsn, settings=SETTINGS)
    with Stack(config) as stack:
        await asyncio.to_thread(stack.up)
        connected = connect(stack)
        await connected.orchestrator.ApplyConfiguration(CONFIGURATION)
        yield connected
        await connected.close()


async def settled(system: System) -> None:
    async def closed() -> bool:
        return not (await read_ledger(system)).unfinished

    await until(closed, seconds=30, what="every saga is closed")


async def send(system: System, numbers: Iterable[int], on_answer: OnAnswer) -> None:
    """Events of some callers, each caller's one after the other, again and again until they are answered."""

    async def call(caller: int) -> None:
        for number in numbers:
            reply = await ingest(system, event(f"caller-{caller}", f"k{number}"))
            assert isinstance(reply, event_pb2.IngestEventResponse), reply
            on_answer((caller, number), reply)

    await asyncio.gather(*(call(caller) for caller in range(CALLERS)))


async def test_when_the_standby_takes_over_nothing_that_was_answered_is_lost(quick_directory: Path) -> None:
    pair = await Pair.start(quick_directory / "failover")
    answered: dict[tuple[int, int], event_pb2.IngestEventResponse] = {}
    half = asyncio.Event()

    def note(place: tuple[int, int], reply: event_pb2.IngestEventResponse) -> None:
        answered[place] = reply
        if len(answered) >= CALLERS * EVENTS:
            half.set()

    try:
        async with system_on(pair.admin_dsn, quick_directory / "failover-stack") as system:
            sending = asyncio.create_task(send(system, range(2 * EVENTS), note))
            await half.wait()
            assert not sending.done()
            await pair.fail_over()
            await sending
            for (caller, number), reply in answered.items():
                assert await ingest(system, event(f"caller-{caller}", f"k{number}")) == reply
            await settled(system)
            assert await violations(system) == []
    finally:
        await asyncio.to_thread(pair.erase)


async def test_a_backup_of_all_databases_at_once_goes_on_from_its_instant(quick_directory: Path) -> None:
    """Taken under load, put back with an empty Valkey; what came later is sent again, or had never been."""
    server = PostgresServer.start(quick_directory / "backup")
    answered: dict[tuple[int, int], event_pb2.IngestEventResponse] = {}
    backups = [server]
    try:
        async with system_on(dsn_of(server), quick_directory / "backup-stack") as system:
            sending = asyncio.create_task(send(system, range(EVENTS), answered.__setitem__))
            backup = await asyncio.to_thread(copy_of, server, quick_directory / "put-back")
            backups.append(backup)
            await sending
            await settled(system)
        server.kill()
        await asyncio.to_thread(backup.restart)
        async with system_on(dsn_of(backup), quick_directory / "put-back-stack") as system:
            await settled(system)
            assert await violations(system) == []
            await send(system, range(EVENTS + 5), answered.__setitem__)
            await settled(system)
            assert await violations(system) == []
            user = await system.orchestrator.GetUser(pb.GetUserRequest(user_id="caller-0"))
            assert [metric.total for metric in user.metrics] == [EVENTS + 5]
    finally:
        for each in backups:
            await asyncio.to_thread(each.erase)
