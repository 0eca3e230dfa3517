"""The facts that a streak is a function of (RULES 3.1)."""

from collections.abc import Iterable
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand
from services.streak.domain.definition import StreakDefinition
from services.streak.domain.zones import ZoneChange, changes_of
from shared.calendar import local_date

Order = tuple[datetime, UUID]
"""Facts are ordered by when they happened, then by their entry's id: never by when they arrived."""


class Fact(Struct, frozen=True):
    """A metric event that counts for a streak. `local_date` is that of `occur_time` in `time_zone`."""

    entry_id: UUID
    metric: str
    contribution_micros: int
    """The change that it makes to the metric's total, as far as is known (RULES 2.2)."""
    occur_time: datetime
    time_zone: str
    local_date: date
    arrive_date: date
    """The local date on which it arrived, in the same zone; never before `local_date`."""
    arrive_time: datetime
    """When it arrived; never before it happened."""

    @property
    def order(self) -> Order:
        """Its place among the facts."""
        return self.occur_time, self.entry_id


def fact(
    entry_id: UUID,
    metric: str,
    contribution_micros: int,
    occur_time: datetime,
    time_zone: str,
    arrive_time: datetime | None = None,
) -> Fact:
    """The fact, with its local date (RULES 1.5); it arrived when it happened, where nothing else is said.

    Raises `shared.calendar.UnknownZone`.
    """
    arrived = arrive_time if arrive_time is not None and arrive_time > occur_time else occur_time
    day = local_date(occur_time, time_zone)
    arrive_date = day if arrived is occur_time else local_date(arrived, time_zone)
    # Where clocks go back over midnight, a later instant may show an earlier date.
    dates = day, arrive_date if arrive_date > day else day
    return Fact(entry_id, metric, contribution_micros, occur_time, time_zone, *dates, arrived)


def dated(definition: StreakDefinition, event: Fact) -> Fact:
    """The fact with the days that it has for a streak whose days do not begin at midnight (RULES 1.6)."""
    if not definition.day_start:
        return event
    day = definition.day_of(event.occur_time, event.time_zone)
    arrive_date = definition.day_of(event.arrive_time, event.time_zone)
    return replace(event, local_date=day, arrive_date=max(day, arrive_date))


class Facts(Struct, frozen=True):
    """All that the fold of one user's streak may depend on, apart from the definition and the time.

    What is done by hand are facts too.
    """

    events: tuple[Fact, ...] = ()
    zones: tuple[ZoneChange, ...] = ()
    """In which zone the user was: of all that is known of the user, whatever a streak counts. In order of time; the
    first holds from before the events.
    """
    by_hand: ByHand = NOTHING_BY_HAND


class Altered(Struct, frozen=True):
    """What is other among the facts: an event that is taken away, or what some contribute by now."""

    gone: Fact | None = None
    revised: tuple[Fact, ...] = ()

    @property
    def events(self) -> tuple[Fact, ...]:
        """Those that it is about."""
        return (self.gone, *self.revised) if self.gone else self.revised

    def after(self, events: Iterable[Fact]) -> tuple[Fact, ...]:
        """The events as they are by it."""
        revised = {event.entry_id: event for event in self.revised}
        gone = self.gone.entry_id if self.gone else None
        return tuple(revised.get(event.entry_id, event) for event in events if event.entry_id != gone)


def facts(events: Iterable[Fact], by_hand: ByHand = NOTHING_BY_HAND) -> Facts:
    """The facts that consist of these events, where they are all that is known of the user."""
    known = tuple(events)
    zones = changes_of(ZoneChange(event.occur_time, event.entry_id, event.time_zone) for event in known)
    return Facts(known, zones, by_hand)
