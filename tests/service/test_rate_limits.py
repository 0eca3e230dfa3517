"""How often keys may be used, over replicas that share a Valkey (RULES 9.2)."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from pydantic import SecretStr

from deploy.local.valkey import ValkeyServer
from shared.redis.client import create_client
from shared.redis.rate_limits import RateLimits, rate_limits
from shared.rpc.access import Rate
from shared.telemetry import off
from tests.fixtures.echo import settings

SLOW = Rate("0123456789abcdef", 0.01, 10)
"""Gives ten at once, and then nothing for longer than a test takes."""


PATIENT_SECONDS = 60.0
"""No busy machine lets a question pass unanswered."""


def total(reader: InMemoryMetricReader, name: str) -> float:
    """What a counter has come to."""
    data = reader.get_metrics_data()
    assert data is not None
    points = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]
    return sum(point.value for point in points if isinstance(point, NumberDataPoint))


@pytest.fixture
async def replicas(valkey_url: str) -> AsyncIterator[list[RateLimits]]:
    found = settings(redis_url=SecretStr(valkey_url))
    made = [rate_limits(found, off(), timeout_seconds=PATIENT_SECONDS) for _ in range(3)]
    yield made
    for each in made:
        await each.close()


async def test_replicas_together_let_through_what_the_bucket_holds_and_no_more(
    replicas: list[RateLimits],
) -> None:
    waits = await asyncio.gather(*(replicas[turn % 3].take(SLOW, 1) for turn in range(300)))
    assert sorted(waits)[:10] == [0.0] * 10
    assert all(0 < wait <= 100 for wait in sorted(waits)[10:])


async def test_over_a_while_no_more_passes_than_has_flowed_in(replicas: list[RateLimits]) -> None:
    rate = Rate("a", 200, 20)
    began = time.monotonic()
    passed = 0
    while passed < 60:
        waits = await asyncio.gather(*(each.take(rate, 1) for each in replicas))
        passed += waits.count(0.0)
        assert passed <= rate.burst + (time.monotonic() - began) * rate.per_second + 1


async def test_who_waits_as_told_is_let_through(replicas: list[RateLimits]) -> None:
    rate = Rate("a", 0.5, 1)
    assert await replicas[0].take(rate, 1) == 0
    wait = await replicas[1].take(rate, 1)
    assert 0 < wait <= 1 / rate.per_second
    await asyncio.sleep(wait)
    assert await replicas[1].take(rate, 1) == 0


async def test_keys_have_buckets_of_their_own(replicas: list[RateLimits]) -> None:
    assert await replicas[0].take(Rate("a", 0.01, 1), 1) == 0
    assert await replicas[0].take(Rate("b", 0.01, 1), 1) == 0
    assert await replicas[0].take(Rate("a", 0.01, 1), 1) > 0


async def test_what_is_more_than_the_bucket_holds_passes_while_it_is_full_and_is_owed(
    replicas: list[RateLimits],
) -> None:
    assert await replicas[0].take(SLOW, 25) == 0
    wait = await replicas[0].take(SLOW, 1)
    assert wait == pytest.approx((25 - 10 + 1) / SLOW.per_second, rel=0.01)


async def test_a_refusal_takes_nothing(replicas: list[RateLimits]) -> None:
    assert await replicas[0].take(SLOW, 8) == 0
    for _ in range(5):
        assert await replicas[0].take(SLOW, 3) > 0
    assert await replicas[0].take(SLOW, 2) == 0


async def test_another_limit_goes_on_with_what_was_taken(replicas: list[RateLimits]) -> None:
    assert await replicas[0].take(SLOW, 10) == 0
    assert await replicas[0].take(Rate(SLOW.key_id, 1_000_000, 100), 1) > 0


async def test_while_the_server_is_away_nobody_is_held_back_and_that_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ValkeyServer.start(tmp_path / "valkey")
    reader = InMemoryMetricReader()
    telemetry = structs.replace(off(), meter=MeterProvider([reader]).get_meter("test"))
    now = 100.0
    client = create_client(server.url, client_name="test", timeout_seconds=0.25)
    limits = RateLimits(client, telemetry, lambda: now)
    try:
        assert await limits.take(SLOW, 10) == 0
        assert await limits.take(SLOW, 1) > 0
        server.kill()
        assert await asyncio.gather(*(limits.take(SLOW, 1) for _ in range(5))) == [0.0] * 5
        assert await limits.take(SLOW, 1) == 0
        assert total(reader, "laurel.rate_limit.unasked") == 6
        assert "rate limits hold nobody back" in caplog.text
        server.restart()  # what was taken before is forgotten with all else
        now += 1
        assert await limits.take(SLOW, 10) == 0
        assert await limits.take(SLOW, 1) > 0
    finally:
        await limits.close()
        server.stop()


async def test_a_server_that_hangs_holds_nobody_back_for_long() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits = rate_limits(settings(redis_url=SecretStr(f"redis://127.0.0.1:{port}/0")), off())
    async with server, asyncio.timeout(5):
        assert await asyncio.gather(*(limits.take(SLOW, 1) for _ in range(50))) == [0.0] * 50
        await limits.close()


async def test_without_a_server_nobody_is_held_back() -> None:
    limits = rate_limits(settings(), off())
    assert [await limits.take(SLOW, 100) for _ in range(3)] == [0.0] * 3
    await limits.close()
