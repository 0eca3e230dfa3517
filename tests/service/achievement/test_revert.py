"""RevertEntries over a real channel to a real database (RULES 7.3, 7.4)."""

import asyncio

import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2

from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import (
    API,
    MERGED,
    apply,
    by_metric,
    call,
    correction,
    entry_id,
    event,
    revert,
)
from tests.service.achievement.steps import define, derived_state, held, revoked, shown

IS_MERGED = {"state": "merged"}


async def test_undone_and_corrected_entries_leave_the_state_as_if_they_had_never_been(
    service: Service,
) -> None:
    await define(service, "ten", metric=by_metric(10))
    await define(service, "merger", metric=by_metric(10, [MERGED]))
    await define(service, "founder", api=API)
    await service.participant.ApplyEntries(apply(event("e1", 4, version=1, total=4, attributes=IS_MERGED)))
    before = await derived_state(service)
    await service.participant.ApplyEntries(apply(call("c1", "founder"), call("c2", "founder")))
    await service.participant.ApplyEntries(apply(event("e2", 6, version=2, total=10, attributes=IS_MERGED)))
    assert await held(service) == {"ten", "merger", "founder"}
    response = await service.participant.RevertEntries(revert("e2", "c2", "c1"))
    assert [revoked(outcome) for outcome in response.outcomes] == [[], [], ["founder"]]
    assert all(outcome.reverted for outcome in response.outcomes)
    corrected = await service.participant.ApplyEntries(apply(correction("k1", of="e2", version=3, total=4)))
    assert sorted(revoked(corrected.outcomes[0])) == ["merger", "ten"]
    assert await derived_state(service) == before


async def test_a_revocation_carries_what_the_services_that_follow_need(service: Service) -> None:
    await define(service, "founder", api=API, tier_group="people", tier=2)
    applied = await service.participant.ApplyEntries(apply(call("c1", "founder")))
    undone = await service.participant.RevertEntries(revert("c1"))
    before, after = applied.outcomes[0].effects.achievements[0], undone.outcomes[0].effects.achievements[0]
    assert (after.completion_id, after.complete_time) == (before.completion_id, before.complete_time)
    assert (after.name, after.tier_group, after.tier) == ("Founder", "people", 2)


async def test_undoing_twice_is_undoing_once(service: Service) -> None:
    await define(service, "founder", api=API)
    await service.participant.ApplyEntries(apply(call("c1", "founder")))
    first = await service.participant.RevertEntries(revert("c1"))
    await service.participant.ApplyEntries(apply(call("c2", "founder")))
    assert (await service.participant.RevertEntries(revert("c1"))) == first
    assert await held(service) == {"founder"}


async def test_undoing_a_never_seen_entry_refuses_the_late_original(service: Service) -> None:
    await define(service, "founder", api=API)
    (outcome,) = (await service.participant.RevertEntries(revert("c1"))).outcomes
    assert (outcome.entry_id, outcome.reverted) == (str(entry_id("c1")), False)
    (late,) = (await service.participant.ApplyEntries(apply(call("c1", "founder")))).outcomes
    assert (late.error.code, late.error.reason) == ("FAILED_PRECONDITION", "ENTRY_REVERTED")
    assert await held(service) == set()


async def test_an_undone_entry_is_refused_when_it_comes_again(service: Service) -> None:
    await define(service, "founder", api=API)
    request = apply(call("c1", "founder"))
    await service.participant.ApplyEntries(request)
    await service.participant.RevertEntries(revert("c1"))
    (again,) = (await service.participant.ApplyEntries(request)).outcomes
    assert again.error.reason == "ENTRY_REVERTED"
    assert await held(service) == set()


async def test_undoing_a_refused_call_finds_nothing_to_undo(service: Service) -> None:
    request = apply(call("c1", "nothing"))
    refused = await service.participant.ApplyEntries(request)
    (outcome,) = (await service.participant.RevertEntries(revert("c1"))).outcomes
    assert not outcome.reverted
    assert await service.participant.ApplyEntries(request) == refused


async def test_with_negative_events_the_sum_is_derived_from_what_remains(service: Service) -> None:
    await define(service, "merger", metric=by_metric(100, [MERGED]))
    values = [5, -3, 9]
    for number, value in enumerate(values, start=1):
        command = event(number, value, version=number, total=sum(values[:number]), attributes=IS_MERGED)
        await service.participant.ApplyEntries(apply(command))
    await service.participant.RevertEntries(revert(3))
    row = await service.database.fetchrow("SELECT sum_micros, peak_micros, negative_count FROM accumulators")
    assert tuple(row or ()) == (2_000_000, 11_000_000, 1)


