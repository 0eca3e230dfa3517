"""Time-driven work, by one replica at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from shared.postgres.errors import log_failure
from shared.postgres.locks import lock_key, locked_if_free
from shared.postgres.pool import Pool

_LOGGER: Final = logging.getLogger(__name__)
_LONGEST_PAUSE_SECONDS: Final = 60.0


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
    key = lock_key("leader", name)
    failures = 0

    async def work_once() -> None:
        nonlocal failures
        await work()
        failures = 0

    while True:
        try:
            await _lead(pool, key, interval_seconds, work_once)
        except Exception as error:
            failures += 1
            log_failure(_LOGGER, "time-driven work failed", error, work=name, failures=failures)
        await asyncio.sleep(_pause(interval_seconds, failures))


async def _lead(pool: Pool, key: int, interval_seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Work for as long as the lock is ours; returns at once where another replica has it."""
    async with locked_if_free(pool, key) as connection:
        while connection is not None:
            await work()
            await asyncio.sleep(interval_seconds)
            await connection.fetchval("SELECT 1")  # raises when the connection, and so the lock, is gone


def _pause(interval_seconds: float, failures: int) -> float:
    return (
        interval_seconds
        if not failures
        else min(interval_seconds * 2 ** (failures - 1), _LONGEST_PAUSE_SECONDS)
    )
