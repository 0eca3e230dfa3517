"""The orchestrator on a fresh database: its stores alone, or the whole of it here, among scripted participants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from laurel.orchestrator.v1 import event_pb2, metric_pb2, orchestrator_service_pb2_grpc
from pydantic import SecretStr

from services.orchestrator.config import Settings
from services.orchestrator.saga import Step
from services.orchestrator.server import build
from shared.errors import LaurelError, from_rpc_error
from shared.postgres.pool import Pool, create_pool
from shared.rpc.server import running
from tests.conftest import ServiceDatabase
from tests.fixtures.waiting import until
from tests.service.orchestrator.scripted import Cast, Script, cast

if TYPE_CHECKING:
    from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceAsyncStub


@pytest.fixture
async def dsn(service_database: ServiceDatabase) -> str:
    """A fresh database."""
    return await service_database("orchestrator")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    """A pool as the orchestrator makes it."""
    pool = await create_pool(dsn, application_name="test", size=8, statement_timeout_ms=10_000)
    yield pool
    await pool.close()


@dataclass(frozen=True)
class Orchestrator:
    """A replica in this process, the participants around it, and a look into its database."""

    stub: "OrchestratorServiceAsyncStub"
    cast: Cast
    pool: Pool
    channel: grpc.aio.Channel
    settings: Settings

    @property
    def streak(self) -> Script:
        return self.cast.of[Step.STREAK]

    @property
    def achievement(self) -> Script:
        return self.cast.of[Step.ACHIEVEMENT]

    @property
    def points(self) -> Script:
        return self.cast.of[Step.POINTS]

    @property
    def leaderboard(self) -> Script:
        return self.cast.of[Step.LEADERBOARD]

    async def ingest(
        self, user: str = "ada", key: str = "", value: float = 1
    ) -> event_pb2.IngestEventResponse:
        """One event. Raises `grpc.aio.AioRpcError`."""
        return await self.stub.IngestEvent(event(user, key, value), timeout=20)

    async def answers(self, *requests: event_pb2.IngestEventRequest) -> list[Any]:
        """Events sent at once: a reply or a `LaurelError` each."""
        return list(await asyncio.gather(*(self._answer(request) for request in requests)))

    async def _answer(self, request: event_pb2.IngestEventRequest) -> Any:
        try:
            return await self.stub.IngestEvent(request, timeout=20)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)


def event(user: str = "ada", key: str = "", value: float = 1) -> event_pb2.IngestEventRequest:
    request = event_pb2.IngestEventRequest(metric="lessons", value=value, idempotency_key=key)
    request.user.user_id = user
    return request


async def refused(call: Any) -> LaurelError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return from_rpc_error(failure.value)


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[grpc.aio.Channel]:
    """A replica of the orchestrator, and a channel to it."""
    async with (
        running(await build(settings), settings) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield channel


@pytest.fixture
def settings() -> dict[str, Any]:
    """What a test sets otherwise; a module overrides the fixture."""
    return {}


@pytest.fixture
async def orchestrator(
    service_database: ServiceDatabase, settings: dict[str, Any]
) -> AsyncIterator[Orchestrator]:
    """Ready to be called."""
    dsn = await service_database("orchestrator")
    pool = await create_pool(dsn, application_name="test", size=2, statement_timeout_ms=10_000)
    await define(pool, "lessons")
    async with cast() as participants:
        wanted = Settings(
            postgres_dsn=SecretStr(dsn),
            listen="127.0.0.1:0",
            drain_grace_seconds=0,
            recovery_interval_seconds=0.05,
            maintenance_interval_seconds=86_400,
            retry_pause_seconds=0.01,
            longest_retry_pause_seconds=0.05,
            streak_target=participants.targets[Step.STREAK],
            achievement_target=participants.targets[Step.ACHIEVEMENT],
            points_target=participants.targets[Step.POINTS],
            leaderboard_target=participants.targets[Step.LEADERBOARD],
            notification_target="",
            **settings,
        )
        async with replica(wanted) as channel:
            stub = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)

            async def followed() -> bool:
                return all(script.listed for script in participants.of.values())

            # The follower goes round when the process starts; its next round is a day away.
            await until(followed, seconds=20, what="the feeds are followed")
            yield Orchestrator(stub, participants, pool, channel, wanted)
    await pool.close()


async def define(pool: Pool, metric: str, *, user_writable: bool = False) -> None:
    """A metric, as it is stored."""
    body = metric_pb2.Metric(
        key=metric,
        name=metric,
        aggregation=metric_pb2.METRIC_AGGREGATION_SUM,
        user_writable=user_writable,
    ).SerializeToString()
    await pool.execute(
        "INSERT INTO definitions (kind, key, body, create_time, update_time) VALUES ('metric', $1, $2, now(), now())",
        metric,
        body,
    )
    await pool.execute("UPDATE configuration_version SET version = version + 1")
