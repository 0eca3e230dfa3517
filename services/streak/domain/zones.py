"""In which zone a user is, and was (RULES 1.5, 3.7). All streaks of a user are on one day, that of the user's zone.

What a streak needs is a short list: when the user came into which zone. It is what the events of all metrics say, in
the order of their times, without those that say the same as the one before. The last of them is the zone that the
orchestrator stores for the user, which goes by the same order; where the two differ, because an event that named no
zone took one that a later arrival changed, the stored one holds.

So the list is the same whatever arrived first. It is kept beside the events, since one that says nothing new must not
cost more than that it is remembered.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.definition import StreakDefinition
from shared.calendar import EARLIEST, local_date

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
    """Of the snapshot of the user that said so: an older one changes nothing."""
    move_time: datetime | None = None
    """When the user came into it; None where nothing is known of any other."""

    def holds_since(self, instant: datetime) -> bool:
        """Whether the user was in it at this instant and ever after."""
        return self.move_time is None or self.move_time <= instant


class Told(Struct, frozen=True):
    """What an entry says of the user's zone."""

    stored: str
    """The user's stored zone after it."""
    version: int
    """Of the user, as the entry has it."""
    now: datetime
    own: ZoneChange | None
    """Where the entry itself happened; None for one that says nothing of that."""


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


def says_nothing_new(user: UserZone, told: Told) -> bool:
    """Whether the list stays as it is, seen without the list: the common case."""
    if told.version > user.version and told.stored != user.time_zone:
        return False
    own = told.own
    return own is None or (own.time_zone == user.time_zone and user.holds_since(own.occur_time))


def whole_life(user: UserZone) -> ZoneChange:
    """The zone of a user who is known in no other."""
    return ZoneChange(EARLIEST, NO_ENTRY, user.time_zone)


def first_told(told: Told) -> tuple[UserZone, tuple[ZoneChange, ...]]:
    """The zone of a user of whom nothing was known, and the list."""
    own = told.own
    if own is None or own.time_zone == told.stored:
        return UserZone(told.stored, told.version), ()
    base = ZoneChange(EARLIEST, NO_ENTRY, own.time_zone)
    moved = ZoneChange(max(told.now, own.occur_time), NO_ENTRY, told.stored)
    return UserZone(told.stored, told.version, moved.occur_time), (base, moved)


def heard(
    user: UserZone, known: tuple[ZoneChange, ...], told: Told, following: ZoneChange | None
) -> Moved | None:
    """What an entry changes; None where it is nothing.

    `known` are the changes from the one that holds at the entry's time on, all where `user` never moved.
    `following` is the next entry after it, by time, and says where that one was.
    """
    own = told.own
    changes = known or (whole_life(user),)
    restored = told.version > user.version and told.stored != user.time_zone
    after = UserZone(told.stored, told.version, user.move_time) if restored else user
    if restored and own is not None and own.time_zone == told.stored:
        # Of those that name a zone the newest by time: whatever lies after it took the zone of before.
        kept = tuple(change for change in changes if change.order < own.order)
        appended = len(kept) == len(changes)
        if kept and kept[-1].time_zone == own.time_zone:
            return _result(after, kept, own, appended=False)
        return _result(after, (*kept, own), own, appended=appended)
    since, appended = None, False
    if own is not None and not (following is None and user.holds_since(own.occur_time)):
        inserted = _inserted(changes, own, following)
        if inserted != changes:
            since, changes = own, inserted
    if restored and changes[-1].time_zone != told.stored:
        moved = ZoneChange(max(told.now, changes[-1].occur_time), NO_ENTRY, told.stored)
        since, changes, appended = since or moved, (*changes, moved), since is None
    return _result(after, changes, since, appended=appended) if since else None


def needs_following(user: UserZone, known: tuple[ZoneChange, ...], told: Told) -> bool:
    """Whether `heard` has to know which entry follows."""
    own = told.own
    if own is None or (told.version > user.version and own.time_zone == told.stored != user.time_zone):
        return False
    before = [change for change in known if change.order < own.order]
    return own.time_zone != (before[-1].time_zone if before else user.time_zone)


def undone(
    user: UserZone, known: tuple[ZoneChange, ...], entry_id: UUID, following: ZoneChange | None
) -> Moved | None:
    """What the undoing of an entry changes; None where it is nothing. The arguments are as those of `heard`."""
    place = next((number for number, change in enumerate(known) if change.entry_id == entry_id), None)
    if place is None or place == 0:
        return None
    gone = known[place]
    before, later = known[:place], known[place + 1 :]
    stays = following is not None and (not later or following.order < later[0].order)
    if stays and following is not None and following.time_zone == gone.time_zone:
        return _result(user, (*before, following, *later), gone, appended=False)
    if later and later[0].time_zone == before[-1].time_zone:
        later = later[1:]
    changes = (*before, *later)
    return _result(replace(user, time_zone=changes[-1].time_zone), changes, gone, appended=False)


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
    """The period of the local date at which a user came into a zone."""
    return definition.period_of(local_date(change.occur_time, change.time_zone))


def steps_since(steps: Steps, period: int) -> Steps:
    """The steps from a period on: the first is the one that holds in it."""
    if len(steps) == 1:
        return steps if steps[0][0] == period else ((period, steps[0][1]),)
    later = tuple(step for step in steps if step[0] > period)
    return ((period, zone_at(steps, period)), *later)


def zone_at(steps: Steps, period: int) -> str:
    """The zone in which a period closes."""
    return next((zone for since, zone in reversed(steps) if since <= period), steps[0][1])


def _inserted(
    changes: tuple[ZoneChange, ...], own: ZoneChange, following: ZoneChange | None
) -> tuple[ZoneChange, ...]:
    """The list with an entry among its others."""
    before = tuple(change for change in changes if change.order < own.order)
    later = changes[len(before) :]
    if before and before[-1].time_zone == own.time_zone:
        return changes
    found = [*before, own]
    if following is not None and (not later or following.order < later[0].order):
        found.append(following)
    return changes_of([*found, *later])


def _result(user: UserZone, changes: tuple[ZoneChange, ...], since: ZoneChange, *, appended: bool) -> Moved:
    move_time = changes[-1].occur_time if len(changes) > 1 or changes[0].occur_time > EARLIEST else None
    return Moved(replace(user, move_time=move_time), changes, since, appended)
