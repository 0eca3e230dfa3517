"""Processes that go away, stand still or are told to stop, and callers who do not wait (RULES 7.5 to 7.8)."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc
import grpc.aio
import pytest
from laurel.orchestrator.v1 import audit_pb2, event_pb2, orchestrator_service_pb2

from deploy.local.stack import Stack
from shared.errors import LaurelError, from_rpc_error
from shared.faults import ENVIRONMENT_VARIABLE
from tests.fixtures.clients import ingest
from tests.fixtures.invariants import violations
from tests.fixtures.ledger import read_ledger
from tests.fixtures.system import System, connect, event
from tests.fixtures.waiting import until

pb = orchestrator_service_pb2
PARTICIPANTS = ("streak", "achievement", "points", "leaderboard")
DEADLINE_SECONDS = 10.0
BOTH = {"orchestrator-0", "orchestrator-1"}
RECOVERY_BOUND_SECONDS = 30.0


@pytest.fixture
def user() -> str:
    """A user whom nobody has seen."""
    return f"user-{uuid.uuid4().hex[:12]}"


async def refusal(
    system: System, request: event_pb2.IngestEventRequest, timeout: float = DEADLINE_SECONDS
) -> LaurelError:
    """The error that an event is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.orchestrator.IngestEvent(request, timeout=timeout, wait_for_ready=True)
    return from_rpc_error(caught.value)


async def settled(system: System) -> None:
    async def closed() -> bool:
        return not (await read_ledger(system)).unfinished

    await until(closed, seconds=RECOVERY_BOUND_SECONDS, what="every saga is closed")


@asynccontextmanager
async def restarted(stack: Stack, name: str, **environment: str) -> AsyncIterator[None]:
    """A service with other settings inside the block."""
    await asyncio.to_thread(stack.stop_service, name)
    os.environ.update(environment)
    try:
        await asyncio.to_thread(stack.start_service, name)
    finally:
        for variable in environment:
            del os.environ[variable]
    try:
        yield
    finally:
        await asyncio.to_thread(stack.stop_service, name)
        await asyncio.to_thread(stack.start_service, name)


@pytest.mark.parametrize("participant", PARTICIPANTS)
async def test_while_a_participant_is_away_callers_hear_unavailable_and_then_get_the_one_reply(
    stack: Stack, system: System, user: str, participant: str
) -> None:
    await asyncio.to_thread(stack.kill_service, participant)
    error = await refusal(system, event(user, "k"))
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert error.reason in ("ENTRY_PENDING", "DEPENDENCY_UNAVAILABLE")
    await asyncio.to_thread(stack.start_service, participant)
    reply = await ingest(system, event(user, "k"))
    assert isinstance(reply, event_pb2.IngestEventResponse)
    assert await ingest(system, event(user, "k")) == reply
    await settled(system)
    assert await violations(system) == []


async def test_a_participant_that_is_known_to_be_away_costs_a_quick_answer_and_not_a_wait(
    stack: Stack, system: System, user: str
) -> None:
    await asyncio.to_thread(stack.kill_service, "points")
    try:
        quick = 0
        async with asyncio.timeout(RECOVERY_BOUND_SECONDS):
            while quick < 3:
                error = await refusal(system, event(user))
                assert error.code is grpc.StatusCode.UNAVAILABLE
                quick += error.metadata.get("service") == "points"
    finally:
        await asyncio.to_thread(stack.start_service, "points")
    await ingest(system, event(user, "after"))
    await settled(system)
    assert await violations(system) == []


@pytest.mark.parametrize("participant", PARTICIPANTS)
async def test_a_participant_that_stands_still_is_an_unknown_outcome_and_not_a_no(
    stack: Stack, system: System, user: str, participant: str
) -> None:
    await asyncio.to_thread(stack.kill_service, participant, 0, signal.SIGSTOP)
    asking = asyncio.create_task(ingest(system, event(user, "k")))
    error = await refusal(system, event(user, "k2"), timeout=3.0)
    assert error.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    await asyncio.to_thread(stack.kill_service, participant, 0, signal.SIGCONT)
    assert isinstance(await asking, event_pb2.IngestEventResponse)
    assert isinstance(await ingest(system, event(user, "k2")), event_pb2.IngestEventResponse)
    await settled(system)
    assert await violations(system) == []


