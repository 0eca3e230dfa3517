"""The leaderboard service as its callers meet it: a real server, a real channel, real databases."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import grpc.aio
import pytest
from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceStub
from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceStub
from pydantic import SecretStr
from redis.asyncio import Redis, RedisCluster

from services.leaderboard.config import Settings
from services.leaderboard.projection import MARKER, REGISTRY
from services.leaderboard.server import build
from shared.postgres.pool import Connection
from shared.rpc.server import running
from tests.fixtures.databases import owner_of
from tests.fixtures.definitions import Administrator
from tests.fixtures.waiting import until

if TYPE_CHECKING:
    from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceAsyncStub
    from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceAsyncStub

STORED_MARKER = "SELECT marker FROM projection"
ServiceDatabase = Callable[[str], Awaitable[str]]

PATIENCE_SECONDS = 20.0
PATIENT_GRACE = timedelta(days=7)
# The tests live at dates of their own: passes by the wall clock would archive what they count on.
KEEP_CLOCK_OFF = "UPDATE maintenance SET hold_until = now() + interval '1 day'"


@dataclass(frozen=True)
class Service:
    """A running replica, and a look into its database and its sorted sets."""

    stub: "LeaderboardServiceAsyncStub"
    participant: "ParticipantServiceAsyncStub"
    definitions: Administrator
    database: Connection
    dsn: str
    sets: Redis | RedisCluster
    sets_url: str


@asynccontextmanager
async def served(
    dsn: str,
    sets_url: str,
    *,
    check_seconds: float = 3_600.0,
    timeout_seconds: float = 2.0,
    grace: timedelta = timedelta(hours=1),
    look_seconds: float = 3_600.0,
    cluster: bool = False,
) -> AsyncIterator[grpc.aio.Channel]:
    """A server on these databases, and a channel to it. Incomplete sets are filled when somebody finds them so,
    not by the clock.
    """
    settings = Settings(
        postgres_dsn=SecretStr(dsn),
        redis_url=SecretStr(sets_url),
        listen="127.0.0.1:0",
        drain_grace_seconds=0,
        projection_check_seconds=check_seconds,
        redis_timeout_seconds=timeout_seconds,
        rank_look_seconds=look_seconds,
        redis_cluster=cluster,
        finalize_grace_seconds=int(grace.total_seconds()),
    )
    async with (
        running(await build(settings), settings) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield channel


@asynccontextmanager
async def replica(
    dsn: str, sets_url: str, *, check_seconds: float = 3_600.0, timeout_seconds: float = 2.0
) -> AsyncIterator["ParticipantServiceAsyncStub"]:
    """Another replica on these databases, as the orchestrator calls it."""
    async with served(dsn, sets_url, check_seconds=check_seconds, timeout_seconds=timeout_seconds) as channel:
        yield ParticipantServiceStub(channel)


async def are_marked(database: Connection, sets: Redis | RedisCluster) -> bool:
    """Whether the sets say that they are those that were filled last."""
    marker = await sets.hget(REGISTRY, MARKER)
    return marker is not None and marker == (await database.fetchval(STORED_MARKER) or "").encode()


@asynccontextmanager
async def started(
    service_database: ServiceDatabase, sets_url: str, *, grace: timedelta = timedelta(hours=1)
) -> AsyncIterator[Service]:
    dsn = await service_database("leaderboard")
    database = await asyncpg.connect(owner_of(dsn))
    await database.execute(KEEP_CLOCK_OFF)
    async with served(dsn, sets_url, grace=grace) as channel, Redis.from_url(sets_url) as sets:
        stub = LeaderboardServiceStub(channel)

        async def is_filled() -> bool:
            return await are_marked(database, sets)

        # Events that come before answer from PostgreSQL, with ranks as they are by then.
        await until(is_filled, seconds=PATIENCE_SECONDS, what="the sorted sets are filled for the first time")
        yield Service(
            stub, ParticipantServiceStub(channel), Administrator(channel), database, dsn, sets, sets_url
        )
    await database.close()


@pytest.fixture
async def service(service_database: ServiceDatabase, valkey_url: str) -> AsyncIterator[Service]:
    async with started(service_database, valkey_url) as running_service:
        yield running_service


@pytest.fixture
async def patient(service_database: ServiceDatabase, valkey_url: str) -> AsyncIterator[Service]:
    """A service whose runs stay open for a week."""
    async with started(service_database, valkey_url, grace=PATIENT_GRACE) as running_service:
        yield running_service
