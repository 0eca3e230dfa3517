"""Corrections of one streak that reach points in another order than that in which the streak changed."""

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.points.domain.definitions import Catalogue, PointsSystem, StreakCause, Trigger, TriggerKey
from services.points.domain.facts import Arrival, Command, Instant, PeriodChange, StreakChange
from services.points.domain.state import Owed, StreakCount, UserState
from services.points.domain.streaks import LivePeriod, arrived, corrected, due_for, shifts
from shared.entries import EntryKind
from shared.filters import AttributeFilter, Equals
from shared.ids import derived_id
from tests.unit.points.user import START, User, instant

LENGTH_ONE = Catalogue.of([PointsSystem("xp", (Trigger("days", 11, StreakCause("daily", 1)),))])
CATALOGUE = Catalogue.of([PointsSystem("xp", (Trigger("days", 11, StreakCause("daily", 2)),))])


def gives(*_: object) -> bool:
    """To everybody."""
    return True


def day(number: int) -> date:
    return START.date() + timedelta(days=number)


def reach(number: int) -> Instant:
    return Instant(derived_id(f"day-{number}"), START + timedelta(days=number), day(number))


def period(number: int, before: int, after: int) -> PeriodChange:
    """Of a day that had qualified with one length and has with another; 0: it had not, or has not."""
    return PeriodChange(day(number), before, after, before > 0, after > 0, reach(number) if after else None)


def arrival(number: int, *changed: PeriodChange) -> Arrival:
    """Of the event of a day."""
    return Arrival(changed, derived_id(f"day-{number}"))


STEPS = (
    (period(1, 0, 1), period(2, 0, 2)),  # two days in a row: the second is due
    (period(1, 1, 0), period(2, 2, 1), period(3, 0, 2)),  # the first is voided, a third one follows
    (period(2, 1, 0), period(3, 2, 1)),  # the second is voided
)
"""What the streak says, one after the other; in the end nothing is due."""


@pytest.mark.parametrize("order", list(permutations((1, 2))))
def test_nothing_is_left_of_what_no_streak_is_due_for_however_corrections_come(
    order: tuple[int, ...],
) -> None:
    (configured,) = CATALOGUE.by_streak["daily"]
    live = [LivePeriod(1, due_for(configured, Owed(day(2), reach(2))), derived_id("day-2"))]
    count = StreakCount(1, 1)
    for number in order:
        for shift in shifts(CATALOGUE, [StreakChange("daily", STEPS[number])]):
            settled = corrected(shift, count, live, UUID(int=number), gives)
            live = [one for one in live if one not in settled.taken]
            live += [LivePeriod(9, due_for(configured, change), UUID(int=number)) for change in settled.given]
            count = settled.count
    assert count == StreakCount(0, 0)
    assert live == []
    assert configured.key == TriggerKey("xp", "days")


def lengths(days: Iterable[int]) -> dict[int, int]:
    """The length of the streak on each of these days."""
    found: dict[int, int] = {}
    for number in sorted(days):
        found[number] = found.get(number - 1, 0) + 1
    return found


def changes(before: dict[int, int], after: dict[int, int]) -> tuple[PeriodChange, ...]:
    return tuple(
        period(number, before.get(number, 0), after.get(number, 0))
        for number in sorted({*before, *after})
        if before.get(number) != after.get(number)
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 1.5, 2.5, -1.5, -2.5])), max_size=9))
@example([(4, 0), (5, 0), (3, 0), (4, 1.5), (4, 0)])
@example([(4, 0), (2, 0), (3, 0), (2, 1.5), (2, 0)])
@example([(1, 0), (2, 0), (1, 2.5), (1, 0), (0, 0), (1, 2.5)])
@example([(3, 0), (2, 0), (1, 0), (2, -1.5)])
def test_there_are_as_many_awards_as_are_due_whether_corrections_come_late_or_early(
    toggles: list[tuple[int, float]],
) -> None:
    """Each toggle of a day is an event, or the void of one, whose correction comes so many steps later."""
    (configured,) = CATALOGUE.by_streak["daily"]
    days: set[int] = set()
    told: list[tuple[float, bool, tuple[PeriodChange, ...]]] = []
    for place, (number, delay) in enumerate(toggles):
        is_void, before = number in days, lengths(days)
        days ^= {number}
        told.append((place + (delay if is_void else 0), is_void, changes(before, lengths(days))))
    live: list[LivePeriod] = []
    count = StreakCount()
    for turn, is_void, said in sorted(told, key=lambda one: one[0]):
        cause = derived_id(f"cause-{turn}")
        if is_void:
            for shift in shifts(CATALOGUE, [StreakChange("daily", said)]):
                settled = corrected(shift, count, live, cause, gives)
                live = [one for one in live if one not in settled.taken]
                for owed in settled.given:
                    # One fact has one award for a period.
                    due = due_for(configured, owed)
                    assert all(one.due.identity != due.identity for one in live if one.due.owner == due.owner)
                    live.append(LivePeriod(9, due, cause))
                count = settled.count
        else:
            periods = frozenset(one.due.period for one in live if one.due.period)
            state = UserState(
                "alice", streaks={configured.key: count}, rewarded_periods={configured.key: periods}
            )
            counts, dues = arrived(CATALOGUE, state, [StreakChange("daily", said)], gives)
            count = counts.get(configured.key, count)
            live += [LivePeriod(9, due, cause) for due in dues]
    assert len(live) == sum(length % 2 == 0 for length in lengths(days).values())


