"""The life of a service: ready, serving, stopped; and what is seen of it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import errors
from shared.config import ConfigurationError
from shared.rpc.server import Running, running, serve
from shared.telemetry import Telemetry
from tests.fixtures.echo import (
    NAME,
    NOT_SERVING,
    SERVING,
    EchoStub,
    Held,
    dial,
    echo,
    failure,
    health,
    same,
    say,
    settings,
)


async def test_health_says_not_serving_until_every_check_passes_and_again_when_one_fails() -> None:
    broken = {"schema", "database"}

    def check(name: str) -> Callable[[], Awaitable[None]]:
        async def passes() -> None:
            if name in broken:
                raise ConnectionError(f"{name} is away")

        return passes

    checks = {name: check(name) for name in sorted(broken)}
    async with running(echo(same, checks=checks), settings()) as server, dial(server) as channel:
        assert await health(channel, NAME) == NOT_SERVING
        broken.remove("schema")
        await server.readiness.evaluate()
        assert (await health(channel), await health(channel, NAME)) == (NOT_SERVING, NOT_SERVING)
        broken.clear()
        await server.readiness.evaluate()
        assert (await health(channel), await health(channel, NAME)) == (SERVING, SERVING)
        broken.add("database")
        await server.readiness.evaluate()
        assert (await health(channel), await health(channel, NAME)) == (NOT_SERVING, NOT_SERVING)


async def test_reflection_lists_the_service() -> None:
    async with running(echo(same), settings()) as server, dial(server) as channel:
        untyped: Any = channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]), timeout=5)]
    assert NAME in [service.name for service in answers[0].list_services_response.service]


async def test_stopping_lets_calls_finish_then_ends_background_work_then_closes() -> None:
    held = Held()
    ended: list[str] = []

    async def answer(text: str) -> str:
        await held(text)
        ended.append("answered")
        return text

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("background")

    async def close() -> None:
        ended.append("closed")

    async def fails_to_close() -> None:
        raise RuntimeError("cannot close")

    application = echo(answer, background={"work": background}, close=[fails_to_close, close])
    server_context = running(application, settings())
    server = await server_context.__aenter__()
    async with dial(server) as channel, dial(server) as watcher:
        health_stub: Any = health_pb2_grpc.HealthStub(watcher)
        statuses = health_stub.Watch(health_pb2.HealthCheckRequest())
        while (await statuses.read()).status != SERVING:
            pass
        finishing = asyncio.create_task(say(channel, "a"))
        await held.arrived.get()
        stopping = asyncio.create_task(_leave(server_context))
        assert (await statuses.read()).status == NOT_SERVING
        statuses.cancel()
        async with dial(server) as late:
            assert type(await failure(say(late, "b", timeout_seconds=2))) is errors.Unavailable
        assert ended == []
        held.release.set()
        assert await finishing == "a"
        await stopping
    assert ended == ["answered", "background", "closed"]


async def _leave(context: AbstractAsyncContextManager[Running]) -> None:
    await context.__aexit__(None, None, None)


async def test_a_call_that_outlasts_the_grace_is_cut_off() -> None:
    held = Held()
    async with running(echo(held), settings(drain_grace_seconds=0.05)) as server:
        channel = dial(server)
        lasting = asyncio.create_task(say(channel, "a"))
        await held.arrived.get()
    assert await held.cancelled.get() == "a"
    assert isinstance(await failure(lasting), errors.Unavailable | errors.Cancelled)
    await channel.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_serving(number: signal.Signals) -> None:
    started, closed = asyncio.Event(), asyncio.Event()

    async def tell_started() -> None:
        started.set()

    async def close() -> None:
        closed.set()

    application = echo(same, background={"tell": tell_started}, close=[close])
    serving = asyncio.create_task(serve(application, settings()))
    await started.wait()
    os.kill(os.getpid(), number)
    await serving
    assert closed.is_set()


async def test_background_work_that_crashes_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    runs: asyncio.Queue[int] = asyncio.Queue()

    async def crashes_once() -> None:
        runs.put_nowait(1)
        if "crash" not in caplog.text:
            raise RuntimeError("once")

    async with running(echo(same, background={"fragile": crashes_once}), settings()):
        assert [await runs.get(), await runs.get()] == [1, 1]
    assert "background work crashed" in caplog.text


async def test_an_address_in_use_is_a_configuration_error_and_everything_is_closed() -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    async with running(echo(same), settings()) as server:
        taken = settings(listen=f"127.0.0.1:{server.port}")
        with pytest.raises(ConfigurationError, match="LAUREL_LISTEN"):
            await serve(echo(same, close=[close]), taken)
    assert closed == [True]


async def test_one_trace_leads_from_the_caller_through_the_server() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(
        True, provider.get_tracer("test"), MeterProvider().get_meter("test"), provider.shutdown
    )

    async def inner(text: str) -> str:
        with telemetry.tracer.start_as_current_span("inside"):
            return text

    async with (
        running(echo(inner, telemetry=telemetry), settings()) as server,
        dial(server, telemetry) as channel,
    ):
        with telemetry.tracer.start_as_current_span("caller"):
            assert await say(channel, "a") == "a"
            spelt = EchoStub(channel).spell(StringValue(value="b"), timeout=5)
            assert [answer.value async for answer in spelt] == ["b"]
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert len({span.context.trace_id for span in spans.values() if span.context}) == 1
    called = spans[f"{NAME}/Say"]
    assert called.parent is not None
    assert spans["caller"].context is not None
    assert called.parent.span_id == spans["caller"].context.span_id
