"""Old months lose what only replays read and nothing else, on a real PostgreSQL, with traffic going on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.orchestrator.store.retention import retention
from shared.postgres.errors import CLOSED, is_conflict
from shared.postgres.healing import HIGHEST_ID, LOWEST_ID, logged
from shared.postgres.months import lowest_id, month_of
from shared.postgres.one_instant import one_instant
from shared.postgres.partitions import Keeping, Partitions
from shared.postgres.pool import Pool, create_pool
from shared.postgres.request_log import FOUND, State, condensed_after
from shared.postgres.short_transactions import IN_USE, short_transaction
from shared.postgres.upkeep import begin_condensing, end_condensing
from tests.conftest import ServiceDatabase
from tests.fixtures.set_clock import SetClock
from tests.fixtures.waiting import until

OCTOBER = datetime(2026, 10, 15, tzinfo=UTC)
WINDOW = timedelta(days=40)
JUST_BEFORE = datetime(2026, 11, 1, tzinfo=UTC) + WINDOW - timedelta(seconds=1)
THEN = JUST_BEFORE + timedelta(seconds=1)
PRESENT = THEN
LOG: dict[str, Keeping] = {"request_log": condensed_after(WINDOW)}
OLD, NEW = "request_log_2026_10", "request_log_2026_10_condensed"
EMPTIED = {"digest", "outcome"}
PARTICIPANTS = ("streak", "achievement", "points", "leaderboard")
ROWS = 2_000
ANYTHING = {
    "uuid": "id",
    "text": "'text ' || n",
    "bytea": "decode(repeat(md5(n::text), 30), 'hex')",
    "boolean": "n % 2 = 0",
    "smallint": "n % 4 + 1",
    "bigint": "n",
    "date": "'2026-10-15'::date + (n % 10)::integer",
    "timestamp with time zone": "'2026-10-15'::timestamptz + n * interval '1 s'",
    "ARRAY": "ARRAY['one', 'text ' || n]",
}
"""A value for each type of column, another in each row: states come in turn."""
INSERT_LOG = """
    INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time)
    VALUES ($1, 'ada', 'digest', 1, 'outcome', now())
"""
INSERT_ENTRY = """
    INSERT INTO entries (entry_id, kind, user_id, occur_time, receive_time, digest, request, entry, live)
    VALUES ($1, 'metric_event', 'ada', now(), now(), 'digest', 'request', 'told', true)
"""
INSERT_SAGA = """
    INSERT INTO sagas (entry_id, user_id, state, instance, create_time, next_attempt_time)
    VALUES ($1, 'ada', $2, 'one', now(), now())
"""
UPDATE_LOG = "UPDATE request_log SET user_id = 'eve' WHERE entry_id = ANY($1::uuid[])"

Open = Callable[[str], Awaitable[Pool]]


@pytest.fixture
async def database(service_database: ServiceDatabase) -> AsyncIterator[Open]:
    """A pool as services have it, on a fresh database of the service with a month for October."""
    pools = []

    async def opened(service: str) -> Pool:
        dsn = await service_database(service)
        pools.append(await create_pool(dsn, application_name="test", size=8, statement_timeout_ms=10_000))
        tables = ("entries", "sagas") if service == "orchestrator" else ("request_log",)
        await Partitions(pools[-1], SetClock(OCTOBER), dict.fromkeys(tables)).keep()
        return pools[-1]

    yield opened
    for pool in pools:
        await pool.close()


def id_at(instant: datetime) -> UUID:
    return UUID(int=lowest_id(instant).int | uuid4().int & (2**80 - 1))


async def passed(pool: Pool, at: datetime = THEN, tables: dict[str, Keeping] = LOG) -> None:
    """One pass of maintenance at this instant."""
    await Partitions(pool, SetClock(at), tables).keep()


async def partitions_of(pool: Pool, table: str) -> set[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass($1)", table
    )
    return {row[0] for row in rows}


async def fill(pool: Pool, table: str) -> None:
    """Rows of October with something in every column; one in seven is not projected yet."""
    columns = await pool.fetch(
        "SELECT column_name AS name, data_type AS type FROM information_schema.columns WHERE table_name = $1",
        table,
    )
    names = ", ".join(row["name"] for row in columns)
    values = ", ".join(ANYTHING[row["type"]] for row in columns)
    await pool.execute(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM unnest($1::uuid[]) WITH ORDINALITY AS row (id, n)",
        [id_at(OCTOBER) for _ in range(ROWS)],
    )


async def content(pool: Pool, table: str) -> dict[UUID, dict[str, Any]]:
    return {row["entry_id"]: dict(row) for row in await pool.fetch(f"SELECT * FROM {table}")}


async def size(pool: Pool, partition: str) -> int:
    return int(await pool.fetchval("SELECT pg_total_relation_size(to_regclass($1))", partition))


@asynccontextmanager
async def condensing_is_held_up(pool: Pool) -> AsyncIterator["asyncio.Task[None]"]:
    """A pass that has closed October and cannot begin to copy: inside the block somebody has the new table's name."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await begin_condensing(connection, "request_log", month_of(OCTOBER))
        condensing = asyncio.create_task(passed(pool))

        async def waits() -> bool:
            return bool(
                await pool.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND query ~ 'begin_condensing')"
                )
            )

        await until(waits, seconds=5, what="the copying waits")
        yield condensing
        await transaction.rollback()
    await asyncio.wait((condensing,))