def late_days() -> tuple[User, Command]:
    """Days 1 and 4 in a row, then the second in between; and the third, which is still to come."""
    alice = User([*CATALOGUE.systems.values()])
    alice.applied(alice.streak_event(period(1, 0, 1), period(4, 0, 2)))
    alice.applied(alice.streak_event(period(2, 0, 2), period(4, 2, 3)))
    return alice, alice.streak_event(period(3, 0, 3), period(4, 3, 4))


def rewarded(alice: User) -> dict[date | None, int]:
    """How often each period is rewarded."""
    counts = Counter[date | None]()
    for award in alice.ledger:
        counts[award.period] += award.times
    return {day: times for day, times in counts.items() if times}


def test_what_is_due_and_has_no_award_gets_it_once_more_is_due_and_no_period_two() -> None:
    alice, third = late_days()
    assert rewarded(alice) == {day(4): 1}
    (change,) = alice.applied(third).changes
    assert [(award.period, award.local_date) for award in change.awards] == [(day(2), day(2))]
    assert rewarded(alice) == {day(2): 1, day(4): 1}


def test_where_the_day_with_the_award_is_undone_the_one_that_is_due_gets_it() -> None:
    alice, _ = late_days()
    alice.applied(alice.streak_event(period(4, 3, 0), kind=EntryKind.CORRECTION))
    assert rewarded(alice) == {day(2): 1}


def test_what_was_due_without_an_award_and_is_not_any_more_is_not_granted_later() -> None:
    alice, _ = late_days()
    alice.applied(alice.streak_event(period(2, 2, 0), period(4, 3, 1), kind=EntryKind.CORRECTION))
    assert rewarded(alice) == {}
    alice.applied(alice.streak_event(period(5, 0, 2)))
    assert rewarded(alice) == {day(5): 1}


def test_an_award_passes_to_the_event_that_would_have_had_it_when_it_came() -> None:
    (configured,) = CATALOGUE.by_streak["daily"]
    gone, earlier, other = (Instant(derived_id(name), START, day(2)) for name in ("gone", "earlier", "other"))
    change = PeriodChange(day(2), 2, 2, True, True, earlier, granted_before=gone, granted_after=other)
    live = [LivePeriod(1, due_for(configured, Owed(day(2), gone)), gone.entry_id)]
    (shift,) = shifts(CATALOGUE, [StreakChange("daily", (change,))])
    settled = corrected(shift, StreakCount(1, 1), live, gone.entry_id, gives)
    assert settled.taken == tuple(live)
    assert settled.given == (Owed(day(2), other),)
    assert (settled.count.due_count, settled.count.granted_count) == (1, 1)


@pytest.mark.parametrize("plans", [("pro", "free"), ("free", "pro"), ("pro", "pro"), ("free", "free")])
def test_an_award_passes_only_to_an_event_whose_user_the_filters_let_through(plans: tuple[str, str]) -> None:
    pro = (AttributeFilter("plan", Equals("pro")),)
    alice = User([PointsSystem("xp", (Trigger("days", 11, StreakCause("daily", 2), user_filters=pro),))])
    alice.attributes = {"plan": plans[0]}
    first = alice.metric_event(1)
    qualifies = StreakChange("daily", (replace(period(2, 0, 2), reach=instant(first.entry)),))
    alice.applied(replace(first, streak_changes=(qualifies,)))
    assert rewarded(alice) == ({day(2): 1} if plans[0] == "pro" else {})
    alice.attributes = {"plan": plans[1]}
    second = alice.metric_event(1)
    alice.applied(second)
    kept = replace(period(2, 2, 2), reach=instant(second.entry))
    alice.applied(alice.streak_event(kept, kind=EntryKind.CORRECTION, corrects=first.entry.entry_id))
    assert rewarded(alice) == ({day(2): 1} if plans[1] == "pro" else {})
    gone = alice.streak_event(period(2, 2, 0), kind=EntryKind.CORRECTION, corrects=second.entry.entry_id)
    alice.applied(gone)
    assert rewarded(alice) == {}


