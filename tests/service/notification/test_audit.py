"""What is done by hand to endpoints, streams and messages is kept: who, when, what, why (RULES 9.4)."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from laurel.notification.v1 import contact_pb2, message_pb2, stream_pb2, webhook_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.orchestrator.v1 import access_service_pb2
from laurel.participant.v1 import audit_service_pb2

from shared.clock import SystemClock
from shared.rpc.convert import to_timestamp
from tests.service.notification.conftest import Service, refused

if TYPE_CHECKING:
    from laurel.participant.v1.audit_service_pb2_grpc import AuditServiceAsyncStub

BY_CAROL = (("laurel-actor", "carol"), ("laurel-reason", "a new shop"))
REDIS = stream_pb2.RedisStreamSink(stream="events")


@pytest.fixture
def settings(valkey_url: str) -> dict[str, Any]:
    return {"redis_url": valkey_url}


def endpoint(**fields: Any) -> webhook_pb2.WebhookEndpoint:
    return webhook_pb2.WebhookEndpoint(
        **{"key": "shop", "url": "http://127.0.0.1:1/hook", "types": ["*"], **fields}
    )


async def kept(audit: "AuditServiceAsyncStub", subject: str = "") -> list[access_service_pb2.AdminOperation]:
    request = audit_service_pb2.ListServiceOperationsRequest(subject=subject)
    return list((await audit.ListServiceOperations(request)).operations)


async def test_every_change_of_an_endpoint_is_kept_with_who_why_and_what(service: Service) -> None:
    create = pb.CreateWebhookEndpointRequest(request_id="one", endpoint=endpoint())
    for _ in range(2):  # sent again, it is kept once
        secret = (await service.stub.CreateWebhookEndpoint(create, metadata=BY_CAROL)).secret
    await service.update("shop", switched_off=True, description="old")
    await service.stub.RotateWebhookSecret(pb.RotateWebhookSecretRequest(request_id="r", key="shop"))
    rewind = pb.RewindWebhookEndpointRequest(request_id="w", key="shop")
    rewind.since_time.CopyFrom(to_timestamp(SystemClock().now() - timedelta(hours=1)))
    await service.stub.RewindWebhookEndpoint(rewind)
    await service.stub.DeleteWebhookEndpoint(pb.DeleteWebhookEndpointRequest(request_id="d", key="shop"))
    deleted, rewound, rotated, updated, created = await kept(service.audit, "webhook_endpoint/shop")
    assert [each.method for each in (created, updated, rotated, rewound, deleted)] == [
        "create_webhook_endpoint",
        "update_webhook_endpoint",
        "rotate_webhook_secret",
        "rewind_webhook_endpoint",
        "delete_webhook_endpoint",
    ]
    assert (created.actor, created.reason, created.service) == ("carol", "a new shop", "notification")
    assert {field.path for field in created.fields} == {"key", "url", "types"}
    assert {(field.path, field.old_value, field.new_value) for field in updated.fields} == {
        ("description", "", '"old"'),
        ("switched_off", "false", "true"),
    }
    assert {field.path: field.new_value for field in deleted.fields}["url"] == ""
    assert secret not in str(await kept(service.audit))


async def test_what_is_refused_is_not_kept(service: Service) -> None:
    await service.create("shop", "http://127.0.0.1:1/hook")
    again = pb.CreateWebhookEndpointRequest(request_id=str(uuid4()), endpoint=endpoint())
    assert (await refused(service.stub.CreateWebhookEndpoint(again))).reason == "WEBHOOK_ENDPOINT_EXISTS"
    assert len(await kept(service.audit)) == 1


async def test_a_file_keeps_what_it_changes_and_a_dry_run_nothing(service: Service) -> None:
    streams = [stream_pb2.EventStream(key="crm", types=["*"], redis=REDIS)]
    message = message_pb2.MessageDefinition(type=contact_pb2.MESSAGE_TYPE_RECAP, switched_on=True)
    request = pb.ApplyConfigurationRequest(
        webhook_endpoints=[endpoint()], event_streams=streams, messages=[message], validate_only=True
    )
    await service.stub.ApplyConfiguration(request)
    assert await kept(service.audit) == []
    request.validate_only = False
    request.request_id = "apply"
    await service.stub.ApplyConfiguration(request, metadata=BY_CAROL)
    request.request_id = "again"
    await service.stub.ApplyConfiguration(request)
    assert [(each.method, each.subject, each.actor) for each in reversed(await kept(service.audit))] == [
        ("apply_configuration", "webhook_endpoint/shop", "carol"),
        ("apply_configuration", "event_stream/crm", "carol"),
        ("apply_configuration", "message/recap", "carol"),
    ]


async def test_every_change_of_a_stream_and_of_messages_is_kept(service: Service) -> None:
    stream = stream_pb2.EventStream(key="crm", types=["*"], redis=REDIS)
    await service.stub.CreateEventStream(pb.CreateEventStreamRequest(request_id="c", stream=stream))
    change = pb.UpdateEventStreamRequest(
        request_id="u", stream=stream_pb2.EventStream(key="crm", description="x")
    )
    await service.stub.UpdateEventStream(change)
    rewind = pb.RewindEventStreamRequest(request_id="w", key="crm")
    rewind.since_time.CopyFrom(to_timestamp(SystemClock().now() - timedelta(hours=1)))
    await service.stub.RewindEventStream(rewind)
    await service.stub.DeleteEventStream(pb.DeleteEventStreamRequest(request_id="d", key="crm"))
    message = message_pb2.MessageDefinition(type=contact_pb2.MESSAGE_TYPE_RECAP, switched_on=True)
    await service.stub.UpdateMessageDefinition(
        pb.UpdateMessageDefinitionRequest(request_id="m", message=message)
    )
    assert [(each.method, each.subject) for each in reversed(await kept(service.audit))] == [
        ("create_event_stream", "event_stream/crm"),
        ("update_event_stream", "event_stream/crm"),
        ("rewind_event_stream", "event_stream/crm"),
        ("delete_event_stream", "event_stream/crm"),
        ("update_message_definition", "message/recap"),
    ]
    page = await service.audit.ListServiceOperations(
        audit_service_pb2.ListServiceOperationsRequest(page_size=2)
    )
    following = audit_service_pb2.ListServiceOperationsRequest(page_size=9, page_token=page.next_page_token)
    rest = await service.audit.ListServiceOperations(following)
    assert len(page.operations) + len(rest.operations) == 5
