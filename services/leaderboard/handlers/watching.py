"""Those who watch the top of a segment: a message at once, and one whenever it has changed, at the rate they set."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from datetime import timedelta

from services.leaderboard.handlers.lists import Lists
from services.leaderboard.results import RankedMembers, Selector
from shared.errors import ResourceExhausted


class Watchers:
    """Streams of leaderboards. Each looks for itself; what has not changed is not sent."""

    def __init__(self, lists: Lists, most: int) -> None:
        self._lists = lists
        self._most = most
        self._watching = 0
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Streams end, in good order: the process is about to."""
        self._ending.set()

    async def watch(
        self, selector: Selector, member_count: int, min_interval: timedelta
    ) -> AsyncGenerator[RankedMembers, None]:
        """The first members of a segment. Without a date the stream goes on into the next run when one begins.

        Raises `NotFound`, and `ResourceExhausted` when too many watch.
        """
        with self._admitted():
            last: RankedMembers | None = None
            while not self._ending.is_set():
                found = await self._lists.page(selector, 0, member_count)
                if found != last:
                    yield found
                    last = found
                await self._pause(min_interval)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._watching >= self._most:
            raise ResourceExhausted(
                f"{self._most} are watching leaderboards already",
                reason="OVERLOADED",
                retry_after_seconds=1.0,
            )
        self._watching += 1
        try:
            yield
        finally:
            self._watching -= 1

    async def _pause(self, interval: timedelta) -> None:
        try:
            async with asyncio.timeout(interval.total_seconds()):
                await self._ending.wait()
        except TimeoutError:
            pass