@pytest.mark.parametrize("service", PARTICIPANTS)
async def test_a_participant_s_facts_stay_byte_for_byte_and_answers_go(service: str, database: Open) -> None:
    pool = await database(service)
    await fill(pool, "request_log")
    await pool.execute("UPDATE request_log SET outcome = NULL WHERE user_id LIKE '%7'")
    before, bytes_before = await content(pool, "request_log"), await size(pool, OLD)
    await passed(pool)
    after = await content(pool, "request_log")
    assert after.keys() == before.keys()
    for entry_id, row in before.items():
        answered = row["state"] in (1, 4) and row["outcome"] is not None
        assert after[entry_id] == (row | dict.fromkeys(EMPTIED, b"") if answered else row)
    assert await size(pool, OLD + "_condensed") < 0.75 * bytes_before
    assert await pool.fetchval("SELECT to_regclass($1)", OLD) is None


async def test_a_month_is_condensed_when_its_last_instant_is_older_than_the_window(database: Open) -> None:
    pool = await database("points")
    await passed(pool, JUST_BEFORE)
    assert OLD in await partitions_of(pool, "request_log")
    await passed(pool, THEN)
    assert NEW in await partitions_of(pool, "request_log")
    assert "request_log_2026_11" in await partitions_of(pool, "request_log")


async def test_what_a_service_found_by_itself_stays_known_as_that(database: Open) -> None:
    pool = await database("achievement")
    asked, found = id_at(OCTOBER), id_at(OCTOBER)
    for entry_id, digest in ((asked, b"digest"), (found, FOUND)):
        await pool.execute(INSERT_LOG.replace("'digest'", "$2"), entry_id, digest)
    await passed(pool)
    assert {key: row["digest"] for key, row in (await content(pool, "request_log")).items()} == {
        asked: b"",
        found: FOUND,
    }
    assert await logged(pool, LOWEST_ID, HIGHEST_ID, 10) == [(asked, State.APPLIED)]


async def test_without_a_window_nothing_is_condensed(database: Open) -> None:
    pool = await database("points")
    await passed(pool, THEN + timedelta(days=3_650), {"request_log": condensed_after(None)})
    assert OLD in await partitions_of(pool, "request_log")


async def test_a_condensed_month_is_left_alone_and_takes_late_rows(database: Open) -> None:
    pool = await database("points")
    await pool.execute(INSERT_LOG, id_at(OCTOBER))
    await passed(pool)
    file = await pool.fetchval("SELECT pg_relation_filenode(to_regclass($1))", NEW)
    late = id_at(OCTOBER)
    await pool.execute(INSERT_LOG, late)
    await passed(pool)
    assert await pool.fetchval("SELECT pg_relation_filenode(to_regclass($1))", NEW) == file
    row = await pool.fetchrow(
        "SELECT tableoid::regclass::text AS held, * FROM request_log WHERE entry_id = $1", late
    )
    assert row is not None
    assert (row["held"], row["outcome"]) == (NEW, b"outcome")
    with pytest.raises(asyncpg.UniqueViolationError):
        await pool.execute(INSERT_LOG, late)


async def test_a_condensed_month_is_a_table_like_the_others(database: Open) -> None:
    pool = await database("points")
    shape = "SELECT count(*) FROM pg_index WHERE indrelid = to_regclass($1)"
    constraints = "SELECT count(*) FROM pg_constraint WHERE conrelid = to_regclass($1)"
    expected = [await pool.fetchval(query, OLD) for query in (shape, constraints)]
    await passed(pool)
    assert [await pool.fetchval(query, NEW) for query in (shape, constraints)] == expected
    assert await pool.fetchval(
        "SELECT bool_and(EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)) FROM pg_index "
        "WHERE indrelid = to_regclass($1)",
        NEW,
    )


