"""Ledger entries as domain code sees them: `laurel.ledger.v1.Entry` without its wire format.

An operation has its kind and its content here, with the limits of each field. From these its message is read, and what
asks for it is checked (docs/adr/0016).
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from functools import cached_property
from typing import Annotated, ClassVar, Final, Self
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from shared.calendar import EARLIEST_DATE, LATEST_DATE
from shared.ids import derived_id_beside
from shared.limits import (
    WEEKDAYS_TEXT,
    AtMost,
    IsThreshold,
    IsWeekday,
    Key,
    KeyOrEmpty,
    Magnitude,
    Within,
)

MAX_GIFT: Final = 1_000_000_000
"""Of points that are given, taken or held by call."""
GIFT: Final = Within(1, MAX_GIFT)
MAX_SEEN: Final = 1_000
"""Achievements that are marked as seen at once."""
MAX_FREEZE_GRANT: Final = 1_000
"""Of freezes that are given at once."""
MAX_PAUSE_DAYS: Final = 3_660
MAX_STREAK_METRICS: Final = 10
"""Metrics of one streak."""
MAX_DAYS_OFF: Final = 6
"""Days off a week: on one day at least something is expected."""


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
    arrivals_before: tuple[MetricArrival, ...] = ()
    """The same with the undone event, which is among them; also where events came late only before it: then `arrivals`
    is empty, and it holds without it as well.
    """
    one_value: bool = False
    """Of a correction: the total is the value of one event, the greatest or the newest. So a threshold is reached by an
    event whose own value reaches it.
    """

    @property
    def contribution_micros(self) -> int:
        """The change that the event makes to the total, in the order of the events' times (RULES 2.2)."""
        return self.revisable_contribution_micros if self.revisable else self.value_micros


class Checked(Struct, frozen=True):
    """Something that is read from a message, each field from that of its name (`shared/rpc/contents.py`)."""

    def wrong(self) -> Iterable[tuple[str, str]]:
        """Paths of fields that do not go with others, and what is wrong; limits of single fields stand beside them."""
        return ()


class PointsGift(Checked, frozen=True):
    """Points that an entry gives by itself, without a trigger; negative: takes (RULES 5.7)."""

    points_system: Key
    amount: Annotated[int, Magnitude(MAX_GIFT)]


class Content(Checked, frozen=True):
    """What an operation says, as far as participants need it: its message in `laurel.ledger.v1.Entry`."""

    concerns_another: ClassVar[bool] = False
    """There is one user whom it concerns besides its own."""

    @property
    def achievement(self) -> str:
        """The achievement that it completes by itself, or takes away; empty: none."""
        return ""

    @property
    def gifts(self) -> tuple[PointsGift, ...]:
        """What it gives by itself, or takes: one gift of each system at most."""
        return ()


class AchievementCall(Content, frozen=True):
    """An achievement is completed by call (RULES 4.1)."""

    achievement: Key


class AchievementRevocation(Content, frozen=True):
    """An achievement is taken from a user by hand (RULES 4.1)."""

    achievement: Key


class AchievementsSeen(Content, frozen=True):
    """A user has been shown what was completed (RULES 4.7)."""

    achievements: Annotated[tuple[Key, ...], AtMost(MAX_SEEN, f"must have at most {MAX_SEEN:,} keys")]
    """None: all."""


class OfStreak(Content, frozen=True):
    """It is about a streak of the user. What is done to one by hand is a `StreakCall`."""

    streak: Key


class StreakFreezeGrant(OfStreak, frozen=True):
    """Freezes are given (RULES 3.5)."""

    count: Annotated[int, Within(1, MAX_FREEZE_GRANT)]


class StreakPause(OfStreak, frozen=True):
    """A streak is paused (RULES 3.12)."""

    start_date: date
    end_date: date
    """The last one of the pause."""
    by_user: bool
    """It is the user's own wish."""

    def wrong(self) -> Iterable[tuple[str, str]]:
        """The dates are in order, and not too far apart."""
        if not 0 <= (self.end_date - self.start_date).days < MAX_PAUSE_DAYS:
            yield "end_date", f"must not lie before start_date, nor {MAX_PAUSE_DAYS:,} days after it"


