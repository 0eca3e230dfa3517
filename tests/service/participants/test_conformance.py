"""What every participant of the saga owes the orchestrator, the same for all of them (RULES 7.3, 7.4; DESIGN 3)."""

import asyncio
import logging
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import grpc
import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.streak.v1 import streak_pb2

from services.achievement.domain.apply import MOST_AT_ONCE
from shared.errors import LaurelError, from_rpc_error
from shared.postgres.maintenance import is_held
from shared.rpc.convert import to_timestamp
from shared.rpc.participants import MAX_EFFECTS
from tests.fixtures import participants
from tests.fixtures.participants import UNIT, apply, command, entry, entry_id, snapshot
from tests.service.participants.conftest import NOON, STATE, Subject

UNKNOWN_FIELD_1000: Final = b"\xc0\x3e\x01"
"""On the wire: a varint of value 1 in a field that no message here has."""
UNKNOWN_MESSAGE_1000: Final = b"\xc2\x3e\x00"
"""On the wire: an empty message in such a field, as an operation of a later version looks."""

FORBID_MALLORY: Final = (
    "ALTER TABLE request_log ADD CONSTRAINT no_mallory CHECK (user_id <> 'mallory') NOT VALID"
)
ALLOW_MALLORY: Final = "ALTER TABLE request_log DROP CONSTRAINT no_mallory"
NOW: Final = to_timestamp(NOON)


def event(name: object, value: int = 1, *, user: str = "alice") -> pb.Command:
    fact = entry_pb2.MetricFact(
        metric="commits",
        value_micros=value * UNIT,
        total_after_micros=value * UNIT,
        peak_micros=value * UNIT,
        total_version=1,
        attributes=STATE,
    )
    return command(entry(name, fact, user=snapshot(user, NOON), at=NOON))


def revert(*names: object, user: str = "alice") -> pb.RevertEntriesRequest:
    return participants.revert(*names, user=user, now=NOON)


async def applied(subject: Subject, *commands: pb.Command) -> list[pb.Outcome]:
    return list((await subject.stub.ApplyEntries(apply(*commands))).outcomes)


async def reverted(subject: Subject, *names: object, user: str = "alice") -> list[pb.RevertOutcome]:
    return list((await subject.stub.RevertEntries(revert(*names, user=user))).outcomes)


async def refused(call: Awaitable[Any]) -> LaurelError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return from_rpc_error(failure.value)


def reasons(outcomes: list[pb.Outcome]) -> list[str]:
    """Why each was refused; empty for one that was applied."""
    return [outcome.error.reason for outcome in outcomes]


def fields(outcome: pb.Outcome) -> set[str]:
    return {violation.field for violation in outcome.error.violations}


def users(effects: Effects) -> set[str]:
    """Whom the changes name."""
    return (
        {effect.user_id for effect in effects.streaks}
        | {change.user_id for change in effects.achievements}
        | {change.user_id for change in effects.points}
        | {leaderboard.user_id for leaderboard in effects.leaderboards}
    )


def in_bytes(messages: list[pb.Outcome] | list[pb.RevertOutcome]) -> list[bytes]:
    return [outcome.SerializeToString(deterministic=True) for outcome in messages]


# Applying


async def test_there_is_one_outcome_for_each_command_in_their_order(subject: Subject) -> None:
    outcomes = await applied(subject, event("a", 2), event("b", 3, user="bob"), event("c", 5))
    assert [outcome.entry_id for outcome in outcomes] == [str(entry_id(name)) for name in "abc"]
    assert reasons(outcomes) == ["", "", ""]
    assert (await subject.total("alice"), await subject.total("bob")) == (7, 3)


async def test_every_change_names_its_user(subject: Subject) -> None:
    outcomes = await applied(subject, event("a"), event("b", user="bob"))
    assert [users(outcome.effects) for outcome in outcomes] == [{"alice"}, {"bob"}]
    (undone,) = await reverted(subject, "a")
    assert users(undone.effects) == ({"alice"} if subject.tells_of_undoing else set())


