"""Tables partitioned by entry id, a month each: made ahead of time, and dropped or condensed when they are old.

A service's migrations create each table, `PARTITION BY RANGE (entry_id)`, with a default partition `<table>_default`.
That holds the ids of no month that was made: those of older versions, which are random. Everything is right without any
month, only slower (docs/adr/0010).
"""

import logging
from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from shared.clock import Clock
from shared.postgres.condensing import Condense, condense
from shared.postgres.months import (
    Month,
    Months,
    months_of,
    months_past,
    months_to_make,
    partition_name,
)
from shared.postgres.pool import Connection, Pool
from shared.postgres.short_transactions import IN_USE, short_transaction
from shared.postgres.upkeep import drop_month, make_month

_LOGGER: Final = logging.getLogger(__name__)
_BETWEEN_PASSES: Final = timedelta(hours=1)

_PARTITIONS: Final = """
    SELECT child.relname AS name
      FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
     WHERE inhparent = to_regclass($1)
"""
_HOLDS: Final = "SELECT EXISTS (SELECT FROM {partition} WHERE {condition})"
_LOCK_ALL: Final = "LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"


class Drop(Struct, frozen=True):
    """A month goes whole."""

    after: timedelta
    """The least age of the month's last instant."""
    unless: tuple[str, ...] = ()
    """Conditions in SQL; a month stays while it has a row that any of them holds of. Each needs an index."""


Keeping = Drop | Condense | None
"""What becomes of a table's old months; None: they stay as they are, for ever."""


class Partitions:
    """The months of a database's partitioned tables, and what becomes of them when they are old.

    One replica at a time should keep them; if two do, nothing breaks.
    """

    def __init__(self, pool: Pool, clock: Clock, tables: Mapping[str, Keeping]) -> None:
        self._pool = pool
        self._clock = clock
        self._tables = tables
        self._next_pass: datetime | None = None

    async def keep(self) -> None:
        """Make the months that are due, and drop or condense those that are old; at most once an hour.

        The wall clock decides, not the time of an import: history of long ago has no months and lies in the default
        partition. What stands in the way of traffic is left to a later pass.
        """
        now = self._clock.now()
        if self._next_pass is not None and now < self._next_pass:
            return
        for table, keeping in self._tables.items():
            months = await self._months(table)
            for month in months_to_make(months.all, now):
                await self._attempt("made", table, month, self._make(table, month))
            if isinstance(keeping, Drop):
                for month in months_past(months.whole, now, keeping.after):
                    await self._attempt("dropped", table, month, self._drop(table, month, keeping))
            elif isinstance(keeping, Condense):
                # One in a pass: other time-driven work waits meanwhile.
                for month in (await self._to_condense(months, now, keeping))[:1]:
                    await self._attempt(
                        "condensed", table, month, condense(self._pool, table, month, keeping)
                    )
        self._next_pass = now + _BETWEEN_PASSES

    async def _months(self, table: str) -> Months:
        return months_of(table, {row["name"] for row in await self._pool.fetch(_PARTITIONS, table)})

    async def _to_condense(self, months: Months, now: datetime, how: Condense) -> list[Month]:
        held = (await self._months(how.follows)).all if how.follows else frozenset()
        return months_past(months.whole - held, now, how.after)

    async def _attempt(self, done: str, table: str, month: Month, work: Awaitable[bool]) -> None:
        """Wait for the work, which tells whether it was done, and note what came of it."""
        partition = {"partition": partition_name(table, month)}
        try:
            if await work:
                _LOGGER.info("a partition was %s", done, extra=partition)
        except IN_USE as error:
            _LOGGER.warning("a partition could not be %s yet", done, extra={**partition, "error": str(error)})

    async def _make(self, table: str, month: Month) -> bool:
        async with self._pool.acquire() as connection, short_transaction(connection):
            return await make_month(connection, table, month)

    async def _drop(self, table: str, month: Month, how: Drop) -> bool:
        """False where the month holds what keeps it."""
        partition = partition_name(table, month)
        async with self._pool.acquire() as connection, short_transaction(connection):
            if await _holds(connection, partition, how.unless):
                return False
            await connection.execute(_LOCK_ALL.format(table=table))
            # Nobody writes any more; somebody may have.
            if await _holds(connection, partition, how.unless):
                return False
            await drop_month(connection, table, month)
        return True


async def _holds(connection: Connection, partition: str, conditions: tuple[str, ...]) -> bool:
    for condition in conditions:
        if await connection.fetchval(_HOLDS.format(partition=partition, condition=condition)):
            return True
    return False
