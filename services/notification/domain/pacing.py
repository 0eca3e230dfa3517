"""Least intervals (RULES 8.4): what comes too soon is held, and what is held becomes one event."""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from services.notification.domain.events import Event, coalesced


class Pace(Struct, frozen=True):
    """Of one endpoint, user, type and subject."""

    last_time: datetime
    """When one was let through."""
    held_count: int = 0
    first: Event | None = None
    """Of those that are held."""
    last: Event | None = None

    def release_time(self, interval: timedelta) -> datetime:
        """When what is held may go, and nothing is known any more where nothing is held."""
        return self.last_time + interval


def come(pace: Pace | None, event: Event, interval: timedelta, now: datetime) -> tuple[Pace, Event | None]:
    """An event comes: the pace after it, and the event where it may go at once."""
    if pace is None or (pace.first is None and now >= pace.release_time(interval)):
        return Pace(now), event
    first = pace.first or event
    return replace(pace, held_count=pace.held_count + 1, first=first, last=event), None


def release(pace: Pace, now: datetime) -> tuple[Pace, Event]:
    """What is held goes: the pace after it, and the one event."""
    assert pace.first is not None
    assert pace.last is not None
    event = pace.last if pace.held_count == 1 else coalesced(pace.first, pace.last, pace.held_count)
    return Pace(now), event