async def test_an_entry_sent_again_gets_its_first_outcome_byte_for_byte(subject: Subject) -> None:
    first = await applied(subject, event("a", 2), event("b", 3))
    await applied(subject, event("c", 5))
    again = await applied(subject, event("a", 2), event("d", 7), event("b", 3))
    assert in_bytes([again[0], again[2]]) == in_bytes(first)
    assert await subject.total("alice") == 17


async def test_the_same_id_with_another_digest_is_a_conflict(subject: Subject) -> None:
    await applied(subject, event("a", 2))
    conflict, neighbour = await applied(subject, event("a", 3), event("b", 5))
    assert (conflict.error.code, conflict.error.reason) == ("ALREADY_EXISTS", "ENTRY_CONFLICT")
    assert not neighbour.HasField("error")
    assert await subject.total("alice") == 7


async def test_a_command_is_known_again_by_its_digest_though_a_later_version_says_more(
    subject: Subject,
) -> None:
    first = await applied(subject, event("a", 2))
    later = event("a", 2)
    later.entry.MergeFromString(UNKNOWN_FIELD_1000)
    later.MergeFromString(UNKNOWN_FIELD_1000)
    assert command(later.entry).digest != later.digest
    assert in_bytes(await applied(subject, later)) == in_bytes(first)
    assert await subject.total("alice") == 2


async def test_twins_in_one_batch_share_one_outcome_and_one_effect(subject: Subject) -> None:
    outcome, other, twin = await applied(subject, event("a", 2), event("b", 3), event("a", 2))
    assert outcome == twin
    assert not other.HasField("error")
    assert await subject.total("alice") == 5


async def test_of_two_contents_of_one_id_in_a_batch_the_first_counts(subject: Subject) -> None:
    outcomes = await applied(subject, event("a", 2), event("a", 3), event("a", 2))
    assert reasons(outcomes) == ["", "ENTRY_CONFLICT", ""]
    assert outcomes[0] == outcomes[2]
    assert await subject.total("alice") == 2


async def test_the_same_entry_from_many_callers_at_once_has_one_effect_and_one_answer(
    subject: Subject,
) -> None:
    batch = [event(number) for number in range(5)]
    answers = await asyncio.gather(*(applied(subject, *batch) for _ in range(8)))
    assert len({tuple(in_bytes(answer)) for answer in answers}) == 1
    assert reasons(answers[0]) == [""] * 5
    assert await subject.total("alice") == 5


# What is wrong with a command


def _short_digest(message: pb.Command) -> None:
    message.digest = message.digest[:-1]


def _no_digest(message: pb.Command) -> None:
    message.ClearField("digest")


def _later_operation(message: pb.Command) -> None:
    message.entry.ClearField("metric_event")
    message.entry.MergeFromString(UNKNOWN_MESSAGE_1000)


def _no_id(message: pb.Command) -> None:
    message.entry.entry_id = "not-an-id"


def _no_user_and_no_zone(message: pb.Command) -> None:
    message.entry.user.user_id = ""
    message.entry.time_zone = "+02:00"


def _too_large_a_value(message: pb.Command) -> None:
    message.entry.metric_event.value_micros = 2**62


def _too_many_changes(message: pb.Command) -> None:
    message.effects.streaks.extend([streak_pb2.StreakEffect()] * (MAX_EFFECTS + 1))


