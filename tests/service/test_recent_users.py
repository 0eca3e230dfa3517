"""Users who are kept in memory between batches: they are not read again, and nothing comes out differently."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import asyncpg
import pytest
from redis.asyncio import Redis

from shared.postgres.partitions import Partitions
from shared.postgres.pool import Pool, create_pool
from tests.conftest import ServiceDatabase
from tests.fixtures.set_clock import SetClock
from tests.service.lives import BUILDERS, NOW

KEEPING: Final = ("streak", "achievement", "points", "leaderboard")
TABLES: Final = """
    SELECT relname FROM pg_class
     WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
       AND relname NOT IN ('definitions', 'mutation_log', 'projection')
     ORDER BY relname
"""

Live = Callable[[int], Awaitable[tuple[dict[str, list[str]], int]]]


@pytest.fixture
async def live(
    request: pytest.FixtureRequest, service_database: ServiceDatabase, valkey_url: str
) -> AsyncIterator[Live]:
    """A life on a fresh database, with so many users kept: all rows that it leaves, and how often users were loaded."""
    pools: list[Pool] = []

    async def lived(recent_users: int) -> tuple[dict[str, list[str]], int]:
        dsn = await service_database(request.param)
        pool = await create_pool(dsn, application_name="recent", size=1, statement_timeout_ms=10_000)
        pools.append(pool)
        partitioned = await pool.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace"
        )
        await Partitions(pool, SetClock(NOW), dict.fromkeys(row["relname"] for row in partitioned)).keep()
        loads = 0

        def count(record: Any) -> None:
            nonlocal loads
            loads += "AS configuration" in record.query and "INSERT" not in record.query

        async with pool.acquire() as connection:
            connection.add_query_logger(count)
        async with Redis.from_url(valkey_url) as sets:
            life = await BUILDERS[request.param](pool, sets, recent_users)
            async for _ in life("a/"):
                pass
        return await rows(dsn), loads

    yield lived
    for pool in pools:
        await pool.close()


async def rows(dsn: str) -> dict[str, list[str]]:
    """All that is stored, but for the definitions and which sorted sets are complete."""
    connection = await asyncpg.connect(dsn)
    found = {}
    for (table,) in await connection.fetch(TABLES):
        stored = await connection.fetch(f"SELECT to_jsonb(t) FROM {table} t")
        found[table] = sorted(row[0] for row in stored)
    await connection.close()
    return found


@pytest.mark.parametrize("live", KEEPING, indirect=True)
async def test_keeping_users_saves_loading_them_and_leaves_the_same_rows(live: Live) -> None:
    without, loads = await live(0)
    kept, fewer = await live(100)
    assert kept == without
    assert fewer < loads
