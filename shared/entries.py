"""Ledger entries as domain code sees them: `laurel.ledger.v1.Entry` without its wire format."""

from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from functools import cached_property
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from shared.calendar import EARLIEST_DATE, LATEST_DATE
from shared.ids import derived_id_beside


class EntryKind(Enum):
    """What an entry is, by the name of its operation; each enters the saga at its own step (DESIGN 2)."""

    METRIC_EVENT = "metric_event"
    USER_UPDATE = "user_update"
    ACHIEVEMENT_CALL = "achievement_call"
    ACHIEVEMENT_REVOCATION = "achievement_revocation"
    ACHIEVEMENT_BACKFILL = "achievement_backfill"
    ACHIEVEMENTS_SEEN = "achievements_seen"
    ANNIVERSARY = "anniversary"
    STREAK_FREEZE_GRANT = "streak_freeze_grant"
    STREAK_PAUSE = "streak_pause"
    STREAK_RESET = "streak_reset"
    STREAK_RESTORE = "streak_restore"
    STREAK_OVERRIDE = "streak_override"
    STREAK_RESUME = "streak_resume"
    STREAK_CLOSING = "streak_closing"
    POINTS_GRANT = "points_grant"
    POINTS_SPEND = "points_spend"
    POINTS_TRANSFER = "points_transfer"
    POINTS_HOLD = "points_hold"
    POINTS_CAPTURE = "points_capture"
    POINTS_RELEASE = "points_release"
    TIMED_POINTS = "timed_points"
    BOARD_EXCLUSION = "board_exclusion"
    BOARD_PRIZE = "board_prize"
    LEAGUE_MOVE = "league_move"
    USER_ERASURE = "user_erasure"
    USER_MERGE = "user_merge"
    CORRECTION = "correction"
    """What follows from undoing an earlier entry; its metric part carries the new total and no value."""

    @cached_property
    def follows(self) -> bool:
        """It follows from other entries and says nothing new about its user: nobody's first or only entry."""
        return self in (
            EntryKind.STREAK_CLOSING,
            EntryKind.ACHIEVEMENT_BACKFILL,
            EntryKind.ANNIVERSARY,
            EntryKind.TIMED_POINTS,
            EntryKind.BOARD_PRIZE,
            EntryKind.LEAGUE_MOVE,
            EntryKind.CORRECTION,
        )


SIGN_UP_DATE: Final = "sign_up_date"
"""The attribute of a user that says when the user signed up."""


def sign_up_date(attributes: Mapping[str, str]) -> date | None:
    """When a user signed up, where that is said as it has to be: `2024-02-29`, from 1900 to 2199."""
    text = attributes.get(SIGN_UP_DATE, "")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text and EARLIEST_DATE <= day < LATEST_DATE else None


class UserSnapshot(Struct, frozen=True):
    """A user as of an entry."""

    user_id: str
    time_zone: str
    """IANA name of the user's stored zone; never empty."""
    attributes: Mapping[str, str]
    create_time: datetime
    """When the user was first seen."""
    version: int
    """Grows with every stored change of the user: an older snapshot never replaces a newer one."""
    name: str
    """Display name; empty when none was given."""
    newest_attributes: Mapping[str, str] | None = None
    """The attributes as they hold now, where the entry came late and they are others; None: `attributes`."""
    life: int = 0
    """Tells the user from who had the id before and was deleted."""

    @property
    def attributes_now(self) -> Mapping[str, str]:
        """As they hold now."""
        return self.attributes if self.newest_attributes is None else self.newest_attributes


class ContributionRevision(Struct, frozen=True):
    """What another event of the user and metric contributes from now on. It may be told before that event is."""

    entry_id: UUID
    contribution_micros: int


class MetricArrival(Struct, frozen=True):
    """What an event contributed when it came, and what others did from then on."""

    entry_id: UUID
    contribution_micros: int
    revisions: tuple[ContributionRevision, ...] = ()


class MetricFact(Struct, frozen=True):
    """The metric part of an entry. Amounts are micro-units: exact integers (RULES 2.1)."""

    metric: str
    value_micros: int
    """Zero only in a correction."""
    total_before_micros: int
    total_after_micros: int
    peak_micros: int
    """The highest total that the user's live events ever reached."""
    total_version: int
    """Grows with every change of the total: an older total never replaces a newer one."""
    attributes: Mapping[str, str]
    """The event's own attributes."""
    revisable: bool = False
    """Contributions of this metric change when other events come or go: it is no SUM metric (RULES 2.2)."""
    revisable_contribution_micros: int = 0
    """What the event contributes, where that can change: as of `total_version`."""
    revisions: tuple[ContributionRevision, ...] = ()
    """Other events whose contributions changed with this entry, as of `total_version`."""
    arrivals: tuple[MetricArrival, ...] = ()
    """Of a correction: what events around the undone one contributed as they came, without it, in that order; empty
    where today's contributions say the same.
    """

    @property
    def contribution_micros(self) -> int:
        """The change that the event makes to the total, in the order of the events' times (RULES 2.2)."""
        return self.revisable_contribution_micros if self.revisable else self.value_micros


