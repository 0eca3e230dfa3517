"""A metric event: the application says that a user did something (RULES 2)."""

from datetime import datetime

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import event_pb2

from services.orchestrator import convert
from services.orchestrator.domain import MAX_EVENT_ATTRIBUTES, InFuture, TooOld, check_occur_time
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming, MetricEvent
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.decimals import InvalidValue, from_micros, to_micros
from shared.errors import Violations
from shared.ids import derived_id, derived_id_at, sha256
from shared.random_ids import new_id
from shared.rpc.convert import check_attributes, check_key, check_text, instant_field, like_rows, texts

NAME = "metric_event"


def incoming(request: event_pb2.IngestEventRequest, asked: Asked) -> Incoming:
    """The entry of an event. With a window of any age it is an import's: its now is its occur_time (RULES 1.4).

    Raises `InvalidArgument` with every violation (RULES 1.3, 1.5, 2).
    """
    violations = Violations()
    patch = convert.user_patch(request.user, violations)
    metric, key = request.metric, request.idempotency_key
    check_key(metric, "metric", violations)
    value_micros = _value(request.value, violations)
    if key:
        check_text(key, "idempotency_key", violations)
    attributes = texts(request.attributes)
    if len(attributes) > MAX_EVENT_ATTRIBUTES:
        violations.add("attributes", f"must have at most {MAX_EVENT_ATTRIBUTES} attributes")
    check_attributes(attributes, "attributes", violations)
    if asked.by_user:
        _check_said_by_user(request, violations)
    occur_time = _occur_time(request, asked, violations)
    violations.raise_if_any()
    key_id = None
    if key:
        key_id = like_rows(derived_id("event", patch.user_id, metric, key))
    body = request.SerializeToString(deterministic=True)
    return Incoming(
        # Drawn where there is no key: such an event is nobody's twin.
        entry_id=like_rows(derived_id_at(occur_time, str(key_id or new_id()))),
        operation=NAME,
        patch=patch,
        occur_time=occur_time,
        now=occur_time if asked.window.max_age is None else asked.now,
        digest=sha256(body),
        request=body,
        event=MetricEvent(metric, value_micros, attributes),
        key_id=key_id,
        counted=True,
        by_user=asked.by_user,
        origin=asked.origin,
        actor=asked.actor,
    )


def _check_said_by_user(request: event_pb2.IngestEventRequest, violations: Violations) -> None:
    """What others are told of a user, and what filters look at, is for the application to say."""
    if request.user.name:
        violations.add("user.name", "cannot be said with a key of one user")
    if request.user.attributes:
        violations.add("user.attributes", "cannot be said with a key of one user")


def reply(entry: entry_pb2.Entry) -> event_pb2.IngestEventResponse:
    """What became of the total."""
    fact = entry.metric_event
    return event_pb2.IngestEventResponse(
        entry_id=entry.entry_id,
        metric=fact.metric,
        total_before=from_micros(fact.total_before_micros),
        total_after=from_micros(fact.total_after_micros),
        occur_time=entry.occur_time,
    )


def _patch(request: event_pb2.IngestEventRequest) -> UserPatch:
    return convert.patch_of_user(request.user)


def _value(value: float, violations: Violations) -> int:
    try:
        return to_micros(value)
    except InvalidValue as error:
        violations.add("value", str(error))
        return 0


def _occur_time(request: event_pb2.IngestEventRequest, asked: Asked, violations: Violations) -> datetime:
    if asked.window.max_age is not None and not request.HasField("occur_time"):
        return asked.now
    occur_time = instant_field(request, "occur_time", "", violations)
    if occur_time is None:
        return asked.now
    try:
        check_occur_time(occur_time, asked.now, asked.window)
    except TooOld as error:
        violations.add("occur_time", str(error), "EVENT_TOO_OLD")
    except InFuture as error:
        violations.add("occur_time", str(error), "EVENT_IN_FUTURE")
    return occur_time


OPERATION = Operation(
    name=NAME,
    request_type=event_pb2.IngestEventRequest,
    steps=(Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=event_pb2.IngestEventResponse,
    method="IngestEvent",
    incoming=incoming,
    patch=_patch,
    voidable=True,
    counted=True,
)