async def test_an_event_goes_on_when_its_caller_has_gone(system: System, user: str) -> None:
    impatient = [event(user, f"k{number}") for number in range(20)]
    for request in impatient:
        call = system.orchestrator.IngestEvent(request)
        await call.wait_for_connection()
        call.cancel()
    await settled(system)
    replies = [await ingest(system, request) for request in impatient]
    assert all(isinstance(reply, event_pb2.IngestEventResponse) for reply in replies)
    assert await violations(system) == []


@pytest.mark.parametrize("service", ["orchestrator", *PARTICIPANTS])
async def test_stopping_under_load_loses_nothing_that_was_answered(
    stack: Stack, system: System, user: str, service: str
) -> None:
    stop = asyncio.Event()
    answered: list[str] = []

    async def caller(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            reply = await ingest(system, event(user, f"{number}-{count}"))
            assert isinstance(reply, event_pb2.IngestEventResponse)
            answered.append(reply.entry_id)

    calling = [asyncio.create_task(caller(number)) for number in range(16)]

    async def under_way() -> bool:
        return len(answered) > 50

    await until(under_way, seconds=20, what="events are under way")
    await asyncio.to_thread(stack.stop_service, service)
    await asyncio.to_thread(stack.start_service, service)
    stop.set()
    await asyncio.gather(*calling)
    await settled(system)
    done = {str(row.entry_id) for row in (await read_ledger(system)).events if row.live}
    assert set(answered) <= done
    assert len(set(answered)) == len(answered)
    assert await violations(system) == []


async def test_what_is_too_much_is_refused_at_once_and_the_rest_is_answered(
    stack: Stack, system: System, user: str
) -> None:
    async with restarted(stack, "orchestrator", LAUREL_MAX_QUEUED_EVENTS="16", LAUREL_MAX_GROUP_SIZE="4"):

        async def ask(number: int) -> str:
            try:
                await system.orchestrator.IngestEvent(event(user, f"k{number}"), timeout=DEADLINE_SECONDS)
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason
            return "OK"

        await ingest(system, event(user, "before"))
        answers = await asyncio.gather(*(ask(number) for number in range(400)))
        assert set(answers) == {"OK", "OVERLOADED"}
        assert isinstance(await ingest(system, event(user, "after")), event_pb2.IngestEventResponse)
    await settled(system)
    done = [row for row in (await read_ledger(system)).events if row.user == user]
    assert len(done) == answers.count("OK") + 2
    assert await violations(system) == []


async def test_a_saga_that_fails_too_often_is_parked_and_listed_and_an_operator_can_retry_it(
    stack: Stack, system: System, user: str
) -> None:
    # So many attempts last longer than it takes to find a restarted service again.
    async with restarted(stack, "orchestrator", LAUREL_PARK_AFTER_ATTEMPTS="5"):
        async with restarted(stack, "points", **{ENVIRONMENT_VARIABLE: "points.apply.before_store=error"}):
            entry_id = await _parked(system, user)
        request = pb.RetrySagaRequest(entry_id=entry_id, request_id=f"retry-{user}")
        await system.orchestrator.RetrySaga(request, wait_for_ready=True)
        reply = await ingest(system, event(user, "k"))
        assert isinstance(reply, event_pb2.IngestEventResponse)
        assert reply.entry_id == entry_id
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.orchestrator.RetrySaga(
                pb.RetrySagaRequest(entry_id=entry_id, request_id=f"again-{user}")
            )
        assert from_rpc_error(caught.value).reason == "SAGA_NOT_PARKED"
    await settled(system)
    assert await violations(system) == []


async def test_a_saga_that_an_operator_gives_up_is_undone_everywhere(
    stack: Stack, system: System, user: str
) -> None:
    async with restarted(stack, "orchestrator", LAUREL_PARK_AFTER_ATTEMPTS="2"):
        async with restarted(stack, "points", **{ENVIRONMENT_VARIABLE: "points.apply.before_store=error"}):
            entry_id = await _parked(system, user)
            await system.orchestrator.AbandonSaga(
                pb.AbandonSagaRequest(entry_id=entry_id, reason="hopeless", request_id=f"abandon-{user}")
            )

            async def turned_round() -> bool:
                audit = (
                    await system.orchestrator.GetEntry(
                        pb.GetEntryRequest(entry_id=entry_id), wait_for_ready=True
                    )
                ).entry
                return audit.rejection.reason == "SAGA_ABANDONED"

            await until(turned_round, seconds=RECOVERY_BOUND_SECONDS, what="the saga is turned round")

        async def undone() -> bool:
            """The undoing may have been parked too, while points were broken."""
            request = pb.GetEntryRequest(entry_id=entry_id)
            audit = (await system.orchestrator.GetEntry(request, wait_for_ready=True)).entry
            if audit.state == audit_pb2.ENTRY_STATE_PARKED:
                again = pb.RetrySagaRequest(entry_id=entry_id, request_id=uuid.uuid4().hex)
                await system.orchestrator.RetrySaga(again, wait_for_ready=True)
            return audit.state == audit_pb2.ENTRY_STATE_REJECTED

        await until(undone, seconds=RECOVERY_BOUND_SECONDS, what="the saga is undone")
        error = await ingest(system, event(user, "k"))
        assert isinstance(error, LaurelError)
        assert error.reason == "SAGA_ABANDONED"
    await settled(system)
    assert await violations(system) == []


async def _parked(system: System, user: str) -> str:
    """The id of an event that has been parked; it is listed among the parked ones."""
    await refusal(system, event(user, "k"))
    request = pb.ListSagasRequest(states=[audit_pb2.ENTRY_STATE_PARKED], user_id=user)

    async def listed() -> bool:
        return len((await system.orchestrator.ListSagas(request)).sagas) == 1

    await until(listed, seconds=RECOVERY_BOUND_SECONDS, what="the saga is parked")
    (saga,) = (await system.orchestrator.ListSagas(request)).sagas
    assert saga.last_error
    return saga.entry_id


async def test_what_a_dead_replica_left_is_finished_by_a_living_one(
    stack: Stack, system: System, user: str
) -> None:
    await asyncio.to_thread(stack.start_service, "orchestrator", 1)
    try:
        await asyncio.to_thread(stack.kill_service, "points")
        await refusal(system, event(user, "k"))
        await asyncio.to_thread(stack.kill_service, "orchestrator", 0)
        await asyncio.to_thread(stack.start_service, "points")
        began = time.monotonic()
        await settled(system)
        assert time.monotonic() - began < RECOVERY_BOUND_SECONDS
        await asyncio.to_thread(stack.start_service, "orchestrator", 0)
        assert isinstance(await ingest(system, event(user, "k")), event_pb2.IngestEventResponse)
    finally:
        await asyncio.to_thread(stack.stop_service, "orchestrator", 1)
    assert await violations(system) == []


async def _instances(system: System, user: str) -> set[str]:
    """The orchestrators that recorded a user's events."""
    request = pb.ListUserEntriesRequest(user_id=user, page_size=1_000)
    return {audit.instance for audit in (await system.orchestrator.ListUserEntries(request)).entries}


async def _both_take_part(system: System, user: str) -> bool:
    """A channel takes addresses in turn as soon as it has found them, and the first one alone until then."""
    await asyncio.gather(*(ingest(system, event(user, uuid.uuid4().hex)) for _ in BOTH))
    return await _instances(system, user) == BOTH


async def test_two_orchestrators_side_by_side_end_as_one_after_another(
    stack: Stack, system: System, user: str
) -> None:
    await asyncio.to_thread(stack.start_service, "orchestrator", 1)
    both = connect(stack)
    try:
        await until(partial(_both_take_part, both, f"{user}-first"), seconds=30, what="both are found")
        # An odd number: of each event the copies go to both. Not side by side, or the slower were first with none.
        events = [event(user, f"k{number}", value=1 + number % 3) for number in range(201)]
        replies = await asyncio.gather(*(ingest(both, each) for each in [*events, *events]))
        assert all(isinstance(reply, event_pb2.IngestEventResponse) for reply in replies)
        first = replies[: len(events)]
        assert first == replies[len(events) :]
        totals = sorted(
            reply.total_after for reply in first if isinstance(reply, event_pb2.IngestEventResponse)
        )
        assert totals[-1] == sum(each.value for each in events)
        assert len(set(totals)) == len(totals)
        assert await _instances(both, user) == BOTH
    finally:
        await both.close()
        await asyncio.to_thread(stack.stop_service, "orchestrator", 1)
    await settled(system)
    assert await violations(system) == []
