"""Months of partitioned tables are made and dropped on a real PostgreSQL, with traffic going on."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.generate import ROOT
from shared.postgres.migrations import migrate
from shared.postgres.months import lowest_id, month_of
from shared.postgres.partitions import Drop, Partitions
from shared.postgres.pool import Pool, create_pool
from tests.conftest import ServiceDatabase
from tests.fixtures.databases import owner_of
from tests.fixtures.set_clock import SetClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
INSERT_SAGA = """
    INSERT INTO sagas (entry_id, user_id, state, instance, create_time, next_attempt_time)
    VALUES ($1, 'ada', 1, 'one', now(), now())
"""
FILE = "SELECT pg_relation_filenode(to_regclass($1))"
UNMAKE_NOVEMBER = """
    LOCK TABLE sagas;
    ALTER TABLE sagas DETACH PARTITION sagas_2026_11;
    INSERT INTO sagas SELECT * FROM sagas_2026_11;
    DROP TABLE sagas_2026_11
"""
PARTITIONED = {
    "achievement": ("request_log",),
    "leaderboard": ("rank_events", "request_log"),
    "orchestrator": ("entries", "sagas"),
    "points": ("request_log",),
    "streak": ("request_log",),
}


@pytest.fixture
async def dsn(service_database: ServiceDatabase) -> str:
    return await service_database("orchestrator")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened = await create_pool(dsn, application_name="test", size=8, statement_timeout_ms=10_000)
    yield opened
    await opened.close()


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """For what the service may not do by itself."""
    connection = await asyncpg.connect(owner_of(dsn))
    yield connection
    await connection.close()


def drawn_at(instant: datetime) -> UUID:
    """An id as it could be drawn then."""
    return UUID(int=lowest_id(instant).int | uuid4().int & (2**80 - 1))


async def months(pool: Pool, table: str) -> list[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = to_regclass($1) ORDER BY 1",
        table,
    )
    return [row["name"] for row in rows]


async def ids_in(pool: Pool, table: str) -> set[UUID]:
    return {row["entry_id"] for row in await pool.fetch(f"SELECT entry_id FROM {table}")}


def partitions(pool: Pool, retention: timedelta | None = None, at: datetime = NOW) -> Partitions:
    return Partitions(pool, SetClock(at), {"sagas": None if retention is None else Drop(retention)})


async def test_the_present_month_and_the_next_two_are_there_after_a_pass(pool: Pool) -> None:
    await partitions(pool).keep()
    await partitions(pool).keep()  # another replica
    assert await months(pool, "sagas") == ["sagas_2026_11", "sagas_2026_12", "sagas_2027_01", "sagas_default"]


async def test_a_pass_is_made_at_most_once_an_hour(pool: Pool, owner: asyncpg.Connection) -> None:
    clock = SetClock(NOW)
    kept = Partitions(pool, clock, {"sagas": None})
    await kept.keep()
    await owner.execute("DROP TABLE sagas_2027_01")
    clock.at = NOW + timedelta(minutes=59)
    await kept.keep()
    assert "sagas_2027_01" not in await months(pool, "sagas")
    clock.at = NOW + timedelta(minutes=60)
    await kept.keep()
    assert "sagas_2027_01" in await months(pool, "sagas")


async def test_rows_that_came_before_their_month_was_made_move_into_it(pool: Pool) -> None:
    early, elsewhere = drawn_at(NOW), UUID("ffffffff-0000-8000-8000-000000000001")
    for entry_id in (early, elsewhere):
        await pool.execute(INSERT_SAGA, entry_id)
    assert await ids_in(pool, "sagas_default") == {early, elsewhere}
    await partitions(pool).keep()
    assert await ids_in(pool, "sagas_2026_11") == {early}
    assert await ids_in(pool, "sagas_default") == {elsewhere}
    assert await ids_in(pool, "sagas") == {early, elsewhere}


async def test_a_month_is_a_table_like_the_others(pool: Pool) -> None:
    """Same keys and indexes, same room for updates, and the same id is refused wherever it comes again."""
    await partitions(pool).keep()
    indexes = await pool.fetchrow(
        """
        SELECT (SELECT count(*) FROM pg_index WHERE indrelid = 'sagas'::regclass) AS of_all,
               (SELECT count(*)
                  FROM pg_inherits
                 WHERE inhrelid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'sagas_2026_11'::regclass)
               ) AS of_month
        """
    )
    assert indexes is not None
    assert indexes["of_month"] == indexes["of_all"] > 1
    assert await pool.fetchval("SELECT reloptions FROM pg_class WHERE relname = 'sagas_2026_11'") == [
        "fillfactor=80"
    ]
    entry_id = drawn_at(NOW)
    await pool.execute(INSERT_SAGA, entry_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await pool.execute(INSERT_SAGA, entry_id)


async def test_a_month_is_dropped_after_its_retention_and_not_before(pool: Pool) -> None:
    retention = timedelta(days=35)
    old, young = drawn_at(NOW), drawn_at(datetime(2026, 12, 24, tzinfo=UTC))
    await partitions(pool, retention).keep()
    for entry_id in (old, young):
        await pool.execute(INSERT_SAGA, entry_id)
    november_ends = month_of(NOW).end
    await partitions(pool, retention, november_ends + retention - timedelta(seconds=1)).keep()
    assert await ids_in(pool, "sagas") == {old, young}
    await partitions(pool, retention, november_ends + retention).keep()
    assert await ids_in(pool, "sagas") == {young}
    assert "sagas_2026_11" not in await months(pool, "sagas")


async def test_without_a_retention_nothing_is_dropped(pool: Pool) -> None:
    await partitions(pool).keep()
    await partitions(pool, at=NOW + timedelta(days=3_650)).keep()
    assert "sagas_2026_11" in await months(pool, "sagas")


async def test_writers_do_not_notice_that_the_month_they_write_to_is_made(
    pool: Pool, owner: asyncpg.Connection
) -> None:
    tried: list[UUID] = []
    done = False

    async def write() -> None:
        while not done:
            tried.append(drawn_at(NOW))
            await pool.execute(INSERT_SAGA, tried[-1])

    async with asyncio.TaskGroup() as writers:
        for _ in range(4):
            writers.create_task(write())
        for _ in range(30):
            await partitions(pool).keep()
            await owner.execute(UNMAKE_NOVEMBER)
        await partitions(pool).keep()
        done = True
    assert await ids_in(pool, "sagas") == set(tried)
    assert await ids_in(pool, "sagas_default") == set()
    assert len(tried) > 100


async def test_readers_find_what_is_moved_into_a_month_while_it_is_made(
    pool: Pool, owner: asyncpg.Connection
) -> None:
    ids = [drawn_at(NOW) for _ in range(50)]
    for entry_id in ids:
        await pool.execute(INSERT_SAGA, entry_id)
    made = asyncio.Event()

    async def read(entry_id: UUID) -> list[int]:
        found = []
        while not made.is_set():
            found.append(await pool.fetchval("SELECT count(*) FROM sagas WHERE entry_id = $1", entry_id))
        return found

    readers = [asyncio.create_task(read(entry_id)) for entry_id in ids[:6]]
    for _ in range(20):
        await partitions(pool).keep()
        await owner.execute(UNMAKE_NOVEMBER)
    made.set()
    assert {count for found in await asyncio.gather(*readers) for count in found} == {1}


async def test_a_long_transaction_only_postpones_a_month(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(INSERT_SAGA, drawn_at(NOW))
        with caplog.at_level(logging.WARNING):
            await partitions(pool).keep()
    assert await months(pool, "sagas") == ["sagas_default"]
    assert "could not be made yet" in caplog.text
    await partitions(pool).keep()
    assert len(await months(pool, "sagas")) == 4


async def test_two_replicas_that_make_months_at_once_make_them_once(pool: Pool) -> None:
    await asyncio.gather(*(partitions(pool).keep() for _ in range(4)))
    await partitions(pool).keep()
    assert len(await months(pool, "sagas")) == 4


@pytest.mark.parametrize("service", PARTITIONED)
async def test_a_populated_database_is_upgraded_without_copying_a_row(
    service: str, empty_database: str, tmp_path: Path
) -> None:
    first, *later = sorted((ROOT / "services" / service / "migrations").glob("*.sql"))
    shutil.copy(first, tmp_path)
    await migrate(empty_database, tmp_path)
    connection = await asyncpg.connect(empty_database)
    entry_id = uuid4()
    files = {}
    for table in PARTITIONED[service]:
        await _insert_anything(connection, table, entry_id)
        files[table] = await connection.fetchval(FILE, table)
    for step in later:
        shutil.copy(step, tmp_path)
    await migrate(empty_database, tmp_path)
    for table in PARTITIONED[service]:
        assert await connection.fetchval(f"SELECT entry_id FROM {table}") == entry_id
        assert await connection.fetchval(FILE, f"{table}_default") == files[table]
        with pytest.raises(asyncpg.UniqueViolationError):
            await _insert_anything(connection, table, entry_id)
    await connection.close()


async def _insert_anything(connection: asyncpg.Connection, table: str, entry_id: UUID) -> None:
    """A row with an id; what else must be there is of its type and nothing more."""
    columns = await connection.fetch(
        "SELECT column_name AS name, data_type AS type FROM information_schema.columns "
        "WHERE table_name = $1 AND is_nullable = 'NO' AND column_default IS NULL ORDER BY ordinal_position",
        table,
    )
    anything = {
        "uuid": f"'{entry_id}'",
        "text": "''",
        "bytea": "''",
        "boolean": "false",
        "smallint": "3",  # for a saga: done, because no upgrade takes place while one is under way
        "bigint": "1",
        "date": "'2026-11-21'",
        "timestamp with time zone": "'2026-11-21'",
    }
    names = ", ".join(row["name"] for row in columns)
    values = ", ".join(anything[row["type"]] for row in columns)
    await connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values})")
