"""What is known of one user's points.

The award ledger is the truth; the rest is derived from it and from the facts of the request log, and kept
because deriving it anew for every entry would cost a walk through the user's history.
"""

from collections.abc import Mapping
from datetime import date, datetime
from enum import IntEnum
from typing import Final
from uuid import UUID

from msgspec import Struct, field

from services.points.domain.definitions import TriggerKey


class CauseKind(IntEnum):
    """What a counting trigger counts."""

    METRIC = 1
    STREAK = 2
    USER_CREATED = 3


class TriggerState(Struct, frozen=True):
    """How far a trigger has counted for a user. Completions are counted one by one instead:
    `UserState.completions`.
    """

    kind: CauseKind
    granted_count: int = 0
    """How often it has awarded and not taken back."""
    net_count: int = 0
    """STREAK: how often it is due by the sum of all run changes. Below zero while a correction has arrived
    before what it corrects; above `granted_count` by what was due while nothing could be awarded."""
    accumulated_micros: int = 0
    """METRIC: the sum of the matching values, in micro-units."""
    high_micros: int = 0
    """METRIC: the highest that sum has been, never below zero. Its crossings count, so that a negative event
    takes nothing back (RULES 5.2).
    """
    every_micros: int = 0
    """METRIC: the X that was last counted with; undoing needs it when the trigger is gone."""
    negative_count: int = 0
    """METRIC: how many of the matching values are negative. With none, the sum is its own high-water mark."""


class Standing(Struct, frozen=True):
    """A user's points in one system."""

    balance: int = 0
    lifetime: int = 0
    """The sum of what awards gave and no reversal took back."""
    level: str = ""
    """Key of the level; empty for none."""
    version: int = 0
    """Grows by one with every change."""
    reach_time: datetime | None = None
    """When the newest live award occurred; None without one."""


class Award(Struct, frozen=True):
    """One row of the ledger."""

    award_id: UUID
    sequence: int
    """Position in the user's ledger, from 1, over all systems."""
    key: TriggerKey
    times: int
    """How often the trigger awards in this row; negative in a reversal."""
    base_amount: int
    """What the trigger says, before any limit."""
    amount: int
    """What was added to the balance."""
    entry_id: UUID
    occur_time: datetime
    """When the entry occurred."""
    local_date: date
    """The date that the row counts for: of its entry, but of the row that it reverses for a reversal."""
    completion_id: UUID | None = None
    """Of an achievement trigger: the completion that is rewarded."""
    reversed_award_id: UUID | None = None
    """Of a reversal: the award that it reverses."""

    @property
    def clipped_amount(self) -> int:
        """What a limit cut."""
        return self.base_amount - self.amount


class LiveAward(Struct, frozen=True):
    """An award of which something is left after the reversals so far."""

    award: Award
    live_times: int

    @property
    def live_base_amount(self) -> int:
        """What is left of `base_amount`."""
        share = abs(self.award.base_amount) * self.live_times // self.award.times
        return share if self.award.base_amount >= 0 else -share

    @property
    def live_amount(self) -> int:
        """What is left of `amount`: what a limit had cut goes first."""
        limit = min if self.award.base_amount >= 0 else max
        return limit(self.award.amount, self.live_base_amount)


NO_STANDING: Final = Standing()


class UserState(Struct, frozen=True):
    """What a decision about a user looks at."""

    user_id: str
    version: int = 0
    """Guard of what is stored, which grows with every change of it; 0 for a user who was never seen."""
    entry_count: int = 0
    """How many entries were ever applied, those aside that follow from others: the newest one's position."""
    award_count: int = 0
    """How many rows the user's ledger has: the sequence of the newest one."""
    first_entry_id: UUID | None = None
    """The entry that counted as the user's creation."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """By key of the system."""
    triggers: Mapping[TriggerKey, TriggerState] = field(default_factory=dict)
    completions: Mapping[UUID, int] = field(default_factory=dict)
    """Completions less revocations per completion; those that the decision touches. It is rewarded while at
    1.
    """
    live_awards: tuple[LiveAward, ...] = ()
    """By ascending sequence; of those before the batch only the ones that the decision can touch."""
