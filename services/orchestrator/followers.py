"""Those who follow the feed of domain events: page by page, or as a stream (RULES 8.2)."""

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from laurel.orchestrator.v1 import orchestrator_service_pb2
from msgspec import Struct

from services.orchestrator.config import Settings
from services.orchestrator.domain_events import EVERY_TYPE, ToldEvent, Type, events_of
from services.orchestrator.store.domain_events import NEWEST, DomainEventStore
from shared.errors import ResourceExhausted, Violations
from shared.postgres.feed import Place, place_of
from shared.rpc.convert import check_user_id_or_none
from shared.rpc.wire import Part
from shared.tenants import CURRENT_TENANT, UsersOf

MAX_PAGE_SIZE: Final = 1_000
DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_BYTES: Final = 4_000_000
"""A page ends with the entry that comes to so much: a message has to arrive."""

_CURSOR: Final = "after_cursor"
_UNTIL: Final = "until_cursor"
_ROWS_AT_ONCE: Final = 20
_FIRST_PAUSE_SECONDS: Final = 0.02
_SECONDS_BETWEEN_CURSORS: Final = 5.0
"""How often a follower of a stream hears how far it has come, where nothing is told that it wants."""

pb = orchestrator_service_pb2

_LISTED: Final = Part(pb.ListDomainEventsResponse, "events")
_WATCHED: Final = Part(pb.WatchDomainEventsResponse, "events")


class _Page(Struct, frozen=True):
    events: Sequence[ToldEvent]
    cursor: str
    full: bool
    """More can be read at once."""


class Wanted(Struct, frozen=True):
    """What a follower wants to hear of."""

    types: frozenset[Type]
    users: Container[str] | None
    """Their stored ids; None: all."""


class Followers:
    """The use cases of followers. Each reads for itself and keeps nothing here but its place in a stream."""

    def __init__(self, events: DomainEventStore, settings: Settings) -> None:
        self._events = events
        self._longest_pause_seconds = settings.domain_event_poll_seconds
        self._most_watching = settings.max_domain_event_watchers
        self._watching = 0
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Streams end, in good order: the process is about to."""
        self._ending.set()

    async def list(self, request: pb.ListDomainEventsRequest) -> bytes:
        """A page of events, a serialized `ListDomainEventsResponse`. Raises `InvalidArgument`."""
        violations = Violations()
        wanted = _wanted(request.types, request.user_id, violations)
        if not 0 <= request.page_size <= MAX_PAGE_SIZE:
            violations.add("page_size", f"must be 0 to {MAX_PAGE_SIZE}")
        violations.raise_if_any()
        place = await self._events.place(request.after_cursor, _CURSOR)
        until = place_of(request.until_cursor, _UNTIL) if request.until_cursor else None
        page = await self._page(place, request.page_size or DEFAULT_PAGE_SIZE, wanted, until)
        end = pb.ListDomainEventsResponse(cursor=page.cursor, more=page.full)
        return listed(_LISTED, page.events) + end.SerializeToString()

    async def watch(self, request: pb.WatchDomainEventsRequest) -> AsyncIterator[bytes]:
        """Events as they come, each a serialized `WatchDomainEventsResponse`. Raises `InvalidArgument`, or
        `ResourceExhausted` when too many watch.
        """
        violations = Violations()
        wanted = _wanted(request.types, request.user_id, violations)
        violations.raise_if_any()
        with_cursor = request.after_cursor
        place = await self._events.place(request.after_cursor, _CURSOR)
        async with self._admitted():
            next_cursor = 0.0 if with_cursor == NEWEST else monotonic() + _SECONDS_BETWEEN_CURSORS
            pause = _FIRST_PAUSE_SECONDS
            while not self._ending.is_set():
                page = await self._page(place, DEFAULT_PAGE_SIZE, wanted)
                if page.events or (page.cursor != with_cursor and monotonic() >= next_cursor):
                    end = pb.WatchDomainEventsResponse(cursor=page.cursor)
                    yield listed(_WATCHED, page.events) + end.SerializeToString()
                    with_cursor = page.cursor
                    next_cursor = monotonic() + _SECONDS_BETWEEN_CURSORS
                moved = page.cursor != place.cursor
                place = place_of(page.cursor, _CURSOR)
                if not page.full:
                    pause = _FIRST_PAUSE_SECONDS if moved else min(2 * pause, self._longest_pause_seconds)
                    await self._pause(pause)
            if place.cursor != with_cursor:
                yield pb.WatchDomainEventsResponse(cursor=place.cursor).SerializeToString()

    async def _page(self, place: Place, size: int, wanted: Wanted, until: Place | None = None) -> _Page:
        """The events of so many entries. All of an entry are on one page. None lies behind `until`."""
        found = await self._events.after(place, size)
        events: list[ToldEvent] = []
        room = MAX_PAGE_BYTES
        for number, row in enumerate(found.rows):
            if number % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)  # who follows must not hold up those who ingest
            if until is not None and place_of(row.cursor, _UNTIL) > until:
                return _Page(events, found.rows[number - 1].cursor if number else place.cursor, full=False)
            told = events_of(row.told, wanted.types, wanted.users)
            events += told
            room -= sum(len(event.body) for event in told)
            if room <= 0:
                return _Page(events, row.cursor, full=True)
        return _Page(events, found.cursor, full=len(found.rows) == size)

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        if self._watching >= self._most_watching:
            raise ResourceExhausted(
                f"{self._most_watching} are watching domain events already",
                reason="OVERLOADED",
                retry_after_seconds=1.0,
            )
        self._watching += 1
        try:
            yield
        finally:
            self._watching -= 1

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            pass


def listed(part: Part, events: Iterable[ToldEvent]) -> bytes:
    """Events as this field of a message."""
    return b"".join([part.holding(event.body) for event in events])


def _wanted(types: Sequence[str], user_id: str, violations: Violations) -> Wanted:
    check_user_id_or_none(user_id, "user_id", violations)
    tenant = CURRENT_TENANT.get()
    users: Container[str] | None = UsersOf(tenant) if tenant else None
    return Wanted(wanted_types(types, violations), frozenset({user_id}) if user_id else users)


def wanted_types(types: Sequence[str], violations: Violations) -> frozenset[Type]:
    """The types that are named, all where none is."""
    for place, name in enumerate(types):
        if name not in EVERY_TYPE:
            violations.add(f"types[{place}]", "is not a type of domain events")
    return EVERY_TYPE.intersection(types) or EVERY_TYPE
