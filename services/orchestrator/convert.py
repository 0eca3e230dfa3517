"""Messages to domain values and back, with all syntactic validation: every violation at once."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from google.protobuf.message import Message
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import audit_pb2, orchestrator_service_pb2, user_pb2
from msgspec import Struct

from services.orchestrator.contributions import Arrivals, Revisions
from services.orchestrator.domain import (
    MAX_EVENT_ATTRIBUTES,
    Origin,
    Standing,
    Total,
    User,
    WantedEntries,
)
from services.orchestrator.operation import Asked
from services.orchestrator.recording import Incoming, Recorded
from services.orchestrator.saga import State
from services.orchestrator.said import UserPatch
from shared.entries import SIGN_UP_DATE, sign_up_date
from shared.errors import Violations
from shared.ids import derived_id, derived_id_at
from shared.rpc.convert import (
    check_attributes,
    check_key,
    check_text,
    check_user_id,
    check_zone,
    digest_of,
    instant_field,
    set_texts,
    set_timestamp,
    texts,
    uuid_field,
)
from shared.tenants import shown

_PSEUDONYM: Final = re.compile(r"(erased|merged)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-[0-9]+)?")

# What comes in


def check_user(user_id: str, path: str, violations: Violations) -> None:
    """The user of an entry: nobody of whom only a pseudonym is left (RULES 2.7), under which ledgers stay."""
    check_user_id(user_id, path, violations)
    if _PSEUDONYM.fullmatch(shown(user_id)):
        violations.add(path, "is the pseudonym of a user who was deleted or merged")


def user_patch(user: user_pb2.User, violations: Violations) -> UserPatch:
    """What a request says about its user; with violations for what is wrong (RULES 1.5, 2.3)."""
    patch = patch_of_user(user)
    attributes = patch.attributes
    check_user(patch.user_id, "user.user_id", violations)
    check_text(patch.name, "user.name", violations, min_chars=0)
    if patch.time_zone:
        check_zone(patch.time_zone, "user.time_zone", violations)
    if len(attributes) > MAX_EVENT_ATTRIBUTES:
        violations.add("user.attributes", f"must have at most {MAX_EVENT_ATTRIBUTES} attributes")
    check_attributes(attributes, "user.attributes", violations)
    if SIGN_UP_DATE in attributes and sign_up_date(attributes) is None:
        violations.add(f"user.attributes[{SIGN_UP_DATE!r}]", "must be a date such as 2024-02-29")
    return patch


def patch_of_user(user: user_pb2.User) -> UserPatch:
    """The same of a request that was checked when it came."""
    return UserPatch(user.user_id, user.name, user.time_zone, texts(user.attributes))


def incoming_call(
    operation: str, patch: UserPatch, request: Message, request_id: str, asked: Asked, reason: str = ""
) -> Incoming:
    """The entry of a call with a request id, which counts at the instant when it comes."""
    key_id = derived_id(operation, patch.user_id, request_id)
    return Incoming(
        entry_id=derived_id_at(asked.now, str(key_id)),
        operation=operation,
        patch=patch,
        occur_time=asked.now,
        now=asked.now,
        digest=digest_of(request),
        request=request.SerializeToString(deterministic=True),
        key_id=key_id,
        counted=True,
        origin=asked.origin,
        actor=asked.actor,
        reason=reason,
    )


# What participants are told


def base_entry(recorded: Recorded, default_zone: str) -> entry_pb2.Entry:
    """What every entry tells, whatever its operation is."""
    incoming = recorded.incoming
    entry = entry_pb2.Entry(
        entry_id=str(incoming.entry_id),
        time_zone=recorded.time_zone,
        origin=entry_pb2.EntryOrigin.ValueType(incoming.origin),
        other_users=[snapshot(other, default_zone) for other in recorded.others],
        user_sequence=recorded.user_sequence,
        takes_time_zone=not incoming.patch.speaks_of_zone,
    )
    # Written in place: a message that is put into another one is copied.
    _tell_acting(entry.user, recorded, default_zone)
    set_timestamp(entry.now, incoming.now)
    set_timestamp(entry.occur_time, incoming.occur_time)
    if incoming.event is not None and recorded.before is not None and recorded.after is not None:
        fact = entry.metric_event
        fact.metric = incoming.event.metric
        fact.value_micros = incoming.event.value_micros
        set_texts(fact.attributes, incoming.event.attributes)
        set_total(fact, recorded.before, recorded.after)
        if recorded.contribution is not None:
            fact.contribution_micros = recorded.contribution.micros
            set_revisions(fact, recorded.contribution.revisions)
    return entry


def snapshot(user: User, default_zone: str, *, changed: bool = False) -> entry_pb2.UserSnapshot:
    """A user as of now."""
    message = entry_pb2.UserSnapshot()
    _tell_user(message, user, user.said.plain_attributes(), default_zone, changed=changed)
    return message


def _tell_acting(message: entry_pb2.UserSnapshot, recorded: Recorded, default_zone: str) -> None:
    """The user whose entry it is: the attributes as of the entry, everything else as of now."""
    _tell_user(message, recorded.user, recorded.attributes, default_zone, changed=recorded.user_changed)
    if recorded.newest_attributes is not None:
        message.has_newest_attributes = True
        set_texts(message.newest_attributes, recorded.newest_attributes)


def _tell_user(
    message: entry_pb2.UserSnapshot,
    user: User,
    attributes: Mapping[str, str],
    default_zone: str,
    *,
    changed: bool,
) -> None:
    message.user_id = user.user_id
    message.time_zone = user.zone(default_zone)
    set_texts(message.attributes, attributes)
    set_timestamp(message.create_time, user.create_time)
    message.version = user.version
    message.name = user.said.plain_name
    message.changed = changed
    message.control = user.standing is Standing.CONTROL
    message.life = user.life


def set_total(fact: entry_pb2.MetricFact, before: Total, after: Total) -> None:
    """A total before and after, in the metric part of an entry."""
    fact.total_before_micros = before.total_micros
    fact.total_after_micros = after.total_micros
    fact.peak_micros = after.peak_micros
    fact.total_version = after.version


def set_revisions(fact: entry_pb2.MetricFact, revisions: Revisions) -> None:
    """Says of a metric that is no sum which other events contribute something else now."""
    fact.revisable = True
    for entry_id, micros in revisions:
        fact.revisions.add(entry_id=str(entry_id), contribution_micros=micros)


def set_arrivals(fact: entry_pb2.MetricFact, arrivals: Arrivals) -> None:
    """Says what events contributed as they came."""
    for told, messages in ((arrivals.after, fact.arrivals), (arrivals.before, fact.arrivals_before)):
        for arrival in told:
            message = messages.add(entry_id=str(arrival.entry_id))
            message.contribution_micros = arrival.contribution.micros
            for entry_id, revised in arrival.contribution.revisions:
                message.revisions.add(entry_id=str(entry_id), contribution_micros=revised)


# What calls about entries ask for


def entry_id_of(value: str, violations: Violations) -> UUID | None:
    """The id in a request about one entry."""
    return uuid_field(value, "entry_id", violations)


class AskedEntries(Struct, frozen=True):
    """A page of a user's entries, as it is asked for."""

    wanted: WantedEntries
    page_size: int
    page_token: str


