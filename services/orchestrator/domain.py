"""Metric events, users and totals (RULES 1 and 2): what an event means before any feature looks at it.

A total is a fold over a user's live events of one metric: of a sum in the order in which they were recorded, else in
the order of their times. It is extended at the end in the common case and folded anew when an event is undone; both
ways give the same.
"""

from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.orchestrator.said import Said, UserPatch, micros_of, say
from shared.ids import digest

MICROS = 1_000_000

MAX_GROSS_MICROS = 9_000_000_000_000 * MICROS
"""The most that the magnitudes of one user's live events of one metric may add up to, in micro-units.

Whatever part of them a service sums, the sum then fits 64 bits.
"""

MAX_EVENT_ATTRIBUTES = 32
MAX_USER_ATTRIBUTES = 64
"""The most attributes that a stored user can have gathered."""


class Aggregation(IntEnum):
    """How the values of a metric's events make a user's total (RULES 2.2)."""

    SUM = 1
    MAX = 2
    LAST = 3
    UNIQUE = 4


class Origin(IntEnum):
    """Where an entry comes from, as stored and as told."""

    LIVE = 1
    IMPORT = 2
    BACKFILL = 3
    MAINTENANCE = 4


class WantedEntries(Struct, frozen=True):
    """Which of a user's entries a reader wants."""

    user_id: str
    metric: str = ""
    """Empty: events of all metrics, and all other entries."""
    start: datetime | None = None
    """Only what occurred from here on."""
    end: datetime | None = None
    """Only what occurred before."""
    origins: tuple[int, ...] = ()
    """None: all."""
    voided: bool | None = None
    """None: what was voided, and what was not."""

    @property
    def filters(self) -> list[str]:
        """What a page token is bound to."""
        return [self.metric, str(self.start), str(self.end), str(self.origins), str(self.voided)]


class Standing(IntEnum):
    """How a user stands, as stored."""

    ORDINARY = 0
    CONTROL = 1
    """In the control group: metrics count, features are withheld (RULES 2.6)."""
    ERASING = 2
    """Being deleted: nothing is recorded (RULES 2.7)."""


def standing_of(user_id: str, control_ratio: float) -> Standing:
    """How a new user stands: by a hash of the id, so that a ratio that grows only adds to the group (RULES 2.6)."""
    place = int.from_bytes(digest("control group", user_id)[:8]) / 2**64
    return Standing.CONTROL if place < control_ratio else Standing.ORDINARY


class Metric(Struct, frozen=True):
    """The part of a metric's definition that events need."""

    key: str
    aggregation: Aggregation
    unique_attribute: str = ""
    user_writable: bool = False
    """A key of one user may send events of it."""


class User(Struct, frozen=True):
    """A user as stored."""

    user_id: str
    said: Said
    create_time: datetime
    version: int
    standing: Standing = Standing.ORDINARY
    merged_into: str = ""
    """Whom the id leads to since this user was merged; empty for who is there."""
    life: int = 0
    """Tells the user from who had the id before and was deleted."""

    def zone(self, default: str) -> str:
        """The stored zone, else the configured default (RULES 1.5)."""
        return self.said.plain_time_zone or default


class Fact(Struct, frozen=True):
    """A live event as a total sees it. `position` is its place in the order of recording."""

    entry_id: UUID
    value_micros: int
    occur_time: datetime
    position: int
    unique_value: str | None = None


InTime = tuple[datetime, UUID]
"""The place of an event in the order of the events' times (RULES 2.5)."""


class Total(Struct, frozen=True):
    """A user's total of one metric. `peak_micros` is the highest it ever was: of a sum while these events were
    recorded, else in the order of their times.
    """

    total_micros: int = 0
    peak_micros: int = 0
    gross_micros: int = 0
    event_count: int = 0
    version: int = 0
    newest_time: datetime | None = None
    newest_id: UUID | None = None


class TimeWindow(Struct, frozen=True):
    """Which occur_times are accepted around now (RULES 1.3)."""

    max_age: timedelta | None
    """None: of any age, for an import of history (RULES 1.4)."""
    max_ahead: timedelta


class TooOld(ValueError):
    """The event is older than the window allows."""


class InFuture(ValueError):
    """The event lies further ahead than the window allows."""


class TotalOutOfRange(ValueError):
    """The magnitudes of the user's events of the metric would add up to more than is kept exactly."""


class TooManyAttributes(ValueError):
    """The user would have more attributes than are stored."""


def check_occur_time(occur_time: datetime, now: datetime, window: TimeWindow) -> None:
    """Raises `TooOld` or `InFuture` for a time outside the window (RULES 1.3)."""
    if window.max_age is not None and occur_time < now - window.max_age:
        raise TooOld(f"is more than {window.max_age.total_seconds():g} s old")
    if occur_time > now + window.max_ahead:
        raise InFuture(f"is more than {window.max_ahead.total_seconds():g} s in the future")


def merge_user(
    user: User | None, patch: UserPatch, occur_time: datetime, now: datetime, life: int = 0
) -> User:
    """The user after an event: each field and attribute holds what the newest event said of it (RULES 1.5, 2.3).
    `life`: of who is new.

    The version grows only when something changes. Raises `TooManyAttributes`, and `Unknown` where what was said has
    to be read from the ledger first.
    """
    known = user or User(patch.user_id, Said(), now, 0, life=life)
    return said_anew(user, known, say(known.said, patch, micros_of(occur_time)))


