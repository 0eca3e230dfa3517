"""Endpoints, streams and messages of a configuration file, over a real channel and a real database."""

from typing import Any
from uuid import uuid4

import pytest
from laurel.common.v1 import configuration_pb2
from laurel.notification.v1 import contact_pb2, message_pb2, stream_pb2, webhook_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from tests.service.notification.conftest import Service, refused

CREATE = configuration_pb2.CONFIGURATION_ACTION_CREATE
UPDATE = configuration_pb2.CONFIGURATION_ACTION_UPDATE
KEEP = configuration_pb2.CONFIGURATION_ACTION_KEEP
DELETE = configuration_pb2.CONFIGURATION_ACTION_DELETE
CRM = webhook_pb2.WebhookEndpoint(key="crm", url="https://crm.example.com/hook", types=["metric.recorded"])
BUS = stream_pb2.EventStream(key="bus", types=["*"], redis=stream_pb2.RedisStreamSink(stream="events"))
RECAPS = message_pb2.MessageDefinition(type=contact_pb2.MESSAGE_TYPE_RECAP, switched_on=True)


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"redis_url": "redis://127.0.0.1:1"}


async def apply(service: Service, *messages: Any, **fields: Any) -> pb.ApplyConfigurationResponse:
    request = pb.ApplyConfigurationRequest(**{"request_id": str(uuid4()), **fields})
    for message in messages:
        match message:
            case webhook_pb2.WebhookEndpoint():
                request.webhook_endpoints.append(message)
            case stream_pb2.EventStream():
                request.event_streams.append(message)
            case message_pb2.MessageDefinition():
                request.messages.append(message)
    return await service.stub.ApplyConfiguration(request)


def actions(response: pb.ApplyConfigurationResponse) -> list[tuple[str, int]]:
    return [(change.key, change.action) for change in response.changes]


async def test_what_a_file_has_is_made_changed_and_kept(service: Service) -> None:
    made = await apply(service, CRM, BUS, RECAPS)
    assert actions(made) == [("crm", CREATE), ("bus", CREATE), ("recap", UPDATE)]
    (secret,) = made.secrets
    assert (secret.key, secret.secret.startswith("whsec_")) == ("crm", True)
    again = await apply(service, CRM, BUS, RECAPS)
    assert actions(again) == [("crm", KEEP), ("bus", KEEP), ("recap", KEEP)]
    assert not again.secrets
    moved = webhook_pb2.WebhookEndpoint(key="crm", url="https://new.example.com/hook", types=["*"])
    changed = await apply(service, moved)
    assert [field.path for field in changed.changes[0].fields] == ["url", "types"]
    shown = await service.get("crm")
    assert (shown.url, len(shown.secrets)) == (moved.url, 1)
    assert (await service.stub.GetEventStream(pb.GetEventStreamRequest(key="bus"))).stream.types == ["*"]


async def test_a_reply_that_is_asked_for_again_has_the_secret_again(service: Service) -> None:
    first = await apply(service, CRM, request_id="one")
    assert await apply(service, CRM, request_id="one") == first
    assert first.secrets[0].secret not in str(await service.database.fetch("SELECT * FROM mutation_log"))


async def test_what_is_only_checked_leaves_nothing(service: Service) -> None:
    tried = await apply(service, CRM, BUS, RECAPS, validate_only=True, request_id="")
    assert actions(tried) == [("crm", CREATE), ("bus", CREATE), ("recap", UPDATE)]
    for table in ("webhook_endpoints", "event_streams", "message_definitions", "mutation_log"):
        assert await service.database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_what_a_file_does_not_have_is_deleted_where_that_is_said(service: Service) -> None:
    other = stream_pb2.EventStream(key="other", types=["*"], redis=BUS.redis)
    await apply(service, CRM, BUS, other)
    assert actions(await apply(service, BUS)) == [("bus", KEEP)]
    pruned = await apply(service, BUS, prune_event_streams=True)
    assert actions(pruned) == [("bus", KEEP), ("other", DELETE)]
    assert (await service.get("crm")).key == "crm"
    assert actions(await apply(service, prune_webhook_endpoints=True)) == [("crm", DELETE)]


async def test_an_endpoint_that_fails_is_not_switched_on_by_a_file(service: Service) -> None:
    await apply(service, CRM)
    await service.database.execute("UPDATE webhook_endpoints SET switch_off = 2, switch_off_time = now()")
    assert actions(await apply(service, CRM)) == [("crm", KEEP)]
    described = webhook_pb2.WebhookEndpoint(key="crm", url=CRM.url, types=CRM.types, description="Customers")
    assert actions(await apply(service, described)) == [("crm", UPDATE)]
    shown = await service.get("crm")
    assert (shown.switched_off, shown.switch_off_reason) == (True, webhook_pb2.SWITCH_OFF_REASON_GONE)


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        (
            [
                CRM,
                webhook_pb2.WebhookEndpoint(key="bad", url="ftp://x", types=["*"]),
                stream_pb2.EventStream(key="bad", types=["*"]),
                message_pb2.MessageDefinition(type=contact_pb2.MESSAGE_TYPE_RECAP, send_time="7 pm"),
            ],
            ["webhook_endpoints[1].url", "event_streams[0].sink", "messages[0].send_time"],
        ),
        ([CRM, CRM], ["webhook_endpoints[1].key"]),
        ([RECAPS, RECAPS], ["messages[1].type"]),
        (
            [CRM, webhook_pb2.WebhookEndpoint(key="bad", url=CRM.url, types=["no.type"])],
            ["webhook_endpoints[1].types[0]"],
        ),
        (
            [CRM, stream_pb2.EventStream(key="bus", types=["*"], nats=stream_pb2.NatsStreamSink())],
            ["event_streams[0].nats.stream", "event_streams[0].nats.subject", "event_streams[0].nats"],
        ),
    ],
)
async def test_everything_that_is_wrong_is_said_and_nothing_is_applied(
    service: Service, messages: list[Any], fields: list[str]
) -> None:
    error = await refused(apply(service, *messages))
    assert [violation.field for violation in error.violations] == fields
    listed = await service.stub.ListWebhookEndpoints(pb.ListWebhookEndpointsRequest())
    assert not listed.endpoints
