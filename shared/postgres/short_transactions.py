"""Changes to tables that are in use: locks are asked for briefly, and what cannot be had is left to a later attempt.

Everybody waits behind a lock that is asked for, so nothing long is done under one either.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from shared.postgres.pool import Connection

IN_USE: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
)
"""What such a transaction fails with when the tables are in use."""

_BE_BRIEF: Final = "SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = '2s'"


@asynccontextmanager
async def short_transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction, or a part of one, that fails with one of `IN_USE` rather than keep others waiting."""
    async with connection.transaction():
        await connection.execute(_BE_BRIEF)
        yield
