"""The facts of one period, added up."""

from bisect import insort
from collections.abc import Iterable
from datetime import date

from services.streak.domain.definition import StreakDefinition
from services.streak.domain.facts import Fact
from services.streak.domain.rows import Reach
from services.streak.domain.state import Tally
from services.streak.domain.travel import Sighting
from shared.calendar import local_date


def tally_of(definition: StreakDefinition, facts: Iterable[Fact]) -> Tally:
    """The tally of a period that has these facts, in order."""
    first, *others = facts
    tally = tally_of_one(definition, first)
    for other in others:
        tally = counted(definition, tally, other)
    return tally


def known_since(definition: StreakDefinition, tally: Tally) -> date:
    """The local date from which on what had arrived by it qualified a period that qualifies: its last one, where that
    was in time.
    """
    end = definition.last_date(tally.period)
    if not tally.late:
        return end
    sums = tally.sums_micros
    for _, late in tally.late:
        sums = tuple(total - part for total, part in zip(sums, late, strict=True))
    known_date = end if definition.qualifies(sums) else None
    for arrive_date, late in tally.late:
        sums = tuple(total + part for total, part in zip(sums, late, strict=True))
        known_date = (known_date or arrive_date) if definition.qualifies(sums) else None
    assert known_date  # with all of them it qualifies
    return known_date


def reach_as_they_came(definition: StreakDefinition, facts: Iterable[Fact]) -> Reach | None:
    """The event with which a period had qualified when it began to, where its facts came in this order: earlier ones
    that came later are not asked. None where it does not qualify.
    """
    there: list[Fact] = []
    sums: tuple[int, ...] = (0,) * len(definition.metrics)
    reach = None
    for fact in facts:
        insort(there, fact, key=lambda one: one.order)
        sums = _added(definition, sums, fact)
        if not definition.qualifies(sums):
            reach = None
        elif reach is None:
            reach = tally_of(definition, there).reach
    return reach


def tally_of_one(definition: StreakDefinition, fact: Fact) -> Tally:
    """The tally of a period that has one fact."""
    seen = _sighting(fact)
    nothing = (0,) * len(definition.metrics)
    empty = Tally(definition.period_of(fact.local_date), nothing, seen, seen, fact.order)
    return counted(definition, empty, fact)


def counted(definition: StreakDefinition, tally: Tally, fact: Fact) -> Tally:
    """With one more fact, which comes after the others."""
    sums = _added(definition, tally.sums_micros, fact)
    late = tally.late
    if fact.arrive_date != fact.local_date and fact.arrive_date > definition.last_date(tally.period):
        by_date = dict(late)
        nothing = (0,) * len(definition.metrics)
        by_date[fact.arrive_date] = _added(definition, by_date.get(fact.arrive_date, nothing), fact)
        late = tuple(sorted(by_date.items()))
    reach = (tally.reach or _reach(definition, fact)) if definition.qualifies(sums) else None
    return Tally(tally.period, sums, tally.earliest, _sighting(fact), fact.order, late, reach)


def _added(definition: StreakDefinition, sums: tuple[int, ...], fact: Fact) -> tuple[int, ...]:
    return tuple(
        total + fact.contribution_micros if wanted.metric == fact.metric else total
        for total, wanted in zip(sums, definition.metrics, strict=True)
    )


def _reach(definition: StreakDefinition, fact: Fact) -> Reach:
    """Others know events by the dates on the wall."""
    day = local_date(fact.occur_time, fact.time_zone) if definition.day_start else fact.local_date
    return Reach(fact.entry_id, fact.occur_time, day)


def _sighting(fact: Fact) -> Sighting:
    return Sighting(fact.occur_time, fact.time_zone)
