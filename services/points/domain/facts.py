"""What is known of a user: the facts that points are folded from (RULES 5.1).

A fact is an entry as it came: what it contributes to a metric, which triggers that matched, what streaks and
achievements gave with it, which boosts applied, and under which terms (`Fact.terms`: a version of all definitions,
which is kept). What the next rules bring (amounts per unit, expiry) are further terms of the same kind: names of what
applied, read from the definitions of that version.
"""

from collections.abc import Mapping
from datetime import date, datetime
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct, field

from services.points.domain.definitions import GIFT, Boost, BoostKey, TriggerKey
from shared.entries import Entry


class Instant(Struct, frozen=True, array_like=True):
    """An entry as that to which an award belongs."""

    entry_id: UUID
    occur_time: datetime
    local_date: date
    """Of `occur_time`, in the entry's zone."""

    @property
    def order(self) -> tuple[datetime, UUID]:
        """The order of the events' times."""
        return (self.occur_time, self.entry_id)


class Identity(NamedTuple):
    """Tells the awards of one fact apart."""

    key: TriggerKey
    entry_id: UUID
    """That the award belongs to."""
    completion_id: UUID | None = None
    period: date | None = None

    @property
    def is_given(self) -> bool:
        """Its fact says so itself: the award hangs on a streak, an achievement or a gift, and on no count."""
        return self.completion_id is not None or self.period is not None or self.key.trigger == GIFT


class Due(Struct, frozen=True):
    """A trigger is to award, before any limit."""

    key: TriggerKey
    owner: Instant
    """The entry with which the condition was met, in the order of the events' times."""
    times: int
    base_amount: int
    completion_id: UUID | None = None
    """Of an achievement trigger: the completion that is rewarded."""
    period: date | None = None
    """Of a streak trigger: the first date of the period that is rewarded."""
    boosts: tuple[Boost, ...] = ()
    """Those that multiply it: of the entry that it belongs to."""

    @property
    def identity(self) -> Identity:
        """Its name within its fact."""
        return Identity(self.key, self.owner.entry_id, self.completion_id, self.period)


class Fact(Struct, frozen=True):
    """An applied entry."""

    position: int
    """Its place in the order of arrival, from 1."""
    instant: Instant
    terms: int
    """The version of the definitions that it was judged by."""
    follows: bool = False
    """It follows from other entries: nobody's first."""
    contribution_micros: int = 0
    triggers: tuple[TriggerKey, ...] = ()
    """The metric triggers that its contribution counts for; and those for new users, streaks and achievements that look
    at attributes, where it matched.
    """
    boosts: tuple[BoostKey, ...] = ()
    """Those that apply to what belongs to it."""
    given: tuple[Due, ...] = ()
    """What streaks, achievements and the entry itself gave with it."""
    spent: Mapping[Identity, int] = field(default_factory=dict)
    """What its deductions took when it came, where it is known already: that stays spent."""
    came: datetime | None = None
    """When it arrived; None: that is not asked."""


class PeriodChange(Struct, frozen=True):
    """How one period of a streak changed. One that is not recorded has length 0 and has not qualified."""

    start_date: date
    length_before: int
    length_after: int
    qualified_before: bool
    qualified_after: bool
    reach: Instant | None
    """The event with which it qualified, in the order of the events' times."""
    granted_before: Instant | None = None
    """Of a correction: the event to which belonged what was granted for it when it qualified."""
    granted_after: Instant | None = None
    """To which one it belongs now."""

    @property
    def owners(self) -> list[Instant]:
        """The events to which what is granted for it may belong now."""
        return [owner for owner in (self.reach, self.granted_after) if owner is not None]


class Arrival(Struct, frozen=True):
    """What the arrival of an event changed of a streak."""

    period_changes: tuple[PeriodChange, ...]
    entry_id: UUID | None = None
    """None: an older release told it."""


class StreakChange(Struct, frozen=True):
    """How the periods of one streak changed."""

    streak: str
    period_changes: tuple[PeriodChange, ...]
    version: int = 0
    """Grows with every change of this user's streak."""
    arrivals_before: tuple[Arrival, ...] = ()
    """Of a correction: what each arrival changed with the event that is undone, oldest first, where the periods alone
    do not tell what was granted when.
    """
    arrivals_after: tuple[Arrival, ...] = ()
    """The same without it."""

    @property
    def owners(self) -> list[Instant]:
        """The events to which what is granted for its periods may belong."""
        arrivals = (arrival.period_changes for arrival in (*self.arrivals_before, *self.arrivals_after))
        changes = chain(self.period_changes, *arrivals)
        return [owner for change in changes for owner in change.owners]

    @property
    def causes(self) -> list[UUID]:
        """The entries whose arrival may have brought what is granted for its periods without the undone event."""
        return [arrival.entry_id for arrival in self.arrivals_after if arrival.entry_id is not None]


class AchievementChange(Struct, frozen=True):
    """A completion, or its revocation."""

    achievement: str
    completion_id: UUID
    completed: bool
    owner: Instant
    """The entry that the completion belongs to."""
    cause_id: UUID | None = None
    """Of a correction: the entry whose arrival would have brought it; None: the owner's, as far as is known."""


class CompletionCause(Struct, frozen=True):
    """A completion stays, though without the entry that is corrected another arrival would have brought it."""

    completion_id: UUID
    cause_id: UUID


class Command(Struct, frozen=True):
    """An entry, and what it changed in the services before this one."""

    entry: Entry
    streak_changes: tuple[StreakChange, ...] = ()
    achievement_changes: tuple[AchievementChange, ...] = ()
    completion_causes: tuple[CompletionCause, ...] = ()
    """Of a correction."""
    half_of: UUID | None = None
    """The entry that this one is for somebody besides its user: what is given belongs to that."""
