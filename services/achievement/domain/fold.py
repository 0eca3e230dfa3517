"""When what counts for an achievement reached its threshold: folded in the order of arrival, dated by the order
of times (RULES 2.5).

Among the facts that have arrived, the condition is met with the first fact, in the order of times, that counts,
whose user could earn the achievement, and up to which the sum was at least the threshold once. What is met at
an arrival is granted; what arrives later neither moves it nor takes it back.
"""

from bisect import bisect, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from services.achievement.domain.definitions import Achievement
from services.achievement.domain.past import Span, Start, Wanted
from services.achievement.domain.state import Accumulator, Cause, Fact, Key, Reach
from shared.as_told import AsTold
from shared.entries import MetricArrival


class Grant(Struct, frozen=True):
    """Where the condition was met, and with whose arrival."""

    reach: Reach
    cause: Cause


class Search(Struct, frozen=True):
    """What a look through the order of times came to."""

    owner: Fact | None
    highest: int
    """The sum at its highest, from where the look began."""


class Sums:
    """The facts that have arrived, in the order of times, with the sum after each and the highest sum until then."""

    def __init__(self, base: int, facts: Iterable[Fact] = ()) -> None:
        self._base = base
        self._keys: list[Key] = []
        self._facts: list[Fact] = []
        self._sums: list[int] = []
        self._highs: list[int] = []
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> Sequence[tuple[Fact, int]]:
        """One more arrives. It and those after it, each with the highest sum until then."""
        at = bisect(self._keys, fact.key)
        self._keys.insert(at, fact.key)
        self._facts.insert(at, fact)
        self._sums.insert(at, 0)
        self._highs.insert(at, 0)
        total, high = (self._sums[at - 1], self._highs[at - 1]) if at else (self._base, self._base)
        for index in range(at, len(self._facts)):
            total += self._facts[index].value_micros
            high = max(high, total)
            self._sums[index], self._highs[index] = total, high
        return list(zip(self._facts[at:], self._highs[at:], strict=True))


def search(achievement: Achievement, base: int, facts: Iterable[Fact]) -> Search:
    """The first of these facts, all of which have arrived, with which the condition is met; `base` is the sum before
    them.
    """
    return _first_met(
        achievement, achievement.trigger.target, base, ((fact, fact.value_micros) for fact in facts)
    )


MOST_REPLAYED: Final = 256
"""Arrivals; after each, all that came before it are summed."""


def told_until(start: Start, span: Span, arrivals: Iterable[MetricArrival]) -> int:
    """Up to which place in the order of arrival it is known what events contributed as they came; -1: of none. Raises
    `Wanted`.
    """
    told = {arrival.entry_id for arrival in arrivals}
    last = max((fact.position for fact in span.facts if fact.entry_id in told), default=-1)
    if span.settled is not None and span.settled < last:
        if len(span.facts) < MOST_REPLAYED:
            raise Wanted(start)
        last = span.settled
    came = sorted(fact.position for fact in span.facts if fact.position <= last)
    return last if len(came) <= MOST_REPLAYED else came[MOST_REPLAYED - 1]


def replay(
    achievement: Achievement,
    target: int,
    total: int,
    start: Start,
    span: Span,
    arrivals: Sequence[MetricArrival],
) -> Grant | None:
    """When the achievement is granted, from the start on and as long as it is known what events contributed as they
    came. `total` is the sum of all that counts today. Raises `Wanted`.
    """
    until, base = told_until(start, span, arrivals), base_of(achievement, total, span)
    told = AsTold({fact.entry_id: fact.value_micros for fact in span.facts}, arrivals)
    present: list[Fact] = []
    for arrival in sorted(span.facts, key=lambda fact: fact.position):
        if arrival.position > until:
            break
        insort(present, arrival, key=lambda fact: fact.key)
        told.come(arrival.entry_id)
        if arrival.position >= start.position:
            counted = ((fact, told.micros(fact.entry_id)) for fact in present)
            owner = _first_met(achievement, target, base, counted).owner
            if owner is not None:
                return Grant(owner.reach, arrival.cause)
    return None


