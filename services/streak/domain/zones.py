"""In which zone a user is, and was (RULES 1.5, 3.7). All streaks of a user are on one day, that of the user's zone.

What a streak needs is a short list: when the user came into which zone. It is a function of the live entries that name
a zone, events of whatever metric and changes of the user: what they say, in the order of their times, without those
that say the same as the one before. Which arrived first, what was told in between and what was undone leave nothing
behind. It is kept beside the entries, since one that says nothing new must not cost more than that it is remembered.

An entry that names no zone takes the one that the orchestrator has stored, and says nothing. What is stored follows
from the entries that name one, some of which may not have come yet: it counts for those alone of whom no entry names
any.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.streak.domain.definition import StreakDefinition
from shared.calendar import EARLIEST

NO_ENTRY: Final = UUID(int=0)

Steps = tuple[tuple[int, str], ...]
"""In which zone periods close: from which period on, in which zone, ascending."""


class ZoneChange(Struct, frozen=True):
    """From this instant on the user was in this zone."""

    occur_time: datetime
    entry_id: UUID
    """Of the entry that says so; `NO_ENTRY` where none does."""
    time_zone: str

    @property
    def order(self) -> tuple[datetime, UUID]:
        """Its place among the changes."""
        return self.occur_time, self.entry_id


class UserZone(Struct, frozen=True):
    """The zone of a user, as stored."""

    time_zone: str
    version: int
    """Of the newest snapshot of the user that was heeded: an older one changes nothing."""
    move_time: datetime | None = None
    """When the user came into it; None where nothing is known of any other."""


class Moved(Struct, frozen=True):
    """What an entry, or its undoing, changed of a user's zones."""

    user: UserZone
    changes: tuple[ZoneChange, ...]
    """All that are known from then on."""
    since: ZoneChange
    """The first place in the list that differs: with the zone there, and perhaps with what follows."""
    appended: bool
    """Only something new at the end."""


def changes_of(said: Iterable[ZoneChange]) -> tuple[ZoneChange, ...]:
    """The list: what was said, in order, without what says the same as the one before."""
    found: list[ZoneChange] = []
    for change in sorted(said, key=lambda each: each.order):
        if not found or found[-1].time_zone != change.time_zone:
            found.append(change)
    return tuple(found)


def says_nothing_new(user: UserZone, own: ZoneChange) -> bool:
    """Whether the list stays as it is by an entry that names a zone, seen without the list: the common case."""
    return own.time_zone == user.time_zone and (user.move_time is None or user.move_time < own.occur_time)


def whole_life(user: UserZone) -> ZoneChange:
    """The zone of a user who is known in no other."""
    return ZoneChange(EARLIEST, NO_ENTRY, user.time_zone)


def heard(
    user: UserZone, known: tuple[ZoneChange, ...], own: ZoneChange, following: tuple[ZoneChange, ...]
) -> Moved | None:
    """What an entry changes that names a zone; None where it is nothing.

    `known` are the changes from the one that holds before the entry's time on. `following` is the next entry after it,
    by time, of those that name a zone; empty where none does.
    """
    before = tuple(change for change in known if change.order < own.order)
    later = known[len(before) :]
    if before and before[-1].time_zone == own.time_zone:
        return None
    between = _between(later, following)
    appended = not (between or later)
    return _result(user, changes_of([*before, own, *between, *later]), own, appended=appended)


def undone(
    user: UserZone, known: tuple[ZoneChange, ...], entry_id: UUID, following: tuple[ZoneChange, ...]
) -> Moved | None:
    """What the undoing of an entry changes; None where it is nothing. The arguments are as those of `heard`."""
    gone = next((change for change in known if change.entry_id == entry_id), None)
    if gone is None:
        return None
    before = tuple(change for change in known if change.order < gone.order)
    later = known[len(before) + 1 :]
    changes = changes_of([*before, *_between(later, following), *later])
    return _result(user, changes or (whole_life(user),), gone, appended=False)


def told_of_nowhere(
    user: UserZone, known: tuple[ZoneChange, ...], stored: str, since: datetime
) -> Moved | None:
    """What is stored of a user of whom no entry names a zone holds from then on; None where that changes nothing.

    `known` are the changes from the one that holds before that instant on.
    """
    told = ZoneChange(since, NO_ENTRY, stored)
    before = tuple(change for change in known if change.occur_time < since)
    changes = changes_of([*before, told])
    if changes == known:
        return None
    return _result(user, changes, told, appended=len(before) == len(known))


def zone_steps(definition: StreakDefinition, changes: Iterable[ZoneChange]) -> Steps:
    """In which zones periods close: each in the newest of those in which the user was in it or before it."""
    steps: Steps = ()
    for change in changes:
        steps = moved_into(definition, steps, change)
    return steps


def moved_into(definition: StreakDefinition, steps: Steps, change: ZoneChange) -> Steps:
    """The steps with a change that comes after all others."""
    period = period_of(definition, change)
    kept = tuple(step for step in steps if step[0] < period)
    if kept and kept[-1][1] == change.time_zone:
        return kept
    return (*kept, (period, change.time_zone))


def period_of(definition: StreakDefinition, change: ZoneChange) -> int:
    """The period of the day on which a user came into a zone."""
    return definition.period_of(definition.day_of(change.occur_time, change.time_zone))


def steps_since(steps: Steps, period: int) -> Steps:
    """The steps from a period on: the first is the one that holds in it."""
    if len(steps) == 1:
        return steps if steps[0][0] == period else ((period, steps[0][1]),)
    later = tuple(step for step in steps if step[0] > period)
    return ((period, zone_at(steps, period)), *later)


def zone_at(steps: Steps, period: int) -> str:
    """The zone in which a period closes."""
    return next((zone for since, zone in reversed(steps) if since <= period), steps[0][1])


def _between(later: tuple[ZoneChange, ...], following: tuple[ZoneChange, ...]) -> tuple[ZoneChange, ...]:
    """The next entry, where it is not in the list: it says what was said before."""
    return tuple(change for change in following if not later or change.order < later[0].order)


def _result(user: UserZone, changes: tuple[ZoneChange, ...], since: ZoneChange, *, appended: bool) -> Moved:
    newest = changes[-1]
    move_time = newest.occur_time if newest.occur_time > EARLIEST else None
    return Moved(UserZone(newest.time_zone, user.version, move_time), changes, since, appended)
