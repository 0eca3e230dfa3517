"""Messages that lie in databases: old bytes have to be read for as long as they are kept (RULES 2.4).

`deploy/stored.binpb` is the oldest contract of which stored bytes are read. A stored message may only grow: what a
field number has meant it means for ever, on the wire, whatever the message is called today.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from laurel.achievement.v1 import achievement_pb2
from laurel.common.v1 import configuration_pb2, error_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.notification.v1 import contact_pb2, message_pb2, notification_service_pb2, stream_pb2, webhook_pb2
from laurel.orchestrator.v1 import event_pb2, metric_pb2, orchestrator_service_pb2
from laurel.participant.v1 import definition_service_pb2, participant_service_pb2
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from deploy.generate import ROOT
from services.orchestrator.operations import OPERATIONS, stored_entry

pb = orchestrator_service_pb2
SERVICES = ("achievement", "leaderboard", "notification", "orchestrator", "points", "streak")

REPLIES = (event_pb2.IngestEventResponse, pb.UpdateUserResponse, pb.CompleteAchievementResponse)
WRITTEN = (definition_service_pb2.WriteDefinitionsResponse,)
OUTCOMES = {
    "request_log.outcome": (participant_service_pb2.Outcome,),
    "request_log.revert_outcome": (participant_service_pb2.RevertOutcome,),
}
STORED: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "orchestrator": {
        "definitions.body": (metric_pb2.Metric,),
        "admin_operations.fields": (configuration_pb2.FieldChange,),
        "mutation_log.response": (
            pb.CreateDefinitionResponse,
            pb.UpdateDefinitionResponse,
            pb.DeleteDefinitionResponse,
            pb.DeclareAmnestyResponse,
            pb.WithdrawAmnestyResponse,
            pb.CancelBackfillResponse,
            *WRITTEN,
        ),
        "definition_writes.request": (definition_service_pb2.WriteDefinitionsRequest,),
        "entries.request": tuple(operation.request_type for operation in OPERATIONS.values()),
        "entries.entry": (entry_pb2.Entry,),
        "sagas.reply": REPLIES,
        "sagas.rejection": (error_pb2.Error,),
        "sagas.applied": (effects_pb2.Effects,),
        "sagas.correction": (entry_pb2.Entry,),
        "sagas.void_reply": (pb.VoidEntryResponse,),
        "domain_events.entry": (entry_pb2.Entry,),
        "domain_events.effects": (effects_pb2.Effects,),
    },
    "streak": {
        "definitions.body": (streak_pb2.Streak, streak_pb2.Amnesty),
        "definition_history.body": (streak_pb2.Streak, streak_pb2.Amnesty),
        "mutation_log.response": (streak_pb2.Streak,),
        "feed.body": (participant_service_pb2.Change,),
        **OUTCOMES,
    },
    "achievement": {
        "definitions.body": (achievement_pb2.Achievement,),
        "feed.body": (participant_service_pb2.Change,),
        "mutation_log.response": (achievement_pb2.Achievement,),
        **OUTCOMES,
    },
    "points": {
        "definitions.body": (points_pb2.PointsSystem,),
        "feed.body": (participant_service_pb2.Change,),
        "mutation_log.response": (points_pb2.PointsSystem,),
        "terms.body": (points_pb2.PointsSystem,),
        **OUTCOMES,
    },
    "leaderboard": {
        "definitions.body": (leaderboard_pb2.Leaderboard,),
        "admin_operations.fields": (configuration_pb2.FieldChange,),
        "feed.body": (participant_service_pb2.Change,),
        "mutation_log.response": (leaderboard_pb2.Leaderboard,),
        **OUTCOMES,
    },
    "notification": {
        "admin_operations.fields": (configuration_pb2.FieldChange,),
        "webhook_endpoints.body": (webhook_pb2.WebhookEndpoint,),
        "event_streams.body": (stream_pb2.EventStream,),
        "contacts.body": (contact_pb2.Contact,),
        "message_definitions.body": (message_pb2.MessageDefinition,),
        "mutation_log.response": (
            notification_service_pb2.CreateWebhookEndpointResponse,
            notification_service_pb2.UpdateWebhookEndpointResponse,
            notification_service_pb2.DeleteWebhookEndpointResponse,
            notification_service_pb2.RotateWebhookSecretResponse,
            notification_service_pb2.ResendWebhookEventResponse,
            notification_service_pb2.RewindWebhookEndpointResponse,
            notification_service_pb2.CreateEventStreamResponse,
            notification_service_pb2.UpdateEventStreamResponse,
            notification_service_pb2.DeleteEventStreamResponse,
            notification_service_pb2.RewindEventStreamResponse,
            notification_service_pb2.UpdateContactResponse,
            notification_service_pb2.DeleteContactResponse,
            notification_service_pb2.AddDeviceResponse,
            notification_service_pb2.RemoveDeviceResponse,
            notification_service_pb2.UpdateMessageDefinitionResponse,
            notification_service_pb2.ApplyConfigurationResponse,
        ),
    },
}
"""Every column that holds serialized messages, and what is in it."""

RENAMED: Final = {
    "laurel.ledger.v1.Entry": "laurel.common.v1.Entry",
    "laurel.ledger.v1.UserSnapshot": "laurel.common.v1.UserSnapshot",
    "laurel.ledger.v1.MetricFact": "laurel.common.v1.MetricFact",
    "laurel.common.v1.LocalDate": "laurel.streak.v1.LocalDate",
    "laurel.participant.v1.Change": "laurel.streak.v1.Change",
    "laurel.orchestrator.v1.VoidEntryResponse": "laurel.orchestrator.v1.VoidEventResponse",
}
"""What was called otherwise when the oldest bytes were written."""

DROPPED: Final = {
    # Told by the operation now; the ledger's `kind` says it for old entries.
    ("laurel.ledger.v1.Entry", 2),
    # Of corrections, which are told when they are made and never again.
    ("laurel.ledger.v1.Entry", 8),
    # The place in a feed, and the change of a closing that is long done.
    ("laurel.participant.v1.Change", 1),
    ("laurel.participant.v1.Change", 6),
}
"""Field numbers that are reserved and of which nothing is read any more."""


def old_pool() -> descriptor_pool.DescriptorPool:
    """The oldest contract."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "deploy" / "stored.binpb").read_bytes())
    for file in files.file:
        pool.Add(file)
    return pool


