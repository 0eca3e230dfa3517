"""What events contribute to totals that are no sums: RULES 2.2, 2.5."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from services.orchestrator.contributions import (
    MOST_ARRIVALS,
    NOT_ASKED,
    Arrival,
    Arrivals,
    Contribution,
    Revisions,
    as_they_came,
    asked_when,
    revisions_without,
)
from services.orchestrator.domain import MICROS, Aggregation, Fact, InTime, Metric, Total, in_time
from services.orchestrator.recording import (
    Incoming,
    Loaded,
    MetricEvent,
    Recorded,
    ValueKey,
    record,
)
from services.orchestrator.said import UserPatch
from tests.unit.orchestrator.slow_total import fold_total

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
REVISABLE = [Aggregation.MAX, Aggregation.LAST, Aggregation.UNIQUE]


class Told(Struct):
    """What a participant keeps of one event: of what it was told, the newest holds."""

    version: int = -1
    micros: int = 0
    arrived: bool = False


class Life:
    """One user's events of one metric, as they reach the ledger; and a participant that is told of them."""

    def __init__(self, aggregation: Aggregation) -> None:
        self.aggregation = aggregation
        self.total = Total()
        self.facts: list[Fact] = []
        self.firsts: dict[ValueKey, InTime] = {}
        self.messages: list[tuple[int, UUID | None, Contribution]] = []
        self.readings = 0
        self._metrics = {"m": Metric("m", aggregation, "item")}

    def arrive(self, *group: Fact) -> list[Recorded]:
        loaded = Loaded({}, {("u", "m"): self.total} if self.total.version else {}, firsts=dict(self.firsts))
        incoming = [_incoming(fact) for fact in group]
        outcome = record(incoming, loaded, self._metrics, "UTC")
        while outcome.wanted:
            self.readings += 1
            (since,) = outcome.wanted.facts.values()
            loaded = replace(loaded, facts={("u", "m"): self._from(since)})
            outcome = record(incoming, loaded, self._metrics, "UTC")
        self.total = outcome.totals["u", "m"]
        self.firsts |= outcome.new_firsts
        recorded = [entry for entry in outcome.entries if isinstance(entry, Recorded)]
        for entry in recorded:
            assert entry.after is not None
            assert entry.contribution is not None
            entry_id = entry.incoming.entry_id
            self.messages.append((entry.after.version, entry_id, entry.contribution))
            event = entry.incoming.event
            assert event is not None
            self.facts.append(
                Fact(
                    entry_id,
                    event.value_micros,
                    entry.incoming.occur_time,
                    entry.after.version,
                    entry.unique_value,
                )
            )
        return recorded

    def _from(self, since: datetime) -> list[Fact]:
        """As the ledger is read: of what was before an instant, what stands for it."""
        before = [fact for fact in self.facts if fact.occur_time < since]
        standing = {id(choose(before)): choose(before) for choose in (_greatest, _newest) if before}
        after = [fact for fact in self.facts if fact.occur_time >= since]
        return sorted([*standing.values(), *after], key=in_time)

    def void(self, entry_id: UUID) -> Revisions:
        """As the ledger takes an event out."""
        gone = next(fact for fact in self.facts if fact.entry_id == entry_id)
        self.facts.remove(gone)
        self.facts.sort(key=in_time)
        self.total = fold_total(self.total.version, self.aggregation, self.facts)
        revisions = revisions_without(self.aggregation, self.facts, gone)
        self.messages.append((self.total.version, None, Contribution(0, revisions)))
        if gone.unique_value is not None:
            key = ("u", "m", gone.unique_value)
            self.firsts.pop(key)
            left = [in_time(fact) for fact in self.facts if fact.unique_value == gone.unique_value]
            if left:
                self.firsts[key] = min(left)
        return revisions

    def told(self, order: Sequence[int]) -> dict[UUID, int]:
        """The contributions of events that count, after the messages in any order."""
        kept: dict[UUID, Told] = {}
        for place in order:
            version, own, contribution = self.messages[place]
            said = list(contribution.revisions)
            if own is not None:
                kept.setdefault(own, Told()).arrived = True
                said.append((own, contribution.micros))
            for entry_id, micros in said:
                event = kept.setdefault(entry_id, Told())
                if version > event.version:
                    event.version, event.micros = version, micros
        live = {fact.entry_id for fact in self.facts}
        return {entry_id: event.micros for entry_id, event in kept.items() if entry_id in live}


def _greatest(facts: Sequence[Fact]) -> Fact:
    return max(facts, key=lambda fact: fact.value_micros)


def _newest(facts: Sequence[Fact]) -> Fact:
    return max(facts, key=in_time)


def _incoming(fact: Fact) -> Incoming:
    return Incoming(
        entry_id=fact.entry_id,
        operation="metric_event",
        patch=UserPatch("u"),
        occur_time=fact.occur_time,
        now=NOON,
        digest=b"",
        request=b"",
        event=MetricEvent("m", fact.value_micros, {"item": fact.unique_value or ""}),
    )