class PointsGift(Struct, frozen=True):
    """Points that an entry gives by itself, without a trigger; negative: takes (RULES 5.7)."""

    points_system: str
    amount: int
    """Not zero."""


class HoldCall(Struct, frozen=True):
    """Points are held, or what becomes of points that are (RULES 5.7); the entry's kind says which of it."""

    hold_id: UUID
    """The entry of the hold."""
    points_system: str = ""
    """Of a hold."""
    amount: int = 0
    """Of a hold; of a capture: how much of it, 0: all."""
    expire_time: datetime | None = None
    """Of a hold: when it ends by itself."""


class StreakOverride(Struct, frozen=True):
    """What a user wants otherwise than a streak defines it (RULES 3.11); what is not given is as the streak has it."""

    mode: int | None = None
    """As laurel.streak.v1.MetricMode."""
    metrics: tuple[tuple[str, int], ...] = ()
    """Those that count, with their thresholds in micro-units; 0: that of the streak."""
    days_off: tuple[int, ...] | None = None
    """From Monday = 0."""
    switched_off: bool = False


class StreakCall(Struct, frozen=True):
    """What is done to a user's streak by hand (RULES 3.5, 3.9, 3.11, 3.12); the entry's kind says which of it."""

    streak: str
    freeze_count: int = 0
    start_date: date | None = None
    """Of a pause."""
    end_date: date | None = None
    by_user: bool = False
    """A pause that is the user's own wish."""
    loss_date: date | None = None
    """Of a restore: a date in the period that was lost; None: the last loss."""
    override: StreakOverride | None = None
    """Of an override."""


class BoardExclusion(Struct, frozen=True):
    """The user is excluded from a board, or is back again; an empty key: all boards."""

    leaderboard: str
    excluded: bool


class Entry(Struct, frozen=True):
    """One entry of the ledger; the same content however often it is sent."""

    entry_id: UUID
    kind: EntryKind
    user: UserSnapshot
    now: datetime
    """When the orchestrator accepted it: the only clock of a decision (RULES 1.2)."""
    occur_time: datetime
    time_zone: str
    """IANA name of the zone that decides the entry's local date (RULES 1.5)."""
    metric: MetricFact | None
    """Set for metric events, and for corrections whose origin was one."""
    corrected_entry_id: UUID | None
    """For a correction: the entry that was undone."""
    achievement: str = ""
    """The achievement that is completed by the entry itself, by a call, a prize, a promotion; or taken away."""
    seen: tuple[str, ...] = ()
    """Of what the user has been shown: the achievements; none: all."""
    gifts: tuple[PointsGift, ...] = ()
    """One of each system at most."""
    user_sequence: int = 0
    """Grows with the user's entries in the order in which they were recorded; 0: it was not counted yet."""
    streak_call: StreakCall | None = None
    """For what is done to a streak by hand."""
    exclusion: BoardExclusion | None = None
    """For an exclusion from boards, or a return."""
    takes_time_zone: bool = False
    """It names no zone: its own is the one that was stored for the user."""
    hold: HoldCall | None = None
    """For points that are held, or were."""
    other_users: tuple[UserSnapshot, ...] = ()
    """Whom it concerns besides its user."""
    is_history: bool = False
    """It comes from an import or a backfill: nothing is told of it (RULES 8.3)."""

    def half_of(self, other: UserSnapshot, gifts: tuple[PointsGift, ...] = ()) -> "Entry":
        """What it is for one of those whom it concerns besides its user: under an id of its own, beside this one's."""
        return replace(
            self,
            entry_id=half_id(self.entry_id, other.user_id),
            user=other,
            time_zone=other.time_zone,
            gifts=gifts,
            user_sequence=0,
            other_users=(),
        )


class Reversal(Struct, frozen=True):
    """An entry to be undone, and the instant at which that was decided."""

    entry_id: UUID
    user_id: str
    now: datetime
    user_version: int = 0
    """Of the user, as the undoing made it; 0 where it made none."""
    other_user_ids: tuple[str, ...] = ()
    """Whom the entry concerned besides its user."""


def half_id(entry_id: UUID, user_id: str) -> UUID:
    """The name of an entry as it concerns somebody besides its user."""
    return derived_id_beside(entry_id, "other user", user_id)
