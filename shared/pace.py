"""How much work in the background does at a time, and how long it rests: by whether events come (docs/adr/0031).

While they do, a batch takes some milliseconds, and after each the machine is left to events for a share of the time.
While none do, batches are as large as they may be, and nobody rests.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from msgspec import Struct

T = TypeVar("T")
R = TypeVar("R")

BATCH_SECONDS: Final = 0.05
"""What a batch is to take while events come: so long one of them may find a processor, a row or the log taken. In less,
what its transaction costs is most of it.
"""
QUIET_SECONDS: Final = 1.0
"""After so long without any, no events come."""
LEAST: Final = 10
"""Of a batch, where one takes long."""
_FIRST_GUESS_SECONDS: Final = 0.001
"""What one takes, before any have been measured."""


class Traffic:
    """Whether events come to this process. Their callers spread over replicas, so each sees some of them."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._under_way = 0
        self._last = -QUIET_SECONDS + monotonic()

    def noticed(self, apply: Callable[[T], Awaitable[R]]) -> Callable[[T], Awaitable[R]]:
        """The same function, of which every call is noticed."""

        async def applied(work: T) -> R:
            self._under_way += 1
            try:
                return await apply(work)
            finally:
                self._under_way -= 1
                self._last = self._monotonic()

        return applied

    @property
    def is_there(self) -> bool:
        """One is under way, or was a moment ago."""
        return self._under_way > 0 or self._monotonic() - self._last < QUIET_SECONDS


class Batch(Struct):
    """What is done at a time."""

    size: int
    """Of how many it is to be, at most."""
    done: int
    """How many it came to. Whoever works says so."""


class Pace:
    """That of one kind of work. `most`: of what a batch takes at most; `share`: how much of the time it may work while
    events come, above 0 up to 1.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        most: int,
        share: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.most = most
        self._traffic = traffic
        self._share = share
        self._monotonic = monotonic
        self._sleep = sleep
        self._seconds_each = _FIRST_GUESS_SECONDS

    @property
    def share(self) -> float:
        """How much of the time it may work now."""
        return self._share if self._traffic.is_there else 1.0

    @property
    def size(self) -> int:
        """Of how many the next batch is to be."""
        if not self._traffic.is_there:
            return self.most
        return min(self.most, max(LEAST, int(BATCH_SECONDS / self._seconds_each)))

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch]:
        """Around the work of a batch. Rests after it; not where it fails."""
        batch, began = Batch(self.size, 0), self._monotonic()
        yield batch
        took = self._monotonic() - began
        if batch.done:
            self._seconds_each = max(took, 1e-6) / batch.done
        share = self.share
        # A sleep of nothing lets others go on, too.
        await self._sleep(took * (1 - share) / share)
