"""Webhooks over a real channel, a real database and a real receiver (RULES 8.4)."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import filter_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import webhook_pb2

from tests.fixtures.receiver import Got, Receiver, accept, always, receiving
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service, refused

DELIVERED = webhook_pb2.WEBHOOK_ATTEMPT_OUTCOME_DELIVERED
FAILED = webhook_pb2.WEBHOOK_ATTEMPT_OUTCOME_FAILED


async def hurried(service: Service) -> None:
    """What waits to be tried again is due now: the schedule's first pause is five seconds."""
    await service.database.execute("UPDATE webhook_lanes SET due_time = now() WHERE claim_id IS NULL")


async def riding(service: Service, *keys: str) -> None:
    """The endpoints hear with all others."""

    async def all_do() -> bool:
        return not any([(await service.get(key)).health.behind for key in keys])

    await until(all_do, seconds=20, what="endpoints hear together")


async def test_an_event_comes_signed_with_what_the_reply_says(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    secret = await service.create("shop", receiver.url, "metric.recorded", "points.changed")
    (entry_id,) = await feed.tell("ada", points=10)
    metric, points = await receiver.has_accepted(2)
    assert metric.is_signed_by(secret)
    assert points.is_signed_by(secret)
    assert metric.json | {"timestamp": "", "id": ""} == {
        "id": "",
        "type": "metric.recorded",
        "timestamp": "",
        "userId": "ada",
        "userSequence": 1,
        "entryId": str(entry_id),
        "control": False,
        "data": {"metric": "steps", "value": 1.0, "totalBefore": 0.0, "totalAfter": 1.0, "attributes": {}},
    }
    assert metric.id == metric.json["id"]
    assert (points.json["data"]["balanceBefore"], points.json["data"]["balance"]) == ("0", "10")
    assert metric.headers["content-type"] == "application/json"


async def test_more_readers_at_once_than_there_are_connections_are_all_answered(
    service: Service, receiver: Receiver
) -> None:
    await service.create("shop", receiver.url)
    async with asyncio.timeout(20):
        shown = await asyncio.gather(*(service.get("shop") for _ in range(100)))
    assert {endpoint.key for endpoint in shown} == {"shop"}


async def test_every_event_comes_and_each_users_in_order_over_several_replicas(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await service.start()
    await service.start()
    await service.create("shop", receiver.url)
    for _ in range(10):
        await feed.tell(*(f"user-{number % 20}" for number in range(60)))
    got = await receiver.has_accepted(600)
    for user in {user for user, _ in feed.told}:
        entries = [delivery.json["entryId"] for delivery in got if delivery.user == user]
        assert entries == [str(entry_id) for name, entry_id in feed.told if name == user]
    assert len(got) == 600, "some were delivered twice"

    async def recorded() -> bool:
        return bool((await service.database.fetchval("SELECT count(*) FROM webhook_attempts")) == 600)

    await until(recorded, seconds=20, what="all is recorded")
    for table in ("webhook_lanes", "webhook_deliveries"):
        assert await service.database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_what_is_not_accepted_comes_again_and_holds_up_its_user_alone(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await service.create("shop", receiver.url)

    async def answer(got: Got) -> web.Response:
        return web.Response(status=500 if got.user == "bob" else 204, text="no bob")

    receiver.answer = answer
    await feed.tell("bob", "bob", "ada", "ada")
    await receiver.has_accepted(2)
    assert [delivery.user for delivery in receiver.accepted] == ["ada", "ada"]
    assert [delivery.user for delivery in receiver.got].count("bob") == 1

    async def failed() -> bool:
        return len(await service.attempts("shop", failed_only=True)) == 1

    await until(failed, seconds=20, what="the failure is recorded")
    receiver.answer = accept
    await hurried(service)
    got = await receiver.has_accepted(4)
    bobs = [delivery.json["entryId"] for delivery in got if delivery.user == "bob"]
    assert bobs == [str(entry_id) for user, entry_id in feed.told if user == "bob"]

    async def all_recorded() -> bool:
        return len(await service.attempts("shop")) == 5

    await until(all_recorded, seconds=20, what="all attempts are recorded")
    first = (await service.attempts("shop", failed_only=True))[0]
    assert (first.number, first.status_code, first.detail, first.outcome) == (1, 500, "no bob", FAILED)
    again = await service.attempts("shop", event_id=first.event_id)
    assert [(attempt.number, attempt.outcome) for attempt in again] == [(2, DELIVERED), (1, FAILED)]
    assert all(attempt.latency_micros > 0 for attempt in again)


async def test_without_order_an_event_that_fails_holds_up_no_other(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await service.create("shop", receiver.url, ordering=webhook_pb2.WEBHOOK_ORDERING_NONE)
    (poison,) = await feed.tell("ada")

    async def answer(got: Got) -> web.Response:
        return web.Response(status=500 if got.json["entryId"] == str(poison) else 200)

    receiver.answer = answer
    await feed.tell("ada", "ada", "ada")
    await receiver.has_accepted(3)


async def test_a_slow_endpoint_holds_up_no_other(service: Service, feed: Feed, receiver: Receiver) -> None:
    ending = asyncio.Event()

    async def slow(_got: Got) -> web.Response:
        await ending.wait()
        return web.Response()

    async with receiving() as other:
        other.answer = slow
        await service.create("slow", other.url)
        await service.create("fast", receiver.url)
        await riding(service, "slow", "fast")
        for _ in range(4):
            await feed.tell(*(f"user-{number}" for number in range(50)))
        await receiver.has_accepted(200)
        assert other.accepted == []
        assert other.most_under_way == 32
        ending.set()
        await other.has_accepted(200)


async def test_an_endpoint_gets_what_it_asked_for_and_nothing_from_before(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await feed.tell("early")
    await service.create(
        "shop",
        receiver.url,
        "points.changed",
        filters=[filter_pb2.AttributeFilter(attribute="plan", equals="pro")],
        user_ids=["ada", "bob"],
    )
    await feed.tell("ada", points=1)
    await feed.tell("ada", "eve", points=1, plan="pro")
    await feed.tell("bob", points=1, plan="pro")
    got = await receiver.has_accepted(2)
    assert [(delivery.user, delivery.json["type"]) for delivery in got] == [
        ("ada", "points.changed"),
        ("bob", "points.changed"),
    ]


async def test_what_comes_too_often_becomes_one_with_the_first_before_and_the_last_after(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await service.create("shop", receiver.url, "points.changed", min_interval_seconds=3_600)
    await riding(service, "shop")
    for _ in range(5):
        await feed.tell("ada", points=10)
    await receiver.has_accepted(1)

    async def held() -> bool:
        return bool(await service.database.fetchval("SELECT held_count FROM webhook_paces") == 4)

    await until(held, seconds=20, what="four are held")
    await service.database.execute("UPDATE webhook_paces SET release_time = now()")
    first, rest = await receiver.has_accepted(2)
    assert (first.json["data"]["balanceBefore"], first.json["data"]["balance"]) == ("0", "10")
    assert (rest.json["data"]["balanceBefore"], rest.json["data"]["balance"]) == ("10", "50")
    assert rest.json["coalesced"]["count"] == 4
    assert rest.json["entryId"] == str(feed.told[-1][1])


async def test_two_secrets_sign_while_one_is_rotated(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    old = await service.create("shop", receiver.url)
    request = pb.RotateWebhookSecretRequest(request_id="1", key="shop")
    rotated = await service.stub.RotateWebhookSecret(request)
    again = await service.stub.RotateWebhookSecret(request)
    assert again.secret == rotated.secret
    assert len(rotated.endpoint.secrets) == 2
    assert rotated.secret.startswith("whsec_")
    await feed.tell("ada")
    (got,) = await receiver.has_accepted(1)
    assert got.is_signed_by(old)
    assert got.is_signed_by(rotated.secret)
    at_once = pb.RotateWebhookSecretRequest(request_id="2", key="shop", overlap_seconds=0)
    last = await service.stub.RotateWebhookSecret(at_once)
    assert len(last.endpoint.secrets) == 1
    assert (await service.stub.RotateWebhookSecret(request)).secret == ""
    await feed.tell("ada")
    got = (await receiver.has_accepted(2))[1]
    assert [got.is_signed_by(one) for one in (old, rotated.secret, last.secret)] == [False, False, True]


async def test_a_secret_is_shown_once_and_kept_out_of_reads_and_stored_replies(
    service: Service, receiver: Receiver
) -> None:
    secret = await service.create("shop", receiver.url)
    listed = await service.stub.ListWebhookEndpoints(pb.ListWebhookEndpointsRequest())
    assert [endpoint.key for endpoint in listed.endpoints] == ["shop"]
    assert secret not in f"{listed}{await service.get('shop')}"
    replies = await service.database.fetch("SELECT response FROM mutation_log")
    assert all(secret.encode() not in row["response"] for row in replies)


async def test_an_endpoint_that_answers_410_is_switched_off_and_others_hear_of_it(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    async with receiving() as watcher:
        await service.create("shop", receiver.url)
        await service.create("watcher", watcher.url, "webhook.endpoint_switched_off")
        receiver.answer = always(410)
        await feed.tell("ada")
        (told,) = await watcher.has_accepted(1)
    assert told.json["data"] == {"endpoint": "shop", "reason": "gone"}
    shown = await service.get("shop")
    assert shown.switched_off
    assert shown.switch_off_reason == webhook_pb2.SWITCH_OFF_REASON_GONE
    await feed.tell("ada", "bob")
    receiver.answer = accept
    await service.update("shop", "switched_off", switched_off=False)
    await hurried(service)
    got = await receiver.has_accepted(3)
    assert {delivery.json["entryId"] for delivery in got} == {str(entry_id) for _, entry_id in feed.told}


async def test_five_days_without_success_switch_an_endpoint_off(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await service.create("shop", receiver.url)
    receiver.answer = always(503)
    await feed.tell("ada")

    async def failing() -> bool:
        return (await service.get("shop")).health.HasField("failing_since")

    await until(failing, seconds=20, what="it is failing")
    assert not (await service.get("shop")).switched_off
    await service.database.execute(
        "UPDATE webhook_endpoints SET failing_since = failing_since - interval '5 days'"
    )
    await service.database.execute("UPDATE webhook_version SET version = version + 1")
    await feed.tell("bob")

    async def off() -> bool:
        return (await service.get("shop")).switch_off_reason == webhook_pb2.SWITCH_OFF_REASON_FAILING

    await until(off, seconds=20, what="it is off")


async def test_an_event_is_given_up_after_three_days_and_the_next_one_goes_out(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await service.create("shop", receiver.url)
    receiver.answer = always(500)
    await feed.tell("ada")

    async def noted() -> bool:
        return bool(await service.database.fetchval("SELECT attempt_count FROM webhook_deliveries") == 1)

    await until(noted, seconds=20, what="the failure is noted")
    await service.database.execute(
        "UPDATE webhook_deliveries SET first_attempt_time = first_attempt_time - interval '3 days'"
    )
    (_, second) = [*await feed.tell("ada"), *await feed.tell("ada")]

    async def answer(got: Got) -> web.Response:
        return web.Response(status=500 if got.json["userSequence"] == 1 else 200)

    receiver.answer = answer
    await hurried(service)
    got = await receiver.has_accepted(2)
    assert got[-1].json["entryId"] == str(second)

    async def given_up() -> bool:
        outcomes = [attempt.outcome for attempt in await service.attempts("shop", failed_only=True)]
        return outcomes == [webhook_pb2.WEBHOOK_ATTEMPT_OUTCOME_GIVEN_UP, FAILED]

    await until(given_up, seconds=20, what="it is given up")


async def test_one_event_or_all_since_an_instant_are_sent_again(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    await service.create("shop", receiver.url)
    await feed.tell("ada", "bob", "eve")
    got = await receiver.has_accepted(3)

    async def recorded() -> bool:
        return len(await service.attempts("shop")) == 3

    await until(recorded, seconds=20, what="all are recorded")
    resend = pb.ResendWebhookEventRequest(request_id="1", key="shop", event_id=got[1].id)
    await service.stub.ResendWebhookEvent(resend)
    await receiver.has(lambda: len(receiver.got) == 4)
    assert (receiver.got[3].id, receiver.got[3].body) == (got[1].id, got[1].body)
    unknown = pb.ResendWebhookEventRequest(
        request_id="2", key="shop", event_id="00000000-0000-8000-8000-000000000000"
    )
    assert (await refused(service.stub.ResendWebhookEvent(unknown))).reason == "WEBHOOK_EVENT_NOT_FOUND"
    since = Timestamp()
    since.FromDatetime(datetime(2020, 1, 1, tzinfo=UTC))
    await service.stub.RewindWebhookEndpoint(
        pb.RewindWebhookEndpointRequest(request_id="3", key="shop", since_time=since)
    )
    await receiver.has(lambda: len(receiver.got) == 7)
    assert sorted(delivery.body for delivery in receiver.got[4:]) == sorted(delivery.body for delivery in got)
    await riding(service, "shop")
    await feed.tell("last")
    await receiver.has_accepted(4)


async def test_a_test_is_sent_at_once_and_says_what_came_of_it(service: Service, receiver: Receiver) -> None:
    secret = await service.create("shop", receiver.url, switched_off=True)
    request = pb.TestWebhookEndpointRequest(key="shop")
    attempt = (await service.stub.TestWebhookEndpoint(request)).attempt
    assert (attempt.status_code, attempt.outcome) == (200, DELIVERED)
    assert receiver.got[0].json["type"] == "webhook.test"
    assert receiver.got[0].is_signed_by(secret)
    receiver.answer = always(418, "teapot")
    attempt = (await service.stub.TestWebhookEndpoint(request)).attempt
    assert (attempt.status_code, attempt.detail) == (418, "teapot")


async def test_redirects_are_not_followed(service: Service, receiver: Receiver) -> None:
    async with receiving() as elsewhere:
        receiver.answer = always(307, Location=elsewhere.url)
        await service.create("shop", receiver.url)
        attempt = (await service.stub.TestWebhookEndpoint(pb.TestWebhookEndpointRequest(key="shop"))).attempt
        assert attempt.status_code == 307
        assert elsewhere.got == []


async def test_a_request_is_repeated_with_the_same_answer_and_a_key_is_taken_once(
    service: Service, receiver: Receiver
) -> None:
    endpoint = webhook_pb2.WebhookEndpoint(key="shop", url=receiver.url, types=["*"])
    request = pb.CreateWebhookEndpointRequest(request_id="1", endpoint=endpoint)
    first = await service.stub.CreateWebhookEndpoint(request)
    assert await service.stub.CreateWebhookEndpoint(request) == first
    request.request_id = "2"
    assert (await refused(service.stub.CreateWebhookEndpoint(request))).reason == "WEBHOOK_ENDPOINT_EXISTS"
    deletion = pb.DeleteWebhookEndpointRequest(request_id="3", key="shop")
    await service.stub.DeleteWebhookEndpoint(deletion)
    await service.stub.DeleteWebhookEndpoint(deletion)
    missing = service.stub.GetWebhookEndpoint(pb.GetWebhookEndpointRequest(key="shop"))
    assert (await refused(missing)).reason == "WEBHOOK_ENDPOINT_NOT_FOUND"


async def test_everything_that_is_wrong_with_an_endpoint_is_said(service: Service) -> None:
    endpoint = webhook_pb2.WebhookEndpoint(
        key="No", url="ftp://example.com", min_interval_seconds=-1, types=["*", "metric.recorded"]
    )
    create: Callable[[], Any] = lambda: service.stub.CreateWebhookEndpoint(  # noqa: E731
        pb.CreateWebhookEndpointRequest(request_id="1", endpoint=endpoint)
    )
    error = await refused(create())
    assert {violation.field for violation in error.violations} == {
        "endpoint.key",
        "endpoint.url",
        "endpoint.min_interval_seconds",
        "endpoint.types",
    }
    endpoint.key, endpoint.url, endpoint.min_interval_seconds = "shop", "https://example.com/hook", 0
    endpoint.types[:] = ["webhook.endpoint_switched_off", "streak.exploded"]
    error = await refused(create())
    assert [violation.field for violation in error.violations] == ["endpoint.types[1]"]
    assert error.message == "endpoint.types[1]: is not a type of domain events"
