"""The consumers of docs/guides/streams.md, run as they stand there."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from laurel.notification.v1 import stream_pb2

from tests.fixtures.nats import NatsServer, nats_running
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_streams import create

pytestmark = pytest.mark.servers

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "streams.md"
REDIS = stream_pb2.RedisStreamSink(stream="laurel-events")
NATS = stream_pb2.NatsStreamSink(stream="LAUREL", subject="laurel.events")


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_running(tmp_path) as server:
        yield server


@pytest.fixture
def settings(valkey_url: str, nats_server: NatsServer) -> dict[str, Any]:
    return {"redis_url": valkey_url, "nats_url": nats_server.url}


@asynccontextmanager
async def consuming(name: str, **environment: str) -> AsyncIterator[asyncio.StreamReader]:
    """What a program of the guide prints while it runs."""
    found = re.search(rf"```python {name}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", found[1], env={**os.environ, **environment}, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def printed(output: asyncio.StreamReader, count: int) -> list[str]:
    async with asyncio.timeout(30):
        return [(await output.readline()).decode().strip() for _ in range(count)]


@pytest.mark.parametrize("broker", ["redis", "nats"])
async def test_the_guides_consumer_prints_each_event_and_goes_on_where_it_was(
    service: Service, feed: Feed, valkey_url: str, nats_server: NatsServer, broker: str
) -> None:
    if broker == "redis":
        await create(service, "crm", "*", redis=REDIS)
    else:
        await create(service, "crm", "*", nats=NATS)
    environment = {"REDIS_URL": valkey_url, "NATS_URL": nats_server.url}
    await feed.tell("ada", points=5)
    async with consuming(broker, **environment) as output:
        assert await printed(output, 2) == ["metric.recorded ada", "points.changed ada"]
        await feed.tell("bob")
        assert await printed(output, 1) == ["metric.recorded bob"]
        # What is printed is acknowledged a moment later: another one proves that it was.
        await feed.tell("bob")
        assert await printed(output, 1) == ["metric.recorded bob"]
    await feed.tell("cyd", "dan")
    async with consuming(broker, **environment) as output:
        lines = await printed(output, 2)
        if lines[0] == "metric.recorded bob":
            # Killed before it had acknowledged the last one, which it had printed: that comes again.
            lines = [*lines[1:], *await printed(output, 1)]
        assert lines == ["metric.recorded cyd", "metric.recorded dan"]
