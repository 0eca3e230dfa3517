"""The achievement service as its callers meet it: a real server, a real channel, a real database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import grpc.aio
import pytest
from laurel.achievement.v1.achievement_service_pb2_grpc import AchievementServiceStub
from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceStub
from pydantic import SecretStr

from services.achievement.config import Settings
from services.achievement.server import build
from shared.postgres.pool import Connection
from shared.rpc.server import running
from tests.fixtures.databases import owner_of
from tests.fixtures.definitions import Administrator

if TYPE_CHECKING:
    from laurel.achievement.v1.achievement_service_pb2_grpc import AchievementServiceAsyncStub
    from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceAsyncStub

ServiceDatabase = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class Service:
    """A running replica, and a look into its database."""

    stub: "AchievementServiceAsyncStub"
    participant: "ParticipantServiceAsyncStub"
    definitions: Administrator
    database: Connection
    dsn: str


@asynccontextmanager
async def started(service_database: ServiceDatabase) -> AsyncIterator[Service]:
    """A replica on a fresh database."""
    dsn = await service_database("achievement")
    settings = Settings(postgres_dsn=SecretStr(dsn), listen="127.0.0.1:0", drain_grace_seconds=0)
    async with running(await build(settings), settings) as server:
        database = await asyncpg.connect(owner_of(dsn))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Service(
                AchievementServiceStub(channel),
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
