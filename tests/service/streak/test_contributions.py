"""Thresholds count what events contribute, and as of the newest that is known of it (RULES 2.2)."""

from datetime import date, datetime
from itertools import permutations

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, correction, event, revert, revisable
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
