"""Large tables in minutes: what real events left of some thousand users is copied, as it is, for all other users.

A template is set aside in a schema of its own, and every copy of it is one statement for each table: PostgreSQL reads,
changes and writes the rows itself. (COPY out and in again was measured: 160,000 rows of the ledger a second on two
cores; this writes 190,000 on one.) Indexes are made afterwards, sorted, which is how they would be after a REINDEX.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import psutil

from deploy.bench.fill_tables import (
    COPIED,
    CREATE_COPIED_ID,
    EMPTY,
    SCHEMA,
    Catalogue,
    Copied,
    copy_statement,
    problems,
)
from deploy.local.databases import CORE, database_name
from shared.postgres.pool import Connection

_SIDE_BY_SIDE: Final = 2
"""Databases that are filled at a time."""

_CATALOGUE: Final = """
    SELECT relname AS name, attname AS column, format_type(atttypid, NULL) AS type
      FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
       AND attnum > 0 AND NOT attisdropped
     ORDER BY relname, attnum
"""
_HAS_ROWS: Final = "SELECT EXISTS (SELECT FROM {table})"
_SET_ASIDE: Final = "CREATE TABLE template.{table} AS TABLE public.{table}"
_COUNT: Final = "SELECT count(*) FROM template.{table}"

# Of a partitioned table its own indexes, which those of its partitions follow.
_INDEXES: Final = """
    SELECT CASE WHEN con.oid IS NULL THEN format('DROP INDEX %I', relname)
                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) END AS remove,
           CASE WHEN con.oid IS NULL THEN replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
                ELSE format('ALTER TABLE %s ADD CONSTRAINT %I ', conrelid::regclass, conname)
                     || pg_get_constraintdef(con.oid) END AS make
      FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
      LEFT JOIN pg_constraint AS con ON conindid = indexrelid AND contype IN ('p', 'u')
     WHERE indrelid = to_regclass($1)
     ORDER BY con.oid IS NULL, indexrelid
"""
_SIZE: Final = """
    SELECT coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size($1::text::regclass))
      FROM pg_partition_tree($1::text::regclass)
"""

# Nobody needs these tables after a crash, until they are filled.
_HURRY: Final = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET full_page_writes = off",
    "ALTER SYSTEM SET autovacuum = off",
    "SELECT pg_reload_conf()",
)
_BE_DURABLE: Final = ("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()", "CHECKPOINT")
_HURRY_SESSION: Final = """
    SET synchronous_commit = off; SET maintenance_work_mem = '1GB'; SET work_mem = '64MB'
"""
# The sorted sets do not know of the copies: the service fills them when it is started again.
_FORGET_SORTED_SETS: Final = "UPDATE projection SET marker = NULL"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Table:
    """A table after it was filled."""

    rows: int
    bytes: int
    """With its indexes."""


Filled = Mapping[str, Table]
"""By `service.table`."""


async def fill(admin_dsn: str, template_users: int, copies: int, say: Say) -> Filled:
    """Turn the users of all five databases into `copies` times as many. No service may be running.

    With one copy, which is the template itself, tables and indexes are only put in order. The server is durable again
    afterwards, and everything is vacuumed, analysed and on disk. Raises `ValueError` where tables are not as
    `fill_tables` says.
    """
    at_once = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def one(service: str) -> Filled:
        async with at_once:
            return await _fill_database(admin_dsn, service, template_users, copies, say)

    await _on(admin_dsn, _HURRY)
    try:
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(one(service)) for service in CORE]
    finally:
        await _on(admin_dsn, _BE_DURABLE)
        # What was written meanwhile lies with the operating system, and would go to disk during what is measured.
        os.sync()
    return {name: table for part in parts for name, table in part.result().items()}


def memory_settings() -> Mapping[str, str]:
    """The settings of a server that has this machine to itself, as PostgreSQL's manual advises."""
    return {
        "shared_buffers": f"{psutil.virtual_memory().total // 4 >> 20}MB",
        "max_wal_size": "64GB",
        "checkpoint_timeout": "30min",
    }


async def give_memory(admin_dsn: str) -> None:
    """Let the server have these settings from its next start on."""
    await _on(
        admin_dsn, [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in memory_settings().items()]
    )


async def catalogue_of(connection: Connection) -> Catalogue:
    """The tables of a database as it is."""
    found: dict[str, dict[str, str]] = {}
    for row in await connection.fetch(_CATALOGUE):
        found.setdefault(row["name"], {})[row["column"]] = row["type"]
    return found


async def _fill_database(admin_dsn: str, service: str, template_users: int, copies: int, say: Say) -> Filled:
    began = time.monotonic()
    tables = COPIED[service]
    connection = await asyncpg.connect(f"{admin_dsn.rpartition('/')[0]}/{database_name(service)}")
    try:
        await connection.execute(_HURRY_SESSION)
        catalogue = await catalogue_of(connection)
        await _check(connection, service, catalogue)
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await connection.execute(CREATE_COPIED_ID)
        rows = {
            each.table: await _multiply(
                connection, each, list(catalogue[each.table]), template_users, copies, say
            )
            for each in tables
        }
        await connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        if service == "leaderboard":
            await connection.execute(_FORGET_SORTED_SETS)
        await connection.execute("VACUUM (ANALYZE)")
        filled = {
            f"{service}.{name}": Table(count, int(await connection.fetchval(_SIZE, name)))
            for name, count in rows.items()
        }
    finally:
        await connection.close()
    say(f"filled {service}: {sum(rows.values()):,} rows in {time.monotonic() - began:.0f} s")
    return filled


async def _check(connection: Connection, service: str, catalogue: Catalogue) -> None:
    found = [
        *problems(service, catalogue),
        *[
            f"{service}.{table} has rows, which cannot be multiplied"
            for table in EMPTY.get(service, ())
            if await connection.fetchval(_HAS_ROWS.format(table=table))
        ],
    ]
    if found:
        raise ValueError("\n".join(found))


async def _multiply(
    connection: Connection,
    copied: Copied,
    columns: Sequence[str],
    template_users: int,
    copies: int,
    say: Say,
) -> int:
    """Add the copies of one table, and make its indexes anew; the rows that it has then."""
    began = time.monotonic()
    await connection.execute(_SET_ASIDE.format(table=copied.table))
    rows: int = copies * await connection.fetchval(_COUNT.format(table=copied.table))
    indexes = await connection.fetch(_INDEXES, copied.table)
    for index in indexes:
        await connection.execute(index["remove"])
    for copy in range(1, copies):
        await connection.execute(copy_statement(copied, columns, template_users, copy))
    written = time.monotonic()
    for index in indexes:
        await connection.execute(index["make"])
    if rows >= 1_000_000:
        say(
            f"{copied.table}: {rows:,} rows in {written - began:.0f} s, indexes {time.monotonic() - written:.0f} s"
        )
    return rows


async def _on(dsn: str, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