OLD: Final = old_pool()


def was_called(name: str) -> str:
    """The oldest name of what has this one today."""
    outer, _, nested = name.rpartition(".")
    return f"{RENAMED[outer]}.{nested}" if outer in RENAMED else RENAMED.get(name, name)


def old(name: str) -> Any:
    """The class of a message as it was, by its name of then."""
    return message_factory.GetMessageClass(OLD.FindMessageTypeByName(name))


def differences(today: Descriptor, seen: set[str]) -> Iterator[str]:
    """What of the oldest form today's would misread, in the message and in all that it contains."""
    if today.full_name in seen:
        return
    seen.add(today.full_name)
    try:
        then = OLD.FindMessageTypeByName(was_called(today.full_name))
    except KeyError:
        return  # did not exist: nothing of it was stored
    for field in then.fields:
        if (today.full_name, field.number) in DROPPED:
            continue
        now = today.fields_by_number.get(field.number)
        if now is None:
            yield f"{today.full_name} lost {field.name} = {field.number}"
        elif shape(now) != shape(field):
            yield f"{today.full_name}.{now.name} is {shape(now)} instead of {shape(field)}"
        elif now.message_type is not None:
            yield from differences(now.message_type, seen)


def shape(field: FieldDescriptor) -> tuple[int, bool, str]:
    """What decides how a field's bytes are read: type, repetition, and which message it is."""
    message = field.message_type
    return field.type, field.is_repeated, was_called(message.full_name) if message else ""


def stored_columns(service: str) -> set[str]:
    """The columns of a service's tables that hold bytes other than digests."""
    columns = set()
    text = (ROOT / "services" / service / "schema.sql").read_text()
    for table, body in re.findall(r"^CREATE TABLE (\w+) \((.*?)^\)", text, re.S | re.M):
        for column in re.findall(r"^\s+(\w+)\s+bytea", body, re.M):
            if column != "digest" and not column.endswith("_hash"):
                columns.add(f"{table}.{column}")
    return columns


@pytest.mark.parametrize("service", SERVICES)
def test_every_column_of_bytes_says_what_is_in_it(service: str) -> None:
    assert stored_columns(service) == set(STORED[service])


@pytest.mark.parametrize("service", SERVICES)
def test_what_was_stored_by_the_oldest_release_is_read_as_it_was_meant(service: str) -> None:
    seen: set[str] = set()
    messages = [message for column in STORED[service].values() for message in column]
    assert [each for message in messages for each in differences(message.DESCRIPTOR, seen)] == []


def test_a_change_of_a_stored_field_is_noticed() -> None:
    period = OLD.FindMessageTypeByName("laurel.streak.v1.Period")
    state = OLD.FindMessageTypeByName("laurel.streak.v1.StreakState")
    assert shape(period.fields_by_name["length"]) != shape(state.fields_by_name["period_qualified"])
    assert list(differences(streak_pb2.StreakState.DESCRIPTOR, set())) == []


def test_a_reply_of_old_is_answered_byte_for_byte_and_can_be_read() -> None:
    reply = old("laurel.orchestrator.v1.IngestEventResponse")(event_id="e", metric="m", total_after=3.5)
    reply.streaks.add(extended=True).state.length = 4
    reply.points.add(points_system="xp", added=5, total=9, new_level="novice")
    stored = reply.SerializeToString()
    today = event_pb2.IngestEventResponse.FromString(stored)
    assert (today.entry_id, today.total_after) == ("e", 3.5)
    assert (today.streaks[0].state.length, today.points[0].total) == (4, 9)
    assert today.SerializeToString() == stored


def test_an_entry_of_old_is_completed_from_its_request() -> None:
    entry = old("laurel.common.v1.Entry")(entry_id="e", kind=3, time_zone="UTC")
    entry.occur_time.FromDatetime(datetime(2026, 11, 1, tzinfo=UTC))
    call = pb.CompleteAchievementRequest(achievement="by-call", request_id="r")
    told = stored_entry(OPERATIONS["achievement_call"], entry.SerializeToString(), call.SerializeToString())
    assert told.achievement_call.achievement == "by-call"
    assert told.entry_id == "e"


def test_a_metric_event_of_old_is_told_as_it_was() -> None:
    entry = old("laurel.common.v1.Entry")(entry_id="e", kind=1)
    entry.metric.metric, entry.metric.value_micros = "steps", 7
    told = stored_entry(OPERATIONS["metric_event"], entry.SerializeToString(), b"")
    assert (told.WhichOneof("operation"), told.metric_event.value_micros) == ("metric_event", 7)
