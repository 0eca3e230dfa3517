"""The consumers of docs/guides/streams.md, run as they stand there."""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from laurel.notification.v1 import stream_pb2
from redis.asyncio import Redis

from tests.fixtures.guides import printing, program
from tests.fixtures.nats import NatsServer, nats_running
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_streams import create

pytestmark = pytest.mark.servers

REDIS = stream_pb2.RedisStreamSink(stream="laurel-events")
NATS = stream_pb2.NatsStreamSink(stream="LAUREL", subject="laurel.events")


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_running(tmp_path) as server:
        yield server


@pytest.fixture
def settings(valkey_url: str, nats_server: NatsServer) -> dict[str, Any]:
    return {"redis_url": valkey_url, "nats_url": nats_server.url}


async def printed(output: asyncio.StreamReader, count: int, *, seconds: float = 30) -> list[str]:
    async with asyncio.timeout(seconds):
        return [(await output.readline()).decode().strip() for _ in range(count)]


async def acknowledged_in_redis(url: str) -> bool:
    async with Redis.from_url(url) as client:
        pending: Any = await client.xpending("laurel-events", "crm")
        return bool(pending["pending"] == 0)


async def acknowledged_in_nats(server: NatsServer) -> bool:
    client = await nats.connect(server.url)
    try:
        return not (await client.jetstream().consumer_info("LAUREL", "crm")).num_ack_pending
    finally:
        await client.close()


@pytest.mark.parametrize("broker", ["redis", "nats"])
async def test_the_guides_consumer_prints_each_event_and_goes_on_where_it_was(
    service: Service, feed: Feed, valkey_url: str, nats_server: NatsServer, broker: str
) -> None:
    if broker == "redis":
        await create(service, "crm", "*", redis=REDIS)
    else:
        await create(service, "crm", "*", nats=NATS)
    command = sys.executable, "-c", program("streams.md", f"python {broker}")
    environment = {"REDIS_URL": valkey_url, "NATS_URL": nats_server.url}
    await feed.tell("ada", points=5)
    async with printing(*command, environment=environment) as output:
        assert await printed(output, 2) == ["metric.recorded ada", "points.changed ada"]
        await feed.tell("bob")
        assert await printed(output, 1) == ["metric.recorded bob"]
        # What is printed is acknowledged a moment later; killed in between, it would come again.
        if broker == "redis":
            await until(partial(acknowledged_in_redis, valkey_url), seconds=20, what="all is acknowledged")
        else:
            await until(partial(acknowledged_in_nats, nats_server), seconds=20, what="all is acknowledged")
    await feed.tell("cyd", "dan")
    async with printing(*command, environment=environment) as output:
        assert await printed(output, 2) == ["metric.recorded cyd", "metric.recorded dan"]
