"""Those who watch one user, as an application that shows what changes. All of a replica share one reading.

A stream tells what is committed after it has begun, and keeps no place: whoever comes back reads the user again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from laurel.orchestrator.v1 import orchestrator_service_pb2

from services.orchestrator.config import Settings
from services.orchestrator.domain_events import EVERY_TYPE, ToldEvent, Type, events_of
from services.orchestrator.followers import listed, wanted_types
from services.orchestrator.store.domain_events import NEWEST, DomainEventStore
from shared.errors import ResourceExhausted, Violations
from shared.postgres.errors import log_failure
from shared.postgres.feed import Place, place_of
from shared.rpc.convert import check_user_id
from shared.rpc.wire import Part

pb = orchestrator_service_pb2

_WATCHED: Final = Part(pb.WatchUserResponse, "events")
_NOTHING: Final = pb.WatchUserResponse().SerializeToString()

_LOGGER: Final = logging.getLogger(__name__)
_PAGE_SIZE: Final = 200
_ROWS_AT_ONCE: Final = 20
_MOST_WAITING: Final = 1_000
"""So many events may wait for one who reads slowly."""
_ALIVE_SECONDS: Final = 30.0
"""So often a stream says that it is there, where nothing changes."""
_FIRST_PAUSE_SECONDS: Final = 0.02


class _Watcher:
    """One stream: what it has not sent yet."""

    def __init__(self, types: frozenset[Type]) -> None:
        self.types = types
        self.events: deque[ToldEvent] = deque()
        self.is_behind = False
        self.came = asyncio.Event()

    def tell(self, events: list[ToldEvent]) -> None:
        """These are sent next; too many, and the stream ends."""
        wanted = [event for event in events if event.type in self.types]
        if len(self.events) + len(wanted) > _MOST_WAITING:
            self.is_behind = True
        else:
            self.events.extend(wanted)
        self.came.set()


class UserWatchers:
    """Who watches whom, and the one reading."""

    def __init__(self, events: DomainEventStore, settings: Settings) -> None:
        self._events = events
        self._longest_pause_seconds = settings.domain_event_poll_seconds
        self._most = settings.max_user_watchers
        self._watchers: dict[str, set[_Watcher]] = {}
        self._count = 0
        self._place: Place | None = None
        """Up to where the feed is read; None: nobody watches."""
        self._began = asyncio.Event()
        self._beginning = asyncio.Lock()
        self._ending = False

    def end(self) -> None:
        """Streams end, in good order: the process is about to."""
        self._ending = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.came.set()

    async def watch(self, request: pb.WatchUserRequest) -> AsyncIterator[bytes]:
        """What changes of a user, in serialized `WatchUserResponse`s. Raises `InvalidArgument`, or `ResourceExhausted`
        where too many watch, or one reads too slowly.
        """
        violations = Violations()
        check_user_id(request.user_id, "user_id", violations)
        types = wanted_types(request.types, violations)
        violations.raise_if_any()
        watcher = _Watcher(types)
        with self._admitted(request.user_id, watcher):
            await self._begin()
            yield _NOTHING
            while not self._ending:
                try:
                    async with asyncio.timeout(_ALIVE_SECONDS):
                        await watcher.came.wait()
                except TimeoutError:
                    yield _NOTHING
                    continue
                watcher.came.clear()
                if watcher.is_behind:
                    raise _refused("what changes is read too slowly: read the user again, then watch")
                while watcher.events:
                    events = list(watcher.events)
                    watcher.events.clear()
                    yield listed(_WATCHED, events)

    async def run(self) -> None:
        """Read the feed as long as anybody watches; never returns."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            if not self._watchers:
                self._place = None
                self._began.clear()
                await self._began.wait()
            try:
                moved, more = await self._read()
            except Exception as error:
                log_failure(_LOGGER, "what changes cannot be read for those who watch", error)
                moved, more = False, False
            if not more:
                pause = _FIRST_PAUSE_SECONDS if moved else min(2 * pause, self._longest_pause_seconds)
                await asyncio.sleep(pause)

    async def _begin(self) -> None:
        """Whoever is first says from where on."""
        async with self._beginning:
            if self._place is None:
                self._place = await self._events.place(NEWEST, "")
                self._began.set()

    async def _read(self) -> tuple[bool, bool]:
        """Tell a page: whether there was anything, and whether there may be more at once."""
        place = self._place
        if place is None:
            return False, False
        page = await self._events.after(place, _PAGE_SIZE)
        for number, row in enumerate(page.rows):
            if number % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)  # who watches must not hold up those who ingest
            told: dict[str, list[ToldEvent]] = {}
            for event in events_of(row.told, EVERY_TYPE, self._watchers):
                told.setdefault(event.user_id, []).append(event)
            for user_id, events in told.items():
                for watcher in self._watchers.get(user_id, ()):
                    watcher.tell(events)
            # Whoever comes in between begins here.
            self._place = place_of(row.cursor, "")
        self._place = place_of(page.cursor, "")
        return bool(page.rows), len(page.rows) == _PAGE_SIZE

    @contextmanager
    def _admitted(self, user_id: str, watcher: _Watcher) -> Iterator[None]:
        if self._count >= self._most:
            raise _refused(f"{self._most} are watching users already")
        self._count += 1
        self._watchers.setdefault(user_id, set()).add(watcher)
        try:
            yield
        finally:
            self._count -= 1
            self._watchers[user_id].discard(watcher)
            if not self._watchers[user_id]:
                del self._watchers[user_id]


def _refused(text: str) -> ResourceExhausted:
    return ResourceExhausted(text, reason="OVERLOADED", retry_after_seconds=1.0)