async def test_entries_undone_while_others_come_leave_what_the_others_alone_would(service: Service) -> None:
    await define(service, "merger", metric=by_metric(15, [MERGED]))
    commands = [
        event(number, 1, version=number, total=number, attributes=IS_MERGED) for number in range(1, 31)
    ]
    await service.participant.ApplyEntries(apply(*commands[:10]))
    await asyncio.gather(
        *(service.participant.ApplyEntries(apply(command)) for command in commands[10:]),
        *(service.participant.RevertEntries(revert(number)) for number in range(1, 11)),
    )
    (merger,) = await shown(service)
    assert (merger.current, merger.completed) == (20.0, True)


async def test_a_malformed_reversal_is_refused_with_its_place(service: Service) -> None:
    request = revert("c1")
    request.reversals[0].entry_id = "NOT-A-UUID"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await service.participant.RevertEntries(request)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "reversals[0].entry_id" in (failure.value.details() or "")


async def test_a_completion_that_stays_is_told_of_the_arrival_that_would_have_brought_it(
    service: Service,
) -> None:
    await define(service, "five", metric=by_metric(5))
    await define(service, "ace", composite=achievement_pb2.CompositeTrigger(achievements=["five"]))
    for number, (name, minutes) in enumerate((("undone", 1), ("owner", 3), ("late", 2)), start=1):
        command = event(name, 3, version=number, total=3 * number, minutes=minutes)
        await service.participant.ApplyEntries(apply(command))
    await service.participant.RevertEntries(revert("undone"))
    corrected = await service.participant.ApplyEntries(
        apply(correction("k1", of="undone", version=4, total=6))
    )
    effects = corrected.outcomes[0].effects
    assert not effects.achievements
    rows = await service.database.fetch(
        "SELECT completion_id, cause_id, cause_position FROM live_completions"
    )
    assert {(str(row["completion_id"]), str(row["cause_id"])) for row in rows} == {
        (told.completion_id, told.cause_entry_id) for told in effects.completion_causes
    }
    assert [(row["cause_id"], row["cause_position"]) for row in rows] == [(entry_id("late"), 3)] * 2


async def test_what_passes_on_is_told_of_the_arrival_that_would_have_brought_it(service: Service) -> None:
    await define(service, "five", metric=by_metric(5))
    for number, (name, minutes) in enumerate(
        (("first", 1), ("undone", 2), ("last", 4), ("late", 3)), start=1
    ):
        command = event(name, 3, version=number, total=3 * number, minutes=minutes)
        await service.participant.ApplyEntries(apply(command))
    await service.participant.RevertEntries(revert("undone", "last"))
    corrections = [
        correction("k1", of="undone", version=5, total=9),
        correction("k2", of="last", version=6, total=6),
    ]
    outcomes = (await service.participant.ApplyEntries(apply(*corrections))).outcomes
    came = [change for change in outcomes[0].effects.achievements if change.cause_entry_id]
    assert [(change.entry_id, change.cause_entry_id) for change in came] == [
        (str(entry_id("late")), str(entry_id("late")))
    ]


async def test_a_composite_is_told_of_the_arrival_that_would_have_brought_it_when_a_call_is_undone(
    service: Service,
) -> None:
    await define(service, "a", api=API)
    await define(service, "b", api=API)
    await define(service, "c", api=API)
    either = achievement_pb2.CompositeTrigger(achievements=["a", "b", "c"], at_least=2)
    await define(service, "two", composite=either)
    for name, minutes in (("a", 1), ("b", 3), ("c", 2)):
        await service.participant.ApplyEntries(apply(call(name, name, minutes=minutes)))
    (undone,) = (await service.participant.RevertEntries(revert("a"))).outcomes
    assert revoked(undone) == ["a"]
    (told,) = undone.effects.completion_causes
    assert told.cause_entry_id == str(entry_id("c"))
    rows = await service.database.fetch("SELECT cause_id FROM live_completions WHERE achievement = 'two'")
    assert [row["cause_id"] for row in rows] == [entry_id("c")]
