"""ApplyEntries over a real channel to a real database (RULES 4, 7.4)."""

import asyncio

import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from shared.rpc.convert import to_datetime
from tests.fixtures import participants
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import (
    API,
    MERGED,
    NOON,
    PRO,
    apply,
    by_metric,
    by_streak,
    call,
    correction,
    entry,
    entry_id,
    event,
    revert,
    streak,
)
from tests.service.achievement.steps import completed, define, derived_state, held, revoked, shown

IS_MERGED = {"state": "merged"}


async def test_an_event_completes_what_its_total_reaches(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10), tier_group="commits", tier=1, badge_url="https://b/1")
    await define(service, "hundred", metric=by_metric(100), tier_group="commits", tier=2)
    response = await service.participant.ApplyEntries(apply(event("e1", 12, version=1, total=12)))
    (outcome,) = response.outcomes
    (change,) = outcome.effects.achievements
    assert (outcome.entry_id, change.achievement) == (str(entry_id("e1")), "ten")
    assert (change.name, change.tier_group, change.tier, change.badge_url) == (
        "Ten",
        "commits",
        1,
        "https://b/1",
    )
    assert (to_datetime(change.complete_time) - NOON).seconds == 60
    earned, other = await shown(service)
    assert (earned.achievement, earned.completed, earned.percent) == ("ten", True, 100.0)
    assert earned.entry_id == str(entry_id("e1"))
    assert (other.achievement, other.current, other.target, other.percent) == ("hundred", 12.0, 100.0, 12.0)


async def test_a_streak_change_completes_what_its_length_reaches(service: Service) -> None:
    await define(service, "week", streak=by_streak(7))
    first = event("e1", 1, version=1, total=1, streaks=[streak(1, 6)])
    second = event("e2", 1, version=2, total=2, streaks=[streak(2, 7, reached={7: "e2"})])
    response = await service.participant.ApplyEntries(apply(first, second))
    assert [completed(outcome) for outcome in response.outcomes] == [[], ["week"]]
    assert (await shown(service))[0].current == 7


async def test_filtered_events_are_summed_across_batches_and_completed_once(service: Service) -> None:
    await define(service, "merger", metric=by_metric(3, [MERGED]), user_filters=[PRO])
    outcomes: list[participant_pb.Outcome] = []
    for number in range(1, 5):
        command = event(number, 1, version=number, total=number, plan="pro", attributes=IS_MERGED)
        other = event(f"x{number}", 1, version=number, total=number, plan="pro")
        outcomes += (await service.participant.ApplyEntries(apply(command, other))).outcomes
    assert [number for number, outcome in enumerate(outcomes) if completed(outcome)] == [4]


