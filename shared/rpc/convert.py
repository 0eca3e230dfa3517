"""Conversions that every service needs between messages and plain values, with syntactic validation.

A check adds each violation it finds under `path`, the full path of the field in proto names
(`commands[3].entry.user.time_zone`), and so a caller learns everything at once.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

import grpc
from asyncpg.pgproto import pgproto
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import date_pb2, error_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2
from laurel.streak.v1 import streak_pb2

from shared.calendar import EARLIEST, EARLIEST_DATE, LATEST, LATEST_DATE, UnknownZone, zone_names
from shared.decimals import MAX_MAGNITUDE, MICROS_PER_UNIT, InvalidValue, to_micros
from shared.entries import (
    BoardExclusion,
    ContributionRevision,
    Entry,
    EntryKind,
    HoldCall,
    MetricArrival,
    MetricFact,
    PointsGift,
    Reversal,
    StreakCall,
    StreakOverride,
    UserSnapshot,
)
from shared.errors import FieldViolation, LaurelError, Unknown, Violations
from shared.tenants import SEPARATOR, TENANT, TENANT_TEXT, is_stored_form, shown

MAX_TEXT_CHARS: Final = 255
"""Of an identifier, a name, an attribute's value."""
MAX_ATTRIBUTE_NAME_CHARS: Final = 64
MAX_HOLD_SECONDS: Final = 3_600
"""Of `hold_seconds`: an import that has died must not keep maintenance off for longer."""

MAX_VALUE_MICROS: Final = int(MAX_MAGNITUDE) * MICROS_PER_UNIT
"""Of a metric event's value, in magnitude (RULES 2.1)."""
MAX_FREEZE_GRANT: Final = 1_000
"""Of freezes that are given at once."""
MAX_PAUSE_DAYS: Final = 3_660
MAX_SEEN: Final = 1_000
"""Achievements that are marked as seen at once."""
MAX_STREAK_METRICS: Final = 10
"""Metrics of one streak."""
MAX_DAYS_OFF: Final = 6
"""Days off a week: on one day at least something is expected."""
_WEEKDAYS: Final = range(streak_pb2.WEEKDAY_MONDAY, streak_pb2.WEEKDAY_SUNDAY + 1)
MAX_GIFT: Final = 1_000_000_000
"""Of points that are given or taken by call."""
_VALUES: Final = range(-MAX_VALUE_MICROS, MAX_VALUE_MICROS + 1)

_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS_PER_MICRO: Final = 1_000
_NANOS: Final = range(1_000_000_000)
_SECONDS: Final = range(int((EARLIEST - _EPOCH).total_seconds()), int((LATEST - _EPOCH).total_seconds()))
_KINDS: Final[Mapping[str, EntryKind]] = {kind.value: kind for kind in EntryKind}
_STREAK_CALLS: Final = frozenset(
    (
        EntryKind.STREAK_FREEZE_GRANT,
        EntryKind.STREAK_OVERRIDE,
        EntryKind.STREAK_PAUSE,
        EntryKind.STREAK_RESUME,
        EntryKind.STREAK_RESET,
        EntryKind.STREAK_RESTORE,
    )
)
_HOLD_CALLS: Final = frozenset((EntryKind.POINTS_HOLD, EntryKind.POINTS_CAPTURE, EntryKind.POINTS_RELEASE))
_ERRORS: Final[Mapping[str, type[LaurelError]]] = {
    kind.code.name: kind for kind in LaurelError.__subclasses__()
}


# Instants


def to_datetime(timestamp: Timestamp) -> datetime:
    """The instant, UTC, cut to microseconds. For timestamps known to be valid; see `instant_field`."""
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // _NANOS_PER_MICRO)


def to_timestamp(instant: datetime) -> Timestamp:
    """The message of an aware instant."""
    since = instant - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * _NANOS_PER_MICRO)


def set_timestamp(message: Timestamp, instant: datetime) -> None:
    """The same in place: a field of another message."""
    since = instant - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * _NANOS_PER_MICRO


def set_micros(message: Timestamp, micros: int) -> None:
    """The same of microseconds since 1970."""
    message.seconds, rest = divmod(micros, MICROS_PER_UNIT)
    message.nanos = rest * _NANOS_PER_MICRO


