"""Messages to domain values and back, with all syntactic validation: every violation at once."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from laurel.common.v1 import entry_pb2
from laurel.orchestrator.v1 import event_pb2, metric_pb2, orchestrator_service_pb2
from laurel.streak.v1 import streak_service_pb2

from services.orchestrator.domain import (
    MAX_EVENT_ATTRIBUTES,
    InFuture,
    TimeWindow,
    TooOld,
    Total,
    User,
    UserPatch,
    check_occur_time,
)
from services.orchestrator.recording import Incoming, MetricEvent, Recorded
from services.orchestrator.saga import State
from services.orchestrator.store.undo import TakenOut
from shared.decimals import InvalidValue, to_micros
from shared.drawn_ids import new_id
from shared.entries import EntryKind
from shared.errors import Violations
from shared.ids import derived_id, derived_id_at, derived_id_beside
from shared.rpc.convert import (
    check_attributes,
    check_key,
    check_request_id,
    check_text,
    check_user_id,
    check_zone,
    digest_of,
    instant_field,
    to_timestamp,
    uuid_field,
)

KIND_NUMBERS: Final[Mapping[EntryKind, entry_pb2.EntryKind.ValueType]] = {
    EntryKind.METRIC_EVENT: entry_pb2.ENTRY_KIND_METRIC_EVENT,
    EntryKind.USER_UPDATE: entry_pb2.ENTRY_KIND_USER_UPDATE,
    EntryKind.ACHIEVEMENT_CALL: entry_pb2.ENTRY_KIND_ACHIEVEMENT_CALL,
    EntryKind.STREAK_CLOSING: entry_pb2.ENTRY_KIND_STREAK_CLOSING,
    EntryKind.CORRECTION: entry_pb2.ENTRY_KIND_CORRECTION,
}


# What comes in


def incoming_event(request: event_pb2.IngestEventRequest, now: datetime, window: TimeWindow) -> Incoming:
    """The entry that an ingest request asks for. With a window of any age it is an import's: its now is its
    occur_time (RULES 1.4).

    Raises `InvalidArgument` with every violation (RULES 1.3, 1.5, 2).
    """
    violations = Violations()
    patch = _patch(request.user, violations)
    check_key(request.metric, "metric", violations)
    value_micros = _value(request.value, violations)
    if request.idempotency_key:
        check_text(request.idempotency_key, "idempotency_key", violations)
    _check_count(request.attributes, "attributes", violations)
    check_attributes(request.attributes, "attributes", violations)
    occur_time = _occur_time(request, now, window, violations)
    violations.raise_if_any()
    key_id = _key_id(request)
    return Incoming(
        # Drawn where there is no key: such an event is nobody's twin.
        entry_id=derived_id_at(occur_time, str(key_id or new_id())),
        kind=EntryKind.METRIC_EVENT,
        patch=patch,
        occur_time=occur_time,
        now=occur_time if window.max_age is None else now,
        digest=digest_of(request),
        request=request.SerializeToString(deterministic=True),
        event=MetricEvent(request.metric, value_micros, dict(request.attributes)),
        key_id=key_id,
    )


def incoming_user_update(request: orchestrator_service_pb2.UpdateUserRequest, now: datetime) -> Incoming:
    """The entry that UpdateUser asks for. Raises `InvalidArgument`."""
    violations = Violations()
    patch = _patch(request.user, violations)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    return _call_entry(EntryKind.USER_UPDATE, patch, request, request.request_id, now)


def incoming_achievement_call(
    request: orchestrator_service_pb2.CompleteAchievementRequest, now: datetime
) -> Incoming:
    """The entry that CompleteAchievement asks for. Raises `InvalidArgument`."""
    violations = Violations()
    patch = _patch(request.user, violations)
    check_key(request.achievement, "achievement", violations)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    return _call_entry(EntryKind.ACHIEVEMENT_CALL, patch, request, request.request_id, now)


def incoming_closing(change: streak_service_pb2.Change) -> Incoming:
    """The entry of a change that the streak service's maintenance found."""
    occur_time = change.occur_time.ToDatetime(tzinfo=UTC)
    return Incoming(
        entry_id=UUID(change.entry_id),
        kind=EntryKind.STREAK_CLOSING,
        patch=UserPatch(change.user_id),
        occur_time=occur_time,
        now=occur_time,
        digest=digest_of(change),
        request=change.SerializeToString(deterministic=True),
        time_zone=change.time_zone,
    )


def patch_of(kind: EntryKind, request: bytes) -> UserPatch:
    """What a stored request said about its user."""
    match kind:
        case EntryKind.METRIC_EVENT:
            user = event_pb2.IngestEventRequest.FromString(request).user
        case EntryKind.USER_UPDATE:
            user = orchestrator_service_pb2.UpdateUserRequest.FromString(request).user
        case EntryKind.ACHIEVEMENT_CALL:
            user = orchestrator_service_pb2.CompleteAchievementRequest.FromString(request).user
        case _:
            raise ValueError(f"a {kind.value} says nothing about its user")
    return _patch_of_user(user)


# What participants are told