@pytest.mark.parametrize(
    ("break_it", "paths"),
    [
        (_short_digest, {"commands[1].digest"}),
        (_no_digest, {"commands[1].digest"}),
        (_no_id, {"commands[1].entry.entry_id"}),
        (_no_user_and_no_zone, {"commands[1].entry.user.user_id", "commands[1].entry.time_zone"}),
        (_too_large_a_value, {"commands[1].entry.metric_event.value_micros"}),
        (_too_many_changes, {"commands[1].effects.streaks"}),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
async def test_a_malformed_command_names_its_fields_and_never_fails_its_neighbours(
    subject: Subject, break_it: Any, paths: set[str]
) -> None:
    bad = event("bad", 3)
    break_it(bad)
    outcomes = await applied(subject, event("a", 2), bad, event("b", 5))
    assert reasons(outcomes) == ["", "INVALID_FIELDS", ""]
    assert (outcomes[1].error.code, outcomes[1].entry_id) == ("INVALID_ARGUMENT", bad.entry.entry_id)
    assert fields(outcomes[1]) == paths
    assert await subject.total("alice") == 7


async def test_what_an_undoing_changes_of_thousands_of_completions_is_no_reason_to_refuse_it(
    subject: Subject,
) -> None:
    """An event earns 1,000 at once, and others besides; its undoing may complete as many for another one."""
    undoing = event("undoing", 3)
    revoked, completed = (
        achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED,
        achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED,
    )
    for number in range(MOST_AT_ONCE + 10):
        for kind in (revoked, completed):
            undoing.effects.achievements.add(
                achievement="again", kind=kind, completion_id=str(UUID(int=number + 1))
            )
    assert reasons(await applied(subject, undoing)) == [""]


async def test_an_operation_of_a_later_release_waits_for_a_later_replica_and_is_not_refused(
    subject: Subject,
) -> None:
    """A no would be for good, and the entry is right (docs/operations/upgrade.md)."""
    later = event("later", 3)
    _later_operation(later)
    outcomes = await applied(subject, event("a", 2), later, event("b", 5))
    assert reasons(outcomes) == ["", "DEPENDENCY_UNAVAILABLE", ""]
    assert (outcomes[1].error.code, outcomes[1].entry_id) == ("UNAVAILABLE", later.entry.entry_id)
    assert reasons(await applied(subject, event("later", 3))) == [""]
    assert await subject.total("alice") == 10


async def test_a_malformed_command_is_not_remembered_and_may_come_again_whole(subject: Subject) -> None:
    bad = event("a", 2)
    _no_digest(bad)
    await applied(subject, bad)
    assert reasons(await applied(subject, event("a", 2))) == [""]
    assert await subject.total("alice") == 2


async def test_a_command_that_breaks_the_store_is_found_and_never_fails_its_neighbours(
    subject: Subject, caplog: pytest.LogCaptureFixture
) -> None:
    await subject.database.execute(FORBID_MALLORY)
    batch = [event(number, user="mallory" if number in (2, 5) else "alice") for number in range(7)]
    with caplog.at_level(logging.ERROR, "shared.participant"):
        outcomes = await applied(subject, *batch)
    assert reasons(outcomes) == ["", "", "INTERNAL", "", "", "INTERNAL", ""]
    broken = [vars(record)["entry_id"] for record in caplog.records if record.name == "shared.participant"]
    assert broken == [str(entry_id(number)) for number in (2, 5)]
    assert (await subject.total("alice"), await subject.total("mallory")) == (5, 0)
    await subject.database.execute(ALLOW_MALLORY)
    assert reasons(await applied(subject, *batch)) == [""] * 7
    assert (await subject.total("alice"), await subject.total("mallory")) == (5, 2)


@pytest.mark.parametrize("size", [0, 1_001])
async def test_a_batch_of_commands_is_refused_whole_for_its_size_alone(subject: Subject, size: int) -> None:
    error = await refused(subject.stub.ApplyEntries(apply(*[event("a")] * size)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert [violation.field for violation in error.violations] == ["commands"]
    assert await subject.total("alice") == 0


async def test_a_batch_may_have_1000_commands(subject: Subject) -> None:
    outcomes = await applied(subject, *[event("a")] * 1_000)
    assert reasons(outcomes) == [""] * 1_000
    assert await subject.total("alice") == 1


# Undoing


async def test_an_undone_entry_counts_no_more_and_the_others_do(subject: Subject) -> None:
    await applied(subject, event("a", 2), event("b", 3), event("c", 5))
    (outcome,) = await reverted(subject, "b")
    assert (outcome.entry_id, outcome.reverted) == (str(entry_id("b")), True)
    assert await subject.total("alice") == 7


async def test_an_entry_is_undone_once_and_its_answer_replayed_byte_for_byte(subject: Subject) -> None:
    await applied(subject, event("a", 2))
    first = await reverted(subject, "a")
    assert (first[0].effects.ByteSize() > 0) == subject.tells_of_undoing
    await applied(subject, event("b", 5))
    again = await reverted(subject, "a", "a")
    at_once = await asyncio.gather(*(reverted(subject, "a") for _ in range(5)))
    assert in_bytes(again) == in_bytes(first) * 2
    assert {tuple(in_bytes(answer)) for answer in at_once} == {tuple(in_bytes(first))}
    assert await subject.total("alice") == 5


async def test_an_undone_entry_is_refused_for_ever(subject: Subject) -> None:
    await applied(subject, event("a", 2))
    await reverted(subject, "a")
    (outcome,) = await applied(subject, event("a", 2))
    assert (outcome.error.code, outcome.error.reason) == ("FAILED_PRECONDITION", "ENTRY_REVERTED")
    assert await subject.total("alice") == 0


async def test_an_entry_that_was_never_seen_is_refused_once_it_was_undone(subject: Subject) -> None:
    first = await reverted(subject, "late", "other")
    assert [(outcome.reverted, outcome.HasField("effects")) for outcome in first] == [(False, False)] * 2
    late, fresh = await applied(subject, event("late", 2), event("a", 3))
    assert (late.error.code, late.error.reason) == ("FAILED_PRECONDITION", "ENTRY_REVERTED")
    assert not fresh.HasField("error")
    assert in_bytes(await reverted(subject, "late", "other")) == in_bytes(first)
    assert await subject.total("alice") == 3


async def test_the_entrys_own_user_is_meant_whatever_the_reversal_says(subject: Subject) -> None:
    await applied(subject, event("a", 2), event("b", 3, user="bob"))
    (outcome,) = await reverted(subject, "a", user="bob")
    assert users(outcome.effects) == ({"alice"} if subject.tells_of_undoing else set())
    assert (await subject.total("alice"), await subject.total("bob")) == (0, 3)


async def test_an_entry_and_its_reversal_at_once_end_without_effect(subject: Subject) -> None:
    await applied(subject, event("base", 100))
    await asyncio.gather(
        *(applied(subject, event(number)) for number in range(12)),
        *(reverted(subject, number) for number in range(12)),
    )
    assert await subject.total("alice") == 100


@pytest.mark.parametrize("size", [0, 1_001])
async def test_a_batch_of_reversals_is_refused_whole_for_its_size(subject: Subject, size: int) -> None:
    error = await refused(subject.stub.RevertEntries(revert(*["a"] * size)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert [violation.field for violation in error.violations] == ["reversals"]


async def test_a_malformed_reversal_is_refused_with_its_place_and_nothing_is_undone(subject: Subject) -> None:
    await applied(subject, event("a", 2))
    request = revert("a", "b")
    request.reversals[1].entry_id = "NOT-A-UUID"
    error = await refused(subject.stub.RevertEntries(request))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == ["reversals[1].entry_id"]
    assert await subject.total("alice") == 2


# Maintenance and changes


async def test_maintenance_with_nothing_due_does_nothing_and_says_so(subject: Subject) -> None:
    answer = await subject.stub.RunMaintenance(pb.RunMaintenanceRequest(now=NOW))
    assert answer == pb.RunMaintenanceResponse()


async def test_an_import_holds_maintenance_until_it_lets_it_go(subject: Subject) -> None:
    for hold_seconds, held in ((0, False), (60, True), (None, True), (0, False)):
        await subject.stub.RunMaintenance(pb.RunMaintenanceRequest(now=NOW, hold_seconds=hold_seconds))
        assert await is_held(subject.database) is held


async def test_a_pass_ahead_of_the_databases_clock_is_refused_unless_an_import_holds_the_clock(
    subject: Subject,
) -> None:
    clock: datetime = await subject.database.fetchval("SELECT clock_timestamp()")
    ahead = to_timestamp(clock + timedelta(hours=1))
    within = to_timestamp(clock + timedelta(minutes=4))
    await subject.stub.RunMaintenance(pb.RunMaintenanceRequest(now=within, hold_seconds=0))
    error = await refused(subject.stub.RunMaintenance(pb.RunMaintenanceRequest(now=ahead)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [(violation.field, violation.reason) for violation in error.violations] == [
        ("now", "MAINTENANCE_IN_FUTURE")
    ]
    await subject.stub.RunMaintenance(pb.RunMaintenanceRequest(now=ahead, hold_seconds=60))
    await subject.stub.RunMaintenance(pb.RunMaintenanceRequest(now=ahead))
    released = pb.RunMaintenanceRequest(now=ahead, hold_seconds=0)
    assert (await refused(subject.stub.RunMaintenance(released))).violations == error.violations


async def test_a_wrong_maintenance_request_names_its_fields(subject: Subject) -> None:
    error = await refused(subject.stub.RunMaintenance(pb.RunMaintenanceRequest(hold_seconds=3_601)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == ["now", "hold_seconds"]


async def test_an_empty_feed_has_no_changes_and_leaves_the_cursor_where_it_was(subject: Subject) -> None:
    await applied(subject, event("a"))
    oldest = await subject.stub.ListChanges(pb.ListChangesRequest())
    assert oldest == pb.ListChangesResponse(complete=True)
    later = await subject.stub.ListChanges(pb.ListChangesRequest(after_cursor="1.7.7"))
    assert later == pb.ListChangesResponse(cursor="1.7.7", complete=True)


async def test_a_cursor_that_no_feed_gave_is_refused(subject: Subject) -> None:
    error = await refused(subject.stub.ListChanges(pb.ListChangesRequest(after_cursor="7")))
    assert [violation.field for violation in error.violations] == ["after_cursor"]


@pytest.mark.parametrize("page_size", [-1, 1_001])
async def test_a_page_of_changes_has_at_most_1000(subject: Subject, page_size: int) -> None:
    error = await refused(subject.stub.ListChanges(pb.ListChangesRequest(page_size=page_size)))
    assert [violation.field for violation in error.violations] == ["page_size"]


# Errors


async def test_errors_are_in_the_name_of_the_service(subject: Subject) -> None:
    await applied(subject, event("conflict", 2))
    await reverted(subject, "undone")
    malformed = event("malformed")
    _no_digest(malformed)
    await subject.database.execute(FORBID_MALLORY)
    outcomes = await applied(
        subject, event("conflict", 3), event("undone"), malformed, event("broken", user="mallory")
    )
    assert reasons(outcomes) == ["ENTRY_CONFLICT", "ENTRY_REVERTED", "INVALID_FIELDS", "INTERNAL"]
    assert {outcome.error.domain for outcome in outcomes} == {subject.domain}
    refusals = [
        await refused(subject.stub.ApplyEntries(apply())),
        await refused(subject.stub.RevertEntries(revert())),
        await refused(subject.stub.RunMaintenance(pb.RunMaintenanceRequest())),
        await refused(subject.stub.ListChanges(pb.ListChangesRequest(page_size=-1))),
    ]
    assert {error.domain for error in refusals} == {subject.domain}


async def test_replicas_that_take_turns_with_a_user_lose_and_double_nothing(
    replicas: tuple[Subject, Subject],
) -> None:
    one, other = replicas
    for number, turn in enumerate([one, one, other, other, one, other, one, one]):
        await applied(turn, event(number))
    assert await one.total("alice") == await other.total("alice") == 8
    await reverted(other, 3)
    assert reasons(await applied(one, event(8))) == [""]
    assert reasons(await applied(one, event(9), event(10, user="bob"))) == ["", ""]
    if one.domain == "leaderboard.laurel":
        return  # what an undoing takes out of a score is said by the correction that follows it
    assert await one.total("alice") == await other.total("alice") == 9
    assert await other.total("bob") == 1


async def test_definitions_that_change_hold_for_the_next_event_of_who_was_just_here(subject: Subject) -> None:
    await applied(subject, event(0))
    await subject.database.execute("UPDATE configuration_version SET version = version + 1")
    assert reasons(await applied(subject, event(1))) == [""]
    assert await subject.total("alice") == 2