def asked_entries(request: orchestrator_service_pb2.ListUserEntriesRequest) -> AskedEntries:
    """Which entries are asked for. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    if request.metric:
        check_key(request.metric, "metric", violations)
    start = end = None
    if request.HasField("start_time"):
        start = instant_field(request, "start_time", "", violations)
    if request.HasField("end_time"):
        end = instant_field(request, "end_time", "", violations)
    if start is not None and end is not None and end <= start:
        violations.add("end_time", "must be after start_time")
    for index, origin in enumerate(request.origins):
        if origin not in {int(each) for each in Origin}:
            violations.add(f"origins[{index}]", "is not an origin of an entry")
    violations.raise_if_any()
    wanted = WantedEntries(
        user_id=request.user_id,
        metric=request.metric,
        start=start,
        end=end,
        origins=tuple(sorted(set(request.origins))),
        voided=request.voided if request.HasField("voided") else None,
    )
    return AskedEntries(wanted, request.page_size, request.page_token)


def states_from_proto(values: Sequence[int], violations: Violations) -> list[State]:
    """The states that a list of sagas is limited to."""
    known = {int(state_number(state)): state for state in State}
    for index, value in enumerate(values):
        if value not in known:
            violations.add(f"states[{index}]", "is not a state of an entry")
    return [known[value] for value in values if value in known]


def state_number(state: State) -> audit_pb2.EntryState.ValueType:
    """How far an entry has come, for a reader."""
    return audit_pb2.EntryState.Value(f"ENTRY_STATE_{state.name}")
