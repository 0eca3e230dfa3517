"""Thresholds count what events contribute, and as of the newest that is known of it (RULES 2.2)."""

from collections.abc import Iterable
from datetime import date, datetime
from itertools import permutations

import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2

from tests.service.streak.conftest import Service
from tests.service.streak.messages import UNIT, at, correction, entry_id, event, revert, revisable
from tests.service.streak.steps import applied, define, derived_state, effect, recorded


def visited(
    name: object,
    time: datetime,
    contribution: float,
    version: int,
    revisions: dict[object, float] | None = None,
) -> participant_pb.Command:
    """An event of a metric of distinct values."""
    fact = revisable("commits", contribution, version, revisions)
    return event(name, time, now=at(9), fact=fact)


async def test_a_repeated_value_is_no_progress(service: Service) -> None:
    await define(service)
    first = await effect(service, visited(1, at(3), 1, 1))
    again = await effect(service, visited(2, at(4), 0, 2))
    assert (first.extended, again.extended) == (True, False)
    assert await recorded(service) == [(date(2025, 3, 3), "QUALIFIED"), (date(2025, 3, 4), "BROKEN")]


async def test_an_earlier_event_takes_the_contribution_of_a_later_one(service: Service) -> None:
    await define(service)
    await applied(service, visited(1, at(5), 1, 1))
    found = await effect(service, visited(2, at(4), 1, 2, {1: 0}))
    assert [(change.start_date.day, change.length_after) for change in found.change.period_changes] == [
        (4, 1),
        (5, 0),
        (6, 0),
    ]
    assert await recorded(service) == [(date(2025, 3, 4), "QUALIFIED"), (date(2025, 3, 5), "BROKEN")]


async def test_a_revision_may_arrive_before_the_event_that_it_is_about(service: Service) -> None:
    await define(service)
    await applied(service, visited(2, at(4), 1, 2, {1: 0}))
    late = await effect(service, visited(1, at(5), 1, 1))
    assert not late.extended
    assert (await recorded(service))[0] == (date(2025, 3, 4), "QUALIFIED")
    assert (
        await service.database.fetchval(
            "SELECT contribution_micros FROM request_log WHERE metric = 'commits' AND occur_time = $1", at(5)
        )
        == 0
    )


async def test_of_several_revisions_the_newest_holds_whatever_came_last(service: Service) -> None:
    await define(service)
    await applied(service, visited(1, at(5), 1, 1))
    await applied(service, correction("c", at(9), metric=revisable("commits", 0, 7, {1: 1}, value=0)))
    await applied(service, visited(2, at(4), 1, 6, {1: 0}))
    assert (await recorded(service))[:2] == [(date(2025, 3, 4), "QUALIFIED"), (date(2025, 3, 5), "QUALIFIED")]


async def test_a_correction_gives_back_what_the_undone_event_had_taken(
    service: Service, twin: Service
) -> None:
    for replica in (service, twin):
        await define(replica)
    await applied(service, visited(1, at(4), 1, 1), visited(2, at(5), 0, 2))
    await service.participant.RevertEntries(revert(1, now=at(9)))
    (outcome,) = await applied(
        service, correction("c", at(9), metric=revisable("commits", 0, 3, {2: 1}, value=0))
    )
    (found,) = outcome.effects.streaks
    assert (found.change.length, found.change.longest) == (0, 1)
    await applied(twin, visited(2, at(5), 1, 1))
    assert await derived_state(service) == await derived_state(twin)


def as_it_came(name: object, contribution: int, revisions: dict[object, int]) -> entry_pb2.MetricArrival:
    """What an event contributed when it came."""
    return entry_pb2.MetricArrival(
        entry_id=str(entry_id(name)),
        contribution_micros=contribution * UNIT,
        revisions=[
            entry_pb2.ContributionRevision(entry_id=str(entry_id(other)), contribution_micros=micros * UNIT)
            for other, micros in revisions.items()
        ],
    )


def without(*revisions: object) -> participant_pb.Command:
    """The correction for the event of the 4th, which came after the one of the 5th and had its value."""
    fact = revisable("commits", 0, 9, dict.fromkeys(revisions, 1), value=0)
    fact.arrivals.append(as_it_came(1, 1, {}))
    fact.arrivals_before.extend([as_it_came(1, 1, {}), as_it_came("gone", 1, {1: 0})])
    return correction("c", at(20, month=5), metric=fact)


def told_lengths(arrivals: Iterable[streak_pb2.Arrival]) -> list[list[tuple[int, int]]]:
    """By arrival, the days whose periods changed, and the lengths after them."""
    return [
        [(change.start_date.day, change.length_after) for change in arrival.period_changes]
        for arrival in arrivals
    ]