async def test_an_entry_sent_again_gets_the_stored_outcome_byte_for_byte(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    request = apply(event("e1", 12, version=1, total=12), call("c1", "nothing"))
    first = await service.participant.ApplyEntries(request)
    before = await derived_state(service)
    await service.definitions.update(types.Achievement(key="ten", name="Renamed"))
    again = await service.participant.ApplyEntries(request)
    assert again.SerializeToString() == first.SerializeToString()
    assert await derived_state(service) == before


async def test_the_same_entry_id_with_other_content_is_refused(service: Service) -> None:
    await service.participant.ApplyEntries(apply(event("e1", 1, version=1, total=1)))
    response = await service.participant.ApplyEntries(
        apply(event("e1", 2, version=1, total=2), event("e2", 1, version=2, total=2))
    )
    conflict, neighbour = response.outcomes
    assert (conflict.error.code, conflict.error.reason) == ("ALREADY_EXISTS", "ENTRY_CONFLICT")
    assert not neighbour.HasField("error")


async def test_a_twin_inside_a_batch_has_one_effect(service: Service) -> None:
    await define(service, "merger", metric=by_metric(10, [MERGED]))
    command = event("e1", 4, version=1, total=4, attributes=IS_MERGED)
    response = await service.participant.ApplyEntries(apply(command, command))
    assert response.outcomes[0] == response.outcomes[1]
    assert (await shown(service))[0].current == 4


async def test_a_malformed_command_never_fails_its_neighbours(service: Service) -> None:
    await define(service, "one", metric=by_metric(1))
    bad = event("bad", 1, version=1, total=1)
    bad.entry.time_zone = "+02:00"
    bad.entry.user.user_id = ""
    response = await service.participant.ApplyEntries(apply(bad, event("good", 1, version=1, total=1)))
    refused, applied = response.outcomes
    assert (refused.error.code, refused.error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELDS")
    assert refused.entry_id == str(entry_id("bad"))
    assert [violation.field for violation in refused.error.violations] == [
        "commands[0].entry.user.user_id",
        "commands[0].entry.time_zone",
    ]
    assert completed(applied) == ["one"]


@pytest.mark.parametrize("size", [0, 1_001])
async def test_a_batch_that_is_empty_or_over_the_limit_is_refused(service: Service, size: int) -> None:
    request = apply(*(event(number, 1, version=1, total=1) for number in range(size)))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await service.participant.ApplyEntries(request)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_streak_changes_are_checked(service: Service) -> None:
    command = event("e1", 1, version=1, total=1, streaks=[streak(1, 2), streak(2, -1)])
    (outcome,) = (await service.participant.ApplyEntries(apply(command))).outcomes
    assert [violation.field for violation in outcome.error.violations] == [
        "commands[0].effects.streaks[1].change.length",
        "commands[0].effects.streaks[1].change.longest",
    ]


async def test_a_call_completes_and_a_second_one_changes_nothing(service: Service) -> None:
    await define(service, "founder", api=API)
    first, second = (
        await service.participant.ApplyEntries(apply(call("c1", "founder"), call("c2", "founder")))
    ).outcomes
    assert (completed(first), completed(second)) == (["founder"], [])
    assert not second.HasField("error")


@pytest.mark.parametrize(
    ("key", "code", "reason"),
    [
        ("nothing", "NOT_FOUND", "ACHIEVEMENT_NOT_FOUND"),
        ("locked", "FAILED_PRECONDITION", "ACHIEVEMENT_NOT_ACTIVE"),
        ("ten", "FAILED_PRECONDITION", "TRIGGER_NOT_API"),
        ("for-pros", "FAILED_PRECONDITION", "USER_NOT_ELIGIBLE"),
        ("Not A Key", "INVALID_ARGUMENT", "INVALID_FIELDS"),
    ],
)
async def test_a_call_that_cannot_complete_says_why(
    service: Service, key: str, code: str, reason: str
) -> None:
    await define(service, "locked", api=API, status=types.ACHIEVEMENT_STATUS_LOCKED)
    await define(service, "ten", metric=by_metric(10))
    await define(service, "for-pros", api=API, user_filters=[PRO])
    (outcome,) = (await service.participant.ApplyEntries(apply(call("c1", key, plan="free")))).outcomes
    assert (outcome.error.code, outcome.error.reason, outcome.error.domain) == (
        code,
        reason,
        "achievement.laurel",
    )


async def test_a_refusal_is_remembered_when_the_reason_for_it_is_gone(service: Service) -> None:
    request = apply(call("c1", "founder"))
    refused = await service.participant.ApplyEntries(request)
    await define(service, "founder", api=API)
    assert await service.participant.ApplyEntries(request) == refused
    assert await held(service) == set()


async def test_a_correction_revokes_and_passes_on(service: Service) -> None:
    await define(service, "five", metric=by_metric(5))
    await define(service, "ten", metric=by_metric(10))
    await service.participant.ApplyEntries(apply(event("e1", 6, version=1, total=6)))
    await service.participant.ApplyEntries(apply(event("e2", 5, version=2, total=11)))
    await service.participant.RevertEntries(revert("e1"))
    corrected = await service.participant.ApplyEntries(apply(correction("k1", of="e1", version=3, total=5)))
    assert revoked(corrected.outcomes[0]) == ["five", "ten"]
    assert completed(corrected.outcomes[0]) == ["five"]
    facts = "SELECT achievement, kind, entry_id, cause_id FROM completion_facts ORDER BY achievement, fact_time, kind"
    e1, e2, k1 = map(entry_id, ("e1", "e2", "k1"))
    assert {tuple(row) for row in await service.database.fetch(facts)} == {
        ("five", 1, e1, e1),
        ("five", 2, e1, k1),
        ("five", 1, e2, k1),
        ("ten", 1, e2, e2),
        ("ten", 2, e2, k1),
    }


async def test_completing_and_passing_on_inside_one_batch_leaves_one_completion(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    await service.participant.ApplyEntries(apply(event("e1", 10, version=1, total=10)))
    await service.participant.RevertEntries(revert("e1"))
    response = await service.participant.ApplyEntries(
        apply(
            correction("k1", of="e1", version=2, total=0),
            event("e2", 10, version=3, total=10),
            event("late", 10, version=4, total=20, minutes=0),
        )
    )
    assert [completed(outcome) for outcome in response.outcomes] == [[], ["ten"], []]
    (earned,) = await shown(service)
    assert (earned.completed, earned.entry_id) == (True, str(entry_id("e2")))


async def test_a_changed_definition_takes_effect_on_the_next_event(service: Service) -> None:
    await service.participant.ApplyEntries(apply(event("e1", 1, version=1, total=1)))
    await define(service, "two", metric=by_metric(2))
    (outcome,) = (await service.participant.ApplyEntries(apply(event("e2", 1, version=2, total=2)))).outcomes
    assert completed(outcome) == ["two"]


async def test_a_user_update_changes_nothing(service: Service) -> None:
    update = entry("u1")
    update.user_update.SetInParent()
    command = participants.command(update)
    (outcome,) = (await service.participant.ApplyEntries(apply(command))).outcomes
    assert outcome == participant_pb.Outcome(entry_id=str(entry_id("u1")), effects=Effects())


async def test_many_writers_on_one_user_come_to_what_one_after_another_would(service: Service) -> None:
    await define(service, "total", metric=by_metric(60))
    await define(service, "merger", metric=by_metric(60, [MERGED]))
    await define(service, "founder", api=API)
    commands = [
        event(number, 1, version=number, total=number, attributes=IS_MERGED) for number in range(1, 61)
    ]
    requests = [apply(command, call(f"c{number}", "founder")) for number, command in enumerate(commands)]
    responses = await asyncio.gather(*(service.participant.ApplyEntries(request) for request in requests))
    changes = [key for response in responses for outcome in response.outcomes for key in completed(outcome)]
    assert sorted(changes) == ["founder", "merger", "total"]
    assert await held(service) == {"founder", "merger", "total"}
    row = await service.database.fetchrow("SELECT entry_count FROM users WHERE user_id = 'alice'")
    assert row is not None
    assert row["entry_count"] == 120
    assert await service.database.fetchval("SELECT count(DISTINCT position) FROM request_log") == 120


async def test_the_same_entries_sent_at_once_by_several_callers_have_one_effect(service: Service) -> None:
    await define(service, "merger", metric=by_metric(100, [MERGED]))
    request = apply(*(event(n, 1, version=n, total=n, attributes=IS_MERGED) for n in range(1, 21)))
    responses = await asyncio.gather(*(service.participant.ApplyEntries(request) for _ in range(8)))
    assert len({response.SerializeToString() for response in responses}) == 1
    assert (await shown(service))[0].current == 20