def test_an_award_passes_to_the_period_that_would_have_had_it_as_events_came() -> None:
    # The 4th, the 3rd and the 2nd came in this order; without the 4th, the 3rd was due once the 2nd had come.
    with_it = (
        arrival(4, period(4, 0, 1)),
        arrival(3, period(3, 0, 1), period(4, 1, 2)),
        arrival(2, period(2, 0, 1), period(3, 1, 2)),
    )
    without = (arrival(3, period(3, 0, 1)), arrival(2, period(2, 0, 1), period(3, 1, 2)))
    told = StreakChange("daily", (period(4, 3, 0),), 4, arrivals_before=with_it, arrivals_after=without)
    (configured,) = CATALOGUE.by_streak["daily"]
    (shift,) = shifts(CATALOGUE, [told])
    live = [LivePeriod(2, due_for(configured, Owed(day(4), reach(4))), derived_id("day-3"))]
    count = StreakCount(1, 1, owed=(Owed(day(3), reach(3)),), idle=(day(4),))
    settled = corrected(shift, count, live, derived_id("day-4"), gives)
    assert settled.taken == tuple(live)
    assert settled.given == (Owed(day(3), reach(3)),)
    assert settled.causes == {day(3): derived_id("day-2")}
    assert (settled.count.owed, settled.count.idle) == ((), ())


def test_an_award_that_stays_moves_to_the_arrival_that_would_have_brought_it() -> None:
    # The 3rd came first; then the 2nd, and another event of the 2nd, which would have brought the length by itself.
    with_it = (arrival(3, period(3, 0, 1)), arrival(2, period(2, 0, 1), period(3, 1, 2)))
    without = (arrival(3, period(3, 0, 1)), arrival(9, period(2, 0, 1), period(3, 1, 2)))
    told = StreakChange("daily", (period(2, 1, 1),), 4, arrivals_before=with_it, arrivals_after=without)
    (configured,) = CATALOGUE.by_streak["daily"]
    (shift,) = shifts(CATALOGUE, [told])
    live = [LivePeriod(2, due_for(configured, Owed(day(3), reach(3))), derived_id("day-2"))]
    settled = corrected(shift, StreakCount(1, 1), live, derived_id("day-2"), gives)
    assert settled.taken == tuple(live)
    assert settled.given == (Owed(day(3), reach(3)),)
    assert settled.causes == {day(3): derived_id("day-9")}
    assert settled.count == StreakCount(1, 1)


def first_to_qualify(arrived: Iterable[tuple[int, int]]) -> Instant | None:
    """With which event a period of a threshold of 2 qualified when it did: by the order in which events came."""
    there: list[tuple[int, int]] = []
    for one in arrived:
        there.append(one)
        if found := qualifying(there):
            return found
    return None


def qualifying(events: Iterable[tuple[int, int]]) -> Instant | None:
    """With which it qualifies, in the order of the events' times."""
    total = 0
    for hour, value in sorted(events):
        total += value
        if total >= 2:
            return at_hour(hour)
    return None


def at_hour(hour: int) -> Instant:
    return Instant(derived_id(f"hour-{hour}"), START + timedelta(hours=hour), day(0))


@given(
    st.permutations(range(6)),
    st.lists(st.sampled_from([1, 1, 1, 2]), min_size=6, max_size=6),
    st.permutations(range(6)),
    st.integers(1, 4),
    st.permutations(range(4)),
)
def test_voids_of_one_period_that_overtake_each_other_leave_the_award_where_the_others_alone_put_it(
    hours: list[int], values: list[int], gone: list[int], count: int, order: list[int]
) -> None:
    (configured,) = LENGTH_ONE.by_streak["daily"]
    arrived_events = list(zip(hours, values, strict=True))
    owner = first_to_qualify(arrived_events)
    assert owner
    live = [LivePeriod(1, due_for(configured, Owed(day(0), owner)), owner.entry_id)]
    said = []
    for version, place in enumerate(gone[:count], start=10):
        void = (hours[place], values[place])
        left = [one for one in arrived_events if one != void]
        change = PeriodChange(
            day(0),
            1,
            1,
            True,
            True,
            qualifying(left),
            first_to_qualify(arrived_events),
            first_to_qualify(left),
        )
        said.append((StreakChange("daily", (change,), version), at_hour(void[0]).entry_id))
        arrived_events = left
    assume(qualifying(arrived_events))
    settled = StreakCount(1, 1)
    for number in [one for one in order if one < count]:
        told, corrected_id = said[number]
        for shift in shifts(LENGTH_ONE, [told]):
            settlement = corrected(shift, settled, live, corrected_id, gives)
            live = [one for one in live if one not in settlement.taken]
            live += [LivePeriod(9, due_for(configured, one), corrected_id) for one in settlement.given]
            settled = settlement.count
    assert [one.due.owner for one in live] == [first_to_qualify(arrived_events)]