def fact(number: int, value: int, *, hours: float = 0, item: str = "a") -> Fact:
    return Fact(UUID(int=number), value * MICROS, NOON + timedelta(hours=hours), 0, item)


def obvious(aggregation: Aggregation, facts: Sequence[Fact]) -> tuple[dict[UUID, int], int, int]:
    """What each event contributes, the total, and its peak: the total after each of them, one by one in time."""
    ordered = sorted(facts, key=in_time)
    totals = [0]
    for count in range(1, len(ordered) + 1):
        so_far = ordered[:count]
        match aggregation:
            case Aggregation.MAX:
                totals.append(max(event.value_micros for event in so_far))
            case Aggregation.LAST:
                totals.append(so_far[-1].value_micros)
            case _:
                totals.append(len({event.unique_value for event in so_far}) * MICROS)
    contributed = {event.entry_id: totals[n + 1] - totals[n] for n, event in enumerate(ordered)}
    return contributed, totals[-1], max(totals[1:], default=0)


def standing(aggregation: Aggregation, facts: Sequence[Fact], since: datetime) -> list[Fact]:
    """What stands for events before an instant."""
    before = [fact for fact in facts if fact.occur_time < since]
    if aggregation is Aggregation.UNIQUE:
        return list({fact.unique_value: fact for fact in sorted(before, key=in_time, reverse=True)}.values())
    return [choose(before) for choose in (_greatest, _newest) if before]


def is_late(fact: Fact, facts: Sequence[Fact]) -> bool:
    """Whether one that is later in time had come before."""
    return any(other.position < fact.position and in_time(other) > in_time(fact) for other in facts)


def check_arrivals(
    aggregation: Aggregation, others: Sequence[Fact], undone: Fact, arrivals: Arrivals
) -> None:
    """That it is told whenever it makes a difference, and is what an obvious fold gives after each arrival: with the
    undone event, and without it.
    """
    check_after(aggregation, others, undone, arrivals.after)
    check_all(aggregation, others, arrivals.after)
    check_all(aggregation, [*others, undone], arrivals.before)
    told = [arrival.entry_id for arrival in arrivals.before]
    if arrivals.after:
        assert undone.entry_id in told
        told.remove(undone.entry_id)
        assert told == [arrival.entry_id for arrival in arrivals.after]
    else:
        # It took nothing from those that came before it.
        assert undone.entry_id not in told
        check_all(aggregation, others, arrivals.before)


def check_all(aggregation: Aggregation, facts: Sequence[Fact], arrivals: Sequence[Arrival]) -> None:
    """That it is what an obvious fold gives after each arrival, also of what is not told: that contributes what it does
    when all have come.
    """
    amounts = {fact.entry_id: micros for fact, micros in _today(aggregation, facts) if arrivals}
    told = {arrival.entry_id: arrival.contribution for arrival in arrivals}
    for count, fact in enumerate(came := sorted(facts, key=lambda fact: fact.position), 1):
        if fact.entry_id in told:
            contribution = told[fact.entry_id]
            amounts |= {fact.entry_id: contribution.micros, **dict(contribution.revisions)}
        contributed = obvious(aggregation, came[:count])[0]
        assert not arrivals or contributed.items() <= amounts.items()


def _today(aggregation: Aggregation, facts: Sequence[Fact]) -> Iterable[tuple[Fact, int]]:
    contributed = obvious(aggregation, facts)[0]
    return ((fact, contributed[fact.entry_id]) for fact in facts)


def check_after(
    aggregation: Aggregation, others: Sequence[Fact], undone: Fact, arrivals: Sequence[Arrival]
) -> None:
    """That what is told without it begins and ends where it makes a difference."""
    came = sorted((*others, undone), key=lambda fact: fact.position)
    late = [fact.position for fact in came if fact.position >= undone.position and is_late(fact, came)]
    position = {fact.entry_id: fact.position for fact in others}
    amounts: dict[UUID, int] = {}
    for arrival in arrivals:
        amounts |= {arrival.entry_id: arrival.contribution.micros, **dict(arrival.contribution.revisions)}
        if position[arrival.entry_id] > undone.position:
            known = [fact for fact in others if fact.position <= position[arrival.entry_id]]
            contributed = obvious(aggregation, known)[0]
            assert amounts.items() <= contributed.items()
    assert max((position[arrival.entry_id] for arrival in arrivals), default=-1) <= max(late, default=-1)
    left = {entry_id: position[entry_id] for entry_id in position.keys() - amounts.keys()}
    now = obvious(aggregation, others)[0]
    for fact in others:
        if fact.entry_id not in amounts:
            # Nothing that came since changed what it contributes.
            known = [other for other in others if other.position <= max(left[fact.entry_id], undone.position)]
            assert obvious(aggregation, known)[0][fact.entry_id] == now[fact.entry_id]


