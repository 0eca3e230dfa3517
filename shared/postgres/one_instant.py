"""What several statements read as of one instant."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.postgres.pool import Connection, Pool


@asynccontextmanager
async def one_instant(pool: Pool, *condensed: str) -> AsyncIterator[Connection]:
    """A transaction that only reads, and sees in each statement what was there at the first.

    `condensed` names those of its tables of which old months are condensed (docs/adr/0010). Another table takes the
    place of such a month, which would have no row for whoever reads as of an instant before. So these tables are held
    until the end, from before that instant: a lock does not begin it.
    """
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        for table in condensed:
            await connection.execute(f'LOCK TABLE ONLY "{table}" IN ACCESS SHARE MODE')
        yield connection