class StreakReset(OfStreak, frozen=True):
    """A streak is set back to nothing (RULES 3.9)."""


class StreakRestore(OfStreak, frozen=True):
    """What was lost of a streak is given back (RULES 3.9)."""

    loss_date: date | None
    """A date in the period that was lost; None: the last loss."""


class StreakResume(OfStreak, frozen=True):
    """The pauses of today are ended (RULES 3.12)."""


class MetricThreshold(Checked, frozen=True):
    """A metric of a streak, and what it has to reach."""

    metric: Key
    threshold: Annotated[float, IsThreshold()]
    """In units; 0: that of the streak."""


class StreakOverride(Checked, frozen=True):
    """What a user wants otherwise than a streak defines it; what is not given is as the streak has it."""

    mode: int
    """As laurel.streak.v1.MetricMode; 0: as the streak has it."""
    metrics: Annotated[
        tuple[MetricThreshold, ...], AtMost(MAX_STREAK_METRICS, f"must be at most {MAX_STREAK_METRICS}")
    ]
    """Those that count; none: as the streak has it."""
    has_days_off: bool
    """Whether `days_off` holds, also where it is empty."""
    days_off: Annotated[
        tuple[Annotated[int, IsWeekday()], ...],
        AtMost(MAX_DAYS_OFF, f"must be at most {MAX_DAYS_OFF}: on one day something is expected"),
    ]
    """From Monday = 1."""
    switched_off: bool

    def wrong(self) -> Iterable[tuple[str, str]]:
        """Each metric and each day once, and days only where they hold."""
        metrics = [each.metric for each in self.metrics]
        for index, metric in enumerate(metrics):
            if metric in metrics[:index]:
                yield f"metrics[{index}].metric", "is given twice"
        for index, day in enumerate(self.days_off):
            if day in self.days_off[:index]:
                yield f"days_off[{index}]", WEEKDAYS_TEXT
        if self.days_off and not self.has_days_off:
            yield "has_days_off", "must be set where days_off are given"


class StreakOverrideCall(OfStreak, frozen=True):
    """A user has a streak otherwise than it is defined (RULES 3.11)."""

    override: StreakOverride


StreakCall = StreakFreezeGrant | StreakPause | StreakReset | StreakRestore | StreakResume | StreakOverrideCall
"""What is done to a user's streak by hand (RULES 3.5, 3.9, 3.11, 3.12)."""


class GiftCall(Content, frozen=True):
    """Points are given or taken by call (RULES 5.7)."""

    gift: PointsGift

    @property
    def gifts(self) -> tuple[PointsGift, ...]:
        """The one that it is about."""
        return (self.gift,)


class PointsGrant(GiftCall, frozen=True):
    """Points are given."""


class PointsSpend(GiftCall, frozen=True):
    """Points are spent: a negative gift."""


class PointsTransfer(GiftCall, frozen=True):
    """Points pass to another user: the gift is what its own user is given, and so negative."""

    concerns_another: ClassVar[bool] = True


class PointsHold(Content, frozen=True):
    """Points are held (RULES 5.7). The entry's id names the hold."""

    points_system: Key
    amount: Annotated[int, GIFT]
    expire_time: datetime
    """When it ends by itself."""


class HoldEnd(Content, frozen=True):
    """Points that were held are taken, or can be spent again."""

    hold_entry_id: UUID


class PointsCapture(HoldEnd, frozen=True):
    """They are taken."""

    amount: Annotated[int, Within(0, MAX_GIFT)]
    """How many of them; 0: all."""


class PointsRelease(HoldEnd, frozen=True):
    """They can be spent again."""


