"""The streak service as its callers meet it: a real server, a real channel, a real database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import grpc.aio
import pytest
from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceStub
from laurel.streak.v1.streak_service_pb2_grpc import StreakServiceStub
from pydantic import SecretStr

from services.streak.config import Settings
from services.streak.server import build
from shared.postgres.pool import Connection
from shared.rpc.server import running
from tests.fixtures.databases import owner_of
from tests.fixtures.definitions import Administrator

if TYPE_CHECKING:
    from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceAsyncStub
    from laurel.streak.v1.streak_service_pb2_grpc import StreakServiceAsyncStub

ServiceDatabase = Callable[[str], Awaitable[str]]

# The tests live in 2025: the service's own passes by the wall clock would close everything.
KEEP_CLOCK_OFF = "UPDATE maintenance SET hold_until = now() + interval '1 day'"


@dataclass(frozen=True)
class Service:
    """A running replica, and a look into its database."""

    stub: "StreakServiceAsyncStub"
    participant: "ParticipantServiceAsyncStub"
    definitions: Administrator
    database: Connection
    dsn: str


@asynccontextmanager
async def served(dsn: str, maintenance_batch_size: int = 3) -> AsyncIterator[grpc.aio.Channel]:
    """A server on this database, and a channel to it."""
    settings = Settings(
        postgres_dsn=SecretStr(dsn),
        listen="127.0.0.1:0",
        drain_grace_seconds=0,
        maintenance_batch_size=maintenance_batch_size,
    )
    async with (
        running(await build(settings), settings) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield channel


@asynccontextmanager
async def replica(dsn: str, maintenance_batch_size: int = 3) -> AsyncIterator["ParticipantServiceAsyncStub"]:
    """Another replica on this database, as the orchestrator calls it."""
    async with served(dsn, maintenance_batch_size) as channel:
        yield ParticipantServiceStub(channel)


@asynccontextmanager
async def started(service_database: ServiceDatabase) -> AsyncIterator[Service]:
    dsn = await service_database("streak")
    database = await asyncpg.connect(owner_of(dsn))
    await database.execute(KEEP_CLOCK_OFF)
    async with served(dsn) as channel:
        yield Service(
            StreakServiceStub(channel), ParticipantServiceStub(channel), Administrator(channel), database, dsn
        )
    await database.close()


@pytest.fixture
async def service(service_database: ServiceDatabase) -> AsyncIterator[Service]:
    async with started(service_database) as running_service:
        yield running_service


@pytest.fixture
async def twin(service_database: ServiceDatabase) -> AsyncIterator[Service]:
    """A second service with a database of its own, to hold the first one against."""
    async with started(service_database) as running_service:
        yield running_service
