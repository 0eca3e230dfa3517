"""Call after call over streams that stay open, between real servers and real channels (docs/adr/0033)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2_grpc as pb_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import errors
from shared.rpc.boundary import in_turn
from shared.rpc.channel import open_channel
from shared.rpc.deadline import time_remaining
from shared.rpc.outgoing import Credentials
from shared.rpc.server import Application, Running, Servicer, running
from shared.rpc.turns import Turns
from shared.telemetry import Telemetry, off
from tests.fixtures.echo import Held, failure, same, settings

NAME = pb.DESCRIPTOR.services_by_name["ParticipantService"].full_name
TOKEN = "0123456789abcdef0123456789abcdef"

Behaviour = Callable[[str], Awaitable[str]]


class Answering(pb_grpc.ParticipantServiceServicer):
    """Answers each command with what `behaviour` makes of its entry's id, and writes down how it was called."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.methods: list[str] = []
        self.streams: set[Any] = set()

    async def ApplyEntries(self, request: pb.ApplyEntriesRequest, _context: Any) -> pb.ApplyEntriesResponse:
        self.methods.append("ApplyEntries")
        return await self._answers(request)

    @in_turn
    async def ApplyEntriesInTurn(self, request: pb.ApplyEntriesInTurnRequest, context: Any) -> Any:
        self.methods.append("ApplyEntriesInTurn")
        self.streams.add(context)
        return await self._answers(request)

    async def _answers(self, request: Any) -> pb.ApplyEntriesResponse:
        ids = [await self._behaviour(command.entry.entry_id) for command in request.commands]
        return pb.ApplyEntriesResponse(outcomes=[pb.Outcome(entry_id=each) for each in ids])


def answers_with(behaviour: Behaviour) -> Answering:
    return Answering(behaviour)  # type: ignore[abstract]  # entries are all that it knows of


def add_older(servicer: Answering, server: grpc.aio.Server) -> None:
    """What a release registers that knows no streams of calls."""
    apply = grpc.unary_unary_rpc_method_handler(
        servicer.ApplyEntries, pb.ApplyEntriesRequest.FromString, pb.ApplyEntriesResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {"ApplyEntries": apply}),))


def answering(servicer: Answering, *, older: bool = False, **parts: Any) -> Application:
    add: Any = add_older if older else pb_grpc.add_ParticipantServiceServicer_to_server
    return Application("test", [Servicer(add, servicer, NAME)], **parts)


