"""An old month of a partitioned table is rewritten without what only replays read; facts stay (docs/adr/0010).

No lock on the table is held while rows are copied: statements with a generic plan lock every month, also those that
they leave alone, and would all wait. Instead the month is closed by a constraint that no row satisfies while this
session holds an advisory lock: whoever writes to the month meets a conflict (`shared.postgres.errors`) and tries
again; for all others nothing changes. Should the session die, the month is open again.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final

from msgspec import Struct

from shared.ids import digest
from shared.postgres.months import Month, condensed_name, partition_name
from shared.postgres.pool import Connection, Pool
from shared.postgres.short_transactions import IN_USE, short_transaction
from shared.postgres.upkeep import begin_condensing, close_month, end_condensing, open_month

COPY_TIMEOUT_SECONDS: Final = 1_800
"""How long the copying of one month may take."""

_SWAP_ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 0.5
_LOCK_KEY: Final = int.from_bytes(digest("condensing")[:8], signed=True)

_TRY_LOCK: Final = "SELECT pg_try_advisory_lock($1)"
_UNLOCK: Final = "SELECT pg_advisory_unlock($1)"
_IS_PARTITION: Final = """
    SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = to_regclass($1) AND inhrelid = to_regclass($2))
"""
_COLUMNS: Final = """
    SELECT attname FROM pg_attribute
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
     ORDER BY attnum
"""

_LONGER: Final = "SET LOCAL statement_timeout = '{seconds}s'"
_COPY: Final = "INSERT INTO {condensed} ({columns}) SELECT {values} FROM {partition} AS {table}"
_EMPTIED: Final = "CASE WHEN {where} THEN '' ELSE {column} END"


class Condense(Struct, frozen=True):
    """A month loses columns that only replays read."""

    after: timedelta
    """The least age of the month's last instant."""
    emptied: tuple[str, ...]
    """Columns of bytes, which become empty ..."""
    where: str
    """... in rows that this condition in SQL holds of."""
    follows: str | None = None
    """Another table, whose month has to be gone first."""


async def condense(pool: Pool, table: str, month: Month, how: Condense) -> bool:
    """Rewrite a month; False when another replica does or has done so.

    Raises one of `IN_USE` where locks cannot be had; then everything is as it was.
    """
    async with pool.acquire() as connection:
        if not await connection.fetchval(_TRY_LOCK, _LOCK_KEY):
            return False
        try:
            if not await connection.fetchval(_IS_PARTITION, table, partition_name(table, month)):
                return False
            await _rewrite(connection, table, month, how)
        finally:
            await connection.execute(_UNLOCK, _LOCK_KEY)
    return True


async def _rewrite(connection: Connection, table: str, month: Month, how: Condense) -> None:
    async with short_transaction(connection):
        await close_month(connection, table, month, _LOCK_KEY)
    try:
        async with connection.transaction():
            await _copy(connection, table, month, how)
            await _swap(connection, table, month)
    finally:
        with suppress(*IN_USE):
            async with short_transaction(connection):
                await open_month(connection, table, month)


async def _copy(connection: Connection, table: str, month: Month, how: Condense) -> None:
    names = [row["attname"] for row in await connection.fetch(_COLUMNS, table)]
    values = [
        _EMPTIED.format(where=how.where, column=name) if name in how.emptied else name for name in names
    ]
    await connection.execute(_LONGER.format(seconds=COPY_TIMEOUT_SECONDS))
    await begin_condensing(connection, table, month)
    await connection.execute(
        _COPY.format(
            table=table,
            condensed=condensed_name(table, month),
            columns=", ".join(names),
            values=", ".join(values),
            partition=partition_name(table, month),
        ),
        timeout=2 * COPY_TIMEOUT_SECONDS,
    )


async def _swap(connection: Connection, table: str, month: Month) -> None:
    """The new month takes the old one's place, between two statements of everybody else."""
    for attempt in range(_SWAP_ATTEMPTS):
        try:
            async with short_transaction(connection):
                await end_condensing(connection, table, month)
            return
        except IN_USE:
            if attempt + 1 == _SWAP_ATTEMPTS:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)
