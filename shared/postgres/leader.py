"""Time-driven work, by one replica at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

from shared.ids import digest
from shared.postgres.pool import Connection, Pool

_LOGGER: Final = logging.getLogger(__name__)
_LONGEST_PAUSE_SECONDS: Final = 60.0
_UNLOCK_TIMEOUT_SECONDS: Final = 1.0

_TRY_LOCK: Final = "SELECT pg_try_advisory_lock($1)"
_UNLOCK: Final = "SELECT pg_advisory_unlock($1)"


async def run_as_leader(
    pool: Pool, name: str, interval_seconds: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Do `work` every `interval_seconds` on whichever replica holds the advisory lock `name`; never returns.

    The leader keeps one connection of the pool for its lock. PostgreSQL frees the lock with the connection,
    so another replica takes over within an interval. A leader that has lost its connection may be in the
    middle of `work` while the next one begins: the work itself has to be idempotent.

    A failure is logged and the work tried again, after twice the pause each time. Cancellation ends it at
    once.
    """
    key = int.from_bytes(digest("leader", name)[:8], signed=True)
    failures = 0

    async def work_once() -> None:
        nonlocal failures
        await work()
        failures = 0

    while True:
        try:
            async with pool.acquire() as connection:
                await _lead(connection, key, interval_seconds, work_once)
        except Exception:
            failures += 1
            _LOGGER.exception("time-driven work failed", extra={"work": name, "failures": failures})
        await asyncio.sleep(_pause(interval_seconds, failures))


async def _lead(
    connection: Connection, key: int, interval_seconds: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Work for as long as the lock is ours; returns at once where another replica has it."""
    if not await connection.fetchval(_TRY_LOCK, key):
        return
    try:
        while True:
            await work()
            await asyncio.sleep(interval_seconds)
            await connection.fetchval("SELECT 1")  # raises when the connection, and so the lock, is gone
    finally:
        await _unlock(connection, key)


async def _unlock(connection: Connection, key: int) -> None:
    """Give the lock back before the connection returns to the pool, which keeps sessions as they are.

    Never fails: whatever ended the leadership, be it a cancellation, is what the caller has to see.
    """
    try:
        await connection.execute(_UNLOCK, key, timeout=_UNLOCK_TIMEOUT_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        # Gone already, or not answering: end the session, and with it the lock.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


def _pause(interval_seconds: float, failures: int) -> float:
    return (
        interval_seconds
        if not failures
        else min(interval_seconds * 2 ** (failures - 1), _LONGEST_PAUSE_SECONDS)
    )
