"""Metric events, users and totals (RULES 1 and 2): what an event means before any feature looks at it.

A total is a fold over a user's live events of one metric, in the order in which they were recorded. It is
extended at the end in the common case and folded anew when an event is undone; both ways give the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

MICROS = 1_000_000

MAX_GROSS_MICROS = 9_000_000_000_000 * MICROS
"""The most that the magnitudes of one user's live events of one metric may add up to, in micro-units.

Whatever part of them a service sums, the sum then fits 64 bits.
"""

MAX_EVENT_ATTRIBUTES = 32
MAX_USER_ATTRIBUTES = 64
"""The most attributes that a stored user can have gathered."""

_ALL = ""
"""Stands among a user's attributes, where no name is empty, for the clearing of all that were said before it."""


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


class Metric(Struct, frozen=True):
    """The part of a metric's definition that events need."""

    key: str
    aggregation: Aggregation
    unique_attribute: str = ""


class UserPatch(Struct, frozen=True):
    """What an event or a call says about a user. Empty fields say nothing."""

    user_id: str
    name: str = ""
    time_zone: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    cleared: frozenset[str] = frozenset()
    """`name` or `time_zone`: from now on there is none."""
    cleared_attributes: frozenset[str] = frozenset()
    clears_other_attributes: bool = False
    """The attributes are all that there are; others are cleared."""


class Stamped(Struct, frozen=True):
    """A value and the occur_time of the event that said it: the newest event wins, whenever it arrives."""

    value: str | None
    """None: it was cleared."""
    said: datetime


class User(Struct, frozen=True):
    """A user as stored."""

    user_id: str
    name: Stamped | None
    time_zone: Stamped | None
    attributes: Mapping[str, Stamped]
    create_time: datetime
    version: int

    def zone(self, default: str) -> str:
        """The stored zone, else the configured default (RULES 1.5)."""
        return (self.time_zone and self.time_zone.value) or default

    def plain_attributes(self) -> dict[str, str]:
        """The attributes without their times, and without those that were cleared."""
        cleared = self.attributes.get(_ALL)
        return {
            key: stamped.value
            for key, stamped in self.attributes.items()
            if stamped.value is not None and (cleared is None or stamped.said >= cleared.said)
        }


class Fact(Struct, frozen=True):
    """A live event as a total sees it. `position` is its place in the order of recording."""

    entry_id: UUID
    value_micros: int
    occur_time: datetime
    position: int
    unique_value: str | None = None


class Total(Struct, frozen=True):
    """A user's total of one metric. `peak_micros` is the highest it ever was while these events were recorded."""

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


def merge_user(user: User | None, patch: UserPatch, occur_time: datetime, now: datetime) -> User:
    """The user after an event: each field and attribute holds what the newest event said of it (RULES 1.5, 2.3).

    The version grows only when something changes. Raises `TooManyAttributes`.
    """
    known = user or User(patch.user_id, None, None, {}, now, 0)
    merged = replace(
        known,
        name=_newer(known.name, patch.name or None, occur_time, cleared="name" in patch.cleared),
        time_zone=_newer(
            known.time_zone, patch.time_zone or None, occur_time, cleared="time_zone" in patch.cleared
        ),
        attributes=_merge_attributes(known.attributes, patch, occur_time),
    )
    if user is not None and says_the_same(merged, known):
        return merged
    if len(merged.plain_attributes()) > MAX_USER_ATTRIBUTES:
        raise TooManyAttributes(f"a user has at most {MAX_USER_ATTRIBUTES} attributes")
    return replace(merged, version=known.version + 1)


def fold_user(user: User, patches: Iterable[tuple[UserPatch, datetime]]) -> User:
    """The user as these patches alone would have made it, one version on: what is left after an undoing."""
    empty = replace(user, name=None, time_zone=None, attributes={})
    for patch, occur_time in patches:
        empty = replace(merge_user(empty, patch, occur_time, user.create_time), version=user.version)
    return replace(empty, version=user.version + 1)


def event_zone(patch: UserPatch, user: User, default: str) -> str:
    """The zone that decides an event's local date: its own, else the user's, else the default (RULES 1.5)."""
    return patch.time_zone or user.zone(default)


def add_fact(total: Total, aggregation: Aggregation, fact: Fact, *, seen_before: bool = False) -> Total:
    """The total after one more event. `seen_before`: for UNIQUE, whether its value has been counted already.

    Raises `TotalOutOfRange`.
    """
    gross = total.gross_micros + abs(fact.value_micros)
    if gross > MAX_GROSS_MICROS:
        raise TotalOutOfRange(
            f"the magnitudes of one user's events of a metric add up to at most {MAX_GROSS_MICROS // MICROS:,}"
        )
    newest = (
        total.newest_time is None
        or total.newest_id is None
        or ((fact.occur_time, fact.entry_id) > (total.newest_time, total.newest_id))
    )
    value = _combine(total, aggregation, fact, newest=newest, seen_before=seen_before)
    return Total(
        total_micros=value,
        peak_micros=max(total.peak_micros, value) if total.event_count else value,
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


def fold_total(version: int, aggregation: Aggregation, facts: Sequence[Fact]) -> Total:
    """The total of these live events, as a change that follows `version`."""
    total = Total()
    seen: set[str] = set()
    for fact in sorted(facts, key=lambda fact: fact.position):
        value = fact.unique_value or ""
        total = add_fact(total, aggregation, fact, seen_before=value in seen)
        seen.add(value)
    return replace(total, version=version + 1)


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


def _newer(
    known: Stamped | None, said: str | None, occur_time: datetime, *, cleared: bool = False
) -> Stamped | None:
    """What holds after somebody says something. Of two at one instant the greater text holds, and any text before
    none: any order agrees.
    """
    if said is None and not cleared:
        return known
    new = Stamped(said, occur_time)
    if known is None or _precedence(new) > _precedence(known):
        return new
    return known


def _precedence(stamped: Stamped) -> tuple[datetime, bool, str]:
    return stamped.said, stamped.value is not None, stamped.value or ""


def _merge_attributes(
    known: Mapping[str, Stamped], patch: UserPatch, occur_time: datetime
) -> Mapping[str, Stamped]:
    cleared = patch.cleared_attributes | ({_ALL} if patch.clears_other_attributes else set())
    if not patch.attributes and not cleared:
        return known
    merged = dict(known)
    for key in (*patch.attributes, *cleared):
        newer = _newer(known.get(key), patch.attributes.get(key), occur_time, cleared=key in cleared)
        if newer is not None:
            merged[key] = newer
    return merged


def says_the_same(left: User, right: User) -> bool:
    """Whether nobody but the ledger could tell the two apart."""
    return (
        _value(left.name) == _value(right.name)
        and _value(left.time_zone) == _value(right.time_zone)
        and left.plain_attributes() == right.plain_attributes()
    )


def _value(stamped: Stamped | None) -> str | None:
    return stamped.value if stamped else None
