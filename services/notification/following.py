"""Following the feed: what is told is written down for those who want it, in the transaction that moves the cursor.

All endpoints hear together, by one cursor and one reading. One for which too much waits leaves the others: it keeps a
cursor of its own, and its events stay in the feed until there is room. So does a new one, one that was set back, and
one that was off. It reads for itself until it has come to where the others are, and hears with them again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import Final
from uuid import UUID

from laurel.orchestrator.v1 import domain_event_pb2

from services.notification import convert
from services.notification.config import Settings
from services.notification.domain import pacing
from services.notification.domain.endpoints import Endpoint
from services.notification.domain.events import EVERY_TYPE, Event, Wish
from services.notification.domain.streams import Stream
from services.notification.feed import FeedReader
from services.notification.store.deliveries import DeliveryStore
from services.notification.store.endpoints import Endpoints, EndpointStore
from services.notification.store.following import FollowingStore
from services.notification.store.paces import PaceKey, PaceStore
from shared import faults
from shared.clock import Clock
from shared.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from shared.postgres.pool import Connection, Pool

BEFORE_COMMIT: Final = faults.declare(
    "notification.follow.before_commit", "a page of the feed is written down, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "notification.follow.after_commit", "a page of the feed is written down and committed"
)
CAUGHT_UP: Final = faults.declare(
    "notification.catch_up.before_commit", "an endpoint that was behind has read a page, not yet committed"
)

_LOGGER: Final = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS: Final = 0.02
_BUSY_SECONDS: Final = 1.0
"""For so long after something came it is looked for at once."""
_JUMP_SECONDS: Final = 60.0
_COUNT_SECONDS: Final = 1.0
_AT_ONCE: Final = 50
PASSING: Final = (Unavailable, DeadlineExceeded, ResourceExhausted)
"""The orchestrator is away, or has no time: it is asked again."""


class Writer:
    """Writes down what endpoints want of some events, within a transaction."""

    def __init__(self, deliveries: DeliveryStore, paces: PaceStore, clock: Clock) -> None:
        self._deliveries = deliveries
        self._paces = paces
        self._clock = clock

    async def write(
        self, connection: Connection, events: Sequence[Event], endpoints: Sequence[Endpoint]
    ) -> set[UUID]:
        """The endpoints for which anything was written down."""
        now = self._clock.now()
        wanted = [
            (event, [endpoint for endpoint in endpoints if endpoint.wish.met_by(event)]) for event in events
        ]
        let_through = await self._pace(connection, wanted)
        await self._deliveries.add(connection, let_through, now)
        return {endpoint.endpoint_id for _, those in let_through for endpoint in those}

    async def release(self, connection: Connection, endpoints: Endpoints) -> set[UUID]:
        """Let go what has been held for its interval, a bounded part; the endpoints that get something."""
        now = self._clock.now()
        due = await self._paces.due(connection, now)
        known = {listed.endpoint_id: listed for listed in endpoints.all}
        going: list[tuple[Event, list[Endpoint]]] = []
        kept = {}
        forgotten = []
        for key, pace in due.items():
            if pace.first is None or key.endpoint_id not in known:
                forgotten.append(key)
                continue
            endpoint = known[key.endpoint_id]
            kept[key], event = pacing.release(pace, now)
            going.append((event, [endpoint]))
        if due:
            await self._paces.save(
                connection, kept, {listed.endpoint_id: listed.interval for listed in endpoints.all}
            )
            await self._paces.forget(connection, forgotten)
            await self._deliveries.add(connection, going, now)
        return {endpoint.endpoint_id for _, (endpoint,) in going}

    async def _pace(
        self, connection: Connection, wanted: Sequence[tuple[Event, list[Endpoint]]]
    ) -> list[tuple[Event, list[Endpoint]]]:
        """What may go at once. What comes too soon is held."""
        keys = {
            key
            for event, those in wanted
            for endpoint in those
            if (key := _pace_key(endpoint, event)) is not None
        }
        if not keys:
            return list(wanted)
        now = self._clock.now()
        paces = await self._paces.load(connection, keys)
        intervals = {}
        result = []
        for event, those in wanted:
            let_through = []
            for endpoint in those:
                key = _pace_key(endpoint, event)
                if key is None:
                    let_through.append(endpoint)
                    continue
                intervals[endpoint.endpoint_id] = endpoint.interval
                paces[key], going = pacing.come(paces.get(key), event, endpoint.interval, now)
                if going is not None:
                    let_through.append(endpoint)
            result.append((event, let_through))
        await self._paces.save(connection, paces, intervals)
        return result


class Follower:
    """Follows for all endpoints that hear together. One replica at a time does."""

    def __init__(
        self,
        pool: Pool,
        feed: FeedReader,
        following: FollowingStore,
        endpoints: EndpointStore,
        deliveries: DeliveryStore,
        writer: Writer,
        settings: Settings,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._feed = feed
        self._following = following
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._writer = writer
        self._most_waiting = settings.webhook_max_waiting
        self._clock = clock
        self._wake = wake
        self._next_jump = 0.0
        self._next_count = 0.0
        self._waiting: dict[UUID, int] = {}

    async def follow(self) -> None:
        """Read what there is, and return when nothing has come for a while."""
        idle_at = monotonic() + _BUSY_SECONDS
        try:
            while monotonic() < idle_at:
                moved, more = await self._step()
                await self._release()
                if moved:
                    idle_at = monotonic() + _BUSY_SECONDS
                if not more:
                    await asyncio.sleep(_FIRST_PAUSE_SECONDS)
                    if not moved:
                        return
        except PASSING as error:
            _LOGGER.warning("the feed cannot be read", extra={"reason": error.reason})

    async def _step(self) -> tuple[bool, bool]:
        """One page: whether the cursor has moved, and whether there is more."""
        endpoints = await self._endpoints.current()
        riding = [endpoint for endpoint in endpoints.on if endpoint.cursor is None]
        cursor = await self._following.cursor()
        types = types_of(riding)
        if types is None or cursor is None:
            await self._jump(endpoints, cursor)
            return False, False
        page = await self._feed.after(cursor, types)
        if page.cursor == cursor:
            return False, False
        events = await events_of(page.events, [endpoint.wish for endpoint in riding])
        full = await self._full(riding)
        written: set[UUID] = set()

        async def write(connection: Connection) -> None:
            for endpoint in full:
                await self._endpoints.fall_behind(connection, endpoint.endpoint_id, cursor)
                _LOGGER.info("an endpoint falls behind", extra={"endpoint": endpoint.key})
            hearing = [endpoint for endpoint in riding if endpoint not in full]
            written.update(await self._writer.write(connection, events, hearing))

        if not await self._move(endpoints, cursor, page.cursor, write):
            return True, True
        await AFTER_COMMIT.reach()
        for endpoint_id in written:
            self._waiting[endpoint_id] = self._waiting.get(endpoint_id, 0) + len(events)
        if written:
            self._wake()
        return True, page.more

    async def _jump(self, endpoints: Endpoints, cursor: str | None) -> None:
        """Nobody hears: the cursor goes where the feed is, now and then, and at once for who waits to hear."""
        somebody_waits = any(endpoint.cursor not in (None, cursor) for endpoint in endpoints.on)
        if cursor is not None and not somebody_waits and monotonic() < self._next_jump:
            return
        await self._move(endpoints, cursor, await self._feed.newest(), _nothing)
        self._next_jump = monotonic() + _JUMP_SECONDS

    async def _move(
        self,
        endpoints: Endpoints,
        before: str | None,
        after: str,
        write: Callable[[Connection], Awaitable[None]],
    ) -> bool:
        """Move the cursor and write in one transaction; not where another has moved it or endpoints have changed."""
        told_time = self._clock.now()
        async with self._pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                moved = await self._following.move(connection, before, after)
                # Looked at behind the lock on the cursor: who joins holds it.
                if not moved or await self._endpoints.version(connection) != endpoints.version:
                    await transaction.rollback()
                    return False
                await write(connection)
                await self._following.add_waypoint(connection, told_time, after)
                await BEFORE_COMMIT.reach()
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()
        return True

    async def _full(self, riding: Sequence[Endpoint]) -> list[Endpoint]:
        """Those for which as much waits as may."""
        if monotonic() >= self._next_count:
            self._waiting = {
                endpoint.endpoint_id: await self._deliveries.count(
                    self._pool, endpoint.endpoint_id, self._most_waiting
                )
                for endpoint in riding
            }
            self._next_count = monotonic() + _COUNT_SECONDS
        full = [
            endpoint
            for endpoint in riding
            if self._waiting.get(endpoint.endpoint_id, 0) >= self._most_waiting
        ]
        for endpoint in full:
            # Told by an estimate that only grows: it has to hold.
            self._waiting[endpoint.endpoint_id] = await self._deliveries.count(
                self._pool, endpoint.endpoint_id, self._most_waiting
            )
        return [endpoint for endpoint in full if self._waiting[endpoint.endpoint_id] >= self._most_waiting]

    async def _release(self) -> None:
        endpoints = await self._endpoints.current()
        if not any(endpoint.interval for endpoint in endpoints.all):
            return
        async with self._pool.acquire() as connection, connection.transaction():
            released = await self._writer.release(connection, endpoints)
        if released:
            self._wake()


class CatchUp:
    """Brings endpoints that read for themselves to where the others are. One replica at a time does."""

    def __init__(
        self,
        pool: Pool,
        feed: FeedReader,
        following: FollowingStore,
        endpoints: EndpointStore,
        deliveries: DeliveryStore,
        writer: Writer,
        settings: Settings,
        wake: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._feed = feed
        self._following = following
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._writer = writer
        self._room_below = settings.webhook_max_waiting // 2
        self._wake = wake

    async def run(self) -> None:
        """A page for each in turn, until each has come to the others or has no room."""
        more = True
        try:
            while more:
                more = False
                for endpoint in (await self._endpoints.load(self._pool)).on:
                    if endpoint.cursor is not None:
                        more |= await self._read(endpoint)
        except PASSING as error:
            _LOGGER.warning("the feed cannot be read", extra={"reason": error.reason})

    async def _read(self, endpoint: Endpoint) -> bool:
        """Whether there is more to read at once."""
        assert endpoint.cursor is not None
        types = types_of([endpoint])
        if types is None:
            await self._end(endpoint)
            return False
        waiting = await self._deliveries.count(self._pool, endpoint.endpoint_id, self._room_below)
        common = await self._following.cursor()
        if (not common and endpoint.cursor != common) or waiting >= self._room_below:
            return False
        if endpoint.cursor == common:
            return await self._join(endpoint, types, endpoint.cursor)
        assert common
        page = await self._feed.after(endpoint.cursor, types, common)
        if page.cursor == endpoint.cursor:
            return False  # it is ahead: the others come to it
        events = await events_of(page.events, [endpoint.wish])
        async with self._pool.acquire() as connection, connection.transaction():
            moved = await self._endpoints.move_cursor(
                connection, endpoint.endpoint_id, endpoint.cursor, page.cursor
            )
            if moved:
                await self._writer.write(connection, events, [endpoint])
            await CAUGHT_UP.reach()
        self._wake()
        if moved and page.cursor == common:
            return await self._join(endpoint, types, page.cursor)
        return True

    async def _join(self, endpoint: Endpoint, types: Sequence[str], cursor: str) -> bool:
        """It has read what all had: from here on it hears with them. While this is decided nobody reads on."""
        async with self._pool.acquire() as connection, connection.transaction():
            common = await self._following.lock_cursor(connection)
            if common is None:
                return False
            events: list[Event] = []
            reached = cursor
            if common and cursor != common:
                page = await self._feed.after(cursor, types, common)
                events = await events_of(page.events, [endpoint.wish])
                reached = page.cursor
            if not await self._endpoints.move_cursor(connection, endpoint.endpoint_id, cursor, reached):
                return True
            await self._writer.write(connection, events, [endpoint])
            if reached == common:
                await self._endpoints.set_cursor(connection, endpoint.endpoint_id, None)
            await CAUGHT_UP.reach()
        self._wake()
        return reached != common

    async def _end(self, endpoint: Endpoint) -> None:
        """Of the feed it wants nothing."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._endpoints.set_cursor(connection, endpoint.endpoint_id, None)


def types_of(endpoints: Iterable[Endpoint | Stream]) -> list[str] | None:
    """The domain events that any of these wants, as the feed is asked for: empty, all; None: none."""
    types = {type_ for endpoint in endpoints for type_ in endpoint.wish.types}
    if EVERY_TYPE in types:
        return []
    return sorted(convert.domain_types(sorted(types))) or None


async def events_of(messages: Sequence[domain_event_pb2.DomainEvent], wishes: Sequence[Wish]) -> list[Event]:
    """What a page tells that any of these wishes names. Many take a while: others get their turn in between."""
    events = []
    heading = told = None
    for number, message in enumerate(messages):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        heading = convert.heading_of(message, heading)
        if any(wish.met_by(heading) for wish in wishes):
            told = (message, convert.with_data(heading, message, told))
            events.append(told[1])
    return events


def _pace_key(endpoint: Endpoint, event: Event) -> PaceKey | None:
    if not endpoint.interval or not event.user_id:
        return None
    return PaceKey(endpoint.endpoint_id, event.user_id, event.type, event.subject)


async def _nothing(_connection: Connection) -> None:
    """Nothing is written down."""
