"""What events contribute to a total that is no sum: the change that each makes in the order of their times (RULES 2.2).

An event that comes or goes changes its own contribution, and those of later events until both ways give the same again.
Pure.
"""

from bisect import bisect, insort
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.orchestrator.domain import MICROS, Aggregation, Fact, in_time

Revisions = tuple[tuple[UUID, int], ...]
"""What other events contribute from now on, in micro-units."""


class Contribution(Struct, frozen=True):
    """What an event contributes, in micro-units, and what others do since it is there."""

    micros: int
    revisions: Revisions = ()


def contribution_of(aggregation: Aggregation, others: Sequence[Fact], fact: Fact) -> Contribution:
    """What an event contributes among others of the same user and metric, which are in the order of their times."""
    micros, revisions = _compared(aggregation, others, fact, counted=True)
    return Contribution(micros, revisions)


def revisions_without(aggregation: Aggregation, others: Sequence[Fact], fact: Fact) -> Revisions:
    """What the others contribute once an event does not count any more."""
    return _compared(aggregation, others, fact, counted=False)[1]


AROUND: Final = timedelta(days=14)
"""So far before and behind an event that is undone it is asked what came when."""
MOST_READ: Final = 2_000
"""Of more events around it is not asked."""
MOST_ARRIVALS: Final = 100
"""Nor where more would have to be told."""


class Arrival(Struct, frozen=True):
    """What an event contributed when it came, in micro-units, and what others did from then on."""

    entry_id: UUID
    contribution: Contribution


class Arrivals(Struct, frozen=True):
    """What events contributed as they came, in that order, with an event that is undone and without it."""

    before: tuple[Arrival, ...] = ()
    after: tuple[Arrival, ...] = ()


NOT_ASKED: Final = Arrivals()


def asked_when(around: Sequence[Fact], undone: Fact) -> list[Fact]:
    """Of events around one that is undone, those of which it is asked what they contributed as they came, in that
    order: from the earliest that came late, up to the last one; where these are too many, from the earliest since.

    None where all came in the order of times: then contributions are what they were.
    """
    came = sorted([*around, undone], key=lambda event: event.position)
    earliest = first = in_time(undone)
    last, latest = -1, in_time(came[0])
    for event in came:
        place = in_time(event)
        if place < latest:
            earliest, last = min(earliest, place), event.position
            if event.position >= undone.position:
                first = min(first, place)
        latest = max(latest, place)
    others = [event for event in came if event is not undone and event.position <= last]
    for since, _ in (earliest, first):
        asked = [event for event in others if event.occur_time >= since]
        if len(asked) <= MOST_ARRIVALS:
            return asked
    return []


def as_they_came(
    aggregation: Aggregation, earlier: Sequence[Fact], came: Sequence[Fact], undone: Fact
) -> Arrivals:
    """What each contributed when it came, and changed of others that had come; `earlier` stands for what is before all
    of them in time. Of none without the undone event where it came after them in both orders: it took nothing from
    them.
    """
    if all(event.position < undone.position and in_time(event) < in_time(undone) for event in came):
        return Arrivals(before=_as_they_came(aggregation, earlier, came))
    among = sorted((*came, undone), key=lambda event: event.position)
    return Arrivals(
        before=_as_they_came(aggregation, earlier, among), after=_as_they_came(aggregation, earlier, came)
    )


def _as_they_came(
    aggregation: Aggregation, before: Sequence[Fact], came: Sequence[Fact]
) -> tuple[Arrival, ...]:
    known = sorted(before, key=in_time)
    arrivals = []
    for event in came:
        arrivals.append(Arrival(event.entry_id, contribution_of(aggregation, known, event)))
        insort(known, event, key=in_time)
    return tuple(arrivals)


def contributions_in_order(aggregation: Aggregation, facts: Sequence[Fact]) -> list[int]:
    """What each of all the events of a user and metric contributes; they are in the order of their times."""
    if aggregation is Aggregation.SUM:
        return [fact.value_micros for fact in facts]
    seen: dict[str | None, _State] = {}
    contributed = []
    for fact in facts:
        about = fact.unique_value if aggregation is Aggregation.UNIQUE else None
        micros, seen[about] = _step(aggregation, seen.get(about), fact, fact)
        contributed.append(micros)
    return contributed


_State = int | None
"""What the next contribution depends on: of MAX the greatest value, of LAST the newest one, of UNIQUE whether the value
that it is all about was there.
"""


def _compared(
    aggregation: Aggregation, others: Sequence[Fact], fact: Fact, *, counted: bool
) -> tuple[int, Revisions]:
    place = bisect(others, in_time(fact), key=in_time)
    without = _state_after(aggregation, others[:place], fact)
    micros, among = _step(aggregation, without, fact, fact)
    revisions = []
    for other in others[place:]:
        if without == among:
            break
        lone, without = _step(aggregation, without, other, fact)
        joint, among = _step(aggregation, among, other, fact)
        if lone != joint:
            revisions.append((other.entry_id, joint if counted else lone))
    return micros, tuple(revisions)


def _state_after(aggregation: Aggregation, earlier: Sequence[Fact], fact: Fact) -> _State:
    match aggregation:
        case Aggregation.MAX:
            return max((event.value_micros for event in earlier), default=None)
        case Aggregation.UNIQUE:
            return int(any(event.unique_value == fact.unique_value for event in earlier))
        case _:
            return earlier[-1].value_micros if earlier else None


def _step(aggregation: Aggregation, state: _State, event: Fact, fact: Fact) -> tuple[int, _State]:
    """What an event contributes, and the state after it."""
    match aggregation:
        case Aggregation.MAX:
            highest = event.value_micros if state is None else max(state, event.value_micros)
            return highest - (state or 0), highest
        case Aggregation.UNIQUE:
            if event.unique_value != fact.unique_value:
                return 0, state  # the same with it and without it
            return 0 if state else MICROS, 1
        case _:
            return event.value_micros - (state or 0), event.value_micros
