"""The facts that a streak is a function of (RULES 3.1)."""

from collections.abc import Iterable
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct

from shared.calendar import local_date

Order = tuple[datetime, UUID]
"""Facts are ordered by when they happened, then by their entry's id: never by when they arrived."""


class Fact(Struct, frozen=True):
    """A metric event that counts for a streak. `local_date` is that of `occur_time` in `time_zone`."""

    entry_id: UUID
    metric: str
    value_micros: int
    occur_time: datetime
    time_zone: str
    local_date: date

    @property
    def order(self) -> Order:
        """Its place among the facts."""
        return self.occur_time, self.entry_id


def fact(entry_id: UUID, metric: str, value_micros: int, occur_time: datetime, time_zone: str) -> Fact:
    """The fact, with its local date (RULES 1.5). Raises `shared.calendar.UnknownZone`."""
    return Fact(entry_id, metric, value_micros, occur_time, time_zone, local_date(occur_time, time_zone))


class Facts(Struct, frozen=True):
    """All that the fold of one user's streak may depend on, apart from the definition and the time.

    Pauses, manual grants, resets, restores and overrides are facts too and belong beside the events.
    """

    events: tuple[Fact, ...] = ()

    def with_event(self, event: Fact) -> "Facts":
        """These facts and one more."""
        return Facts((*self.events, event))

    def without(self, entry_id: UUID) -> "Facts":
        """These facts as if this entry had never been."""
        return Facts(tuple(event for event in self.events if event.entry_id != entry_id))


def facts(events: Iterable[Fact]) -> Facts:
    """The facts that consist of these events."""
    return Facts(tuple(events))
