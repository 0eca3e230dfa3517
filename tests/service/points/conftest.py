"""The points service as its callers meet it: a real server, a real channel, a real database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import grpc.aio
import pytest
from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceStub
from laurel.points.v1.points_service_pb2_grpc import PointsServiceStub
from pydantic import SecretStr

from services.points.config import Settings
from services.points.server import build
from shared.postgres.pool import Connection
from shared.rpc.server import running
from tests.fixtures.databases import owner_of
from tests.fixtures.definitions import Administrator

if TYPE_CHECKING:
    from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceAsyncStub
    from laurel.points.v1.points_service_pb2_grpc import PointsServiceAsyncStub

ServiceDatabase = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class Service:
    """A running replica, and a look into its database."""

    stub: "PointsServiceAsyncStub"
    participant: "ParticipantServiceAsyncStub"
    definitions: Administrator
    database: Connection
    dsn: str


@asynccontextmanager
async def started(service_database: ServiceDatabase) -> AsyncIterator[Service]:
    """A replica on a fresh database."""
    dsn = await service_database("points")
    settings = Settings(postgres_dsn=SecretStr(dsn), listen="127.0.0.1:0", drain_grace_seconds=0)
    async with running(await build(settings), settings) as server:
        database = await asyncpg.connect(owner_of(dsn))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Service(
                PointsServiceStub(channel),
                ParticipantServiceStub(channel),
                Administrator(channel),
                database,
                dsn,
            )
        await database.close()


@pytest.fixture
async def service(service_database: ServiceDatabase) -> AsyncIterator[Service]:
    async with started(service_database) as running_service:
        yield running_service