def instant_field(parent: Message, field: str, path: str, violations: Violations) -> datetime | None:
    """The required timestamp `field` of the message at `path` ("" for a request); None with a violation."""
    if parent.HasField(field):
        timestamp: Timestamp = getattr(parent, field)
        seconds, nanos = timestamp.seconds, timestamp.nanos
        if seconds in _SECONDS and nanos in _NANOS:
            return _EPOCH + timedelta(0, seconds, nanos // _NANOS_PER_MICRO)
    wrong = (
        f"must be an instant from {EARLIEST:%Y} to {LATEST:%Y}" if parent.HasField(field) else "is required"
    )
    violations.add(f"{path}.{field}" if path else field, wrong)
    return None


# Text


def check_text(
    value: str, path: str, violations: Violations, *, min_chars: int = 1, max_chars: int = MAX_TEXT_CHARS
) -> None:
    """Text of a length between these, without the character that PostgreSQL cannot store."""
    if not min_chars <= len(value) <= max_chars:
        bounds = f"at most {max_chars}" if min_chars == 0 else f"{min_chars} to {max_chars}"
        violations.add(path, f"must have {bounds} characters")
    elif "\x00" in value:
        violations.add(path, "must not contain the character U+0000")


def check_user_id_or_none(value: str, path: str, violations: Violations) -> None:
    """The same where empty stands for all users."""
    if value:
        check_user_id(value, path, violations)


def check_tenant(value: str, path: str, violations: Violations) -> None:
    """The name of a tenant, or empty for none."""
    if value and not TENANT.fullmatch(value):
        violations.add(path, TENANT_TEXT)


def check_key(value: str, path: str, violations: Violations) -> None:
    """The key of a metric, streak, achievement, points system or leaderboard (RULES 2.2)."""
    if not _KEY.fullmatch(value):
        violations.add(path, "must match ^[a-z][a-z0-9_-]{0,63}$")


def check_user_id(value: str, path: str, violations: Violations) -> None:
    """The application's own identifier of a user (RULES 2.3), as stored: with the tenant in front, if there is one."""
    _check_stored(value, path, violations)


def check_request_id(value: str, path: str, violations: Violations) -> None:
    """The idempotency key of a mutation (RULES 2.4), as stored."""
    _check_stored(value, path, violations)


def _check_stored(value: str, path: str, violations: Violations) -> None:
    if SEPARATOR in value:
        if not is_stored_form(value):
            violations.add(path, "must not contain the character U+001F")
            return
        value = shown(value)
    check_text(value, path, violations)


def check_zone(value: str, path: str, violations: Violations) -> None:
    """The name of an IANA zone (RULES 1.5)."""
    if value not in zone_names():
        violations.add(path, str(UnknownZone(value)))


def texts(of: Mapping[str, str]) -> dict[str, str]:
    """A copy of a map of a message: several times as fast as what `dict` makes of one."""
    return {name: of[name] for name in of}


def set_texts(into: MutableMapping[str, str], values: Mapping[str, str]) -> None:
    """Writes them into a map of a message: its `update` is the slow one of all mappings, too."""
    for name, value in values.items():
        into[name] = value


def check_attributes(attributes: Mapping[str, str], path: str, violations: Violations) -> None:
    """Names of 1 to 64 characters, values of at most 255. How many there may be, the orchestrator decides."""
    for name, value in attributes.items():
        if (
            1 <= len(name) <= MAX_ATTRIBUTE_NAME_CHARS
            and len(value) <= MAX_TEXT_CHARS
            and "\x00" not in name
            and "\x00" not in value
        ):
            continue  # the common case builds no path
        where = f"{path}[{name[:MAX_ATTRIBUTE_NAME_CHARS]!r}]"
        check_text(name, where, violations, max_chars=MAX_ATTRIBUTE_NAME_CHARS)
        check_text(value, where, violations, min_chars=0)


def uuid_field(value: str, path: str, violations: Violations) -> UUID | None:
    """A UUID in its canonical form: lower case with hyphens, so that one id has one spelling."""
    if not _UUID.fullmatch(value):
        violations.add(path, "must be a UUID in lower case with hyphens")
        return None
    # A UUID like those of rows: parsed and printed ten times as fast as the standard library's.
    found: UUID = pgproto.UUID(value)
    return found


def like_rows(made: UUID) -> UUID:
    """The same id as rows have it: compared, hashed, printed and written to the database in C."""
    found: UUID = pgproto.UUID(made.bytes)
    return found


def check_hold_seconds(value: int, path: str, violations: Violations) -> None:
    """How long maintenance is kept off; 0 releases it."""
    if not 0 <= value <= MAX_HOLD_SECONDS:
        violations.add(path, f"must be 0 to {MAX_HOLD_SECONDS}")


# Dates


def date_to_proto(day: date) -> date_pb2.LocalDate:
    """The message of a calendar date."""
    return date_pb2.LocalDate(year=day.year, month=day.month, day=day.day)


def set_date(message: date_pb2.LocalDate, day: date) -> None:
    """The same in place: a field of another message."""
    message.year, message.month, message.day = day.year, day.month, day.day


def date_from_proto(message: date_pb2.LocalDate, path: str, violations: Violations) -> date | None:
    """The calendar date at `path`; None with a violation."""
    try:
        return date(message.year, message.month, message.day)
    except ValueError:
        violations.add(path, "must be a date of the calendar")
        return None


def date_within(
    message: date_pb2.LocalDate, path: str, violations: Violations, margin: timedelta = timedelta(0)
) -> date | None:
    """The calendar date at `path`, within the bounds of what clients send; None with a violation.

    The local date of an accepted instant may lie a day beyond the bounds: that is what a `margin` is for.
    """
    day = date_from_proto(message, path, violations)
    if day is None or EARLIEST_DATE - margin <= day < LATEST_DATE + margin:
        return day
    violations.add(path, f"must be a date from {EARLIEST:%Y} to {LATEST.year - 1}")
    return None


def date_field(parent: Message, field: str, path: str, violations: Violations) -> date | None:
    """The required date `field` of the message at `path` ("" for a request); None with a violation."""
    where = f"{path}.{field}" if path else field
    if not parent.HasField(field):
        violations.add(where, "is required")
        return None
    return date_within(getattr(parent, field), where, violations)


def time_of_day(text: str, path: str, violations: Violations) -> time | None:
    """The time of `22:00`; None with a violation."""
    if not _TIME_OF_DAY.fullmatch(text):
        violations.add(path, "must be a time of the day such as 22:00")
        return None
    return time.fromisoformat(text)


def pause_dates(parent: Message, path: str, violations: Violations) -> tuple[date | None, date | None]:
    """`start_date` and `end_date` of a pause, in order and not too far apart."""
    first = date_field(parent, "start_date", path, violations)
    last = date_field(parent, "end_date", path, violations)
    if first and last and not 0 <= (last - first).days < MAX_PAUSE_DAYS:
        where = f"{path}.end_date" if path else "end_date"
        violations.add(where, f"must not lie before start_date, nor {MAX_PAUSE_DAYS:,} days after it")
    return first, last


# Entries


def entry_from_proto(message: entry_pb2.Entry, violations: Violations) -> Entry | None:
    """The entry, or None when anything is wrong with it. Violations name the fields of the entry."""
    before = len(violations)
    entry_id = uuid_field(message.entry_id, "entry_id", violations)
    kind = _KINDS.get(message.WhichOneof("operation") or "")
    if kind is None:
        violations.add("operation", "is required, and one that is known here")
    user = user_from_proto(message.user, "user", violations)
    now = instant_field(message, "now", "", violations)
    occur_time = instant_field(message, "occur_time", "", violations)
    time_zone = message.time_zone
    check_zone(time_zone, "time_zone", violations)
    metric = corrected = None
    achievement = ""
    seen: tuple[str, ...] = ()
    gifts: tuple[PointsGift, ...] = ()
    exclusion, streak_call, hold = None, None, None
    if kind is EntryKind.METRIC_EVENT:
        metric = _metric(message.metric_event, "metric_event", violations)
        if metric.value_micros == 0:
            violations.add("metric_event.value_micros", "must not be zero")
    elif kind is EntryKind.CORRECTION:
        correction = message.correction
        corrected = uuid_field(correction.corrected_entry_id, "correction.corrected_entry_id", violations)
        if correction.HasField("metric"):
            metric = _metric(correction.metric, "correction.metric", violations)
    elif kind is EntryKind.ACHIEVEMENT_CALL:
        achievement = message.achievement_call.achievement
        check_key(achievement, "achievement_call.achievement", violations)
    elif kind is EntryKind.ACHIEVEMENTS_SEEN:
        seen = tuple(message.achievements_seen.achievements)
        if len(seen) > MAX_SEEN:
            violations.add("achievements_seen.achievements", f"must have at most {MAX_SEEN:,} keys")
    elif kind is EntryKind.ACHIEVEMENT_REVOCATION:
        achievement = message.achievement_revocation.achievement
        check_key(achievement, "achievement_revocation.achievement", violations)
    elif kind in _STREAK_CALLS:
        streak_call = _streak_call(message, kind.value, violations)
    elif kind is EntryKind.POINTS_GRANT:
        gifts = (_gift(message.points_grant.gift, "points_grant.gift", violations),)
    elif kind is EntryKind.POINTS_SPEND:
        gifts = (_gift(message.points_spend.gift, "points_spend.gift", violations),)
    elif kind is EntryKind.POINTS_TRANSFER:
        gifts = (_gift(message.points_transfer.gift, "points_transfer.gift", violations),)
        if len(message.other_users) != 1:
            violations.add("other_users", "must be one user")
    elif kind in _HOLD_CALLS and entry_id is not None:
        hold = _hold(message, entry_id, violations)
    elif kind is EntryKind.BOARD_EXCLUSION:
        exclusion = _exclusion(message.board_exclusion, violations)
    elif kind is EntryKind.LEAGUE_MOVE:
        achievement = message.league_move.achievement
        if achievement:
            check_key(achievement, "league_move.achievement", violations)
    elif kind is EntryKind.BOARD_PRIZE:
        prize = message.board_prize
        achievement = prize.achievement
        if achievement:
            check_key(achievement, "board_prize.achievement", violations)
        gifts = tuple(
            _gift(gift, f"board_prize.gifts[{index}]", violations) for index, gift in enumerate(prize.gifts)
        )
    others: tuple[UserSnapshot | None, ...] = ()
    if other_users := message.other_users:
        others = tuple(
            user_from_proto(other, f"other_users[{at}]", violations) for at, other in enumerate(other_users)
        )
    if entry_id is None or kind is None or user is None or now is None or occur_time is None:
        return None
    if len(violations) > before:
        return None
    return Entry(
        entry_id,
        kind,
        user,
        now,
        occur_time,
        time_zone,
        metric,
        corrected,
        achievement,
        seen,
        gifts,
        user_sequence=message.user_sequence,
        streak_call=streak_call,
        exclusion=exclusion,
        takes_time_zone=message.takes_time_zone,
        hold=hold,
        other_users=tuple(other for other in others if other is not None),
        is_history=message.origin in (entry_pb2.ENTRY_ORIGIN_IMPORT, entry_pb2.ENTRY_ORIGIN_BACKFILL),
    )


def _streak_call(message: entry_pb2.Entry, field: str, violations: Violations) -> StreakCall:
    call = getattr(message, field)
    check_key(call.streak, f"{field}.streak", violations)
    if isinstance(call, entry_pb2.StreakFreezeGrant):
        if not 1 <= call.count <= MAX_FREEZE_GRANT:
            violations.add(f"{field}.count", f"must be 1 to {MAX_FREEZE_GRANT}")
        return StreakCall(call.streak, freeze_count=call.count)
    if isinstance(call, entry_pb2.StreakPause):
        first, last = pause_dates(call, field, violations)
        return StreakCall(call.streak, start_date=first, end_date=last, by_user=call.by_user)
    if isinstance(call, entry_pb2.StreakRestore) and call.HasField("loss_date"):
        return StreakCall(call.streak, loss_date=date_field(call, "loss_date", field, violations))
    if isinstance(call, entry_pb2.StreakOverrideCall):
        check_override(call.override, f"{field}.override", violations)
        return (
            StreakCall(call.streak, override=_override(call.override))
            if not len(violations)
            else StreakCall("")
        )
    return StreakCall(call.streak)


def _hold(message: entry_pb2.Entry, entry_id: UUID, violations: Violations) -> HoldCall | None:
    field = message.WhichOneof("operation") or ""
    call = getattr(message, field)
    if isinstance(call, entry_pb2.PointsHold):
        check_key(call.points_system, f"{field}.points_system", violations)
        if not 1 <= call.amount <= MAX_GIFT:
            violations.add(f"{field}.amount", f"must be 1 to {MAX_GIFT}")
        ends = instant_field(call, "expire_time", field, violations)
        return HoldCall(entry_id, call.points_system, call.amount, ends)
    hold_id = uuid_field(call.hold_entry_id, f"{field}.hold_entry_id", violations)
    amount = call.amount if isinstance(call, entry_pb2.PointsCapture) else 0
    if not 0 <= amount <= MAX_GIFT:
        violations.add(f"{field}.amount", f"must be 0 to {MAX_GIFT}")
    return None if hold_id is None else HoldCall(hold_id, amount=amount)


def check_override(message: streak_pb2.StreakOverride, path: str, violations: Violations) -> None:
    """What is wrong with it by itself; what a streak allows is the streak service's to say."""
    if message.mode not in streak_pb2.MetricMode.values():
        violations.add(f"{path}.mode", "is not one of its values")
    if len(message.metrics) > MAX_STREAK_METRICS:
        violations.add(f"{path}.metrics", f"must be at most {MAX_STREAK_METRICS}")
    seen: set[str] = set()
    for index, each in enumerate(message.metrics[:MAX_STREAK_METRICS]):
        where = f"{path}.metrics[{index}]"
        check_key(each.metric, f"{where}.metric", violations)
        if each.metric in seen:
            violations.add(f"{where}.metric", "is given twice")
        seen.add(each.metric)
        check_threshold(each.threshold, f"{where}.threshold", violations)
    for index, day in enumerate(message.days_off):
        if day not in _WEEKDAYS or day in message.days_off[:index]:
            violations.add(f"{path}.days_off[{index}]", "must be a day of the week, each once")
    if message.days_off and not message.has_days_off:
        violations.add(f"{path}.has_days_off", "must be set where days_off are given")
    if len(message.days_off) > MAX_DAYS_OFF:
        violations.add(
            f"{path}.days_off", f"must be at most {MAX_DAYS_OFF}: on one day something is expected"
        )


def check_threshold(threshold: float, path: str, violations: Violations) -> None:
    """What a period has to reach; 0 reads as what holds where none is given."""
    if math.isfinite(threshold) and threshold < 0:
        violations.add(path, "must be above zero")
    elif threshold != 0:
        try:
            to_micros(threshold)
        except InvalidValue as error:
            violations.add(path, str(error))


def _override(message: streak_pb2.StreakOverride) -> StreakOverride:
    return StreakOverride(
        message.mode or None,
        tuple((each.metric, to_micros(each.threshold) if each.threshold else 0) for each in message.metrics),
        tuple(sorted(day - streak_pb2.WEEKDAY_MONDAY for day in message.days_off))
        if message.has_days_off
        else None,
        message.switched_off,
    )


def _exclusion(message: entry_pb2.BoardExclusion, violations: Violations) -> BoardExclusion:
    if message.leaderboard:
        check_key(message.leaderboard, "board_exclusion.leaderboard", violations)
    return BoardExclusion(message.leaderboard, message.excluded)


def reversal_from_proto(
    message: participant_service_pb2.Reversal, path: str, violations: Violations
) -> Reversal | None:
    """The reversal at `path`, or None when anything is wrong with it."""
    before = len(violations)
    entry_id = uuid_field(message.entry_id, f"{path}.entry_id", violations)
    check_user_id(message.user_id, f"{path}.user_id", violations)
    now = instant_field(message, "now", path, violations)
    if message.user_version < 0:
        violations.add(f"{path}.user_version", "must not be negative")
    for index, other in enumerate(message.other_user_ids):
        check_user_id(other, f"{path}.other_user_ids[{index}]", violations)
    if entry_id is None or now is None or len(violations) > before:
        return None
    return Reversal(entry_id, message.user_id, now, message.user_version, tuple(message.other_user_ids))


def user_from_proto(
    message: entry_pb2.UserSnapshot, path: str, violations: Violations
) -> UserSnapshot | None:
    """A user as of an entry; None where it has no time. Adds what is wrong with it."""
    user_id, time_zone, name = message.user_id, message.time_zone, message.name
    attributes = texts(message.attributes)
    newest_attributes = texts(message.newest_attributes) if message.has_newest_attributes else None
    if not (_is_plain(user_id) and time_zone in zone_names()):
        check_user_id(user_id, f"{path}.user_id", violations)
        check_zone(time_zone, f"{path}.time_zone", violations)
    check_attributes(attributes, f"{path}.attributes", violations)
    if newest_attributes:
        check_attributes(newest_attributes, f"{path}.newest_attributes", violations)
    if name:
        check_text(name, f"{path}.name", violations, min_chars=0)
    create_time = instant_field(message, "create_time", path, violations)
    if create_time is None:
        return None
    return UserSnapshot(
        user_id, time_zone, attributes, create_time, message.version, name, newest_attributes, message.life
    )


def _is_plain(user_id: str) -> bool:
    """Whether nothing is wrong with the id of a user of no tenant, seen without a path: the common case."""
    return 1 <= len(user_id) <= MAX_TEXT_CHARS and "\x00" not in user_id and SEPARATOR not in user_id


def _metric(fact: entry_pb2.MetricFact, path: str, violations: Violations) -> MetricFact:
    """The metric part of an entry. `path` is one of two constants: paths of fields are made when one is wrong."""
    metric, value_micros = fact.metric, fact.value_micros
    attributes = texts(fact.attributes)
    if not _KEY.fullmatch(metric):
        check_key(metric, f"{path}.metric", violations)
    if value_micros not in _VALUES:
        violations.add(f"{path}.value_micros", f"must have a magnitude of at most {MAX_VALUE_MICROS}")
    if attributes:
        check_attributes(attributes, f"{path}.attributes", violations)
    revisable = fact.revisable
    return MetricFact(
        metric,
        value_micros,
        fact.total_before_micros,
        fact.total_after_micros,
        fact.peak_micros,
        fact.total_version,
        attributes,
        revisable,
        fact.contribution_micros if revisable else 0,
        _revisions(fact.revisions, f"{path}.revisions", violations) if revisable else (),
        _arrivals(fact, path, violations) if revisable and fact.arrivals else (),
    )


def _gift(message: entry_pb2.PointsGift, path: str, violations: Violations) -> PointsGift:
    check_key(message.points_system, f"{path}.points_system", violations)
    if not 1 <= abs(message.amount) <= MAX_GIFT:
        violations.add(f"{path}.amount", f"must have a magnitude of 1 to {MAX_GIFT}")
    return PointsGift(message.points_system, message.amount)


def _revisions(
    revisions: Iterable[entry_pb2.ContributionRevision], path: str, violations: Violations
) -> tuple[ContributionRevision, ...]:
    found = []
    for index, revision in enumerate(revisions):
        entry_id = uuid_field(revision.entry_id, f"{path}[{index}].entry_id", violations)
        if entry_id is not None:
            found.append(ContributionRevision(entry_id, revision.contribution_micros))
    return tuple(found)


def _arrivals(fact: entry_pb2.MetricFact, path: str, violations: Violations) -> tuple[MetricArrival, ...]:
    found = []
    for index, arrival in enumerate(fact.arrivals):
        where = f"{path}.arrivals[{index}]"
        entry_id = uuid_field(arrival.entry_id, f"{where}.entry_id", violations)
        revisions = _revisions(arrival.revisions, f"{where}.revisions", violations)
        if entry_id is not None:
            found.append(MetricArrival(entry_id, arrival.contribution_micros, revisions))
    return tuple(found)


# Errors and digests


def error_message(error: LaurelError, domain: str = "") -> error_pb2.Error:
    """The error as a value for one item of a batch, in the name of `domain` unless it came from elsewhere."""
    message = error_pb2.Error(
        code=error.code.name,
        reason=error.reason,
        domain=error.domain or domain,
        message=error.message,
        metadata=dict(error.metadata),
        violations=violation_messages(error.violations),
    )
    if error.retry_after_seconds is not None:
        message.retry_delay.FromMicroseconds(round(error.retry_after_seconds * 1e6))
    return message


def violation_messages(violations: Iterable[FieldViolation]) -> list[error_pb2.FieldViolation]:
    """What is wrong with fields, as values."""
    return [
        error_pb2.FieldViolation(
            field=violation.field, description=violation.description, reason=violation.reason
        )
        for violation in violations
    ]


def error_from_message(message: error_pb2.Error) -> LaurelError:
    """The error that an outcome carries; a code without meaning here reads as UNKNOWN."""
    return _ERRORS.get(message.code, Unknown)(
        message.message,
        reason=message.reason or grpc.StatusCode.UNKNOWN.name,
        metadata=dict(message.metadata),
        violations=tuple(
            FieldViolation(violation.field, violation.description, violation.reason)
            for violation in message.violations
        ),
        retry_after_seconds=(
            message.retry_delay.ToMicroseconds() / 1e6 if message.HasField("retry_delay") else None
        ),
        domain=message.domain,
    )


def digest_of(message: Message) -> bytes:
    """SHA-256 (32 bytes) of the message's content, by which the same request is known again."""
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
