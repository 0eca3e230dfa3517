"""A pooler before PostgreSQL: sessions that are pooled work, transactions that are pooled are refused."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.postgres import PostgresServer
from shared.errors import Unavailable
from shared.postgres.errors import translate
from shared.postgres.migrations import migrate
from shared.postgres.pool import create_pool
from shared.postgres.sessions import NoSessionError
from tests.fixtures.pgbouncer import BINARY, MISSING, pooled
from tests.fixtures.waiting import until
from tests.service.leaderboard.conftest import served, started
from tests.service.leaderboard.messages import event
from tests.service.leaderboard.steps import applied, define, ranking, rebuilt

pytestmark = [pytest.mark.servers, pytest.mark.skipif(BINARY is None, reason=MISSING)]

ServiceDatabase = Callable[[str], Awaitable[str]]
PATIENCE_SECONDS = 20.0
MIGRATIONS = Path(__file__).resolve().parents[2] / "services" / "leaderboard" / "migrations"
SETTINGS = {
    "enable_seqscan": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": "5s",
    "TimeZone": "UTC",
}
LOCKS = """
    SELECT count(*) FROM pg_locks
      JOIN pg_database ON pg_database.oid = pg_locks.database
     WHERE locktype = 'advisory' AND datname = current_database()
"""


async def test_where_sessions_are_pooled_everything_is_as_without(
    service_database: ServiceDatabase, postgres_server: PostgresServer, valkey_url: str, tmp_path: Path
) -> None:
    direct = await service_database("leaderboard")
    async with pooled(direct, postgres_server.port, tmp_path, "session") as dsn:

        async def database(_service: str) -> str:
            return dsn

        async with started(database, valkey_url) as service:
            await define(service, "all-time")
            for turn in range(5):
                await applied(
                    service, *(event((turn, number), 1 + number, user=f"u{number}") for number in range(4))
                )
            expected = [(4 - number, f"u{number}", 5.0 * (1 + number)) for number in range(3, -1, -1)]
            assert await ranking(service, "all-time") == expected
            assert await rebuilt(service) == 4
            assert await ranking(service, "all-time") == expected


async def test_a_pooled_session_has_the_settings_that_statements_count_on(
    service_database: ServiceDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    direct = await service_database("leaderboard")
    async with pooled(direct, postgres_server.port, tmp_path, "session") as dsn:
        for target in (direct, dsn):
            pool = await create_pool(target, application_name="test", size=2, statement_timeout_ms=5_000)
            found = {name: await pool.fetchval("SELECT current_setting($1)", name) for name in SETTINGS}
            await pool.close()
            assert found == SETTINGS


async def test_a_single_pooled_session_is_a_session(
    service_database: ServiceDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    direct = await service_database("leaderboard")
    async with pooled(direct, postgres_server.port, tmp_path, "session", size=1) as dsn:
        pool = await create_pool(dsn, application_name="test", size=1, statement_timeout_ms=5_000)
        assert await pool.fetchval("SELECT 1") == 1
        await pool.close()


@pytest.mark.parametrize("round_robin", [False, True])
@pytest.mark.parametrize("size", [1, 20])
async def test_where_transactions_are_pooled_no_connection_is_used(
    service_database: ServiceDatabase,
    postgres_server: PostgresServer,
    tmp_path: Path,
    round_robin: bool,
    size: int,
) -> None:
    direct = await service_database("leaderboard")
    async with pooled(
        direct, postgres_server.port, tmp_path, "transaction", size=size, round_robin=round_robin
    ) as dsn:
        pool = await create_pool(dsn, application_name="test", size=8, statement_timeout_ms=5_000)
        answers = await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(8)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [NoSessionError] * 8
        assert isinstance(translate(NoSessionError()), Unavailable)
        pool.terminate()


async def test_a_migration_through_pooled_transactions_is_refused_and_leaves_no_lock(
    service_database: ServiceDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    direct = await service_database("leaderboard")
    async with pooled(direct, postgres_server.port, tmp_path, "transaction") as dsn:
        with pytest.raises(NoSessionError, match="set its pool_mode to session, or name the server itself"):
            await migrate(dsn, MIGRATIONS)
        connection = await asyncpg.connect(direct)
        assert await connection.fetchval(LOCKS) == 0
        await connection.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_service_behind_another_mode_does_not_serve_and_says_why(
    service_database: ServiceDatabase,
    postgres_server: PostgresServer,
    valkey_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    direct = await service_database("leaderboard")

    async def is_said() -> bool:
        failing = [getattr(record, "failing", {}) for record in caplog.records]
        return any("set its pool_mode to session" in one.get("schema", "") for one in failing)

    async with (
        pooled(direct, postgres_server.port, tmp_path, mode) as dsn,
        served(dsn, valkey_url) as channel,
    ):
        await until(is_said, seconds=PATIENCE_SECONDS, what="the log says why")
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
