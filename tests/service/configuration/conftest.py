"""All five services in this process, on real databases and real channels, for what concerns their definitions."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc.aio
import pytest
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub
from pydantic import SecretStr

import services.achievement.config
import services.achievement.server
import services.leaderboard.config
import services.leaderboard.server
import services.orchestrator.config
import services.orchestrator.server
import services.points.config
import services.points.server
import services.streak.config
import services.streak.server
from deploy.local.valkey import ValkeyServer
from shared import faults
from shared.postgres.pool import Connection
from shared.rpc.server import running
from tests.fixtures.databases import ServiceDatabases, owner_of

if TYPE_CHECKING:
    from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceAsyncStub

FEATURES: dict[str, tuple[Any, Any]] = {
    "streak": (services.streak.config, services.streak.server),
    "achievement": (services.achievement.config, services.achievement.server),
    "points": (services.points.config, services.points.server),
    "leaderboard": (services.leaderboard.config, services.leaderboard.server),
}
RECOVERY_SECONDS = 0.1
CLEAR = """
    TRUNCATE definitions, mutation_log;
    UPDATE configuration_version SET version = version + 1;
"""


@dataclass
class World:
    """What is needed to stop and start services, and to look into their databases."""

    dsns: dict[str, str]
    valkey_url: str
    ports: dict[str, int]
    lives: dict[str, AsyncExitStack]

    async def stop(self, service: str) -> None:
        """Ends a feature service; its address stays its own."""
        await self.lives.pop(service).aclose()

    async def start(self, service: str) -> None:
        """Starts a feature service, at its address where it had one."""
        config, server = FEATURES[service]
        settings = config.Settings(
            postgres_dsn=SecretStr(self.dsns[service]),
            redis_url=SecretStr(self.valkey_url),
            listen=self._address(service),
            drain_grace_seconds=0,
        )
        life = AsyncExitStack()
        started = await life.enter_async_context(running(await server.build(settings), settings))
        self.ports[service] = started.port
        self.lives[service] = life

    @asynccontextmanager
    async def database(self, service: str) -> AsyncIterator[Connection]:
        """A look into a service's database."""
        connection = await asyncpg.connect(owner_of(self.dsns[service]))
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def replica(
        self, recovery_seconds: float = RECOVERY_SECONDS
    ) -> AsyncIterator["OrchestratorServiceAsyncStub"]:
        """A replica of the orchestrator."""
        settings = services.orchestrator.config.Settings(
            postgres_dsn=SecretStr(self.dsns["orchestrator"]),
            listen="127.0.0.1:0",
            drain_grace_seconds=0,
            recovery_interval_seconds=recovery_seconds,
            breaker_failures=1_000,
            streak_target=self._address("streak"),
            achievement_target=self._address("achievement"),
            points_target=self._address("points"),
            leaderboard_target=self._address("leaderboard"),
        )
        async with (
            running(await services.orchestrator.server.build(settings), settings) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            yield OrchestratorServiceStub(channel)

    def _address(self, service: str) -> str:
        return f"127.0.0.1:{self.ports.get(service, 0)}"


@pytest.fixture(scope="module")
async def running_world(
    service_databases: ServiceDatabases, valkey_server: ValkeyServer
) -> AsyncIterator[World]:
    """The four feature services, up; for every test of a module."""
    dsns = {name: await service_databases.create(name) for name in (*FEATURES, "orchestrator")}
    world = World(dsns, valkey_server.database_url(0), {}, {})
    for name in FEATURES:
        await world.start(name)
    yield world
    for name in list(world.lives):
        await world.stop(name)
    for dsn in dsns.values():
        await service_databases.drop(dsn)


@pytest.fixture
async def world(running_world: World) -> AsyncIterator[World]:
    """The services without any definition; what users hold of earlier ones is still there."""
    for name in running_world.dsns:
        async with running_world.database(name) as database:
            await database.execute(CLEAR)
    async with running_world.database("orchestrator") as database:
        await database.execute("TRUNCATE definition_writes")
    yield running_world
    faults.arm("")
    for name in FEATURES.keys() - running_world.lives.keys():
        await running_world.start(name)


@pytest.fixture
async def stub(world: World) -> AsyncIterator["OrchestratorServiceAsyncStub"]:
    """An orchestrator over them."""
    async with world.replica() as stub:
        yield stub
