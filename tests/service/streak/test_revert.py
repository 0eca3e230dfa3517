"""Undoing events: as if they had never been, while later ones keep their effect (RULES 7.3)."""

from datetime import date

import pytest
from laurel.streak.v1 import streak_pb2

from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, entry_id, event, revert
from tests.service.streak.steps import (
    applied,
    define,
    derived_state,
    lengths,
    maintain,
    recorded,
    shown,
    statuses,
)

ONE_FREEZE = streak_pb2.FreezeSettings(initial_count=1)


@pytest.mark.parametrize("doomed", [1, 2, 3, 4])
async def test_an_undone_event_leaves_what_the_others_alone_would_have_given(
    service: Service, twin: Service, doomed: int
) -> None:
    events = {1: event(1, at(3)), 2: event(2, at(4)), 3: event(3, at(4, 15)), 4: event(4, at(7))}
    for replica in (service, twin):
        await define(replica, freezes=ONE_FREEZE)
    await applied(service, *events.values())
    response = await service.participant.RevertEntries(revert(doomed, now=at(7, 12)))
    assert response.outcomes[0].reverted
    await applied(twin, *(command for name, command in events.items() if name != doomed))
    for replica in (service, twin):
        await maintain(replica, at(20))
    assert await derived_state(service) == await derived_state(twin)


async def test_the_outcome_says_what_was_undone(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(4)), event(3, at(5)))
    response = await service.participant.RevertEntries(revert(2, now=at(5, 13)))
    (effect,) = response.outcomes[0].effects.streaks
    assert not effect.extended
    assert (effect.change.version, effect.change.length_before, effect.change.length) == (4, 3, 1)
    assert effect.change.longest == 1
    assert lengths(effect.change) == [(4, 2, 0), (5, 3, 1)]
    assert statuses(effect) == [(4, "BROKEN"), (5, "QUALIFIED")]


async def test_undoing_the_only_event_leaves_no_streak_and_keeps_the_version(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    response = await service.participant.RevertEntries(revert(1, now=at(3)))
    assert response.outcomes[0].effects.streaks[0].change.length == 0
    assert await derived_state(service) == [[], [], []]
    assert await shown(service, at(3)) == []
    assert await maintain(service, at(20)) == 0
    (again,) = await applied(service, event(2, at(21)))
    assert again.effects.streaks[0].change.version == 3


async def test_undoing_twice_is_undoing_once(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(4)))
    first = await service.participant.RevertEntries(revert(2, now=at(4)))
    again = await service.participant.RevertEntries(revert(2, 2, now=at(5)))
    assert again.outcomes[0] == again.outcomes[1] == first.outcomes[0]
    assert await recorded(service) == [(date(2025, 3, 3), "QUALIFIED")]


async def test_an_undone_event_is_refused_for_ever(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    await service.participant.RevertEntries(revert(1))
    (outcome,) = await applied(service, event(1, at(3)))
    assert (outcome.error.code, outcome.error.reason) == ("FAILED_PRECONDITION", "ENTRY_REVERTED")


async def test_the_undoing_of_an_event_never_seen_is_remembered(service: Service) -> None:
    await define(service)
    response = await service.participant.RevertEntries(revert(1, 2))
    assert [outcome.reverted for outcome in response.outcomes] == [False, False]
    late, fresh = await applied(service, event(1, at(3)), event(3, at(3)))
    assert late.error.reason == "ENTRY_REVERTED"
    assert not fresh.HasField("error")
    again = await service.participant.RevertEntries(revert(1, 2))
    assert again == response


async def test_undoing_an_event_that_counted_for_nothing_changes_nothing(service: Service) -> None:
    await applied(service, event(1, at(3)))
    response = await service.participant.RevertEntries(revert(1))
    assert response.outcomes[0].reverted
    assert list(response.outcomes[0].effects.streaks) == []


async def test_a_void_tells_which_arrival_brought_each_length_with_the_event_and_without_it(
    service: Service,
) -> None:
    await define(service)
    days = {"early": at(3), "first": at(1), "late": at(2, 9), "also late": at(2, 10)}
    for minute, (name, time) in enumerate(days.items()):
        await applied(service, event(name, time, now=at(4, minute=minute)))
    (undone,) = (await service.participant.RevertEntries(revert("late", now=at(4, 13)))).outcomes
    (effect,) = undone.effects.streaks
    for arrivals, name in (
        (effect.change.arrivals_before, "late"),
        (effect.change.arrivals_after, "also late"),
    ):
        reached = {first.length: arrival.entry_id for arrival in arrivals for first in arrival.first_reaches}
        assert reached[3] == str(entry_id(name))
