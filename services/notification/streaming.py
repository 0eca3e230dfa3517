"""Streams: each reads the feed for itself, publishes a page, and moves its cursor when the broker has all of it.

Who dies in between publishes the page again, with the same ids. A broker that is away holds up its own streams alone:
they stay where they are in the feed, and nothing of it is kept in memory. One replica at a time publishes.
"""

import asyncio
import logging
from time import monotonic
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.notification.brokers import Brokers
from services.notification.domain.streams import Stream, pause_seconds
from services.notification.feed import FeedReader
from services.notification.following import events_of, types_of
from services.notification.sinks import Publisher, SinkAwayError
from services.notification.store.streams import StreamStore
from shared import faults
from shared.clock import Clock
from shared.errors import LaurelError
from shared.postgres.errors import log_failure
from shared.postgres.pool import Pool

PUBLISHED: Final = faults.declare(
    "notification.stream.published", "a page is published to a broker, the cursor has not been moved"
)
BEFORE_COMMIT: Final = faults.declare(
    "notification.stream.before_commit", "a stream's cursor has been moved, not yet committed"
)

_LOGGER: Final = logging.getLogger(__name__)


class _Running(Struct):
    """A stream on this replica."""

    revision: int
    publisher: Publisher | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0
    next_try: float = 0.0


class Streaming:
    """Publishes all streams, each by itself."""

    def __init__(
        self,
        pool: Pool,
        feed: FeedReader,
        streams: StreamStore,
        brokers: Brokers,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._feed = feed
        self._streams = streams
        self._brokers = brokers
        self._clock = clock
        self._running: dict[UUID, _Running] = {}

    async def run(self) -> None:
        """Have every stream that is on read on, unless it does already or its broker is left alone for a while."""
        streams = {
            stream.stream_id: stream for stream in await self._streams.all() if not stream.switched_off
        }
        for stream_id, running in list(self._running.items()):
            if stream_id not in streams or streams[stream_id].revision != running.revision:
                await self._stop(running)
                del self._running[stream_id]
        for stream_id, stream in streams.items():
            running = self._running.setdefault(stream_id, _Running(stream.revision))
            if (running.task is None or running.task.done()) and monotonic() >= running.next_try:
                running.task = asyncio.create_task(self._advance(stream, running))

    async def close(self) -> None:
        """Stop publishing. What is published without being noted is published again."""
        for running in self._running.values():
            await self._stop(running)
        self._running.clear()

    async def _stop(self, running: _Running) -> None:
        if running.task is not None:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
        if running.publisher is not None:
            await running.publisher.close()

    async def _advance(self, stream: Stream, running: _Running) -> None:
        """Publish what there is."""
        try:
            more = True
            while more:
                stream, more = await self._page(stream, running)
            if stream.is_failing:
                await self._streams.recovered(stream)
            running.failures = 0
        except (SinkAwayError, LaurelError) as error:
            await self._failed(stream, running, str(error))
        except Exception as error:
            log_failure(_LOGGER, "a stream cannot go on", error, stream=stream.key)
            await self._failed(stream, running, type(error).__name__)

    async def _page(self, stream: Stream, running: _Running) -> tuple[Stream, bool]:
        """One page: the stream as it is then, and whether there is more to be read at once. What came meanwhile is not:
        a page is as large as a look is long, and each costs as much again as some dozen events.
        """
        types = types_of([stream])
        assert types is not None
        page = await self._feed.after(stream.cursor, types)
        if page.cursor == stream.cursor:
            return stream, False
        events = await events_of(page.events, [stream.wish])
        if events:
            if running.publisher is None:
                running.publisher = self._brokers.publisher(stream.sink)
            await running.publisher.publish(events)
            await PUBLISHED.reach()
        now = self._clock.now()
        async with self._pool.acquire() as connection, connection.transaction():
            noted = await self._streams.published(
                connection, stream, page.cursor, len(events), now, more=page.more
            )
            if not noted:
                return stream, False  # somebody else has moved it
            await BEFORE_COMMIT.reach()
        running.failures = 0
        return replace(stream, cursor=page.cursor, is_failing=False), page.more

    async def _failed(self, stream: Stream, running: _Running, failure: str) -> None:
        running.failures += 1
        running.next_try = monotonic() + pause_seconds(running.failures)
        _LOGGER.warning("a stream is held up", extra={"stream": stream.key, "reason": failure})
        try:
            await self._streams.failed(stream, failure, self._clock.now())
        except Exception as error:
            log_failure(_LOGGER, "a failure cannot be noted", error, stream=stream.key)
