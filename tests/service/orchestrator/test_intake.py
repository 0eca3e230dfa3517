"""From a caller to a group on its way, and from its answer back to every caller (DESIGN 2, RULES 2.4)."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc.aio
import pytest
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.orchestrator.v1 import event_pb2, user_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.orchestrator.saga import Step
from shared.errors import AlreadyExists, InvalidArgument, LaurelError, ResourceExhausted, Unavailable
from tests.service.orchestrator.conftest import Orchestrator, event, refused

LITTLE: dict[str, Any] = {"max_queued_events": 2, "breaker_failures": 1, "breaker_seconds": 60.0}


async def test_the_reply_has_what_every_participant_answered_and_none_hears_of_it_too_early(
    orchestrator: Orchestrator,
) -> None:
    change = streak_pb2.StreakChange(streak="daily", version=1, length=1)
    orchestrator.streak.decide = lambda _: Effects(
        streaks=[streak_pb2.StreakEffect(user_id="ada", extended=True, change=change)]
    )
    orchestrator.points.decide = lambda command: Effects(
        points=[
            points_pb2.PointsChange(user_id="ada", points_system="xp", added=len(command.effects.streaks))
        ]
    )
    reply = await orchestrator.ingest()
    assert orchestrator.cast.calls("ApplyEntries") == list(Step)
    assert [each.extended for each in reply.effects.streaks] == [True]
    assert [each.added for each in reply.effects.points] == [1]
    assert [each.change for each in orchestrator.leaderboard.commands[0].effects.streaks] == [change]
    assert orchestrator.leaderboard.commands[0].effects.points == reply.effects.points


async def test_events_that_come_while_a_group_is_under_way_travel_together(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.streak.hold()
    first = asyncio.create_task(orchestrator.ingest("first"))
    await orchestrator.streak.waiting.wait()
    others = [event(f"user-{n}") for n in range(5)]
    batch = asyncio.create_task(_together(orchestrator, others))
    await _queued(orchestrator, batch)
    orchestrator.streak.open.set()
    await first
    assert len((await batch).results) == 5
    assert orchestrator.cast.sizes(Step.STREAK) == [1, 5]


async def test_events_of_one_user_are_never_under_way_in_two_groups(orchestrator: Orchestrator) -> None:
    orchestrator.streak.hold()
    first = asyncio.create_task(orchestrator.ingest("ada", "k0"))
    await orchestrator.streak.waiting.wait()
    more = asyncio.create_task(orchestrator.answers(*(event("ada", f"k{n}") for n in range(1, 40))))
    others = asyncio.create_task(orchestrator.answers(*(event(f"user-{n}") for n in range(40))))
    await _queued(orchestrator, others)
    orchestrator.streak.open.set()
    replies = [await first, *await more, *await others]
    assert not [reply for reply in replies if isinstance(reply, LaurelError)]
    totals = [
        command.entry.metric_event.total_after_micros
        for command in orchestrator.streak.commands
        if command.entry.user.user_id == "ada"
    ]
    assert totals == sorted(totals)


async def test_the_same_key_at_once_runs_once_and_everybody_has_the_one_reply(
    orchestrator: Orchestrator,
) -> None:
    replies = await orchestrator.answers(*(event("ada", "k") for _ in range(8)))
    assert {reply.entry_id for reply in replies} == {replies[0].entry_id}
    assert sorted(reply.idempotent_replayed for reply in replies) == [False] + [True] * 7
    assert len(orchestrator.streak.commands) == 1


async def test_another_payload_under_the_same_key_is_refused(orchestrator: Orchestrator) -> None:
    reply = await orchestrator.ingest("ada", "k")
    error = await refused(orchestrator.ingest("ada", "k", 2))
    assert isinstance(error, AlreadyExists)
    assert (error.reason, error.metadata["entry_id"]) == ("IDEMPOTENCY_KEY_REUSED", reply.entry_id)
    assert len(orchestrator.streak.commands) == 1


async def test_a_request_id_with_other_content_is_refused_too(orchestrator: Orchestrator) -> None:
    user = user_pb2.User(user_id="ada", name="Ada")
    await orchestrator.stub.UpdateUser(pb.UpdateUserRequest(user=user, request_id="r"))
    user.name = "Augusta"
    error = await refused(orchestrator.stub.UpdateUser(pb.UpdateUserRequest(user=user, request_id="r")))
    assert error.reason == "REQUEST_ID_REUSED"


async def test_an_event_outlives_its_caller_and_the_retry_gets_its_reply(orchestrator: Orchestrator) -> None:
    orchestrator.points.hold()
    request = event("ada", "k")
    with pytest.raises(grpc.aio.AioRpcError):
        await orchestrator.stub.IngestEvent(request, timeout=0.3)
    orchestrator.points.open.set()
    reply = await orchestrator.stub.IngestEvent(request, timeout=20)
    assert (reply.total_after, reply.idempotent_replayed) == (1, True)
    assert len(orchestrator.streak.commands) == 1


async def test_who_asks_stands_in_the_audit(orchestrator: Orchestrator) -> None:
    reply = await orchestrator.stub.IngestEvent(event(), metadata=[("laurel-actor", "billing")])
    audit = (await orchestrator.stub.GetEntry(pb.GetEntryRequest(entry_id=reply.entry_id))).entry
    assert (audit.actor, audit.operation, audit.origin) == ("billing", "metric_event", 1)
    error = await refused(orchestrator.stub.IngestEvent(event(), metadata=[("laurel-actor", "x" * 300)]))
    assert isinstance(error, InvalidArgument)


@pytest.mark.parametrize("settings", [LITTLE])
async def test_a_full_queue_refuses_at_once(orchestrator: Orchestrator) -> None:
    orchestrator.streak.hold()
    first = asyncio.create_task(orchestrator.ingest("ada"))
    await orchestrator.streak.waiting.wait()
    answers = asyncio.create_task(orchestrator.answers(*(event("ada", f"k{n}") for n in range(5))))
    await _queued(orchestrator, answers)
    orchestrator.streak.open.set()
    await first
    refusals = [one for one in await answers if isinstance(one, LaurelError)]
    assert {type(error) for error in refusals} == {ResourceExhausted}
    assert {error.reason for error in refusals} == {"OVERLOADED"}
    assert len(refusals) == 3


@pytest.mark.parametrize("settings", [LITTLE])
async def test_while_a_participant_is_known_to_be_away_nothing_is_recorded(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.points.away = 100
    await refused(orchestrator.ingest("ada", "k0"))
    error = await refused(orchestrator.ingest("ada", "k1"))
    assert isinstance(error, Unavailable)
    assert error.metadata["service"] == "points"
    assert await orchestrator.pool.fetchval("SELECT count(*) FROM entries") == 1


async def _together(
    orchestrator: Orchestrator, events: Sequence[event_pb2.IngestEventRequest]
) -> pb.IngestEventsResponse:
    return await orchestrator.stub.IngestEvents(pb.IngestEventsRequest(events=events), timeout=20)


async def _queued(orchestrator: Orchestrator, sending: "asyncio.Future[Any] | Any") -> None:
    """Returns once what was sent has reached the orchestrator, which answers calls in their order of arrival."""
    await asyncio.sleep(0)
    for _ in range(3):
        await orchestrator.stub.GetMetric(pb.GetMetricRequest(key="lessons"))
    assert not sending.done()