async def test_while_a_month_is_copied_everybody_reads_it_and_all_others_are_written(database: Open) -> None:
    pool = await database("points")
    old, young = id_at(OCTOBER), id_at(PRESENT)
    for entry_id in (old, young):
        await pool.execute(INSERT_LOG, entry_id)
    async with condensing_is_held_up(pool):
        assert await pool.fetchval("SELECT outcome FROM request_log WHERE entry_id = $1", old) == b"outcome"
        await pool.execute(UPDATE_LOG, [young], timeout=2)
        await pool.execute(INSERT_LOG, id_at(PRESENT), timeout=2)
    assert await pool.fetchval("SELECT user_id FROM request_log WHERE entry_id = $1", young) == "eve"
    assert NEW in await partitions_of(pool, "request_log")


async def test_who_writes_to_a_month_that_is_copied_is_told_to_try_again(database: Open) -> None:
    pool = await database("points")
    old = id_at(OCTOBER)
    await pool.execute(INSERT_LOG, old)
    async with condensing_is_held_up(pool):
        for attempt in (pool.execute(INSERT_LOG, id_at(OCTOBER)), pool.execute(UPDATE_LOG, [old])):
            with pytest.raises(asyncpg.CheckViolationError) as refusal:
                await attempt
            assert is_conflict(refusal.value)
    await pool.execute(INSERT_LOG, id_at(OCTOBER))
    await pool.execute(UPDATE_LOG, [old])


async def test_what_is_written_meanwhile_is_not_lost(database: Open) -> None:
    pool = await database("points")
    await fill(pool, "request_log")
    inserted: set[UUID] = set()
    updated: set[UUID] = set()
    done = False

    async def write(instant: datetime) -> None:
        while not done:
            entry_id = id_at(instant)
            try:
                await pool.execute(INSERT_LOG, entry_id)
                inserted.add(entry_id)
                await pool.execute(UPDATE_LOG, [entry_id])
                updated.add(entry_id)
            except asyncpg.CheckViolationError as error:
                if not is_conflict(error):
                    raise

    async with asyncio.TaskGroup() as writers:
        for instant in (OCTOBER, OCTOBER, PRESENT):
            writers.create_task(write(instant))

        async def condensed() -> bool:
            await passed(pool)
            return NEW in await partitions_of(pool, "request_log")

        await until(condensed, seconds=30, what="the month is condensed")
        done = True
    stored = await content(pool, "request_log")
    assert len(stored) == ROWS + len(inserted)
    assert inserted <= stored.keys()
    assert {entry_id for entry_id, row in stored.items() if row["user_id"] == "eve"} == updated


async def test_a_long_transaction_only_postpones_it(database: Open, caplog: pytest.LogCaptureFixture) -> None:
    pool = await database("points")
    await fill(pool, "request_log")
    before = await content(pool, "request_log")
    async with pool.acquire() as reader:
        async with condensing_is_held_up(pool):
            transaction = reader.transaction()
            await transaction.start()
            await reader.execute("SELECT FROM request_log LIMIT 1")
        assert "could not be condensed yet" in caplog.text
        assert caplog.records[-1].levelno == logging.WARNING
        # Still in the reader's way, and open all the same.
        late = id_at(OCTOBER)
        await pool.execute(INSERT_LOG, late)
        await pool.execute("DELETE FROM request_log WHERE entry_id = $1", late)
        await transaction.rollback()
    assert await content(pool, "request_log") == before
    assert OLD in await partitions_of(pool, "request_log")
    await passed(pool)
    assert NEW in await partitions_of(pool, "request_log")


async def replace_month(pool: Pool) -> None:
    """October by an empty table, as one that is condensed is."""
    async with pool.acquire() as connection, connection.transaction():
        await begin_condensing(connection, "request_log", month_of(OCTOBER))
        async with short_transaction(connection):
            await end_condensing(connection, "request_log", month_of(OCTOBER))