class BoardExclusion(Content, frozen=True):
    """The user is excluded from a board, or is back again (RULES 6.13)."""

    leaderboard: KeyOrEmpty
    """Empty: all boards."""
    excluded: bool


class BoardPrize(Content, frozen=True):
    """A prize at the end of a run (RULES 6.10)."""

    gifts: tuple[PointsGift, ...]
    achievement: KeyOrEmpty


class LeagueMove(Content, frozen=True):
    """A user of a league goes up or down (RULES 6.12)."""

    achievement: KeyOrEmpty


class EntryKind(Enum):
    """What an entry is: the name of its operation, and what participants read of it; None: nothing by this road.

    Each enters the saga at its own step (DESIGN 2).
    """

    METRIC_EVENT = "metric_event", None
    """Read by hand, for speed: `Entry.metric`."""
    USER_UPDATE = "user_update", None
    ACHIEVEMENT_CALL = "achievement_call", AchievementCall
    ACHIEVEMENT_REVOCATION = "achievement_revocation", AchievementRevocation
    ACHIEVEMENT_BACKFILL = "achievement_backfill", None
    ACHIEVEMENTS_SEEN = "achievements_seen", AchievementsSeen
    ANNIVERSARY = "anniversary", None
    STREAK_FREEZE_GRANT = "streak_freeze_grant", StreakFreezeGrant
    STREAK_PAUSE = "streak_pause", StreakPause
    STREAK_RESET = "streak_reset", StreakReset
    STREAK_RESTORE = "streak_restore", StreakRestore
    STREAK_OVERRIDE = "streak_override", StreakOverrideCall
    STREAK_RESUME = "streak_resume", StreakResume
    STREAK_CLOSING = "streak_closing", None
    POINTS_GRANT = "points_grant", PointsGrant
    POINTS_SPEND = "points_spend", PointsSpend
    POINTS_TRANSFER = "points_transfer", PointsTransfer
    POINTS_HOLD = "points_hold", PointsHold
    POINTS_CAPTURE = "points_capture", PointsCapture
    POINTS_RELEASE = "points_release", PointsRelease
    TIMED_POINTS = "timed_points", None
    BOARD_EXCLUSION = "board_exclusion", BoardExclusion
    BOARD_PRIZE = "board_prize", BoardPrize
    LEAGUE_MOVE = "league_move", LeagueMove
    USER_ERASURE = "user_erasure", None
    USER_MERGE = "user_merge", None
    CORRECTION = "correction", None
    """What follows from undoing an earlier entry; its metric part carries the new total and no value."""

    _value_: str
    content: type[Content] | None

    def __new__(cls, name: str, content: type[Content] | None) -> Self:
        """A kind is known by its name."""
        kind = object.__new__(cls)
        kind._value_ = name
        kind.content = content
        return kind

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
    content: Content | None = None
    """What its operation says, where that is anything for participants besides."""
    user_sequence: int = 0
    """Grows with the user's entries in the order in which they were recorded; 0: it was not counted yet."""
    takes_time_zone: bool = False
    """It names no zone: its own is the one that was stored for the user."""
    other_users: tuple[UserSnapshot, ...] = ()
    """Whom it concerns besides its user."""
    is_history: bool = False
    """It comes from an import or a backfill: nothing is told of it (RULES 8.3)."""

    @property
    def achievement(self) -> str:
        """The achievement that is completed by the entry itself, by a call, a prize, a promotion; or taken away."""
        return "" if self.content is None else self.content.achievement

    @property
    def gifts(self) -> tuple[PointsGift, ...]:
        """Points that the entry gives by itself, or takes: one gift of each system at most."""
        return () if self.content is None else self.content.gifts

    def half_of(self, other: UserSnapshot, content: Content | None = None) -> "Entry":
        """What it is for one of those whom it concerns besides its user: under an id of its own, beside this one's.
        `content`: what it says to that user.
        """
        return replace(
            self,
            entry_id=half_id(self.entry_id, other.user_id),
            user=other,
            time_zone=other.time_zone,
            content=content,
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
