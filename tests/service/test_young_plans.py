"""Statements are planned once, while the tables are empty; on large tables they then read what they read on small ones.

PostgreSQL's own counters tell what a step of a user's life really reads: the same number of rows and index entries,
whether there are thousands of other users or none.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import pytest
from redis.asyncio import Redis

from shared.postgres.partitions import Partitions
from shared.postgres.pool import Connection, Pool, create_pool
from tests.conftest import ServiceDatabase
from tests.fixtures.databases import owner_of
from tests.fixtures.set_clock import SetClock
from tests.service.lives import BUILDERS, NOW, Life

SERVICES: Final = ("streak", "achievement", "points", "leaderboard", "orchestrator")
OTHERS: Final = 3_000
FEW: Final = 4
"""More that is no growth: rows of ranks that differ, pages that split."""
HEIGHT: Final = 3
"""Pages from the root to a leaf of a large index; a small one is a single page."""

Counts = Mapping[str, tuple[int, int]]
"""By table or index: rows or entries read, and an index's pages looked at."""

COUNTS: Final = """
    SELECT relname AS name, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows, 0 AS pages
      FROM pg_stat_user_tables
     UNION ALL
    SELECT indexrelname, idx_tup_read, idx_blks_read + idx_blks_hit
      FROM pg_stat_user_indexes JOIN pg_statio_user_indexes USING (indexrelid, indexrelname)
"""
PARTITIONED: Final = """
    SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace
"""
# Nobody but the service reads, and nobody learns what the tables hold.
LEAVE_ALONE: Final = """
    SELECT string_agg(format('ALTER TABLE %I SET (autovacuum_enabled = false)', relname), ';')
      FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
# Copied ids stay in their millisecond, and so lie among those that one batch asks for.
COLUMNS: Final = """
    SELECT relname, array_agg(attname ORDER BY attnum) AS names,
           array_agg(CASE WHEN attname = 'user_id' THEN 'other || user_id'
                          WHEN atttypid = 'uuid'::regtype
                          THEN format('(left(%1$I::text, 13) || right(md5(other || %1$I), 20))::uuid', attname)
                          ELSE quote_ident(attname) END ORDER BY attnum) AS copies
      FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
     WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
       AND attnum > 0 AND NOT attisdropped
     GROUP BY relname
    HAVING 'user_id' = ANY(array_agg(attname)) OR relname = 'entry_keys'
"""
OWN_ROWS: Final = "user_id LIKE $1 || '%'"
OWN_KEYS: Final = f"entry_id IN (SELECT entry_id FROM entries WHERE {OWN_ROWS})"


@dataclass(frozen=True)
class System:
    """A service's use cases on one connection, and another one to watch the database by."""

    pool: Pool
    watch: Connection
    life: Life

    async def counts(self) -> Counts:
        """All that was read so far."""
        for session in (self.pool, self.watch):
            await session.execute("SELECT pg_stat_force_next_flush()")
        return {row["name"]: (row["rows"], row["pages"]) for row in await self.watch.fetch(COUNTS)}

    async def reads(self, prefix: str) -> dict[str, Counts]:
        """What each step of these users' lives read."""
        reads: dict[str, Counts] = {}
        before = await self.counts()
        async for step in self.life(prefix):
            after = await self.counts()
            reads[step] = {
                name: (rows - before[name][0], pages - before[name][1])
                for name, (rows, pages) in after.items()
            }
            before = after
        return reads

    async def fill(self, model: str) -> None:
        """Copies all rows of these users, for so many others."""
        for table, names, copies in await self.watch.fetch(COLUMNS):
            own = OWN_ROWS if "user_id" in names else OWN_KEYS
            await self.watch.execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(copies)} FROM {table},"
                f" (SELECT number || '/' FROM generate_series(1, {OTHERS}) AS number) AS others (other) WHERE {own}",
                model,
            )


@pytest.mark.parametrize("system", SERVICES, indirect=True)
async def test_what_a_step_reads_does_not_grow_with_the_number_of_other_users(system: System) -> None:
    await system.reads("planned for/")
    alone = await system.reads("alone/")
    await system.fill("alone/")
    among_many = await system.reads("among many/")
    assert _grown(alone, among_many) == {}


@pytest.mark.parametrize("system", SERVICES, indirect=True)
async def test_no_step_asks_about_a_type_that_its_connection_has_not_learnt(system: System) -> None:
    asked: list[str] = []
    async with system.pool.acquire() as connection:
        connection.add_query_logger(lambda record: asked.append(record.query))
    async for _ in system.life("first/"):
        pass
    assert [query for query in asked if "pg_type" in query] == []


@pytest.fixture
async def system(
    request: pytest.FixtureRequest, service_database: ServiceDatabase, valkey_url: str
) -> AsyncIterator[System]:
    """A service with definitions and months, and no events."""
    dsn = await service_database(request.param)
    pool = await create_pool(dsn, application_name="young", size=1, statement_timeout_ms=10_000)
    partitioned = [row["relname"] for row in await pool.fetch(PARTITIONED)]
    await Partitions(pool, SetClock(NOW), dict.fromkeys(partitioned)).keep()
    watch = await asyncpg.connect(owner_of(dsn))
    await watch.execute(await watch.fetchval(LEAVE_ALONE))
    async with Redis.from_url(valkey_url) as sets:
        yield System(pool, watch, await BUILDERS[request.param](pool, sets, 0))
    await watch.close()
    await pool.close()


def _grown(alone: Mapping[str, Counts], among_many: Mapping[str, Counts]) -> dict[tuple[str, str], Any]:
    """By step and table or index: what was read without others and with them, where that is more."""
    return {
        (step, name): (alone[step][name], now)
        for step, counts in among_many.items()
        for name, now in counts.items()
        if now[0] > alone[step][name][0] + FEW or now[1] > HEIGHT * alone[step][name][1] + FEW
    }
