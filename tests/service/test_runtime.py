"""Calls through the runtime: errors, limits, deadlines."""

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from shared import errors
from shared.errors import FieldViolation
from shared.rpc.deadline import time_remaining
from shared.rpc.server import running
from tests.fixtures.echo import (
    NAME,
    SERVING,
    EchoStub,
    Held,
    dial,
    echo,
    failure,
    health,
    raising,
    same,
    say,
    settings,
)


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


async def test_what_one_connection_has_too_much_waits_and_others_are_refused() -> None:
    held = Held()
    limits = settings(max_concurrent_rpcs=100)
    apart = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        running(echo(held), limits) as server,
        dial(server) as channel,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=apart) as another,
    ):
        calls = [
            asyncio.create_task(say(channel, str(number), timeout_seconds=3_600)) for number in range(150)
        ]
        for _ in range(100):
            await held.arrived.get()
        assert (await failure(say(another, "other"))).reason == "OVERLOADED"
        held.release.set()
        assert await asyncio.gather(*calls) == [str(number) for number in range(150)]


async def refusal(channel: grpc.aio.Channel, text: str) -> errors.LaurelError:
    """What a call ends with. On busy processors gRPC now and then never hands over the message of one of so many
    calls: that one ends at its deadline, and is sent again as every client does it (RULES 7.5).
    """
    error = await failure(say(channel, text, timeout_seconds=30))
    if isinstance(error, errors.DeadlineExceeded):
        error = await failure(say(channel, text, timeout_seconds=30))
    return error


async def test_in_a_storm_of_calls_everybody_is_refused_with_the_reason() -> None:
    held = Held()
    async with (
        running(echo(held), settings(max_concurrent_rpcs=1)) as server,
        dial(server) as channel,
    ):
        first = asyncio.create_task(say(channel, "first", timeout_seconds=3_600))
        await held.arrived.get()
        storm = (refusal(channel, str(number)) for number in range(5_000))
        reasons = Counter(error.reason for error in await asyncio.gather(*storm))
        assert reasons == {"OVERLOADED": 5_000}
        held.release.set()
        assert await first == "first"


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


BIG = "x" * 700_000


async def test_a_request_that_is_too_much_beside_those_that_are_held_is_refused_at_once() -> None:
    held = Held()
    limits = settings(max_held_bytes=1_048_576)
    async with running(echo(held), limits) as server, dial(server) as channel:
        first = asyncio.create_task(say(channel, BIG))
        await held.arrived.get()
        refused = await failure(say(channel, BIG))
        assert (type(refused), refused.reason) == (errors.ResourceExhausted, "OVERLOADED")
        assert refused.retry_after_seconds is not None
        held.release.set()
        assert await say(channel, "small") == "small"
        assert await first == BIG
        assert await say(channel, BIG) == BIG


async def test_a_message_of_a_stream_that_is_too_much_beside_those_that_are_held_ends_it() -> None:
    held = Held()
    limits = settings(max_held_bytes=1_048_576)
    async with running(echo(held), limits) as server, dial(server) as channel:
        first = asyncio.create_task(say(channel, BIG))
        await held.arrived.get()

        async def chat() -> list[str]:
            answers = EchoStub(channel).chat(iter([StringValue(value=BIG)]), timeout=5)
            return [answer.value async for answer in answers]

        assert (await failure(chat())).reason == "OVERLOADED"
        held.release.set()
        await first
        assert await chat() == [BIG]


async def test_of_a_call_that_failed_nothing_is_kept_though_the_garbage_collector_never_comes() -> None:
    async def refuse(_text: str) -> str:
        try:
            raise LookupError
        except LookupError as error:
            raise errors.NotFound("none", reason="NONE") from error

    async with running(echo(refuse), settings()) as server, dial(server) as channel:
        # As bytes: the caller's own message would be among what is looked for.
        big = StringValue(value=BIG).SerializeToString()
        gc.collect()
        gc.disable()
        try:
            for request in (big, big, big, b""):
                error = await failure(EchoStub(channel).say(request, timeout=5))
                assert error.reason == "NONE"
            held = [each for each in gc.get_objects() if isinstance(each, StringValue) and each.value == BIG]
            assert held == []
        finally:
            gc.enable()
