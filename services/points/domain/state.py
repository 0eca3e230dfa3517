"""What is known of one user's points: what the fold of all facts gives, kept so that one more is one step."""

from collections.abc import Mapping
from datetime import date
from uuid import UUID

from msgspec import Struct, field

from services.points.domain.clocks import Clock
from services.points.domain.definitions import TriggerKey
from services.points.domain.facts import Instant
from services.points.domain.fold import Points
from services.points.domain.holds import Holds


class Owed(Struct, frozen=True, array_like=True):
    """A period for which a streak trigger is due and has not awarded."""

    start_date: date
    reach: Instant


class Passing(Struct, frozen=True, array_like=True):
    """What a correction meant to the award of a period that is still due."""

    start_date: date
    version: int
    """Of the streak, by the correction."""
    owner: Instant
    """To whom the award belonged before."""
    corrected_entry_id: UUID | None
    reach: Instant
    """The event with which the period qualifies now."""
    granted_before: Instant | None = None
    granted_after: Instant | None = None

    @property
    def owners(self) -> list[Instant]:
        """The events to which the award may belong, before it or after."""
        return [one for one in (self.owner, self.reach, self.granted_after) if one is not None]

    @property
    def next_owner(self) -> Instant:
        """To whom the award belongs after it.

        It passes on where it belongs to the entry that is corrected, or was granted when the period qualified with the
        help of that entry.
        """
        owner = self.owner
        if self.granted_before is not None and owner.entry_id == self.granted_before.entry_id:
            return self.granted_after or owner
        if owner.entry_id == self.corrected_entry_id or owner.order < self.reach.order:
            return self.reach
        return owner


class StreakCount(Struct, frozen=True):
    """How far a streak trigger has counted for a user.

    What is granted stays on its period when a late event moves the lengths (RULES 2.5). So there can be periods that
    are due and not granted, and as many that are granted and not due; nearly always there are none.
    """

    due_count: int = 0
    """How many periods it is due for, by all that the streak said; also where nothing could be awarded. Below zero
    while a correction has arrived before what it corrects.
    """
    granted_count: int = 0
    """For how many it has awarded."""
    owed: tuple[Owed, ...] = ()
    """Due and not granted, in order."""
    idle: tuple[date, ...] = ()
    """Granted and not due any more, in order."""
    withdrawn: tuple[date, ...] = ()
    """Said to be due no more before they were said to be due, in order."""
    passings: tuple[Passing, ...] = ()
    """What the newest corrections meant, by version: an older one may come after them."""


class UserState(Struct, frozen=True):
    """What a decision about a user looks at."""

    user_id: str
    version: int = 0
    """Guard of what is stored, which grows with every change of it; 0 for a user who was never seen."""
    entry_count: int = 0
    """How many entries were ever applied: the newest one's position."""
    award_count: int = 0
    """How many rows the user's ledger has: the sequence of the newest one."""
    first_position: int | None = None
    """Of the user's first live entry."""
    points: Points = field(default_factory=Points)
    streaks: Mapping[TriggerKey, StreakCount] = field(default_factory=dict)
    completions: Mapping[UUID, int] = field(default_factory=dict)
    """Completions less revocations per completion; those that the decision touches. It is rewarded while at 1."""
    clocks: Mapping[TriggerKey, Clock] = field(default_factory=dict)
    """When triggers that go by time are due next."""
    holds: Holds = field(default_factory=dict)
    """What is held, with what may have ended by itself meanwhile."""
    rewarded_periods: Mapping[TriggerKey, frozenset[date]] | None = None
    """The periods for which streak triggers have awarded; None: not loaded."""
