"""Locks that one replica holds at a time, for longer than a transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg

from shared.ids import digest
from shared.postgres.pool import Connection, Pool

_UNLOCK_TIMEOUT_SECONDS: Final = 1.0

_LOCK: Final = "SELECT pg_advisory_lock($1)"
_TRY_LOCK: Final = "SELECT pg_try_advisory_lock($1)"
_UNLOCK: Final = "SELECT pg_advisory_unlock($1)"


def lock_key(kind: str, name: str) -> int:
    """The number of the advisory lock of this name."""
    return int.from_bytes(digest(kind, name)[:8], signed=True)


@asynccontextmanager
async def locked(pool: Pool, key: int) -> AsyncIterator[Connection]:
    """The lock, held by the connection that the block gets; waits for it as long as a statement may take.

    PostgreSQL frees the lock with the connection. So what is written on this very connection is written under the
    lock, or not at all. Raises asyncpg.QueryCanceledError when others hold it for too long.
    """
    async with pool.acquire() as connection:
        try:
            await connection.execute(_LOCK, key)
            yield connection
        finally:
            await unlock(connection, key)


@asynccontextmanager
async def locked_if_free(pool: Pool, key: int) -> AsyncIterator[Connection | None]:
    """As `locked`; None at once where another holds the lock."""
    async with pool.acquire() as connection:
        if not await connection.fetchval(_TRY_LOCK, key):
            yield None
            return
        try:
            yield connection
        finally:
            await unlock(connection, key)


async def unlock(connection: Connection, key: int) -> None:
    """Give the lock back before the connection returns to the pool, which keeps sessions as they are.

    Never fails: whatever ended the work under the lock, be it a cancellation, is what the caller has to see.
    """
    try:
        await connection.execute(_UNLOCK, key, timeout=_UNLOCK_TIMEOUT_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        # Gone already, or not answering: end the session, and with it the lock.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()
