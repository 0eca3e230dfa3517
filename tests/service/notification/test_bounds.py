"""What keeps within bounds, and where webhooks do not go."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from laurel.notification.v1 import notification_service_pb2 as pb

from tests.fixtures.receiver import Got, Receiver, accept, always, receiving
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_webhooks import hurried, riding

MOST = 100


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"webhook_max_waiting": MOST, "follow_page_size": 10, **getattr(request, "param", {})}


async def test_an_endpoint_that_is_down_falls_behind_and_catches_up_in_order_while_others_go_on(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    users = [f"user-{number}" for number in range(10)]
    async with receiving() as down:
        down.answer = always(503)
        await service.create("down", down.url)
        await service.create("shop", receiver.url)
        await riding(service, "down", "shop")
        for _ in range(60):
            await feed.tell(*users)
            await asyncio.sleep(0)

        await receiver.has_accepted(600)

        async def behind() -> bool:
            return (await service.get("down")).health.behind

        await until(behind, seconds=20, what="it is behind")
        waiting = await service.database.fetchval("SELECT count(*) FROM webhook_deliveries")
        assert waiting < 2 * MOST, "what waits has a bound"
        down.answer = accept
        while len({got.id for got in down.accepted}) < 600:
            await hurried(service)
            count = len({got.id for got in down.accepted})
            await down.has_accepted(min(count + 20, 600))
        await riding(service, "down", "shop")
        for user in users:
            entries = list(dict.fromkeys(got.json["entryId"] for got in down.accepted if got.user == user))
            assert entries == [str(entry_id) for name, entry_id in feed.told if name == user]
        await feed.tell("last")
        await down.has_accepted(601)


async def test_a_worker_that_died_leaves_what_it_had_taken_to_others(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    """Its leases are in the database, and end."""
    answering = asyncio.Event()

    async def answer(_got: Got) -> web.Response:
        await answering.wait()
        return web.Response()

    receiver.answer = answer
    await service.create("shop", receiver.url)
    await feed.tell("ada", "ada")

    async def taken() -> bool:
        return bool(
            await service.database.fetchval("SELECT count(*) FROM webhook_lanes WHERE claim_id IS NOT NULL")
        )

    await until(taken, seconds=20, what="the lane is taken")
    await service.database.execute("UPDATE webhook_lanes SET due_time = now()")
    await receiver_saw(receiver, 2)
    answering.set()
    got = await receiver.has_accepted(2)
    assert {delivery.json["entryId"] for delivery in got} == {str(entry_id) for _, entry_id in feed.told}

    async def empty() -> bool:
        return bool(await service.database.fetchval("SELECT count(*) FROM webhook_lanes") == 0)

    await until(empty, seconds=20, what="nothing waits")


async def receiver_saw(receiver: Receiver, count: int) -> None:
    async def came() -> bool:
        return len(receiver.got) >= count

    await until(came, seconds=20, what=f"{count} requests come")


@pytest.mark.parametrize("settings", [{"webhook_allowed_networks": ""}], indirect=True)
async def test_an_address_inside_is_not_called_whatever_it_is_called(
    service: Service, receiver: Receiver
) -> None:
    for number, host in enumerate(
        ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433")
    ):
        key = f"shop-{number}"
        await service.create(key, receiver.url.replace("127.0.0.1", host))
        attempt = (await service.stub.TestWebhookEndpoint(pb.TestWebhookEndpointRequest(key=key))).attempt
        assert attempt.status_code == 0
        assert "LAUREL_WEBHOOK_ALLOWED_NETWORKS" in attempt.detail or "not a canonical" in attempt.detail, (
            host
        )
    assert receiver.got == []


@pytest.mark.parametrize("settings", [{"webhook_timeout_seconds": 0.2}], indirect=True)
async def test_an_endpoint_that_does_not_answer_in_time_has_not_answered(
    service: Service, receiver: Receiver
) -> None:
    async def answer(_got: Got) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    receiver.answer = answer
    await service.create("shop", receiver.url)
    attempt = (await service.stub.TestWebhookEndpoint(pb.TestWebhookEndpointRequest(key="shop"))).attempt
    assert (attempt.status_code, attempt.detail) == (0, "no answer within 0.2 s")


async def test_of_an_answer_only_the_beginning_is_read_and_kept(service: Service, receiver: Receiver) -> None:
    receiver.answer = always(500, "\x00\x1b[31m" + "long " * 100_000)
    await service.create("shop", receiver.url)
    attempt = (await service.stub.TestWebhookEndpoint(pb.TestWebhookEndpointRequest(key="shop"))).attempt
    assert attempt.status_code == 500
    assert len(attempt.detail) == 300
    assert attempt.detail.isprintable()


@pytest.mark.parametrize("settings", [{"maintenance_interval_seconds": 0.05}], indirect=True)
async def test_what_was_kept_for_long_enough_goes(service: Service, feed: Feed, receiver: Receiver) -> None:
    await service.create("shop", receiver.url)
    receiver.answer = always(500)
    await feed.tell("ada")
    await receiver_saw(receiver, 1)
    await service.database.execute(
        "UPDATE webhook_messages SET create_time = create_time - interval '15 days'"
    )

    async def gone() -> bool:
        await service.database.execute(
            "UPDATE webhook_attempts SET attempt_time = attempt_time - interval '15 days'"
        )
        counts = await service.database.fetchrow(
            "SELECT (SELECT count(*) FROM webhook_messages), (SELECT count(*) FROM webhook_attempts),"
            " (SELECT count(*) FROM webhook_deliveries)"
        )
        return tuple(counts or ()) == (0, 0, 0)

    await until(gone, seconds=20, what="messages, attempts and what waited are gone")
    receiver.answer = accept
    await feed.tell("ada")
    await receiver.has_accepted(1)
