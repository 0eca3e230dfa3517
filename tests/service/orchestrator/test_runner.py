"""What the runner does with answers, refusals and silence (RULES 7)."""

import asyncio
from typing import Any

import pytest
from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.orchestrator.v1 import audit_pb2, user_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from services.orchestrator.saga import Step
from shared.errors import FailedPrecondition, LaurelError, Unavailable
from shared.rpc.convert import to_datetime
from tests.fixtures.waiting import until
from tests.service.orchestrator.conftest import Orchestrator, event, refused, replica
from tests.service.orchestrator.scripted import entries_of, refusal

IMPATIENT: dict[str, Any] = {"participant_attempts": 1, "breaker_failures": 1_000}
BEFORE_POINTS = [Step.STREAK, Step.ACHIEVEMENT]


async def test_a_no_undoes_what_was_applied_in_reverse_and_whoever_derived_hears_of_it(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.points.decide = refusal("INSUFFICIENT_POINTS")
    error = await refused(orchestrator.ingest("ada", "k"))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "INSUFFICIENT_POINTS"
    assert orchestrator.cast.calls("RevertEntries") == BEFORE_POINTS[::-1]
    corrections = [
        step
        for step in (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD)
        if orchestrator.cast.of[step].commands[-1].entry.HasField("correction")
    ]
    assert corrections == [Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD]
    profile = await refused(orchestrator.stub.GetUser(pb.GetUserRequest(user_id="ada")))
    assert profile.reason == "USER_NOT_FOUND"
    assert (await refused(orchestrator.ingest("ada", "k"))).reason == "INSUFFICIENT_POINTS"


async def test_one_refused_event_leaves_its_neighbours_as_they_are(orchestrator: Orchestrator) -> None:
    no = refusal("INSUFFICIENT_POINTS")
    orchestrator.points.decide = lambda command: (
        no(command) if command.entry.user.user_id == "user-3" else Effects()
    )
    answers = await orchestrator.answers(*(event(f"user-{n}") for n in range(6)))
    assert [isinstance(answer, LaurelError) for answer in answers] == [n == 3 for n in range(6)]


async def test_the_same_command_is_sent_again_while_its_outcome_is_unknown(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.achievement.lost = 4
    reply = await orchestrator.ingest()
    assert reply.total_after == 1
    commands = orchestrator.achievement.commands
    assert len(commands) > 1
    assert {(command.entry.SerializeToString(), command.digest) for command in commands} == {
        (commands[0].entry.SerializeToString(), commands[0].digest)
    }
    assert orchestrator.cast.calls("RevertEntries") == []


@pytest.mark.parametrize("settings", [IMPATIENT | {"participant_timeout_seconds": 0.2}])
async def test_a_time_out_is_no_failure(orchestrator: Orchestrator) -> None:
    orchestrator.points.hold()
    error = await refused(orchestrator.ingest("ada", "k"))
    assert isinstance(error, Unavailable)
    assert error.reason == "ENTRY_PENDING"
    orchestrator.points.open.set()
    assert (await orchestrator.ingest("ada", "k")).total_after == 1
    assert orchestrator.cast.calls("RevertEntries") == []


@pytest.mark.parametrize("settings", [IMPATIENT | {"participant_timeout_seconds": 0.2}])
async def test_one_event_that_takes_too_long_does_not_hold_those_with_whom_it_travels(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.points.stuck = "user-3"
    answers = await orchestrator.answers(*(event(f"user-{n}") for n in range(6)))
    assert [isinstance(answer, LaurelError) for answer in answers] == [n == 3 for n in range(6)]
    assert answers[3].reason == "ENTRY_PENDING"
    orchestrator.points.stuck = ""


async def test_the_last_participant_never_turns_an_event_round(orchestrator: Orchestrator) -> None:
    orchestrator.leaderboard.decide = refusal("SOME_REASON")
    error = await refused(orchestrator.ingest("ada", "k"))
    assert error.reason == "ENTRY_PENDING"
    assert orchestrator.cast.calls("RevertEntries") == []


async def test_a_void_undoes_every_step_in_reverse_and_answers_the_same_for_ever(
    orchestrator: Orchestrator,
) -> None:
    reply = await orchestrator.ingest("ada", "k", 3)
    request = pb.VoidEntryRequest(entry_id=reply.entry_id, reason="a mistake", request_id="v")
    undone = await orchestrator.stub.VoidEntry(request, metadata=[("laurel-actor", "support")])
    assert orchestrator.cast.calls("RevertEntries") == list(Step)[::-1]
    decided = {to_datetime(script.reversals[0].now) for script in orchestrator.cast.of.values()}
    assert len(decided) == 1
    assert decided.pop() > to_datetime(orchestrator.streak.commands[0].entry.now)
    assert undone.total_after == 0
    assert await orchestrator.stub.VoidEntry(request) == undone
    again = pb.VoidEntryRequest(entry_id=reply.entry_id, reason="once more", request_id="other")
    assert await orchestrator.stub.VoidEntry(again) == undone
    audit = (await orchestrator.stub.GetEntry(pb.GetEntryRequest(entry_id=reply.entry_id))).entry
    assert (audit.state, audit.void_actor, audit.void_reason) == (
        audit_pb2.ENTRY_STATE_VOIDED,
        "support",
        "a mistake",
    )
    stored = pb.VoidEntryResponse()
    assert audit.void_response.Unpack(stored)
    assert stored == undone


REVERTED = [(step, "RevertEntries") for step in reversed(Step)]
CORRECTED = [(step, "ApplyEntries") for step in Step]


def undone(orchestrator: Orchestrator) -> list[tuple[Step, str]]:
    """The calls from the first reversal on."""
    calls = [(step, method) for step, method, _ in orchestrator.cast.heard]
    return calls[calls.index(REVERTED[0]) :]


async def test_of_one_user_one_void_goes_on_when_all_that_follows_from_the_one_before_is_told(
    orchestrator: Orchestrator,
) -> None:
    entries = [(await orchestrator.ingest("ada", key)).entry_id for key in "abc"]
    await asyncio.gather(
        *(
            orchestrator.stub.VoidEntry(
                pb.VoidEntryRequest(entry_id=entry, reason="a mistake", request_id=entry)
            )
            for entry in entries
        )
    )
    assert undone(orchestrator) == (REVERTED + CORRECTED) * len(entries)


async def test_so_it_does_where_two_replicas_void(orchestrator: Orchestrator) -> None:
    entries = [(await orchestrator.ingest("ada", key)).entry_id for key in "ab"]
    voids = [pb.VoidEntryRequest(entry_id=entry, reason="a mistake", request_id=entry) for entry in entries]

    async def both_are_asked_for() -> bool:
        return bool(await orchestrator.pool.fetchval("SELECT count(*) = 2 FROM admin_operations"))

    another = orchestrator.settings.model_copy(update={"instance": "another"})
    async with replica(another) as channel, asyncio.TaskGroup() as calls:
        orchestrator.leaderboard.hold()
        calls.create_task(_call(orchestrator.stub.VoidEntry(voids[0])))
        await orchestrator.leaderboard.waiting.wait()
        calls.create_task(_call(OrchestratorServiceStub(channel).VoidEntry(voids[1])))
        await until(both_are_asked_for, seconds=20, what="the other replica is asked, too")
        orchestrator.leaderboard.open.set()
    assert undone(orchestrator) == (REVERTED + CORRECTED) * len(entries)


async def _call(call: Any) -> None:
    await call


async def test_an_achievement_completed_by_call_can_be_voided(orchestrator: Orchestrator) -> None:
    completed = achievement_pb2.AchievementChange(user_id="ada", achievement="badge")
    orchestrator.achievement.decide = lambda command: (
        Effects(achievements=[completed]) if command.entry.HasField("achievement_call") else Effects()
    )
    user = user_pb2.User(user_id="ada")
    request = pb.CompleteAchievementRequest(user=user, achievement="badge", request_id="r")
    reply = await orchestrator.stub.CompleteAchievement(request)
    assert list(reply.effects.achievements) == [completed]
    assert orchestrator.achievement.commands[0].entry.achievement_call.achievement == "badge"
    await orchestrator.stub.VoidEntry(
        pb.VoidEntryRequest(entry_id=reply.entry_id, reason="a mistake", request_id="v")
    )
    assert orchestrator.cast.calls("RevertEntries") == [Step.LEADERBOARD, Step.POINTS, Step.ACHIEVEMENT]


async def test_a_change_of_a_user_can_be_voided_and_leaves_what_others_said(
    orchestrator: Orchestrator,
) -> None:
    first = user_pb2.User(user_id="ada", name="Ada", attributes={"plan": "free"})
    await orchestrator.stub.UpdateUser(pb.UpdateUserRequest(user=first, request_id="1"))
    second = user_pb2.User(user_id="ada", attributes={"plan": "pro"})
    changed = await orchestrator.stub.UpdateUser(pb.UpdateUserRequest(user=second, request_id="2"))
    assert changed.user.attributes["plan"] == "pro"
    await orchestrator.stub.VoidEntry(
        pb.VoidEntryRequest(entry_id=changed.entry_id, reason="a mistake", request_id="v")
    )
    user = (await orchestrator.stub.GetUser(pb.GetUserRequest(user_id="ada"))).user
    assert (user.name, dict(user.attributes)) == ("Ada", {"plan": "free"})


@pytest.mark.parametrize("settings", [IMPATIENT | {"park_after_attempts": 2}])
async def test_a_saga_that_fails_too_often_waits_for_an_operator_who_can_give_it_up(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.points.away = 10_000
    await refused(orchestrator.ingest("ada", "k"))

    async def parked() -> bool:
        return bool(await orchestrator.pool.fetchval("SELECT count(*) FROM sagas WHERE state = 7"))

    await until(parked, seconds=20, what="the saga is parked")
    # One more call, with its retries by the channel, fails; then it is back, but the saga has been given up.
    orchestrator.points.away = 3
    (saga,) = (await orchestrator.stub.ListSagas(pb.ListSagasRequest())).sagas
    await orchestrator.stub.AbandonSaga(
        pb.AbandonSagaRequest(entry_id=saga.entry_id, reason="hopeless", request_id="a")
    )

    async def turned_round() -> bool:
        return saga.entry_id in entries_of_reversals(orchestrator, Step.STREAK)

    await until(turned_round, seconds=20, what="the saga is undone")
    error = await refused(orchestrator.ingest("ada", "k"))
    assert error.reason == "SAGA_ABANDONED"


def entries_of_reversals(orchestrator: Orchestrator, step: Step) -> list[str]:
    return [reversal.entry_id for reversal in orchestrator.cast.of[step].reversals]


async def test_what_has_happened_cannot_be_voided(orchestrator: Orchestrator) -> None:
    orchestrator.points.decide = refusal("INSUFFICIENT_POINTS")
    await refused(orchestrator.ingest("ada", "k"))
    (correction,) = entries_of(orchestrator.leaderboard.commands)
    error = await refused(
        orchestrator.stub.VoidEntry(
            pb.VoidEntryRequest(entry_id=correction, reason="a mistake", request_id="v")
        )
    )
    assert (error.reason, error.metadata["operation"]) == ("ENTRY_NOT_VOIDABLE", "correction")
