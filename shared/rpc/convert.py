"""Conversions that every service needs between messages and plain values, with syntactic validation.

A check adds each violation it finds under `path`, the full path of the field in proto names
(`commands[3].entry.user.time_zone`), and so a caller learns everything at once.
"""

import hashlib
import re
from collections.abc import Mapping, MutableMapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, TypeVar
from uuid import UUID

from asyncpg.pgproto import pgproto
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import date_pb2

from shared.calendar import EARLIEST, EARLIEST_DATE, LATEST, LATEST_DATE, UnknownZone, zone_names
from shared.decimals import MICROS_PER_UNIT
from shared.errors import Violations
from shared.limits import KEY_PATTERN, KEY_TEXT, Limit
from shared.tenants import SEPARATOR, TENANT, TENANT_TEXT, is_stored_form, shown

T = TypeVar("T")

MAX_TEXT_CHARS: Final = 255
"""Of an identifier, a name, an attribute's value."""
MAX_ATTRIBUTE_NAME_CHARS: Final = 64
MAX_HOLD_SECONDS: Final = 3_600
"""Of `hold_seconds`: an import that has died must not keep maintenance off for longer."""

_TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS_PER_MICRO: Final = 1_000
_NANOS: Final = range(1_000_000_000)
_SECONDS: Final = range(int((EARLIEST - _EPOCH).total_seconds()), int((LATEST - _EPOCH).total_seconds()))


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
    if not KEY_PATTERN.fullmatch(value):
        violations.add(path, KEY_TEXT)


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


def check_limit(limit: Limit[T], value: T, path: str, violations: Violations) -> None:
    """A value that keeps to a limit."""
    if text := limit.wrong(value):
        violations.add(path, text)


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


def optional_uuid_field(value: str, path: str, violations: Violations) -> UUID | None:
    """The same of a field that may be empty: then None."""
    return uuid_field(value, path, violations) if value else None


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


# Digests


def digest_of(message: Message) -> bytes:
    """SHA-256 (32 bytes) of the message's content, by which the same request is known again."""
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
