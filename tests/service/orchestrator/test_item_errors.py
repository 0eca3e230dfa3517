"""One event among many is refused with all that it would be refused with alone: RULES 1.3, 1.5, 2.2."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from laurel.common.v1 import error_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.orchestrator.v1 import event_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2

from shared.errors import FieldViolation, LaurelError
from shared.rpc.error_messages import error_from_message
from tests.service.orchestrator.conftest import Orchestrator, event, refused

LITTLE: dict[str, Any] = {"max_queued_events": 1, "breaker_failures": 1, "breaker_seconds": 60.0}


def everything(error: LaurelError) -> tuple[object, ...]:
    return (
        type(error),
        error.message,
        error.reason,
        error.domain,
        error.metadata,
        error.violations,
        error.retry_after_seconds,
    )


def too_old() -> event_pb2.IngestEventRequest:
    request = event()
    request.occur_time.FromDatetime(datetime.now(UTC) - timedelta(days=9))
    return request


def unreadable() -> event_pb2.IngestEventRequest:
    request = event(value=0)
    request.user.time_zone = "Mars/Olympus"
    return request


def of_no_metric() -> event_pb2.IngestEventRequest:
    request = event()
    request.metric = "unheard-of"
    return request


def says_no(_command: participant_service_pb2.Command) -> Effects | error_pb2.Error:
    refusal = error_pb2.Error(
        code="FAILED_PRECONDITION",
        reason="INSUFFICIENT_POINTS",
        domain="points.laurel",
        message="30 are missing",
        metadata={"missing": "30"},
        violations=[error_pb2.FieldViolation(field="value", description="is too much", reason="TOO_MUCH")],
    )
    refusal.retry_delay.FromMilliseconds(1_500)
    return Effects() if _command.entry.HasField("correction") else refusal


async def in_a_batch(orchestrator: Orchestrator, request: event_pb2.IngestEventRequest) -> LaurelError:
    reply = await orchestrator.stub.IngestEvents(pb.IngestEventsRequest(events=[request]), timeout=20)
    return error_from_message(reply.results[0].error)


async def in_a_stream(orchestrator: Orchestrator, request: event_pb2.IngestEventRequest) -> LaurelError:
    call = orchestrator.stub.StreamEvents(timeout=20)
    await call.write(pb.StreamEventsRequest(sequence=1, event=request))
    await call.done_writing()
    answers = [answer async for answer in call]
    return error_from_message(answers[0].result.error)


async def in_an_import(orchestrator: Orchestrator, request: event_pb2.IngestEventRequest) -> LaurelError:
    if not request.HasField("occur_time"):
        request.occur_time.FromDatetime(datetime.now(UTC) - timedelta(minutes=1))
    call = orchestrator.stub.ImportEvents(timeout=60)
    await call.write(pb.ImportEventsRequest(events=[request]))
    await call.done_writing()
    answers = [answer async for answer in call]
    return error_from_message(answers[0].errors[0].error)


@pytest.mark.parametrize("bad", [too_old, unreadable, of_no_metric])
async def test_an_event_that_is_wrong_is_refused_alike_alone_in_a_batch_and_in_a_stream(
    orchestrator: Orchestrator, bad: Callable[[], event_pb2.IngestEventRequest]
) -> None:
    request = bad()
    alone = await refused(orchestrator.stub.IngestEvent(request, timeout=20))
    batched, streamed = await in_a_batch(orchestrator, request), await in_a_stream(orchestrator, request)
    if bad is too_old:
        assert alone.violations[0].reason == "EVENT_TOO_OLD"
    assert everything(batched) == everything(streamed) == everything(alone)
    assert alone.violations


@pytest.mark.parametrize("bad", [unreadable, of_no_metric])
async def test_a_line_of_an_import_too(
    orchestrator: Orchestrator, bad: Callable[[], event_pb2.IngestEventRequest]
) -> None:
    request = bad()
    alone = await refused(orchestrator.stub.IngestEvent(request, timeout=20))
    assert everything(await in_an_import(orchestrator, request)) == everything(alone)


async def test_a_service_that_says_no_is_quoted_in_full_everywhere_and_also_when_asked_again(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.points.decide = says_no
    alone = await refused(orchestrator.ingest("ada", "k"))
    again = await refused(orchestrator.ingest("ada", "k"))
    replayed = await in_a_batch(orchestrator, event("ada", "k"))
    batched, streamed = await in_a_batch(orchestrator, event()), await in_a_stream(orchestrator, event())
    imported = await in_an_import(orchestrator, event())
    assert alone.violations == (FieldViolation("value", "is too much", "TOO_MUCH"),)
    assert (alone.retry_after_seconds, alone.metadata) == (1.5, {"missing": "30"})
    for other in (again, replayed, batched, streamed, imported):
        assert everything(other) == everything(alone)


@pytest.mark.parametrize("settings", [LITTLE])
async def test_who_comes_while_too_many_wait_or_a_service_is_away_learns_how_long_to_wait(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.streak.hold()
    first = asyncio.create_task(orchestrator.ingest("ada"))
    await orchestrator.streak.waiting.wait()
    waiting = asyncio.create_task(orchestrator.ingest("ada", "second"))
    await orchestrator.stub.GetMetric(pb.GetMetricRequest(key="lessons"))
    alone = await refused(orchestrator.ingest("bob"))
    batched, streamed = await in_a_batch(orchestrator, event()), await in_a_stream(orchestrator, event())
    orchestrator.streak.open.set()
    await asyncio.gather(first, waiting)
    assert (alone.reason, alone.retry_after_seconds) == ("OVERLOADED", 0.2)
    assert everything(batched) == everything(streamed) == everything(alone)
    orchestrator.points.away = 100
    await refused(orchestrator.ingest("ada", "third"))
    alone = await refused(orchestrator.ingest("ada", "fourth"))
    assert alone.retry_after_seconds == 60
    assert everything(await in_a_batch(orchestrator, event())) == everything(alone)