@given(
    st.lists(
        st.tuples(st.integers(-6, 9).filter(bool), st.integers(0, 9), st.sampled_from(["a", "b", "c"])),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from(REVISABLE),
    st.data(),
)
def test_what_events_contributed_as_they_came_without_one_that_is_undone(
    happened: list[tuple[int, int, str]], aggregation: Aggregation, data: st.DataObject
) -> None:
    numbers = data.draw(st.permutations(range(1, len(happened) + 1)))
    came = [
        replace(fact(number, value, hours=hours, item=item), position=position)
        for position, (number, (value, hours, item)) in enumerate(zip(numbers, happened, strict=True))
    ]
    undone = data.draw(st.sampled_from(came))
    others = [event for event in came if event is not undone]
    asked = asked_when(others, undone)
    since = min(event.occur_time for event in (*asked, undone))
    told = as_they_came(aggregation, standing(aggregation, others, since), asked, undone)
    check_arrivals(aggregation, others, undone, told if asked else NOT_ASKED)


def test_it_is_asked_from_the_earliest_that_came_late_up_to_the_last_one() -> None:
    came = [replace(fact(place, 1, hours=hour), position=place) for place, hour in enumerate((3, 1, 4, 5))]
    assert asked_when([*came[:2], came[3]], came[2]) == came[:2]
    assert asked_when([came[0], *came[2:]], came[1]) == [came[0]]
    assert asked_when([came[0], came[3]], came[2]) == []


def test_of_too_many_events_it_is_not_asked() -> None:
    came = [replace(fact(place, 1, hours=-place), position=place) for place in range(MOST_ARRIVALS + 2)]
    assert asked_when(came[1:-1], came[0])
    assert asked_when(came[1:], came[0]) == []


arrivals = st.lists(
    st.one_of(
        st.lists(
            st.tuples(st.integers(-6, 9).filter(bool), st.integers(0, 5), st.sampled_from(["a", "b", "c"])),
            min_size=1,
            max_size=4,
        ),
        st.integers(0, 99),
    ),
    max_size=12,
)
"""Groups of events as they arrive, and the numbers of some that are void."""


@settings(max_examples=5 * settings().max_examples)
@given(arrivals, st.sampled_from(REVISABLE), st.data())
def test_all_that_was_told_in_any_order_gives_what_an_obvious_fold_in_the_order_of_times_gives(
    moves: list[list[tuple[int, int, str]] | int], aggregation: Aggregation, data: st.DataObject
) -> None:
    life = Life(aggregation)
    # Names that say nothing about the order of arrival: they decide between two at one instant.
    numbers = iter(data.draw(st.permutations(range(1, 60))))
    for move in moves:
        if isinstance(move, list):
            life.arrive(*(fact(next(numbers), value, hours=h, item=item) for value, h, item in move))
        elif life.facts:
            life.void(life.facts[move % len(life.facts)].entry_id)
        contributed, total, peak = obvious(aggregation, life.facts)
        assert (life.total.total_micros, life.total.peak_micros) == (total, peak)
        order = data.draw(st.permutations(range(len(life.messages))))
        assert life.told(order) == contributed
        assert sum(contributed.values()) == total


@pytest.mark.parametrize("aggregation", REVISABLE)
def test_events_in_order_and_repeated_items_read_nothing(aggregation: Aggregation) -> None:
    life = Life(aggregation)
    for number in range(1, 9):
        life.arrive(fact(number, number % 3 + 1, hours=number, item="ab"[number % 2]))
    assert life.readings == 0


def test_a_repeated_item_contributes_nothing_until_it_turns_out_to_be_the_first() -> None:
    life = Life(Aggregation.UNIQUE)
    (first,) = life.arrive(fact(1, 1, hours=1))
    (again,) = life.arrive(fact(2, 1, hours=2))
    (late,) = life.arrive(fact(3, 1, hours=0))
    assert first.contribution == Contribution(MICROS)
    assert again.contribution == Contribution(0)
    assert late.contribution == Contribution(MICROS, ((UUID(int=1), 0),))
    assert life.void(UUID(int=3)) == ((UUID(int=1), MICROS),)


def test_a_late_value_of_a_last_metric_stands_in_its_place() -> None:
    """150 at -30 h and 5 at -1 h: whichever comes first, the total was 150 and is 5."""
    for order in ((0, 1), (1, 0)):
        life = Life(Aggregation.LAST)
        events = (fact(1, 150, hours=-30), fact(2, 5, hours=-1))
        for place in order:
            life.arrive(events[place])
        assert life.total.total_micros == 5 * MICROS
        assert life.total.peak_micros == 150 * MICROS
        assert life.told(range(2)) == {UUID(int=1): 150 * MICROS, UUID(int=2): -145 * MICROS}


def test_a_sum_says_nothing_of_contributions() -> None:
    loaded = Loaded({}, {})
    (recorded,) = record([_incoming(fact(1, 3))], loaded, {"m": Metric("m", Aggregation.SUM)}, "UTC").entries
    assert isinstance(recorded, Recorded)
    assert recorded.contribution is None
