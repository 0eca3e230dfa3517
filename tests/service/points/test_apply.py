"""ApplyEvents over a real channel to a real database (RULES 5, 7.4)."""

import asyncio
from datetime import timedelta

import grpc.aio
import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types

from shared.rpc.convert import to_datetime
from tests.fixtures import participants
from tests.service.points.conftest import Service
from tests.service.points.messages import (
    BADGE,
    BRONZE,
    NOON,
    SILVER,
    SPEND,
    TEN_PER_THREE,
    UNIT,
    WEEK,
    WELCOME,
    apply,
    closing,
    correction,
    entry,
    entry_id,
    event,
)
from tests.service.points.steps import amounts, balance, check_ledger, define, derived_state, points, send


async def test_an_event_earns_points_and_a_level(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WELCOME], levels=[BRONZE, SILVER])
    first, second = await send(service, event("e1", 2), event("e2", 7, minutes=5))
    assert amounts(first) == [25]
    (change,) = second.effects.points
    assert (change.points_system, change.version, change.added) == ("xp", 2, 30)
    assert (change.balance_before, change.balance, change.lifetime) == (25, 55, 55)
    assert (change.level_before, change.level) == ("bronze", "silver")
    assert to_datetime(change.reach_time) == NOON + timedelta(minutes=5)
    (award,) = change.awards
    assert (award.points_system, award.trigger, award.entry_id) == ("xp", "commits", str(entry_id("e2")))
    assert (award.amount, award.base_amount, award.clipped_amount) == (30, 30, 0)
    assert (await points(service))["xp"] == types.UserPoints(
        points_system="xp", balance=55, lifetime=55, level=SILVER
    )


async def test_streaks_and_achievements_earn_points(service: Service) -> None:
    await define(service, "xp", [WEEK, BADGE])
    (outcome,) = await send(service, event("e1", 1, periods=[(0, 7)], completed=["first_commit"]))
    assert amounts(outcome) == [50, 100]


async def test_several_systems_change_with_one_event(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await define(service, "coins", [types.PointsTrigger(key="c", amount=1, metric=TEN_PER_THREE.metric)])
    (outcome,) = await send(service, event("e1", 3))
    assert [(change.points_system, change.added) for change in outcome.effects.points] == [
        ("coins", 1),
        ("xp", 10),
    ]


async def test_an_entry_sent_again_gets_its_first_outcome_byte_for_byte(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    command = event("e1", 3)
    first = await service.participant.ApplyEntries(apply(command))
    await send(service, event("e2", 30))
    again = await service.participant.ApplyEntries(apply(command))
    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert await balance(service) == 110


async def test_an_entry_with_other_content_is_refused(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3))
    (outcome,) = await send(service, event("e1", 6))
    assert (outcome.error.code, outcome.error.reason) == ("ALREADY_EXISTS", "ENTRY_CONFLICT")
    assert await balance(service) == 10


async def test_a_blocking_deduction_rejects_the_entry_for_ever(service: Service) -> None:
    await define(service, "energy", [SPEND, WELCOME], min_balance=2)
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 1))
    before = await derived_state(service)
    (first, again) = [
        (await send(service, event("e2", 2, metric="spending", periods=[(0, 7)], completed=["a"])))[0]
        for _ in range(2)
    ]
    assert (first.error.code, first.error.reason) == ("FAILED_PRECONDITION", "INSUFFICIENT_POINTS")
    assert first.error.domain == "points.laurel"
    assert dict(first.error.metadata) == {
        "points_system": "energy",
        "trigger": "spend",
        "balance": "25",
        "required": "40",
        "min_balance": "2",
    }
    assert not first.effects.points
    assert again == first
    assert await derived_state(service) == before
    state = await service.database.fetchval(
        "SELECT state FROM request_log WHERE entry_id = $1", entry_id("e2")
    )
    assert state == 4
    await send(service, event("e3", 1, metric="spending"))
    assert await balance(service, key="energy") == 5


async def test_a_rejected_first_entry_leaves_the_user_as_new_as_before(service: Service) -> None:
    await define(service, "xp", [SPEND, WELCOME])
    (rejected, welcomed) = await send(service, event("e1", 9, metric="spending"), event("e2", 1))
    assert rejected.error.reason == "INSUFFICIENT_POINTS"
    assert amounts(welcomed) == [25]


