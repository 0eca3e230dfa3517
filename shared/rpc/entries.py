"""Entries and their reversals, read from messages. What every event takes is written out here, for speed; what other
operations say is read by their structs (`shared/rpc/contents.py`).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2
from msgspec.structs import replace

from shared.calendar import zone_names
from shared.decimals import MAX_MAGNITUDE, MICROS_PER_UNIT
from shared.entries import (
    ContributionRevision,
    Entry,
    EntryKind,
    MetricArrival,
    MetricFact,
    Reversal,
    UserSnapshot,
)
from shared.errors import Violations
from shared.limits import KEY_PATTERN
from shared.rpc import contents
from shared.rpc.convert import (
    MAX_TEXT_CHARS,
    check_attributes,
    check_key,
    check_text,
    check_user_id,
    check_zone,
    instant_field,
    texts,
    uuid_field,
)
from shared.tenants import SEPARATOR

MAX_VALUE_MICROS: Final = int(MAX_MAGNITUDE) * MICROS_PER_UNIT
"""Of a metric event's value, in magnitude (RULES 2.1)."""

_VALUES: Final = range(-MAX_VALUE_MICROS, MAX_VALUE_MICROS + 1)
_KINDS: Final[Mapping[str, EntryKind]] = {kind.value: kind for kind in EntryKind}


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
    metric = corrected = content = None
    if kind is EntryKind.METRIC_EVENT:
        metric = _metric(message.metric_event, "metric_event", violations)
        if metric.value_micros == 0:
            violations.add("metric_event.value_micros", "must not be zero")
    elif kind is EntryKind.CORRECTION:
        correction = message.correction
        corrected = uuid_field(correction.corrected_entry_id, "correction.corrected_entry_id", violations)
        if correction.HasField("metric"):
            metric = _left(correction.metric, "correction.metric", violations)
    elif kind is not None and kind.content is not None:
        content = contents.read(kind.content, getattr(message, kind.value), kind.value, violations)
        if kind.content.concerns_another and len(message.other_users) != 1:
            violations.add("other_users", "must be one user")
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
        content,
        message.user_sequence,
        message.takes_time_zone,
        other_users=tuple(other for other in others if other is not None),
        is_history=message.origin in (entry_pb2.ENTRY_ORIGIN_IMPORT, entry_pb2.ENTRY_ORIGIN_BACKFILL),
    )


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
    if not KEY_PATTERN.fullmatch(metric):
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
    )


def _left(fact: entry_pb2.MetricFact, path: str, violations: Violations) -> MetricFact:
    """The metric part of a correction, which tells of arrivals too."""
    metric = _metric(fact, path, violations)
    if not metric.revisable:
        return metric
    return replace(
        metric,
        arrivals=_arrivals(fact.arrivals, f"{path}.arrivals", violations),
        arrivals_before=_arrivals(fact.arrivals_before, f"{path}.arrivals_before", violations),
        one_value=fact.one_value,
    )


def _revisions(
    revisions: Iterable[entry_pb2.ContributionRevision], path: str, violations: Violations
) -> tuple[ContributionRevision, ...]:
    found = []
    for index, revision in enumerate(revisions):
        entry_id = uuid_field(revision.entry_id, f"{path}[{index}].entry_id", violations)
        if entry_id is not None:
            found.append(ContributionRevision(entry_id, revision.contribution_micros))
    return tuple(found)


def _arrivals(
    arrivals: Iterable[entry_pb2.MetricArrival], path: str, violations: Violations
) -> tuple[MetricArrival, ...]:
    found = []
    for index, arrival in enumerate(arrivals):
        where = f"{path}[{index}]"
        entry_id = uuid_field(arrival.entry_id, f"{where}.entry_id", violations)
        revisions = _revisions(arrival.revisions, f"{where}.revisions", violations)
        if entry_id is not None:
            found.append(MetricArrival(entry_id, arrival.contribution_micros, revisions))
    return tuple(found)