async def test_who_reads_as_of_one_instant_keeps_a_month_from_being_replaced_until_the_end(
    database: Open,
) -> None:
    """Else it would have no row for the reader, who would add up what is left."""
    pool = await database("points")
    await pool.execute(INSERT_LOG, id_at(OCTOBER))
    async with one_instant(pool, "request_log") as reader:
        await reader.fetchval("SELECT count(*) FROM users")
        with pytest.raises(IN_USE):
            await replace_month(pool)
        assert await reader.fetchval("SELECT count(*) FROM request_log") == 1
    await passed(pool)
    assert NEW in await partitions_of(pool, "request_log")


async def test_a_pass_that_dies_leaves_the_month_open_and_the_next_one_condenses_it(database: Open) -> None:
    pool = await database("points")
    await pool.execute(INSERT_LOG, id_at(OCTOBER))
    async with condensing_is_held_up(pool) as condensing:
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND datname = current_database()"
        )
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await condensing
    assert await pool.fetchval("SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = $1)", CLOSED)
    await pool.execute(INSERT_LOG, id_at(OCTOBER))
    await passed(pool)
    assert NEW in await partitions_of(pool, "request_log")
    assert not await pool.fetchval("SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = $1)", CLOSED)


async def test_two_replicas_condense_a_month_once(database: Open) -> None:
    pool = await database("points")
    await fill(pool, "request_log")
    await asyncio.gather(*(passed(pool) for _ in range(4)))
    assert len(await content(pool, "request_log")) == ROWS
    assert NEW in await partitions_of(pool, "request_log")


async def test_what_participants_were_told_goes_when_the_sagas_have_gone(database: Open) -> None:
    pool = await database("orchestrator")
    await fill(pool, "entries")
    before = await content(pool, "entries")
    await pool.execute(
        "INSERT INTO sagas (entry_id, user_id, state, instance, create_time, next_attempt_time, reply) "
        "SELECT entry_id, 'ada', 3, 'one', now(), now(), 'reply' FROM entries"
    )
    await passed(pool, JUST_BEFORE, retention(WINDOW))
    assert await content(pool, "entries") == before
    await passed(pool, THEN, retention(WINDOW))
    assert await content(pool, "sagas") == {}
    assert await content(pool, "entries") == {
        entry_id: row | {"entry": b""} for entry_id, row in before.items()
    }


@pytest.mark.parametrize("state", [1, 2, 5, 7])
async def test_a_month_with_an_open_saga_stays_until_that_has_ended(state: int, database: Open) -> None:
    pool = await database("orchestrator")
    open_one, finished = id_at(OCTOBER), id_at(OCTOBER)
    for entry_id in (open_one, finished):
        await pool.execute(INSERT_ENTRY, entry_id)
    await pool.execute(INSERT_SAGA, open_one, state)
    await pool.execute(INSERT_SAGA, finished, 3)
    await passed(pool, THEN, retention(WINDOW))
    assert (await content(pool, "sagas")).keys() == {open_one, finished}
    assert (await content(pool, "entries"))[finished]["entry"] == b"told"
    await pool.execute("UPDATE sagas SET state = 4 WHERE entry_id = $1", open_one)
    await passed(pool, THEN, retention(WINDOW))
    assert await content(pool, "sagas") == {}
    assert {row["entry"] for row in (await content(pool, "entries")).values()} == {b""}


async def test_an_entry_whose_saga_lies_elsewhere_keeps_what_that_needs(database: Open) -> None:
    """Imported after the sagas of its month had gone: its saga is in the default partition."""
    pool = await database("orchestrator")
    imported = id_at(OCTOBER)
    await passed(pool, THEN, {"sagas": retention(WINDOW)["sagas"]})
    await pool.execute(INSERT_ENTRY, imported)
    await pool.execute(INSERT_SAGA, imported, 1)
    await passed(pool, THEN, retention(WINDOW))
    assert "entries_2026_10_condensed" in await partitions_of(pool, "entries")
    assert (await content(pool, "entries"))[imported]["entry"] == b"told"


async def test_a_saga_that_is_opened_again_meanwhile_is_not_dropped(database: Open) -> None:
    """Whoever decides to void it is waited for, and then it is looked again."""
    pool = await database("orchestrator")
    entry_id = id_at(OCTOBER)
    await pool.execute(INSERT_SAGA, entry_id, 3)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE sagas SET state = 5 WHERE entry_id = $1", entry_id)
        dropping = asyncio.create_task(passed(pool, THEN, retention(WINDOW)))

        async def waits() -> bool:
            return dropping.done() or await pool.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted)"
            )

        await until(waits, seconds=5, what="the dropping waits")
    await dropping
    assert (await content(pool, "sagas")).keys() == {entry_id}