def entry_message(recorded: Recorded, default_zone: str) -> entry_pb2.Entry:
    """An entry as every participant is told of it."""
    incoming = recorded.incoming
    entry = entry_pb2.Entry(
        entry_id=str(incoming.entry_id),
        kind=KIND_NUMBERS[incoming.kind],
        user=_snapshot(recorded.user, default_zone),
        now=to_timestamp(incoming.now),
        occur_time=to_timestamp(incoming.occur_time),
        time_zone=recorded.time_zone,
    )
    if incoming.event is not None and recorded.before is not None and recorded.after is not None:
        fact = entry.metric
        fact.metric = incoming.event.metric
        fact.value_micros = incoming.event.value_micros
        fact.attributes.update(incoming.event.attributes)
        _set_total(fact, recorded.before, recorded.after)
    return entry


def correction_id(entry_id: str) -> UUID:
    """The id of the correction that follows when this entry is undone."""
    return derived_id_beside(UUID(entry_id), "correction")


def correction_message(
    origin: entry_pb2.Entry, left: TakenOut, now: datetime, default_zone: str
) -> entry_pb2.Entry:
    """The entry that tells participants what is left without `origin`."""
    correction = entry_pb2.Entry(
        entry_id=str(correction_id(origin.entry_id)),
        kind=entry_pb2.ENTRY_KIND_CORRECTION,
        user=_snapshot(left.user, default_zone),
        now=to_timestamp(now),
        occur_time=origin.occur_time,
        time_zone=origin.time_zone,
        corrected_entry_id=origin.entry_id,
    )
    if left.metric is not None and left.before is not None and left.after is not None:
        correction.metric.metric = left.metric
        correction.metric.attributes.update(origin.metric.attributes)
        _set_total(correction.metric, left.before, left.after)
    return correction


# What calls about entries ask for


def event_id_of(value: str, violations: Violations) -> UUID | None:
    """The id in a request about one entry."""
    return uuid_field(value, "event_id", violations)


def states_from_proto(values: Sequence[int], violations: Violations) -> list[State]:
    """The states that a list of sagas is limited to."""
    known = {int(state_number(state)): state for state in State}
    for index, value in enumerate(values):
        if value not in known:
            violations.add(f"states[{index}]", "is not a state of an entry")
    return [known[value] for value in values if value in known]


def state_number(state: State) -> event_pb2.EntryState.ValueType:
    """How far an entry has come, for a reader."""
    return event_pb2.EntryState.Value(f"ENTRY_STATE_{state.name}")


# Parts


def _call_entry(kind: EntryKind, patch: UserPatch, request: Any, request_id: str, now: datetime) -> Incoming:
    key_id = derived_id(kind.value, patch.user_id, request_id)
    return Incoming(
        entry_id=derived_id_at(now, str(key_id)),
        kind=kind,
        patch=patch,
        occur_time=now,
        now=now,
        digest=digest_of(request),
        request=request.SerializeToString(deterministic=True),
        key_id=key_id,
    )


def _key_id(request: event_pb2.IngestEventRequest) -> UUID | None:
    """What the key names: the same always, on every replica."""
    if not request.idempotency_key:
        return None
    return derived_id("event", request.user.user_id, request.metric, request.idempotency_key)


def _patch(user: metric_pb2.User, violations: Violations) -> UserPatch:
    check_user_id(user.user_id, "user.user_id", violations)
    check_text(user.name, "user.name", violations, min_chars=0)
    if user.time_zone:
        check_zone(user.time_zone, "user.time_zone", violations)
    _check_count(user.attributes, "user.attributes", violations)
    check_attributes(user.attributes, "user.attributes", violations)
    return _patch_of_user(user)


def _patch_of_user(user: metric_pb2.User) -> UserPatch:
    return UserPatch(user.user_id, user.name, user.time_zone, dict(user.attributes))


def _check_count(attributes: Mapping[str, str], path: str, violations: Violations) -> None:
    if len(attributes) > MAX_EVENT_ATTRIBUTES:
        violations.add(path, f"must have at most {MAX_EVENT_ATTRIBUTES} attributes")


def _value(value: float, violations: Violations) -> int:
    try:
        return to_micros(value)
    except InvalidValue as error:
        violations.add("value", str(error))
        return 0


def _occur_time(
    request: event_pb2.IngestEventRequest, now: datetime, window: TimeWindow, violations: Violations
) -> datetime:
    if window.max_age is not None and not request.HasField("occur_time"):
        return now
    occur_time = instant_field(request, "occur_time", "", violations)
    if occur_time is None:
        return now
    try:
        check_occur_time(occur_time, now, window)
    except TooOld as error:
        violations.add("occur_time", str(error), "EVENT_TOO_OLD")
    except InFuture as error:
        violations.add("occur_time", str(error), "EVENT_IN_FUTURE")
    return occur_time


def _snapshot(user: User, default_zone: str) -> entry_pb2.UserSnapshot:
    return entry_pb2.UserSnapshot(
        user_id=user.user_id,
        time_zone=user.zone(default_zone),
        attributes=user.plain_attributes(),
        create_time=to_timestamp(user.create_time),
        version=user.version,
        name=user.name.value if user.name else "",
    )


def _set_total(fact: entry_pb2.MetricFact, before: Total, after: Total) -> None:
    fact.total_before_micros = before.total_micros
    fact.total_after_micros = after.total_micros
    fact.peak_micros = after.peak_micros
    fact.total_version = after.version
