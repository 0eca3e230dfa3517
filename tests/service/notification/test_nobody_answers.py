"""An endpoint and a stream that nobody answers cost the others nothing, and the process no memory that grows."""

import asyncio
import contextlib
import gc
from collections import Counter
from typing import Any

import pytest
from aiohttp import web
from laurel.notification.v1 import stream_pb2

from services.notification.domain.events import Event
from services.notification.domain.streams import NatsStream
from services.notification.sinks import NatsPublisher, SinkAwayError
from tests.fixtures.receiver import Got, Receiver, receiving
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_streams import create, get, published
from tests.service.notification.test_webhooks import riding
from tests.unit.notification.test_streams import told

UNDER_WAY = 8
MOST_WAITING = 100
PAGE = 10


@pytest.fixture
def settings(valkey_url: str) -> dict[str, Any]:
    return {
        "redis_url": valkey_url,
        "nats_url": "nats://127.0.0.1:1",  # nobody listens there
        "stream_timeout_seconds": 2,
        "webhook_concurrency": UNDER_WAY,
        "webhook_max_waiting": MOST_WAITING,
        "follow_page_size": PAGE,
    }


async def test_what_nobody_answers_waits_in_the_database_and_holds_up_nobody(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    users = [f"user-{number}" for number in range(20)]
    ending = asyncio.Event()

    async def silent(_got: Got) -> web.Response:
        await ending.wait()
        return web.Response()

    def under_way() -> Counter[str]:
        """What is being worked on in memory, by what does it."""
        return Counter(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())

    async with receiving() as dead:
        dead.answer = silent
        await service.create("dead", dead.url)
        await service.create("alive", receiver.url)
        await create(service, "dead", nats=stream_pb2.NatsStreamSink(stream="DEAD", subject="dead"))
        await create(service, "alive", redis=stream_pb2.RedisStreamSink(stream="alive"))
        await riding(service, "dead", "alive")
        for count in range(1, 13):
            await feed.tell(*users)
            await receiver.has_accepted(count * len(users))
            working = under_way()
            # Of the endpoint what is under way, of the stream what tries: however much has been told.
            assert working["Dispatcher._work"] <= 2 * UNDER_WAY
            assert working["Streaming._advance"] <= 2
        await published(service, "alive", 12 * len(users))

        async def is_failing() -> bool:
            return (await get(service, "dead")).health.HasField("failing_since")

        await until(is_failing, seconds=30, what="the absence of the broker is noted")
        assert (await get(service, "dead")).health.published_count == 0
        assert dead.most_under_way == UNDER_WAY
        assert dead.accepted == []
        waiting = await service.database.fetchval("SELECT count(*) FROM webhook_deliveries")
        # A page may go beyond what may wait; the rest is in the feed.
        assert MOST_WAITING <= waiting <= MOST_WAITING + 2 * PAGE
        assert (await service.get("dead")).health.behind
        ending.set()


async def test_a_page_that_no_broker_takes_is_not_kept() -> None:
    """Nor does it wait for the garbage collector, which comes by when a great deal has been allocated."""
    sink = NatsStream("DEAD", "dead")
    publisher = NatsPublisher("nats://127.0.0.1:1", sink, "laurel", 2)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with contextlib.suppress(SinkAwayError):
                await publisher.publish([told(1, "ada"), told(2, "bob")])
        assert not [kept for kept in gc.get_objects() if isinstance(kept, Event)]
    finally:
        gc.enable()
