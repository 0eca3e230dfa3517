"""The runtime around a small service: a real server, a real channel."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import errors
from shared.config import ConfigurationError, Settings, load
from shared.errors import FieldViolation, LaurelError, from_rpc_error
from shared.rpc.channel import call, open_channel
from shared.rpc.deadline import time_remaining
from shared.rpc.server import Application, Running, Servicer, running, serve
from shared.telemetry import Telemetry, off

NAME = "laurel.test.v1.EchoService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Behaviour = Callable[[str], Awaitable[str]]


class Echo:
    """Answers with what `behaviour` makes of the request; streams answer each letter, or each request."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    async def say(self, request: StringValue, _context: object) -> StringValue:
        return StringValue(value=await self._behaviour(request.value))

    async def spell(self, request: StringValue, _context: object) -> AsyncIterator[StringValue]:
        for letter in request.value:
            yield StringValue(value=await self._behaviour(letter))

    async def chat(
        self, requests: AsyncIterator[StringValue], _context: object
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield StringValue(value=await self._behaviour(request.value))


def _absent(_request: object, _context: object) -> Any:
    """What the generated base class has for a method that a servicer leaves out."""
    raise NotImplementedError


def add_echo(servicer: Echo, server: grpc.aio.Server) -> None:
    codec: dict[str, Any] = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(servicer.say, **codec),
        "Spell": grpc.unary_stream_rpc_method_handler(servicer.spell, **codec),
        "Chat": grpc.stream_stream_rpc_method_handler(servicer.chat, **codec),
        "Absent": grpc.unary_unary_rpc_method_handler(_absent, **codec),
        "AbsentStream": grpc.unary_stream_rpc_method_handler(_absent, **codec),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


class EchoStub:
    """What generated code would give."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        codec: dict[str, Any] = {
            "request_serializer": lambda request: (
                request if isinstance(request, bytes) else request.SerializeToString()
            ),
            "response_deserializer": StringValue.FromString,
        }
        self.say: Any = channel.unary_unary(f"/{NAME}/Say", **codec)
        self.spell: Any = channel.unary_stream(f"/{NAME}/Spell", **codec)
        self.chat: Any = channel.stream_stream(f"/{NAME}/Chat", **codec)


def settings(**overrides: Any) -> Settings:
    given: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "postgres_dsn": "postgresql://nowhere/none",
        **overrides,
    }
    return load(Settings, **given)


def echo(behaviour: Behaviour, **parts: Any) -> Application:
    return Application("test", [Servicer(add_echo, Echo(behaviour), NAME)], **parts)


async def same(text: str) -> str:
    return text


def raising(error: Exception) -> Behaviour:
    async def behaviour(_text: str) -> str:
        raise error

    return behaviour


class Held:
    """A behaviour that answers when it is let go, and that tells when calls arrive and how they end."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.release = asyncio.Event()

    async def __call__(self, text: str) -> str:
        self.arrived.put_nowait(text)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.put_nowait(text)
            raise
        return text


def dial(server: Running, telemetry: Telemetry | None = None) -> grpc.aio.Channel:
    return open_channel(f"127.0.0.1:{server.port}", max_message_bytes=1 << 20, telemetry=telemetry or off())


async def say(channel: grpc.aio.Channel, text: str, timeout_seconds: float = 5) -> str:
    response = await call(EchoStub(channel).say, StringValue(value=text), timeout_seconds=timeout_seconds)
    assert isinstance(response, StringValue)
    return response.value


async def failure(awaitable: Awaitable[object]) -> LaurelError:
    """The error that this ends with."""
    with pytest.raises((LaurelError, grpc.aio.AioRpcError)) as raised:
        await awaitable
    error = raised.value
    if isinstance(error, grpc.aio.AioRpcError):
        return from_rpc_error(error)
    assert isinstance(error, LaurelError)
    return error


async def health(channel: grpc.aio.Channel, name: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status)


async def test_a_typed_error_reaches_the_caller_with_every_detail() -> None:
    sent = errors.FailedPrecondition(
        "not enough points: größer",
        reason="INSUFFICIENT_POINTS",
        metadata={"system": "xp"},
        violations=(FieldViolation("value", "is too much"),),
        retry_after_seconds=2,
    )
    async with running(echo(raising(sent)), settings()) as server, dial(server) as channel:
        received = await failure(say(channel, "x"))
    assert type(received) is errors.FailedPrecondition
    assert received.message == sent.message
    assert received.domain == "test.laurel"
    assert (received.reason, received.metadata) == (sent.reason, sent.metadata)
    assert (received.violations, received.retry_after_seconds) == (sent.violations, 2)


async def test_a_thousand_violations_arrive_as_one_error() -> None:
    violations = tuple(
        FieldViolation(f"events[{n}].value", "darf nicht null sein: größer") for n in range(1_000)
    )
    sent = errors.InvalidArgument("ö" * 5_000, reason="INVALID_FIELDS", violations=violations)
    async with running(echo(raising(sent)), settings()) as server, dial(server) as channel:
        received = await failure(say(channel, "x"))
    assert (type(received), received.reason) == (errors.InvalidArgument, "INVALID_FIELDS")
    assert len(received.violations) > 10


async def test_a_defect_tells_the_caller_nothing_but_a_number_that_the_log_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    defect = KeyError("alice's secret")
    async with running(echo(raising(defect)), settings()) as server, dial(server) as channel:
        received = await failure(say(channel, "x"))
    assert (type(received), received.message, received.reason) == (
        errors.Internal,
        "an internal error",
        "INTERNAL",
    )
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(record)["incident"] == received.metadata["incident"]
    assert record.exc_info is not None
    assert record.exc_info[1] is defect


@pytest.mark.parametrize("lost", [ConnectionRefusedError(), TimeoutError(), FileNotFoundError("no socket")])
async def test_a_lost_dependency_is_unavailable_and_not_a_defect(lost: Exception) -> None:
    async with running(echo(raising(lost)), settings()) as server, dial(server) as channel:
        received = await failure(say(channel, "x"))
    assert (type(received), received.reason) == (errors.Unavailable, "DEPENDENCY_UNAVAILABLE")


async def test_an_error_of_another_service_passes_with_its_domain() -> None:
    async def forward(text: str) -> str:
        return await say(inner_channel, text)

    refused = errors.NotFound("no such streak", reason="UNKNOWN_STREAK", domain="streak.laurel")
    async with (
        running(echo(raising(refused)), settings()) as inner,
        dial(inner) as inner_channel,
        running(echo(forward), settings()) as outer,
        dial(outer) as channel,
    ):
        received = await failure(say(channel, "x"))
    assert (received.reason, received.domain) == ("UNKNOWN_STREAK", "streak.laurel")


async def test_a_request_that_cannot_be_parsed_is_the_callers_error() -> None:
    async def requests() -> AsyncIterator[Any]:
        yield StringValue(value="a")
        yield b"\xff\xff"

    async with running(echo(same), settings()) as server, dial(server) as channel:
        stub = EchoStub(channel)
        received = await failure(stub.say(b"\xff\xff", timeout=5))
        assert (type(received), received.reason) == (errors.InvalidArgument, "MALFORMED_REQUEST")
        answers = stub.chat(requests(), timeout=5)
        assert (await answers.read()).value == "a"
        assert (await failure(answers.read())).reason == "MALFORMED_REQUEST"


async def test_a_method_that_is_left_out_or_not_there_is_unimplemented() -> None:
    async with running(echo(same), settings()) as server, dial(server) as channel:
        for method in ("Absent", "NoSuchMethod"):
            left_out: Any = channel.unary_unary(f"/{NAME}/{method}")
            assert type(await failure(left_out(b"", timeout=5))) is errors.Unimplemented
        stream: Any = channel.unary_stream(f"/{NAME}/AbsentStream")
        assert type(await failure(stream(b"", timeout=5).read())) is errors.Unimplemented


async def test_streams_carry_answers_and_then_the_error() -> None:
    async def until_x(letter: str) -> str:
        if letter == "x":
            raise errors.NotFound("no x", reason="NO_X")
        return letter

    async def requests() -> AsyncIterator[StringValue]:
        for letter in "abx":
            yield StringValue(value=letter)

    async with running(echo(until_x), settings()) as server, dial(server) as channel:
        stub = EchoStub(channel)
        assert [answer.value async for answer in stub.spell(StringValue(value="abc"), timeout=5)] == list(
            "abc"
        )
        for stream in (stub.spell(StringValue(value="abx"), timeout=5), stub.chat(requests(), timeout=5)):
            assert [(await stream.read()).value, (await stream.read()).value] == ["a", "b"]
            assert (await failure(stream.read())).reason == "NO_X"
        assert server.boundary.in_flight == 0


async def test_what_is_above_the_limit_is_refused_at_once_while_health_answers() -> None:
    held = Held()
    limits = settings(max_concurrent_rpcs=2)
    async with running(echo(held), limits) as server, dial(server) as channel:
        admitted = [asyncio.create_task(say(channel, text)) for text in "ab"]
        for _ in admitted:
            await held.arrived.get()
        refused = await failure(say(channel, "c"))
        assert (type(refused), refused.reason) == (errors.ResourceExhausted, "OVERLOADED")
        assert refused.retry_after_seconds
        assert await health(channel) == SERVING
        held.release.set()
        assert await asyncio.gather(*admitted) == ["a", "b"]
        assert await say(channel, "d") == "d"


async def test_a_call_without_a_deadline_gets_the_default_one() -> None:
    held = Held()
    async with (
        running(echo(held), settings(default_deadline_seconds=0.05)) as server,
        dial(server) as channel,
    ):
        received = await failure(EchoStub(channel).say(StringValue(value="a")))
        assert (type(received), received.reason) == (errors.DeadlineExceeded, "DEFAULT_DEADLINE_EXCEEDED")
        assert await held.cancelled.get() == "a"


async def test_a_time_out_of_a_handlers_own_is_not_taken_for_the_deadline() -> None:
    async def impatient(_text: str) -> str:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        return ""

    async with running(echo(impatient), settings()) as server, dial(server) as channel:
        assert (await failure(EchoStub(channel).say(StringValue()))).reason == "DEPENDENCY_UNAVAILABLE"


async def test_a_handler_can_read_how_much_time_is_left() -> None:
    async def left(_text: str) -> str:
        return str(time_remaining())

    async with (
        running(echo(left), settings(default_deadline_seconds=1_000)) as server,
        dial(server) as channel,
    ):
        # The deadline travels as a duration that is rounded up.
        assert 0 < float(await say(channel, "", timeout_seconds=50)) < 51
        assert 900 < float((await EchoStub(channel).say(StringValue())).value) <= 1_000
        spelt = EchoStub(channel).spell(StringValue(value="a"))
        assert (await spelt.read()).value == "None"


@pytest.mark.parametrize("method", ["say", "spell"])
async def test_a_call_that_its_caller_cancels_ends_as_cancelled_and_not_as_an_error(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    async with running(echo(held), settings()) as server, dial(server) as channel:
        pending = getattr(EchoStub(channel), method)(StringValue(value="a"), timeout=30)
        waiting = asyncio.ensure_future(pending.read() if method == "spell" else pending)
        await held.arrived.get()
        pending.cancel()
        assert await held.cancelled.get() == "a"
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert server.boundary.in_flight == 0
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_callers_deadline_cancels_the_handler() -> None:
    held = Held()
    async with running(echo(held), settings()) as server, dial(server) as channel:
        received = await failure(say(channel, "a", timeout_seconds=0.05))
        assert type(received) is errors.DeadlineExceeded
        assert await held.cancelled.get() == "a"


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
