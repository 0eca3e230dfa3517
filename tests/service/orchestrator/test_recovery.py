"""Sagas that were left, time-driven work, and the feeds of what services change by themselves (RULES 1.2, 7.6)."""

from datetime import UTC, datetime, timedelta

from laurel.orchestrator.v1 import audit_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2
from laurel.streak.v1 import streak_pb2

from services.orchestrator.saga import Step
from shared.rpc.convert import to_datetime
from tests.fixtures.waiting import until
from tests.service.orchestrator.conftest import Orchestrator, refused
from tests.service.orchestrator.steps import event as incoming
from tests.service.orchestrator.steps import store

MIDNIGHT = datetime(2026, 5, 2, tzinfo=UTC)
CLOSING_ID = "018f0000-0000-8000-8000-00000000000{}"


async def state_of(orchestrator: Orchestrator, entry_id: str) -> audit_pb2.EntryState.ValueType:
    return (await orchestrator.stub.GetEntry(pb.GetEntryRequest(entry_id=entry_id))).entry.state


async def test_a_saga_of_a_dead_replica_is_finished_from_the_beginning(orchestrator: Orchestrator) -> None:
    (recorded,) = await store(orchestrator.pool, incoming("k"), instance="dead")
    entry_id = str(recorded.incoming.entry_id)

    async def done() -> bool:
        return await state_of(orchestrator, entry_id) == audit_pb2.ENTRY_STATE_DONE

    await until(done, seconds=20, what="the saga is finished")
    assert orchestrator.cast.calls("ApplyEntries") == list(Step)


async def test_a_void_that_was_decided_is_finished_by_whoever_comes(orchestrator: Orchestrator) -> None:
    reply = await orchestrator.ingest()
    await orchestrator.pool.execute(
        "UPDATE sagas SET state = 5, void_reason = 'decided', void_time = '2026-05-02', instance = 'dead', "
        "next_attempt_time = now()"
    )

    async def voided() -> bool:
        return await state_of(orchestrator, reply.entry_id) == audit_pb2.ENTRY_STATE_VOIDED

    await until(voided, seconds=20, what="the void is finished")
    assert {to_datetime(reversal.now) for reversal in orchestrator.points.reversals} == {MIDNIGHT}
    assert orchestrator.cast.calls("RevertEntries") == list(Step)[::-1]


def closing(number: int, user: str = "ada") -> participant_service_pb2.Change:
    change = participant_service_pb2.Change(
        entry_id=CLOSING_ID.format(number), user_id=user, time_zone="Asia/Tokyo"
    )
    change.occur_time.FromDatetime(MIDNIGHT)
    change.streak_closing.change.CopyFrom(
        streak_pb2.StreakChange(streak="daily", version=2, length_before=5, length=0)
    )
    return change


async def test_a_streak_lost_at_midnight_reaches_whoever_follows_from_streaks_once(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.streak.feed.append(closing(1))
    orchestrator.streak.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=1))
    assert (await maintain(orchestrator)).closed_streak_count == 1
    await until(lambda: _done(orchestrator), seconds=20, what="the closing is through")
    for script in (orchestrator.achievement, orchestrator.points, orchestrator.leaderboard):
        (command,) = script.commands
        assert command.entry.entry_id == CLOSING_ID.format(1)
        assert command.entry.time_zone == "Asia/Tokyo"
        assert [each.change.length for each in command.effects.streaks] == [0]
    assert orchestrator.streak.commands == []
    orchestrator.streak.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=1))
    assert (await maintain(orchestrator)).followed_change_count == 0
    assert len(orchestrator.leaderboard.commands) == 1


async def test_what_a_service_finds_a_second_time_does_not_stop_its_feed(orchestrator: Orchestrator) -> None:
    orchestrator.streak.feed += [closing(1), closing(2)]
    orchestrator.streak.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=1))
    assert (await maintain(orchestrator)).followed_change_count == 2
    # Put back to an earlier time, it finds one of them again, and another one.
    orchestrator.streak.feed += [closing(2), closing(3)]
    orchestrator.streak.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=1))
    assert (await maintain(orchestrator)).followed_change_count == 1
    assert await state_of(orchestrator, CLOSING_ID.format(3)) == audit_pb2.ENTRY_STATE_DONE


async def test_a_closing_does_not_make_a_user_exist(orchestrator: Orchestrator) -> None:
    orchestrator.streak.feed.append(closing(1))
    orchestrator.streak.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=1))
    await maintain(orchestrator)
    assert (
        await refused(orchestrator.stub.GetUser(pb.GetUserRequest(user_id="ada")))
    ).reason == "USER_NOT_FOUND"
    audit = (await orchestrator.stub.GetEntry(pb.GetEntryRequest(entry_id=CLOSING_ID.format(1)))).entry
    request = participant_service_pb2.Change()
    assert audit.request.Unpack(request)
    assert request == closing(1)


async def test_maintenance_is_done_part_by_part_in_the_order_of_the_steps(orchestrator: Orchestrator) -> None:
    orchestrator.streak.feed.append(closing(1))
    orchestrator.streak.parts += [
        participant_service_pb2.RunMaintenanceResponse(done_count=2, more=True),
        participant_service_pb2.RunMaintenanceResponse(done_count=1),
    ]
    orchestrator.leaderboard.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=4))
    passed = await maintain(orchestrator)
    assert (passed.closed_streak_count, passed.finalized_run_count) == (3, 4)
    heard = [(step, method) for step, method, _ in orchestrator.cast.heard]
    assert heard == [
        (Step.STREAK, "RunMaintenance"),
        (Step.STREAK, "RunMaintenance"),
        (Step.ACHIEVEMENT, "ApplyEntries"),
        (Step.POINTS, "ApplyEntries"),
        (Step.LEADERBOARD, "ApplyEntries"),
        (Step.ACHIEVEMENT, "RunMaintenance"),
        (Step.POINTS, "RunMaintenance"),
        (Step.LEADERBOARD, "RunMaintenance"),
    ]


async def test_a_refusal_does_not_undo_what_has_happened(orchestrator: Orchestrator) -> None:
    orchestrator.points.away = 2
    orchestrator.streak.feed.append(closing(1))
    orchestrator.streak.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=1))
    await maintain(orchestrator)
    await until(lambda: _done(orchestrator), seconds=20, what="the closing is through")
    assert orchestrator.cast.calls("RevertEntries") == []
    assert await state_of(orchestrator, CLOSING_ID.format(1)) == audit_pb2.ENTRY_STATE_DONE


async def _done(orchestrator: Orchestrator) -> bool:
    return bool(await orchestrator.pool.fetchval("SELECT count(*) FROM sagas WHERE state = 3"))


async def maintain(orchestrator: Orchestrator) -> pb.RunMaintenanceResponse:
    request = pb.RunMaintenanceRequest()
    request.now.FromDatetime(MIDNIGHT + timedelta(minutes=1))
    return await orchestrator.stub.RunMaintenance(request)
