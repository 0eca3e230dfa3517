"""Composites over a real channel to a real database (RULES 4.3)."""

import pytest
from laurel.achievement.v1 import achievement_pb2 as types

from shared.errors import InvalidArgument
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, PRO, apply, by_metric, call, correction, event, revert
from tests.service.achievement.steps import completed, define, derived_state, held, revoked, shown


def of(*achievements: str, at_least: int = 0) -> types.CompositeTrigger:
    return types.CompositeTrigger(achievements=achievements, at_least=at_least)


async def test_a_composite_comes_with_what_completes_it_and_goes_with_it(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    await define(service, "founder", api=API)
    await define(service, "both", composite=of("ten", "founder"))
    await define(service, "top", composite=of("both"))
    await service.participant.ApplyEntries(apply(call("c1", "founder")))
    before = await derived_state(service)
    (outcome,) = (
        await service.participant.ApplyEntries(apply(event("e1", 10, version=1, total=10)))
    ).outcomes
    assert completed(outcome) == ["ten", "both", "top"]
    await service.participant.RevertEntries(revert("e1"))
    (undone,) = (
        await service.participant.ApplyEntries(apply(correction("k", of="e1", version=2, total=0)))
    ).outcomes
    assert sorted(revoked(undone)) == ["both", "ten", "top"]
    assert (await derived_state(service))["live_completions"] == before["live_completions"]


async def test_a_voided_call_takes_along_what_hung_on_it(service: Service) -> None:
    await define(service, "founder", api=API)
    await define(service, "patron", api=API)
    await define(service, "either", composite=of("founder", "patron", at_least=1))
    await define(service, "both", composite=of("founder", "patron"), user_filters=[PRO])
    first, second = call("c1", "founder", plan="pro"), call("c2", "patron", plan="pro", minutes=1)
    await service.participant.ApplyEntries(apply(first))
    await service.participant.ApplyEntries(apply(second))
    assert await held(service) == {"founder", "patron", "either", "both"}
    (outcome,) = (await service.participant.RevertEntries(revert("c1"))).outcomes
    assert revoked(outcome) == ["founder", "both", "either"]
    assert await held(service) == {"patron", "either"}


async def test_who_could_earn_it_is_asked_of_an_event_that_came_before(service: Service) -> None:
    """It becomes enough with an arrival, but in the order of times with an event of yesterday's."""
    await define(service, "ten", metric=by_metric(10))
    await define(service, "founder", api=API)
    await define(service, "both", composite=of("ten", "founder"), user_filters=[PRO])
    newest = call("c1", "founder", plan="pro", minutes=60)
    await service.participant.ApplyEntries(apply(newest))
    late = event("e1", 10, version=1, total=10, plan="free", minutes=0)
    (outcome,) = (await service.participant.ApplyEntries(apply(late))).outcomes
    assert completed(outcome) == ["ten", "both"]
    owner = next(change for change in outcome.effects.achievements if change.achievement == "both")
    assert owner.entry_id == newest.entry.entry_id


async def test_progress_towards_a_composite_counts_what_is_held(service: Service) -> None:
    for key in ("a", "b", "c"):
        await define(service, key, api=API)
    await define(service, "two", composite=of("a", "b", "c", at_least=2))
    await service.participant.ApplyEntries(apply(call("c1", "a")))
    two = next(one for one in await shown(service) if one.achievement == "two")
    assert (two.completed, two.current, two.target, two.percent) == (False, 1, 2, 50)


async def test_a_circle_is_refused_when_it_is_configured(service: Service) -> None:
    await define(service, "a", api=API)
    await define(service, "b", composite=of("a"))
    await define(service, "c", composite=of("b"))
    with pytest.raises(InvalidArgument) as refused:
        await service.definitions.update(types.Achievement(key="b", composite=of("a", "c")))
    assert [violation.field for violation in refused.value.violations] == [
        "achievement.composite.achievements"
    ]