@pytest.mark.parametrize("later", [(), (10, 11)], ids=["new", "long ago"])
async def test_a_correction_tells_lengths_by_what_events_contributed_as_they_came(
    service: Service, later: tuple[int, ...]
) -> None:
    await define(service)
    now = at(20, month=5)
    fact = revisable("commits", 1, 1)
    await applied(service, event(1, at(5), now=at(6), fact=fact))
    fact = revisable("commits", 1, 2, {1: 0})
    await applied(service, event("gone", at(4), now=at(7), fact=fact))
    for day in later:
        fact = revisable("commits", 1, day)
        await applied(service, event(day, at(day, month=5), now=at(day, month=5), fact=fact))
    reply = await service.participant.RevertEntries(revert("gone", now=now))
    (undone,) = reply.outcomes[0].effects.streaks
    assert not undone.change.arrivals_before
    assert not undone.change.arrivals_after
    (outcome,) = await applied(service, without(1))
    (found,) = outcome.effects.streaks
    assert [lengths[0] for lengths in told_lengths(found.change.arrivals_before)] == [(5, 1), (4, 1)]
    assert [lengths[0] for lengths in told_lengths(found.change.arrivals_after)] == [(5, 1)]
    assert (await recorded(service))[0] == (date(2025, 3, 5), "QUALIFIED")


async def test_an_event_that_counts_for_no_streak_can_have_taken_what_another_one_contributed(
    service: Service,
) -> None:
    await define(service, user_filters=[{"attribute": "plan", "equals": "pro"}])
    pro, fact = {"plan": "pro"}, revisable("commits", 1, 1)
    await applied(service, event(1, at(5), now=at(6), attributes=pro, fact=fact))
    fact = revisable("commits", 1, 2, {1: 0})
    await applied(service, event("gone", at(4), now=at(7), fact=fact))
    await service.participant.RevertEntries(revert("gone", now=at(20, month=5)))
    (outcome,) = await applied(service, without(1))
    (found,) = outcome.effects.streaks
    # It was there, and gone when the other one came.
    assert [lengths[0] for lengths in told_lengths(found.change.arrivals_before)] == [(5, 1), (5, 0)]
    assert [lengths[0] for lengths in told_lengths(found.change.arrivals_after)] == [(5, 1)]


async def test_of_a_streak_that_the_undone_event_alone_counted_for_it_is_told_how_it_came_and_went(
    service: Service,
) -> None:
    await define(service, user_filters=[{"attribute": "plan", "equals": "pro"}])
    pro, fact = {"plan": "pro"}, revisable("commits", 1, 1)
    await applied(service, event("gone", at(5), now=at(6), attributes=pro, fact=fact))
    fact = revisable("commits", 1, 2, {"gone": 0})
    await applied(service, event(1, at(4), now=at(7), fact=fact))
    await service.participant.RevertEntries(revert("gone", now=at(20, month=5)))
    told = revisable("commits", 0, 3, value=0)
    told.arrivals_before.extend([as_it_came("gone", 1, {}), as_it_came(1, 1, {"gone": 0})])
    told.arrivals.append(as_it_came(1, 1, {}))
    (outcome,) = await applied(service, correction("c", at(20, month=5), metric=told))
    (found,) = outcome.effects.streaks
    assert [lengths[0] for lengths in told_lengths(found.change.arrivals_before)] == [(5, 1), (5, 0)]
    assert not found.change.arrivals_after


async def test_a_revision_of_an_undone_event_changes_nothing(service: Service) -> None:
    await define(service)
    await applied(service, visited(1, at(5), 0, 1))
    await service.participant.RevertEntries(revert(1, now=at(9)))
    await applied(service, visited(2, at(4), 0, 2, {1: 1}))
    assert await recorded(service) == []
    assert await service.database.fetchval("SELECT count(*) FROM contributions") == 0


SAME_VALUE = {"a": at(3), "b": at(4), "c": at(5)}


def told(order: tuple[str, ...]) -> list[participant_pb.Command]:
    """Three events with one value, as the orchestrator tells of them in some order: the earliest contributes."""
    commands = []
    for version, name in enumerate(order, 1):
        known = order[: version - 1]
        first = min(known, default=name)
        revisions: dict[object, float] = {first: 0} if name < first else {}
        commands.append(visited(name, SAME_VALUE[name], 1 if name <= first else 0, version, revisions))
    return commands


@pytest.mark.parametrize("recorded_order", list(permutations("abc")))
async def test_whatever_was_recorded_first_and_came_first_the_earliest_contributes(
    service: Service, twin: Service, recorded_order: tuple[str, ...]
) -> None:
    for replica in (service, twin):
        await define(replica)
    commands = told(recorded_order)
    await applied(service, *reversed(commands))
    for command in commands[1:] + commands[:1]:
        await applied(twin, command)
    assert await recorded(service) == [(date(2025, 3, 3), "QUALIFIED"), (date(2025, 3, 4), "BROKEN")]
    assert await derived_state(service) == await derived_state(twin)