async def test_a_rejected_command_never_fails_its_neighbours(service: Service) -> None:
    await define(service, "xp", [SPEND, TEN_PER_THREE])
    outcomes = await send(
        service, event("e1", 3), event("e2", 1, metric="spending"), event("e3", 3), event("b", 3, user="bob")
    )
    assert [outcome.error.reason for outcome in outcomes] == ["", "INSUFFICIENT_POINTS", "", ""]
    assert (await balance(service), await balance(service, "bob")) == (20, 10)


async def test_a_malformed_command_gets_an_error_and_its_neighbours_their_effect(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    bad = event("bad", 3, periods=[(-1, 2)], completed=["first"])
    bad.entry.user.user_id = ""
    bad.entry.metric_event.value_micros = 2**62
    bad.effects.achievements[0].completion_id = "nonsense"
    outcomes = await send(service, event("e1", 3), bad, event("e2", 3))
    assert [outcome.error.reason for outcome in outcomes] == ["", "INVALID_FIELDS", ""]
    assert {violation.field for violation in outcomes[1].error.violations} == {
        "commands[1].entry.user.user_id",
        "commands[1].entry.metric_event.value_micros",
    }
    assert outcomes[1].entry_id == str(entry_id("bad"))
    assert await balance(service) == 20


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_batch_has_1_to_1000_commands(service: Service, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.participant.ApplyEntries(apply(*[event(n, 1) for n in range(count)]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_largest_values_overflow_nothing(service: Service) -> None:
    trigger = types.PointsTrigger(
        key="max", amount=10**9, metric=types.MetricPointsTrigger(metric="commits", every=0.000001)
    )
    await define(service, "xp", [trigger])
    outcomes = await send(service, *[event(n, 10**12) for n in range(12)])
    assert not any(outcome.HasField("error") for outcome in outcomes)
    assert await balance(service) == 9_007_199_254_740_991
    await service.participant.RevertEntries(
        revert_all := participant_pb.RevertEntriesRequest(reversals=_reversals(12))
    )
    assert await balance(service) == 0
    assert len(revert_all.reversals) == 12
    await check_ledger(service)


def _reversals(count: int) -> list[participant_pb.Reversal]:
    now = entry("x").now
    return [
        participant_pb.Reversal(entry_id=str(entry_id(n)), user_id="alice", now=now) for n in range(count)
    ]


async def test_many_writers_on_one_user_end_like_one_after_another(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WELCOME])
    outcomes = await asyncio.gather(*[send(service, event(n, 1.5)) for n in range(40)])
    assert sorted(
        outcome.effects.points[0].version for (outcome,) in outcomes if outcome.effects.points
    ) == list(range(1, 22))
    assert await balance(service) == 25 + 200
    assert (await service.database.fetchval("SELECT entry_count FROM users")) == 40
    await check_ledger(service)


async def test_two_spends_at_once_never_overdraw(service: Service) -> None:
    await define(service, "xp", [SPEND, WELCOME])
    await send(service, event("e0", 1))
    outcomes = await asyncio.gather(*[send(service, event(n, 1, metric="spending")) for n in range(8)])
    assert sorted(outcome.error.reason for (outcome,) in outcomes) == [""] + ["INSUFFICIENT_POINTS"] * 7
    assert await balance(service) == 5


async def test_the_same_entry_from_many_callers_at_once_has_one_effect(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    outcomes = await asyncio.gather(*[send(service, event("e1", 3)) for _ in range(10)])
    assert len({outcome.SerializeToString(deterministic=True) for (outcome,) in outcomes}) == 1
    assert await balance(service) == 10


async def test_a_correction_takes_back_what_streaks_and_achievements_gave(service: Service) -> None:
    await define(service, "xp", [WEEK, BADGE])
    (given,) = await send(service, event("e1", 1, periods=[(0, 7)], completed=["first", "second"]))
    (taken,) = await send(service, correction("c1", periods=[(7, 0)], revoked=["first"]))
    assert sorted(amounts(taken)) == [-100, -50]
    reversed_ids = {award.reversed_award_id for award in taken.effects.points[0].awards}
    assert reversed_ids == {
        given.effects.points[0].awards[0].award_id,
        given.effects.points[0].awards[1].award_id,
    }
    assert await balance(service) == 100


async def test_a_correction_in_the_batch_of_what_it_corrects_finds_the_new_awards(service: Service) -> None:
    await define(service, "xp", [WEEK, BADGE])
    outcomes = await send(
        service,
        event("e1", 1, periods=[(0, 7)], completed=["first"]),
        correction("c1", periods=[(7, 0)], revoked=["first"]),
    )
    assert amounts(outcomes[1]) == [-50, -100]
    assert not outcomes[1].effects.points[0].HasField("reach_time")
    await check_ledger(service)


async def test_a_revocation_that_arrives_before_its_completion_keeps_it_unrewarded(service: Service) -> None:
    await define(service, "xp", [BADGE])
    await send(service, correction("c1", revoked=["first"]))
    (late,) = await send(service, event("e1", 1, completed=["first"]))
    assert not late.effects.points


async def test_a_reversal_takes_the_reach_time_back_to_the_newest_award_that_is_left(
    service: Service,
) -> None:
    await define(service, "xp", [TEN_PER_THREE, BADGE])
    await send(service, event("e1", 3, minutes=1), event("e2", 3, minutes=4), event("e3", 3, minutes=2))
    await send(service, event("e4", 1, minutes=9, completed=["first"]))
    (taken,) = await send(service, correction("c1", revoked=["first"]))
    assert to_datetime(taken.effects.points[0].reach_time) == NOON + timedelta(minutes=4)


async def test_entries_without_a_metric_count_too(service: Service) -> None:
    await define(service, "xp", [WELCOME])
    update = entry("u1")
    update.user_update.SetInParent()
    (outcome,) = await send(service, participants.command(update))
    assert amounts(outcome) == [25]


async def test_a_streak_change_of_another_streak_touches_nothing(service: Service) -> None:
    await define(service, "xp", [WEEK])
    command = event("e1", 1, periods=[(0, 70)])
    command.effects.streaks[0].change.streak = "weekly"
    assert not (await send(service, command))[0].effects.points


async def test_a_change_of_the_definition_takes_effect_on_the_next_event(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3))
    doubled = types.PointsTrigger(key="commits", amount=20, metric=TEN_PER_THREE.metric)
    await service.definitions.update(types.PointsSystem(key="xp", triggers=[doubled]))
    assert amounts((await send(service, event("e2", 3)))[0]) == [20]


async def test_the_order_of_entries_does_not_matter(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WEEK, BADGE, WELCOME])
    forward = [
        event(f"a{n}", 1.25 * n, periods=[(0, n + 1)], completed=[f"a-{n}"] if n % 3 == 0 else [])
        for n in range(1, 12)
    ]
    backward = []
    for n in reversed(range(1, 12)):
        completed = [f"b-{n}"] if n % 3 == 0 else []
        backward.append(event(f"b{n}", 1.25 * n, user="bob", periods=[(0, n + 1)], completed=completed))
    await send(service, *forward)
    for command in backward:
        await send(service, command)
    assert await balance(service) == await balance(service, "bob") == 25 + 10 * 27 + 50 + 300


async def test_wrong_effects_are_named_too(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    bad = event("bad", 3, periods=[(-1, 2)], completed=["first"])
    bad.effects.achievements[0].completion_id = "nonsense"
    (outcome,) = await send(service, bad)
    assert {violation.field for violation in outcome.error.violations} == {
        "commands[0].effects.streaks[0].change.period_changes[0]",
        "commands[0].effects.achievements[0].completion_id",
    }


async def test_micro_units_survive_the_wire(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    command = event("e1", 1)
    command.entry.metric_event.value_micros = 3 * UNIT - 1
    nearly = await send(service, command)
    tip = event("e2", 1)
    tip.entry.metric_event.value_micros = 1
    assert [amounts(outcome) for outcome in (*nearly, *await send(service, tip))] == [[], [10]]


async def test_a_streak_closing_is_taken_and_awards_nothing(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WEEK, WELCOME])
    await send(service, event("e1", 3, periods=[(0, 7)]))
    before = await derived_state(service)
    (outcome,) = await send(service, closing("s1"))
    assert outcome.WhichOneof("result") == "effects"
    assert not outcome.effects.points
    assert await derived_state(service) == before
    assert await balance(service) == 85


async def test_a_streak_closing_is_nobodys_first_entry(service: Service) -> None:
    await define(service, "xp", [WELCOME])
    (closed, first) = await send(service, closing("s1"), event("e1", 1))
    assert (amounts(closed), amounts(first)) == ([], [25])