class Clock:
    """Stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Calling:
    """A channel to servers, and calls over it. Its streams end with it."""

    def __init__(
        self,
        *servers: Running,
        timeout_seconds: float = 5,
        token: str | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.clock = Clock()
        self.channel = open_channel(
            ",".join(f"127.0.0.1:{server.port}" for server in servers),
            max_message_bytes=1 << 20,
            telemetry=telemetry or off(),
            credentials=Credentials(token),
        )
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, pb.ApplyEntriesResponse] = self.channel.unary_unary(
            f"/{NAME}/ApplyEntries", response_deserializer=pb.ApplyEntriesResponse.FromString
        )
        self.turns: Turns[pb.ApplyEntriesResponse] = Turns(
            self.channel,
            f"/{NAME}/ApplyEntriesInTurn",
            unary,
            pb.ApplyEntriesInTurnRequest,
            pb.ApplyEntriesResponse.FromString,
            timeout_seconds=timeout_seconds,
            monotonic=self.clock,
        )

    async def __aenter__(self) -> "Calling":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.turns.close()
        await self.channel.close()

    async def say(self, text: str) -> str:
        request = pb.ApplyEntriesRequest(commands=[pb.Command()])
        request.commands[0].entry.entry_id = text
        return (await self.turns.call(request.SerializeToString())).outcomes[0].entry_id


def test_requests_and_responses_of_both_forms_are_the_same_bytes() -> None:
    request = pb.ApplyEntriesRequest(commands=[pb.Command(digest=b"d")])
    response = pb.ApplyEntriesResponse(outcomes=[pb.Outcome(entry_id="e")])
    assert pb.ApplyEntriesInTurnRequest.FromString(request.SerializeToString()).commands == request.commands
    assert (
        pb.ApplyEntriesInTurnResponse.FromString(response.SerializeToString()).outcomes == response.outcomes
    )


async def test_calls_use_the_same_few_streams_again() -> None:
    servicer = answers_with(same)
    async with running(answering(servicer), settings()) as server, Calling(server) as calling:
        said = [await calling.say(str(number)) for number in range(40)]
    assert said == [str(number) for number in range(40)]
    assert servicer.methods == ["ApplyEntriesInTurn"] * 40
    assert len(servicer.streams) < 10


async def test_calls_at_once_do_not_wait_for_one_another() -> None:
    held = Held()
    async with running(answering(answers_with(held)), settings()) as server, Calling(server) as calling:
        texts = [str(number) for number in range(50)]
        under_way = [asyncio.create_task(calling.say(text)) for text in texts]
        arrived = {await held.arrived.get() for _ in texts}
        held.release.set()
        assert await asyncio.gather(*under_way) == texts
    assert arrived == set(texts)


async def test_a_call_that_fails_ends_with_its_own_error_and_the_next_goes_on() -> None:
    sent = errors.FailedPrecondition("no", reason="NO", metadata={"of": "it"}, retry_after_seconds=2)

    async def behaviour(text: str) -> str:
        if text == "bad":
            raise sent
        return text

    async with running(answering(answers_with(behaviour)), settings()) as server, Calling(server) as calling:
        for number in range(10):
            received = await failure(calling.say("bad"))
            assert type(received) is errors.FailedPrecondition
            assert (received.reason, received.metadata, received.retry_after_seconds) == (
                "NO",
                {"of": "it"},
                2,
            )
            assert await calling.say(str(number)) == str(number)
    assert server.boundary.in_flight == 0


async def test_a_request_that_is_no_message_is_the_callers_error() -> None:
    async with running(answering(answers_with(same)), settings()) as server, Calling(server) as calling:
        received = await failure(calling.turns.call(b"\xff"))
        assert (type(received), received.reason) == (errors.InvalidArgument, "MALFORMED_REQUEST")


async def test_a_call_that_takes_too_long_is_cancelled_there_and_the_next_goes_on() -> None:
    held = Held()
    async with (
        running(answering(answers_with(held)), settings()) as server,
        Calling(server, timeout_seconds=0.1) as calling,
        Calling(server) as patient,
    ):
        assert type(await failure(calling.say("late"))) is errors.DeadlineExceeded
        assert await held.cancelled.get() == "late"
        held.release.set()
        assert await patient.say("next") == "next"


async def test_each_call_has_a_deadline_of_its_own() -> None:
    left: list[float | None] = []

    async def behaviour(text: str) -> str:
        left.append(time_remaining())
        return text

    async with (
        running(answering(answers_with(behaviour)), settings()) as server,
        Calling(server, timeout_seconds=30) as calling,
    ):
        for number in range(8):
            await calling.say(str(number))
    assert all(seconds is not None and 20 < seconds <= 30 for seconds in left)


async def test_streams_at_rest_count_for_no_limit_and_calls_over_them_do() -> None:
    held = Held()
    limits = settings(max_concurrent_rpcs=1)
    async with running(answering(answers_with(held)), limits) as server, Calling(server) as calling:
        held.release.set()
        for number in range(8):
            await calling.say(str(number))
        assert server.boundary.in_flight == 0
        held.release.clear()
        while not held.arrived.empty():
            held.arrived.get_nowait()
        first = asyncio.create_task(calling.say("first"))
        await held.arrived.get()
        refused = await failure(calling.say("second"))
        assert (type(refused), refused.reason) == (errors.ResourceExhausted, "OVERLOADED")
        held.release.set()
        assert await first == "first"


async def test_bytes_of_requests_over_streams_are_counted_while_they_are_held() -> None:
    held = Held()
    big = "x" * 700_000
    limits = settings(max_held_bytes=1_048_576)
    async with running(answering(answers_with(held)), limits) as server, Calling(server) as calling:
        first = asyncio.create_task(calling.say(big))
        await held.arrived.get()
        assert (await failure(calling.say(big))).reason == "OVERLOADED"
        held.release.set()
        assert await first == big
        assert await calling.say(big) == big


async def test_a_stop_waits_for_calls_under_way_and_not_for_streams_at_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held()
    held.release.set()
    begun = asyncio.Event()
    application = answering(answers_with(held), drain=[begun.set])
    context = running(application, settings(drain_grace_seconds=600))
    async with Calling(await context.__aenter__()) as calling:
        for number in range(8):
            await calling.say(str(number))
            await held.arrived.get()
        held.release.clear()
        finishing = asyncio.create_task(calling.say("last"))
        await held.arrived.get()
        stopping = asyncio.create_task(context.__aexit__(None, None, None))
        await begun.wait()
        held.release.set()
        assert await finishing == "last"
        await stopping
        assert type(await failure(calling.say("nobody is there"))) is errors.Unavailable
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_call_that_finds_its_stream_broken_is_sent_again_to_who_is_there() -> None:
    async with AsyncExitStack() as stack:
        async with running(answering(answers_with(same)), settings()) as server:
            calling = await stack.enter_async_context(Calling(server))
            for number in range(8):
                await calling.say(str(number))
        async with running(answering(answers_with(same)), settings(listen=f"127.0.0.1:{server.port}")):
            while isinstance(await _tried(calling), errors.Unavailable):
                pass  # grpc connects anew within a second
            for number in range(12):
                assert await calling.say(str(number)) == str(number)


async def _tried(calling: Calling) -> str | errors.LaurelError:
    try:
        return await calling.say("x")
    except errors.LaurelError as error:
        return error


async def test_a_replica_that_goes_away_in_the_middle_leaves_the_call_unknown() -> None:
    held = Held()
    context = running(answering(answers_with(held)), settings(drain_grace_seconds=0.05))
    server = await context.__aenter__()
    async with Calling(server) as calling:
        lasting = asyncio.create_task(calling.say("a"))
        await held.arrived.get()
        await context.__aexit__(None, None, None)
        assert isinstance(await failure(lasting), errors.Unavailable | errors.Cancelled)


async def test_replicas_have_as_many_calls_and_new_ones_have_theirs_when_streams_are_renewed() -> None:
    servicers = [answers_with(same), answers_with(same)]
    async with (
        running(answering(servicers[0]), settings()) as first,
        running(answering(servicers[1]), settings()) as second,
        Calling(first, second) as calling,
    ):
        while not all(servicer.methods for servicer in servicers):  # connections to both are there
            calling.clock.now += 60
            await calling.say("x")
        calling.clock.now += 60
        for servicer in servicers:
            servicer.methods.clear()
        for number in range(24):
            await calling.say(str(number))
        assert [len(servicer.methods) for servicer in servicers] == [12, 12]


async def test_a_replica_of_the_release_before_is_called_without_streams_and_asked_again_later() -> None:
    older, newer = answers_with(same), answers_with(same)
    async with AsyncExitStack() as stack:
        async with running(answering(older, older=True), settings()) as server:
            calling = await stack.enter_async_context(Calling(server))
            assert [await calling.say("a"), await calling.say("b")] == ["a", "b"]
        assert older.methods == ["ApplyEntries"] * 2
        async with running(answering(newer), settings(listen=f"127.0.0.1:{server.port}")):
            calling.clock.now += 60
            while isinstance(await _tried(calling), errors.Unavailable):
                pass
            assert await calling.say("c") == "c"
    assert set(newer.methods) == {"ApplyEntriesInTurn"}


async def test_while_releases_change_every_call_is_answered_whoever_has_it() -> None:
    older, newer = answers_with(same), answers_with(same)
    async with (
        running(answering(older, older=True), settings()) as first,
        running(answering(newer), settings()) as second,
        Calling(first, second) as calling,
    ):
        for number in range(60):
            calling.clock.now += number
            assert await calling.say(str(number)) == str(number)
    assert set(older.methods) == {"ApplyEntries"}
    assert "ApplyEntriesInTurn" in newer.methods


@pytest.mark.parametrize("token", [None, "f" * 32])
async def test_who_shows_no_credential_may_not_call_over_a_stream(token: str | None) -> None:
    servicer = answers_with(same)
    async with running(answering(servicer), settings(service_token=TOKEN)) as server:
        async with Calling(server, token=token) as calling:
            assert type(await failure(calling.say("a"))) is errors.Unauthenticated
        assert servicer.methods == []
        async with Calling(server, token=TOKEN) as calling:
            assert [await calling.say(each) for each in "abcdefgh"] == list("abcdefgh")


@pytest.mark.parametrize("token", [None, "a wrong token that is as long as one"])
async def test_who_shows_no_credential_has_no_stream_at_rest(token: str | None) -> None:
    async with running(answering(answers_with(same)), settings(service_token=TOKEN)) as server:
        metadata = [("authorization", f"Bearer {token}")] if token else []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stream = pb_grpc.ParticipantServiceStub(channel).ApplyEntriesInTurn(metadata=metadata)
            assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
        assert server.boundary.in_flight == 0


async def test_each_call_belongs_to_the_trace_of_its_caller() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(
        True, provider.get_tracer("test"), MeterProvider().get_meter("test"), provider.shutdown
    )
    async with (
        running(answering(answers_with(same), telemetry=telemetry), settings()) as server,
        Calling(server, telemetry=telemetry) as calling,
    ):
        for number in range(14):
            with telemetry.tracer.start_as_current_span(f"caller {number}"):
                await calling.say(str(number))
    spans = exporter.get_finished_spans()
    callers = [span.context.span_id for span in spans if span.name.startswith("caller") and span.context]
    served = [span.parent.span_id for span in spans if span.name.endswith("InTurn") and span.parent]
    assert served == callers
