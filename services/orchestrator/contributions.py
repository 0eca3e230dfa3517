"""What events contribute to a total that is no sum: the change that each makes in the order of their times (RULES 2.2).

An event that comes or goes changes its own contribution, and those of later events until both ways give the same again.
Pure.
"""

from bisect import bisect
from collections.abc import Sequence
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
