"""What `laurel_client` does around every call, blocking and asyncio, against real servers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
import grpc.aio
import laurel_client
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue
from laurel.common.v1 import error_pb2
from laurel.orchestrator.v1 import event_pb2, user_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb2
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub
from laurel_client import DEFAULT_TIMEOUT_SECONDS, MAX_ATTEMPTS, FieldViolation, LaurelError, channels

from shared.errors import Aborted, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from shared.errors import FieldViolation as Violation
from shared.rpc.server import running
from tests.fixtures.echo import EchoStub, echo, raising, same, settings
from tests.fixtures.ingest import METRIC, Ingest, ingest_server


class Client:
    """One way of calling a server: `blocking` calls run on a thread beside it."""

    def __init__(self, target: str, blocking: bool, **options: Any) -> None:
        self._blocking = blocking
        open_channel: Any = laurel_client.channel if blocking else laurel_client.aio_channel
        self._channel: Any = open_channel(target, **options)
        self.stub: Any = OrchestratorServiceStub(self._channel)
        self.echo: Any = EchoStub(self._channel)

    async def call(self, method: Any, request: Any, **options: Any) -> Any:
        """The response of a call with one."""
        if self._blocking:
            return await asyncio.to_thread(method, request, **options)
        return await method(request, **options)

    async def collect(self, method: Any, requests: Any) -> list[Any]:
        """The responses of a stream."""
        if self._blocking:
            return await asyncio.to_thread(lambda: list(method(requests)))
        return [response async for response in method(requests)]

    async def close(self) -> None:
        closing = self._channel.close()
        if closing is not None:
            await closing


@pytest.fixture(params=[True, False], ids=["blocking", "asyncio"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Client]]:
    """Clients of both kinds, closed after the test."""
    clients: list[Client] = []

    def open_client(target: str, **options: Any) -> Client:
        clients.append(Client(target, request.param, **options))
        return clients[-1]

    yield open_client
    for client in clients:
        await client.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Ingest, str]]:
    """What the server has received, and its address."""
    ingest = Ingest()
    async with running(ingest_server(ingest), settings()) as started:
        yield ingest, f"127.0.0.1:{started.port}"


@pytest.fixture
def ingest(server: tuple[Ingest, str]) -> Ingest:
    return server[0]


@pytest.fixture
async def client(server: tuple[Ingest, str], connect: Callable[..., Client]) -> Client:
    return connect(server[1])


def event(key: str = "", *, metric: str = METRIC, value: float = 1) -> event_pb2.IngestEventRequest:
    return event_pb2.IngestEventRequest(
        user=user_pb2.User(user_id="carol"), metric=metric, value=value, idempotency_key=key
    )


def unavailable() -> Unavailable:
    return Unavailable("the database is away", reason="DEPENDENCY_UNAVAILABLE")


async def failure(client: Client, method: Any, request: Any, **options: Any) -> LaurelError:
    with pytest.raises(LaurelError) as raised:
        await client.call(method, request, **options)
    return raised.value


def keys(requests: Iterable[Any]) -> list[str]:
    return [request.idempotency_key for request in requests]


async def test_a_call_is_sent_again_with_the_key_that_was_drawn_for_it(
    ingest: Ingest, client: Client
) -> None:
    ingest.failures.extend([unavailable(), unavailable()])

    reply = await client.call(client.stub.IngestEvent, event())

    assert reply.total_after == 1
    assert len(ingest.received) == 3
    (key,) = set(keys(ingest.received))
    assert key


async def test_a_request_object_that_is_sent_twice_means_two_events(ingest: Ingest, client: Client) -> None:
    request = event()

    await client.call(client.stub.IngestEvent, request)
    await client.call(client.stub.IngestEvent, request)

    assert len(set(keys(ingest.received))) == 2
    assert request.idempotency_key == ""


async def test_the_callers_own_key_is_left_as_it_is(ingest: Ingest, client: Client) -> None:
    await client.call(client.stub.IngestEvent, event("k-1"))

    assert keys(ingest.received) == ["k-1"]


async def test_every_event_of_a_batch_has_a_key_of_its_own(ingest: Ingest, client: Client) -> None:
    batch = pb2.IngestEventsRequest(events=[event(), event("k-1"), event()])

    await client.call(client.stub.IngestEvents, batch)

    first, given, last = keys(ingest.received[0].events)
    assert given == "k-1"
    assert len({"", first, given, last}) == 4


async def test_every_event_of_a_stream_has_a_key_of_its_own(ingest: Ingest, client: Client) -> None:
    requests = [pb2.StreamEventsRequest(sequence=number, event=event()) for number in (1, 2)]

    answers = await client.collect(client.stub.StreamEvents, iter(requests))

    assert [answer.sequence for answer in answers] == [1, 2]
    assert len({"", *keys(request.event for request in ingest.received)}) == 3


async def test_requests_can_come_from_an_asyncio_generator(server: tuple[Ingest, str]) -> None:
    ingest, target = server

    async def requests() -> AsyncIterator[pb2.StreamEventsRequest]:
        yield pb2.StreamEventsRequest(sequence=7, event=event())

    async with laurel_client.aio_channel(target) as channel:
        answers = OrchestratorServiceStub(channel).StreamEvents(requests())
        assert [answer.sequence async for answer in answers] == [7]
    assert keys(request.event for request in ingest.received) != [""]


async def test_history_keeps_its_events_without_keys(ingest: Ingest, client: Client) -> None:
    await client.collect(client.stub.ImportEvents, iter([pb2.ImportEventsRequest(events=[event()])]))

    assert keys(ingest.received[0].events) == [""]


async def test_other_mutations_get_their_request_id(ingest: Ingest, client: Client) -> None:
    await client.call(client.stub.UpdateUser, pb2.UpdateUserRequest(user=user_pb2.User(user_id="carol")))

    assert ingest.received[0].request_id


async def test_each_of_many_operations_gets_its_request_id(ingest: Ingest, client: Client) -> None:
    operations = [pb2.OperationRequest(user_update=pb2.UpdateUserRequest()) for _ in range(2)]
    request = pb2.PerformOperationsRequest(operations=[*operations, pb2.OperationRequest()])
    await client.call(client.stub.PerformOperations, request)

    given = [operation.user_update.request_id for operation in ingest.received[0].operations]
    assert all(given[:2])
    assert given[0] != given[1]
    assert given[2] == ""


async def test_a_service_that_stays_away_is_asked_a_bounded_number_of_times(
    ingest: Ingest, client: Client
) -> None:
    ingest.failures.extend(unavailable() for _ in range(2 * MAX_ATTEMPTS))

    error = await failure(client, client.stub.IngestEvent, event())

    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    assert len(ingest.received) == MAX_ATTEMPTS


async def test_an_error_has_the_request_that_can_be_sent_again(ingest: Ingest, client: Client) -> None:
    ingest.failures.extend(unavailable() for _ in range(MAX_ATTEMPTS))
    error = await failure(client, client.stub.IngestEvent, event())

    first = await client.call(client.stub.IngestEvent, error.request)
    again = await client.call(client.stub.IngestEvent, error.request)

    assert not first.idempotent_replayed
    assert again.idempotent_replayed
    assert set(keys(ingest.received)) == {error.request.idempotency_key}


@pytest.mark.parametrize(
    "answer",
    [
        Aborted("in the way", reason="CONTENTION"),
        NotFound("none", reason="METRIC_NOT_FOUND"),
        ResourceExhausted("full", reason="OVERLOADED"),
    ],
)
async def test_an_answer_is_not_asked_for_twice(
    ingest: Ingest, client: Client, answer: Aborted | NotFound | ResourceExhausted
) -> None:
    ingest.failures.append(answer)

    error = await failure(client, client.stub.IngestEvent, event())

    assert (error.code, error.reason) == (answer.code, answer.reason)
    assert len(ingest.received) == 1


async def test_an_error_says_everything_that_the_service_said(ingest: Ingest, client: Client) -> None:
    ingest.failures.append(
        InvalidArgument(
            "two fields",
            reason="INVALID_FIELDS",
            metadata={"limit": "7 days"},
            violations=(
                Violation("value", "must not be zero"),
                Violation("occur_time", "old", "EVENT_TOO_OLD"),
            ),
            retry_after_seconds=0.25,
        )
    )

    error = await failure(client, client.stub.IngestEvent, event("k-1"))

    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.reason, error.domain, error.message) == (
        "INVALID_FIELDS",
        "orchestrator.laurel",
        "two fields",
    )
    assert error.metadata == {"limit": "7 days"}
    assert error.violations == (
        FieldViolation("value", "must not be zero"),
        FieldViolation("occur_time", "old", "EVENT_TOO_OLD"),
    )
    assert error.retry_after_seconds == 0.25
    assert error.request == event("k-1")
    assert str(error) == "INVALID_ARGUMENT INVALID_FIELDS: two fields"


async def test_where_nobody_listens_the_reason_is_the_code(connect: Callable[..., Client]) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        client = connect(f"127.0.0.1:{taken.getsockname()[1]}")
        error = await failure(client, client.stub.IngestEvent, event())

    assert (error.code, error.reason, error.domain) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", "")


async def test_a_stream_ends_with_the_same_error(client: Client) -> None:
    requests = [pb2.StreamEventsRequest(event=event(metric="steps"))]

    with pytest.raises(LaurelError) as raised:
        await client.collect(client.stub.StreamEvents, iter(requests))

    assert (raised.value.reason, raised.value.metadata) == ("METRIC_NOT_FOUND", {"metric": "steps"})


async def test_a_stream_of_responses_is_passed_on_and_ends_with_the_same_error(
    connect: Callable[..., Client],
) -> None:
    async with running(echo(same), settings()) as server:
        client = connect(f"127.0.0.1:{server.port}")
        letters = await client.collect(client.echo.spell, StringValue(value="abc"))
        assert [letter.value for letter in letters] == ["a", "b", "c"]
    async with running(echo(raising(NotFound("none", reason="USER_NOT_FOUND"))), settings()) as server:
        client = connect(f"127.0.0.1:{server.port}")
        with pytest.raises(LaurelError, match="USER_NOT_FOUND"):
            await client.collect(client.echo.spell, StringValue(value="abc"))


async def test_a_call_without_a_deadline_gets_one(ingest: Ingest, client: Client) -> None:
    await client.call(client.stub.IngestEvent, event())

    (left,) = ingest.seconds_left
    assert left is not None
    assert left < 2 * DEFAULT_TIMEOUT_SECONDS  # the transport rounds up


async def test_the_channels_deadline_and_the_calls_own_win(
    server: tuple[Ingest, str], connect: Callable[..., Client]
) -> None:
    ingest, target = server
    client = connect(target, timeout_seconds=1_000)

    await client.call(client.stub.IngestEvent, event())
    await client.call(client.stub.IngestEvent, event(), timeout=100_000)

    of_channel, of_call = ingest.seconds_left
    assert of_channel is not None
    assert of_call is not None
    assert 2 * DEFAULT_TIMEOUT_SECONDS < of_channel < 2_000 < of_call


async def test_a_deadline_that_passes_is_a_typed_error_too(connect: Callable[..., Client]) -> None:
    async def never(_text: str) -> str:
        await asyncio.Event().wait()
        return ""

    async with running(echo(never), settings()) as server:
        client = connect(f"127.0.0.1:{server.port}", timeout_seconds=0.05)
        error = await failure(client, client.echo.say, StringValue(value="a"))

    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_the_future_of_a_blocking_call_ends_with_the_same_error(server: tuple[Ingest, str]) -> None:
    ingest, target = server
    ingest.failures.append(NotFound("none", reason="METRIC_NOT_FOUND"))
    with laurel_client.channel(target) as channel:
        future = OrchestratorServiceStub(channel).IngestEvent.future(event())
        error = await asyncio.to_thread(future.exception)
        assert isinstance(error, LaurelError)
        with pytest.raises(LaurelError, match="METRIC_NOT_FOUND"):
            future.result()
        again = OrchestratorServiceStub(channel).IngestEvent.future(error.request)
        assert (await asyncio.to_thread(again.result)).total_after == 1


def test_an_item_of_a_batch_is_refused_with_the_same_error() -> None:
    item = error_pb2.Error(
        code="FAILED_PRECONDITION",
        reason="INSUFFICIENT_POINTS",
        domain="points.laurel",
        message="30 are missing",
        metadata={"missing": "30"},
        violations=[error_pb2.FieldViolation(field="value", description="too much", reason="TOO_MUCH")],
        retry_delay=Duration(nanos=200_000_000),
    )

    error = LaurelError.of_item(item)

    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (error.reason, error.domain, error.message) == (
        "INSUFFICIENT_POINTS",
        "points.laurel",
        "30 are missing",
    )
    assert error.metadata == {"missing": "30"}
    assert error.violations == (FieldViolation("value", "too much", "TOO_MUCH"),)
    assert error.retry_after_seconds == 0.2


def test_a_service_that_was_away_for_long_is_looked_for_every_two_seconds() -> None:
    """gRPC's own waits grow to two minutes, for which calls would go on failing at once."""
    assert dict(channels._OPTIONS)["grpc.max_reconnect_backoff_ms"] == 2_000
