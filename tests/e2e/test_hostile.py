"""What a client can send by mistake or by malice: a typed refusal, and everybody else is served on."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2

from shared.errors import LaurelError, from_rpc_error
from tests.fixtures import clock
from tests.fixtures.system import System, event

TODAY = clock.now().timestamp()
DAY = 86_400.0
PATIENCE_SECONDS = 20
NOT_A_MESSAGE = b"\xff\xff\xff"

pb = orchestrator_service_pb2


@pytest.fixture
def user() -> str:
    """A user whom nobody has seen."""
    return f"user-{uuid.uuid4().hex[:12]}"


def raw_stream(system: System, requests: Iterable[bytes]) -> AsyncIterator[bytes]:
    """StreamEvents with bytes that nobody checked."""
    method: Any = system.channels[0].stream_stream(
        "/laurel.orchestrator.v1.OrchestratorService/StreamEvents",
        request_serializer=None,
        response_deserializer=None,
    )
    responses: AsyncIterator[bytes] = method(iter(requests)).__aiter__()
    return responses


async def read_until_refused(responses: AsyncIterator[bytes]) -> tuple[list[bytes], LaurelError]:
    """What came before the refusal, and the refusal."""
    answers: list[bytes] = []

    async def read() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for response in responses:
                answers.append(response)  # noqa: PERF401 - what came before the failure is kept

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    return answers, from_rpc_error(caught.value)


@pytest.mark.parametrize("answered_before", [0, 1, 50])
async def test_bytes_that_are_no_message_end_a_stream_after_the_answers_to_what_came_before(
    system: System, user: str, answered_before: int
) -> None:
    good = [
        pb.StreamEventsRequest(sequence=number, event=event(user, f"k{number}")).SerializeToString()
        for number in range(answered_before)
    ]
    answers, refusal = await read_until_refused(raw_stream(system, [*good, NOT_A_MESSAGE]))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert {pb.StreamEventsResponse.FromString(each).sequence for each in answers} == set(
        range(answered_before)
    )


async def test_a_stream_that_is_cancelled_half_way_loses_nothing_that_was_taken_in(
    system: System, user: str
) -> None:
    call = system.orchestrator.StreamEvents()
    for number in range(100):
        await call.write(pb.StreamEventsRequest(sequence=number, event=event(user, f"k{number}")))
    first = await call.read()
    assert isinstance(first, pb.StreamEventsResponse)
    call.cancel()
    again = [await system.orchestrator.IngestEvent(event(user, f"k{number}")) for number in range(100)]
    assert max(reply.total_after for reply in again) == 100
    assert again[first.sequence].idempotent_replayed


async def test_an_import_takes_history_and_not_what_is_yet_to_come(system: System, user: str) -> None:
    request = pb.ImportEventsRequest(
        events=[event(user, "past", at=TODAY - DAY), event(user, "coming", at=TODAY + DAY)]
    )
    (response,) = [each async for each in system.orchestrator.ImportEvents(iter([request]))]
    assert response.imported_count == 1
    (refused,) = response.errors
    assert (refused.index, refused.error.violations[0].field) == (1, "occur_time")
    assert refused.error.reason == "EVENT_IN_FUTURE"
    assert response.watermark_time.seconds <= TODAY


async def test_many_voids_at_once_are_all_carried_out_and_keep_nobody_else_waiting(
    system: System, user: str
) -> None:
    replies = await asyncio.gather(
        *(system.orchestrator.IngestEvent(event(f"{user}-{number}", "k")) for number in range(40))
    )
    voids = [
        system.orchestrator.VoidEntry(
            pb.VoidEntryRequest(entry_id=reply.entry_id, reason="mistake", request_id=reply.entry_id),
            timeout=PATIENCE_SECONDS,
        )
        for reply in replies
    ]
    other = await system.orchestrator.IngestEvent(event(user, "k"), timeout=PATIENCE_SECONDS)
    assert other.total_after == 1
    assert {answer.total_after for answer in await asyncio.gather(*voids)} == {0}