def _first_met(
    achievement: Achievement, target: int, base: int, amounts: Iterable[tuple[Fact, int]]
) -> Search:
    total = highest = base
    for fact, micros in amounts:
        if not fact.counts_for(achievement):
            continue
        total += micros
        highest = max(highest, total)
        if highest >= target and fact.can_earn(achievement):
            return Search(fact, highest)
    return Search(None, highest)


def refold(
    achievement: Achievement,
    target: int,
    total: int,
    start: Start,
    span: Span | None,
    *,
    revisable: bool,
    after: int = -1,
) -> Grant | None:
    """When the achievement is granted, given that it was not before the start, nor with what came up to a place in the
    order of arrival. `total` is the sum of all that counts.

    Of a revisable metric only those contributions are known that hold today. Of events that have not all arrived they
    may add up to more than there ever was, so the sum has to be there today as well; or to less, so that what arrived
    before the start is looked at again. Raises `Wanted`.
    """
    if span is None:
        raise Wanted(start)
    facts = [event for event in span.facts if event.counts_for(achievement)]
    base = base_of(achievement, total, span)
    if span.complete and base + sum(max(0, event.value_micros) for event in facts) < target:
        return None  # in whatever order
    today = _highs(base, facts) if revisable else {}
    here = [] if revisable else [event for event in facts if event.position < start.position]
    sums, settled = Sums(base, here), span.settled
    for arrival in sorted(facts, key=lambda fact: fact.position):
        if not revisable and arrival.position < start.position:
            continue
        if settled is not None and arrival.position > settled:
            break
        tail = sums.add(arrival)
        if arrival.position <= after:
            continue
        for fact, highest in tail:
            if min(highest, today.get(fact.key, highest)) >= target and fact.can_earn(achievement):
                return Grant(fact.reach, arrival.cause)
    if not span.complete:
        raise Wanted(start)
    return None


def granted_in_turn(
    achievement: Achievement, sums: Accumulator, start: Start, span: Span
) -> Iterator[tuple[Achievement, Grant]]:
    """Each time that it is granted, in order, had it been there from the first fact on. Raises `Wanted`."""
    facts = [event for event in span.facts if event.counts_for(achievement)]
    base = base_of(achievement, sums.sum_micros, span)
    revisable = any(fact.version for fact in facts)
    today = _highs(base, facts) if revisable else {}
    times = achievement.times()
    each = next(times, None)
    reached, settled = Sums(base), span.settled
    for arrival in sorted(facts, key=lambda fact: fact.position):
        if settled is not None and arrival.position > settled:
            break
        tail = reached.add(arrival)
        while each is not None:
            grant = _grant(each, arrival, tail, today)
            if grant is None:
                break
            yield each, grant
            each = next(times, None)
        if each is None:
            return
    assert each is not None
    if not span.complete and sums.peak_micros >= each.trigger.target:
        raise Wanted(start)


def _grant(
    achievement: Achievement, arrival: Fact, tail: Iterable[tuple[Fact, int]], today: Mapping[Key, int]
) -> Grant | None:
    target = achievement.trigger.target
    for fact, highest in tail:
        if min(highest, today.get(fact.key, highest)) >= target and fact.can_earn(achievement):
            return Grant(fact.reach, arrival.cause)
    return None


def base_of(achievement: Achievement, total: int, span: Span) -> int:
    """The sum of what counts before the span."""
    counted = sum(fact.value_micros for fact in span.facts if fact.counts_for(achievement))
    return total - counted - span.rest.get(achievement.key if achievement.event_filters else "", 0)


def _highs(base: int, facts: Iterable[Fact]) -> dict[Key, int]:
    total = highest = base
    highs = {}
    for fact in facts:
        total += fact.value_micros
        highest = max(highest, total)
        highs[fact.key] = highest
    return highs
