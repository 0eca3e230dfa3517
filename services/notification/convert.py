"""Messages to values and back, with all syntactic validation."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto
from google.protobuf.message import Message
from laurel.notification.v1 import stream_pb2, webhook_pb2
from laurel.orchestrator.v1 import domain_event_pb2
from msgspec.structs import replace

from services.notification.config import (
    DEFAULT_STREAM_LENGTH,
    MAX_DESCRIPTION_CHARS,
    MAX_INTERVAL_SECONDS,
    MAX_STREAM_LENGTH,
    MAX_SUBJECT_CHARS,
    MAX_TYPES,
    MAX_URL_CHARS,
    MAX_USER_IDS,
)
from services.notification.domain.addresses import url_problem
from services.notification.domain.endpoints import Endpoint, Secret, SwitchOff
from services.notification.domain.events import DUE, EVERY_TYPE, SWITCHED_OFF, TEST, Event, Wish
from services.notification.domain.streams import KafkaTopic, NatsStream, RedisStream, Sink, Stream
from shared import tenants
from shared.errors import Violations
from shared.ids import derived_id
from shared.rpc.convert import check_key, check_tenant, check_text, check_user_id, to_datetime, to_timestamp
from shared.rpc.filters import filters_from_proto
from shared.rpc.proto_json import json_of, time_text
from shared.rpc.tenants import given_out

DOMAIN: Final = "notification.laurel"
OUTPUT_ONLY: Final = (
    "switch_off_reason",
    "switch_off_time",
    "secrets",
    "health",
    "create_time",
    "update_time",
)
OWN_TYPES: Final = frozenset({SWITCHED_OFF, *DUE.values()})
"""Types that this service tells itself."""

STREAM_OUTPUT_ONLY: Final = ("health", "create_time", "update_time")

EndpointMessage = webhook_pb2.WebhookEndpoint
StreamMessage = stream_pb2.EventStream

_REDIS_STREAM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_NATS_STREAM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KAFKA_TOPIC: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}")
_NATS_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

_SUBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "metric": ("metric",),
    "voided": ("entryId",),
    "user": (),
    "achievement": ("achievement",),
    "points": ("pointsSystem",),
    "leaderboard": ("leaderboard", "segment", "run"),
}
"""Which fields of the data name the thing that it is about."""


# Events


def heading_of(message: domain_event_pb2.DomainEvent, before: Event | None = None) -> Event:
    """The event without data and subject, which is enough to know who wants it. `before` is any other one: two of one
    entry and user have much in common, and most of a page come so.
    """
    user_id, tenant, entry_id = message.user_id, message.tenant, message.entry_id
    if before is not None and before.user_id == user_id and before.envelope["entryId"] == entry_id:
        time, timestamp, attributes = before.time, before.envelope["timestamp"], before.attributes
    else:
        time, timestamp = to_datetime(message.time), time_text(message.time)
        attributes = dict(message.user_attributes)
    envelope = {
        "id": message.id,
        "type": message.type,
        "timestamp": timestamp,
        "userId": tenants.shown(user_id),
        "userSequence": message.user_sequence,
        "entryId": entry_id,
        "control": message.control,
        **({"tenant": tenant} if tenant else {}),
    }
    return Event(
        # A UUID like those of rows: parsed and printed ten times as fast as the standard library's.
        event_id=pgproto.UUID(envelope["id"]),
        type=envelope["type"],
        time=time,
        user_id=user_id,
        subject="",
        attributes=attributes,
        envelope=envelope,
        data={},
    )


def with_data(
    event: Event,
    message: domain_event_pb2.DomainEvent,
    before: tuple[domain_event_pb2.DomainEvent, Event] | None = None,
) -> Event:
    """The whole event of this heading. Its data is the JSON of the reply's messages; a tenant's users stand there
    as the tenant knows them, beside its name. `before` is any other one, with its message: two that tell of one change,
    as a board's and its rank's, have the same data.
    """
    kind = message.WhichOneof("data")
    if kind is None:
        return event
    told = getattr(message, kind)
    if before is not None and _tell_the_same(kind, message, before[0]):
        return replace(event, subject=before[1].subject, data=before[1].data)
    if message.tenant:
        told = type(told).FromString(told.SerializeToString())
        given_out(told, message.tenant)
    data = json_of(told)
    return replace(event, subject=_subject(kind, data), data=data)


def _tell_the_same(kind: str, one: domain_event_pb2.DomainEvent, other: domain_event_pb2.DomainEvent) -> bool:
    return (
        other.WhichOneof("data") == kind
        and one.tenant == other.tenant
        and bool(getattr(one, kind) == getattr(other, kind))
    )


def own_event(event_id: UUID, type_: str, time: datetime, data: Mapping[str, Any]) -> Event:
    """What this service tells itself; it is about no user."""
    envelope = {"id": str(event_id), "type": type_, "timestamp": time_text(to_timestamp(time))}
    return Event(event_id, type_, time, "", "", {}, envelope, data)


def switched_off_event(endpoint: Endpoint, reason: SwitchOff, now: datetime) -> Event:
    """That an endpoint has been switched off. Told once, whoever finds it."""
    event_id = derived_id(SWITCHED_OFF, str(endpoint.endpoint_id), now.isoformat())
    return own_event(event_id, SWITCHED_OFF, now, {"endpoint": endpoint.key, "reason": reason.name.lower()})


def check_event(event_id: UUID, endpoint: str, now: datetime) -> Event:
    """What is sent to try an endpoint."""
    return own_event(event_id, TEST, now, {"endpoint": endpoint})


def body_of(event: Event) -> str:
    """The payload as it is sent, in which the data comes last."""
    return msgspec.json.encode({**event.envelope, "data": event.data}).decode()


def held_to_text(event: Event | None) -> str | None:
    """An event as it is kept while it is held."""
    return None if event is None else msgspec.json.encode(event).decode()


def held_from_text(text: str | None) -> Event | None:
    """What `held_to_text` kept."""
    return None if text is None else msgspec.json.decode(text, type=Event)


def _subject(kind: str | None, data: Mapping[str, Any]) -> str:
    if kind == "streak":
        state, change = data.get("state", {}), data.get("change", {})
        return str(state.get("streak") or change.get("streak", ""))
    values = [data.get(name) for name in _SUBJECTS.get(kind or "", ())]
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return msgspec.json.encode(values, order="sorted").decode() if values else ""


# Endpoints


def check_endpoint(message: EndpointMessage, path: str, violations: Violations, *, allow_http: bool) -> None:
    """Everything about an endpoint that can be known without asking; of types, how they are written."""
    found = violations.within(path)
    check_key(message.key, "key", found)
    check_text(message.url, "url", found, max_chars=MAX_URL_CHARS)
    if 0 < len(message.url) <= MAX_URL_CHARS and (problem := url_problem(message.url, allow_http=allow_http)):
        found.add("url", problem)
    check_text(message.description, "description", found, min_chars=0, max_chars=MAX_DESCRIPTION_CHARS)
    _check_types(message.types, found)
    filters_from_proto(message.filters, "filters", found)
    if len(message.user_ids) > MAX_USER_IDS:
        found.add("user_ids", f"must be at most {MAX_USER_IDS}")
    for index, user_id in enumerate(message.user_ids):
        check_user_id(user_id, f"user_ids[{index}]", found)
    check_tenant(message.tenant, "tenant", found)
    if not 0 <= message.min_interval_seconds <= MAX_INTERVAL_SECONDS:
        found.add("min_interval_seconds", f"must be 0 to {MAX_INTERVAL_SECONDS}")
    if message.ordering not in webhook_pb2.WebhookOrdering.values():
        found.add("ordering", "is not known here")


def domain_types(types: Sequence[str]) -> list[str]:
    """Those that the orchestrator tells; it knows which there are."""
    return [name for name in types if name != EVERY_TYPE and name not in OWN_TYPES]


def stored(message: EndpointMessage) -> bytes:
    """An endpoint as it is kept: without what is output, and without what has a column."""
    kept = EndpointMessage()
    kept.CopyFrom(message)
    for name in (*OUTPUT_ONLY, "switched_off"):
        kept.ClearField(name)
    return kept.SerializeToString(deterministic=True)


def endpoint_from_stored(
    endpoint_id: UUID,
    body: bytes,
    switch_off: int,
    cursor: str | None,
    failing_since: datetime | None,
    secrets: Sequence[Secret],
) -> Endpoint:
    """An endpoint as workers know it."""
    message = EndpointMessage.FromString(body)
    return Endpoint(
        endpoint_id=endpoint_id,
        key=message.key,
        url=message.url,
        wish=Wish(
            frozenset(message.types),
            filters_from_proto(message.filters, "filters", Violations()),
            frozenset(message.user_ids),
            message.tenant,
        ),
        ordered=message.ordering != webhook_pb2.WEBHOOK_ORDERING_NONE,
        interval=timedelta(seconds=message.min_interval_seconds),
        switch_off=SwitchOff(switch_off),
        cursor=cursor,
        failing_since=failing_since,
        secrets=tuple(secrets),
    )


def shown(row: Any, secrets: Sequence[Secret], waiting_count: int, now: datetime) -> EndpointMessage:
    """An endpoint as it is read: never with a secret."""
    message = EndpointMessage.FromString(row["body"])
    message.switched_off = row["switch_off"] != SwitchOff.ON
    message.switch_off_reason = row["switch_off"]
    set_time(message, "switch_off_time", row["switch_off_time"])
    for secret in secrets:
        if secret.expire_time is None or now < secret.expire_time:
            listed = message.secrets.add(secret_id=str(secret.secret_id))
            set_time(listed, "create_time", secret.create_time)
            set_time(listed, "expire_time", secret.expire_time)
    message.health.waiting_count = waiting_count
    message.health.behind = row["cursor"] is not None and not message.switched_off
    set_time(message.health, "failing_since", row["failing_since"])
    set_time(message.health, "last_success_time", row["last_success_time"])
    set_time(message, "create_time", row["create_time"])
    set_time(message, "update_time", row["update_time"])
    return message


def attempt_to_proto(row: Any) -> webhook_pb2.WebhookAttempt:
    """An attempt as it is shown."""
    return webhook_pb2.WebhookAttempt(
        event_id=str(row["event_id"]),
        type=row["type"],
        number=row["number"],
        attempt_time=to_timestamp(row["attempt_time"]),
        latency_micros=row["latency_micros"],
        outcome=row["outcome"],
        status_code=row["status_code"],
        detail=row["detail"],
    )


def _check_types(types: Sequence[str], found: Violations) -> None:
    if not 1 <= len(types) <= MAX_TYPES:
        found.add("types", f"must be 1 to {MAX_TYPES}")
    if len(set(types)) != len(types):
        found.add("types", "must not name a type twice")
    if EVERY_TYPE in types and len(types) > 1:
        found.add("types", f"must be {EVERY_TYPE!r} alone where it means all types")


def set_time(message: Message, field: str, instant: datetime | None) -> None:
    """Where there is an instant, write it into a field."""
    if instant is not None:
        getattr(message, field).CopyFrom(to_timestamp(instant))


# Streams


def check_stream(message: StreamMessage, path: str, violations: Violations) -> None:
    """Everything about a stream that can be known without asking; of types, how they are written."""
    found = violations.within(path)
    check_key(message.key, "key", found)
    check_text(message.description, "description", found, min_chars=0, max_chars=MAX_DESCRIPTION_CHARS)
    _check_types(message.types, found)
    for index, type_ in enumerate(message.types):
        if type_ in OWN_TYPES:
            found.add(f"types[{index}]", "is told to webhooks alone")
    filters_from_proto(message.filters, "filters", found)
    check_tenant(message.tenant, "tenant", found)
    match message.WhichOneof("sink"):
        case "redis":
            name = message.redis.stream
            if not _REDIS_STREAM.fullmatch(name) or name.startswith("laurel:"):
                found.add("redis.stream", f"must match {_REDIS_STREAM.pattern}, and not begin with laurel:")
            if not 0 <= message.redis.max_length <= MAX_STREAM_LENGTH:
                found.add("redis.max_length", f"must be 0 to {MAX_STREAM_LENGTH}")
        case "nats":
            if not _NATS_STREAM.fullmatch(message.nats.stream):
                found.add("nats.stream", f"must match {_NATS_STREAM.pattern}")
            subject = message.nats.subject
            if len(subject) > MAX_SUBJECT_CHARS or not _NATS_SUBJECT.fullmatch(subject):
                found.add(
                    "nats.subject",
                    f"must match {_NATS_SUBJECT.pattern}, of at most {MAX_SUBJECT_CHARS} characters",
                )
        case "kafka":
            if not _KAFKA_TOPIC.fullmatch(message.kafka.topic):
                found.add("kafka.topic", f"must match {_KAFKA_TOPIC.pattern}")
        case _:
            found.add("sink", "must be redis, nats or kafka")


def check_sink_stays(before: StreamMessage, wanted: StreamMessage, path: str, violations: Violations) -> None:
    """What cannot change about a stream."""
    if wanted.WhichOneof("sink") != before.WhichOneof("sink"):
        violations.add(f"{path}.sink", "stays of the kind as which it was created")


def stored_stream(message: StreamMessage) -> bytes:
    """A stream as it is kept: without what is output, and without what has a column."""
    kept = StreamMessage()
    kept.CopyFrom(message)
    for name in (*STREAM_OUTPUT_ONLY, "switched_off"):
        kept.ClearField(name)
    return kept.SerializeToString(deterministic=True)


def sink_of(message: StreamMessage) -> Sink:
    """Where it is published."""
    match message.WhichOneof("sink"):
        case "redis":
            return RedisStream(message.redis.stream, message.redis.max_length or DEFAULT_STREAM_LENGTH)
        case "nats":
            return NatsStream(message.nats.stream, message.nats.subject)
        case _:
            return KafkaTopic(message.kafka.topic)


def stream_from_row(row: Any) -> Stream:
    """A stream as workers know it."""
    message = StreamMessage.FromString(row["body"])
    return Stream(
        stream_id=row["stream_id"],
        key=row["key"],
        revision=row["revision"],
        wish=Wish(
            frozenset(message.types),
            filters_from_proto(message.filters, "filters", Violations()),
            tenant=message.tenant,
        ),
        sink=sink_of(message),
        switched_off=row["switched_off"],
        cursor=row["cursor"],
        is_failing=row["failing_since"] is not None,
    )


def shown_stream(row: Any) -> StreamMessage:
    """A stream as it is read."""
    message = StreamMessage.FromString(row["body"])
    message.switched_off = row["switched_off"]
    message.health.failure = row["failure"]
    message.health.published_count = row["published_count"]
    set_time(message.health, "failing_since", row["failing_since"])
    set_time(message.health, "last_publish_time", row["last_publish_time"])
    set_time(message.health, "behind_since", row["behind_since"])
    set_time(message, "create_time", row["create_time"])
    set_time(message, "update_time", row["update_time"])
    return message