def said_anew(user: User | None, known: User, said: Said) -> User:
    """The user with what has been said now; `user` is None where this is the first that is said.

    Raises `TooManyAttributes`.
    """
    if user is not None and (said is known.said or says_the_same(said, known.said)):
        return replace(known, said=said)
    if len(said.plain_attributes()) > MAX_USER_ATTRIBUTES:
        raise TooManyAttributes(f"a user has at most {MAX_USER_ATTRIBUTES} attributes")
    return replace(known, said=said, version=known.version + 1)


def event_zone(patch: UserPatch, user: User, default: str) -> str:
    """The zone that decides an event's local date: its own, else the user's, else the default (RULES 1.5)."""
    return patch.time_zone or user.zone(default)


def in_time(fact: Fact) -> InTime:
    """The place of an event in the order of the events' times."""
    return fact.occur_time, fact.entry_id


def is_newest(total: Total, fact: Fact) -> bool:
    """Whether an event is later than all that the total has counted."""
    return (
        total.newest_time is None
        or total.newest_id is None
        or in_time(fact) > (total.newest_time, total.newest_id)
    )


def add_fact(total: Total, aggregation: Aggregation, fact: Fact, *, seen_before: bool = False) -> Total:
    """The total after one more event. `seen_before`: for UNIQUE, whether its value has been counted already.

    Raises `TotalOutOfRange`.
    """
    gross = total.gross_micros + abs(fact.value_micros)
    if gross > MAX_GROSS_MICROS:
        raise TotalOutOfRange(
            f"the magnitudes of one user's events of a metric add up to at most {MAX_GROSS_MICROS // MICROS:,}"
        )
    newest = is_newest(total, fact)
    value = _combine(total, aggregation, fact, newest=newest, seen_before=seen_before)
    # In the order of times, the total of a LAST metric was each of its values.
    high = fact.value_micros if aggregation is Aggregation.LAST else value
    return Total(
        total_micros=value,
        peak_micros=max(total.peak_micros, high) if total.event_count else high,
        gross_micros=gross,
        event_count=total.event_count + 1,
        version=total.version + 1,
        newest_time=fact.occur_time if newest else total.newest_time,
        newest_id=fact.entry_id if newest else total.newest_id,
    )


def can_subtract(total: Total, aggregation: Aggregation) -> bool:
    """Whether one event can be taken out without looking at the others: a sum without negative values."""
    return aggregation is Aggregation.SUM and total.gross_micros == total.total_micros


def subtract_fact(total: Total, fact: Fact) -> Total:
    """The total without this event; only where `can_subtract`."""
    remaining = total.total_micros - fact.value_micros
    return replace(
        total,
        total_micros=remaining,
        peak_micros=remaining,
        gross_micros=remaining,
        event_count=total.event_count - 1,
        version=total.version + 1,
    )


def needs_greatest(total: Total, fact: Fact) -> bool:
    """Whether the peak of a MAX or LAST total without this event is made by another."""
    return fact.value_micros == total.peak_micros


def needs_newest(total: Total, fact: Fact) -> bool:
    """Whether the newest event of a MAX or LAST total without this one is another."""
    return fact.entry_id == total.newest_id


def without_extreme(
    total: Total, aggregation: Aggregation, fact: Fact, greatest: Fact | None, newest: Fact | None
) -> Total:
    """A MAX or LAST total without this event. Of the other events the greatest and the newest, None where there are
    none; looked at only where it `needs_greatest` and `needs_newest`.
    """
    left = replace(
        total,
        gross_micros=total.gross_micros - abs(fact.value_micros),
        event_count=total.event_count - 1,
        version=total.version + 1,
    )
    if needs_greatest(total, fact):
        if greatest is None:
            return Total(version=left.version)
        left = replace(left, peak_micros=greatest.value_micros)
    if needs_newest(total, fact):
        if newest is None:
            return Total(version=left.version)
        left = replace(left, newest_time=newest.occur_time, newest_id=newest.entry_id)
        if aggregation is Aggregation.LAST:
            left = replace(left, total_micros=newest.value_micros)
    return replace(left, total_micros=left.peak_micros) if aggregation is Aggregation.MAX else left


def without_value(total: Total, fact: Fact, *, gone: bool) -> Total:
    """A UNIQUE total without this event. `gone`: nothing else has its value."""
    distinct = total.total_micros - (MICROS if gone else 0)
    return replace(
        total,
        total_micros=distinct,
        peak_micros=distinct,
        gross_micros=total.gross_micros - abs(fact.value_micros),
        event_count=total.event_count - 1,
        version=total.version + 1,
    )


def _combine(total: Total, aggregation: Aggregation, fact: Fact, *, newest: bool, seen_before: bool) -> int:
    match aggregation:
        case Aggregation.SUM:
            return total.total_micros + fact.value_micros
        case Aggregation.MAX:
            return max(total.total_micros, fact.value_micros) if total.event_count else fact.value_micros
        case Aggregation.LAST:
            return fact.value_micros if newest else total.total_micros
        case Aggregation.UNIQUE:
            return total.total_micros + (0 if seen_before else MICROS)


def says_the_same(left: Said, right: Said) -> bool:
    """Whether the same holds now."""
    return (
        (left.name is right.name or left.plain_name == right.plain_name)
        and (left.time_zone is right.time_zone or left.plain_time_zone == right.plain_time_zone)
        and (left.attributes is right.attributes or left.plain_attributes() == right.plain_attributes())
    )
