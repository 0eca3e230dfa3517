"""Tables partitioned by entry id, a month each: months are made ahead of time, and dropped when they are too old.

A service's migrations create each table, `PARTITION BY RANGE (entry_id)`, with a default partition `<table>_default`.
That holds the ids of no month that was made: those of older versions, which are random. Everything is right without any
month, only slower (docs/adr/0010).
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from shared.clock import Clock
from shared.postgres.months import (
    Month,
    lowest_id,
    month_of_partition,
    months_to_drop,
    months_to_make,
    partition_name,
)
from shared.postgres.pool import Connection, Pool

_LOGGER: Final = logging.getLogger(__name__)
_BETWEEN_PASSES: Final = timedelta(hours=1)

_PARTITIONS: Final = """
    SELECT child.relname AS name
      FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
     WHERE inhparent = to_regclass($1)
"""
_EXISTS: Final = "SELECT to_regclass($1) IS NOT NULL"
_STORAGE: Final = """
    SELECT coalesce('WITH (' || array_to_string(reloptions, ', ') || ')', '')
      FROM pg_class WHERE oid = to_regclass($1)
"""

# Writers wait behind a lock that is asked for. So it is asked for briefly, and nothing long is done under it: what does
# not work now works in an hour.
_BE_BRIEF: Final = "SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = '2s'"

# In the order in which writers take them. The first lock keeps writers out until they see the month: who had already
# chosen the default partition would fail. It also keeps two replicas from making the same month.
_LOCK: Final = """
    LOCK TABLE ONLY {table} IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE
"""
# What came before its month was made lies in the default partition.
_MAKE: Final = """
    CREATE TABLE {partition} (LIKE {table} INCLUDING ALL) {storage};
    WITH moved AS (
        DELETE FROM {table}_default WHERE entry_id >= '{first}' AND entry_id < '{after}' RETURNING *
    )
    INSERT INTO {partition} SELECT * FROM moved;
    ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{first}') TO ('{after}')
"""
_DROP: Final = "DROP TABLE IF EXISTS {partition}"


class Partitions:
    """The months of a database's partitioned tables.

    `tables` gives for each how long a row is kept at least, or None for ever. One replica at a time should keep them;
    if two do, nothing breaks.
    """

    def __init__(self, pool: Pool, clock: Clock, tables: Mapping[str, timedelta | None]) -> None:
        self._pool = pool
        self._clock = clock
        self._tables = tables
        self._next_pass: datetime | None = None

    async def keep(self) -> None:
        """Make the months that are due and drop those that are too old; at most once an hour.

        The wall clock decides, not the time of an import: history of long ago has no months and lies in the default
        partition. What stands in the way of traffic is left to a later pass.
        """
        now = self._clock.now()
        if self._next_pass is not None and now < self._next_pass:
            return
        for table, retention in self._tables.items():
            await self._keep(table, now, retention)
        self._next_pass = now + _BETWEEN_PASSES

    async def _keep(self, table: str, now: datetime, retention: timedelta | None) -> None:
        names = {row["name"] for row in await self._pool.fetch(_PARTITIONS, table)}
        months = {month for name in names if (month := month_of_partition(table, name))}
        for month in months_to_make(months, now):
            await self._attempt("made", table, month, self._make)
        for month in months_to_drop(months, now, retention):
            await self._attempt("dropped", table, month, self._drop)

    async def _attempt(
        self, done: str, table: str, month: Month, work: Callable[[Connection, str, Month], Awaitable[None]]
    ) -> None:
        name = partition_name(table, month)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_BE_BRIEF)
                await work(connection, table, month)
        except (
            asyncpg.LockNotAvailableError,
            asyncpg.QueryCanceledError,
            asyncpg.DeadlockDetectedError,
        ) as error:
            _LOGGER.warning(
                "a partition could not be %s yet", done, extra={"partition": name, "error": str(error)}
            )
        else:
            _LOGGER.info("a partition was %s", done, extra={"partition": name})

    @staticmethod
    async def _make(connection: Connection, table: str, month: Month) -> None:
        partition = partition_name(table, month)
        await connection.execute(_LOCK.format(table=table))
        if await connection.fetchval(_EXISTS, partition):
            return
        storage = await connection.fetchval(_STORAGE, f"{table}_default")
        first, after = lowest_id(month.begin), lowest_id(month.end)
        await connection.execute(
            _MAKE.format(table=table, partition=partition, storage=storage, first=first, after=after)
        )

    @staticmethod
    async def _drop(connection: Connection, table: str, month: Month) -> None:
        await connection.execute(_DROP.format(partition=partition_name(table, month)))
