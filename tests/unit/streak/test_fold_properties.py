"""The fold against a slow one, and every way of getting to a state against the fold."""

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.streak.domain import (
    Fact,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    StreakDefinition,
    fact,
    facts,
    fold,
    needs_history,
    refold,
    touched_since,
)
from services.streak.domain.checkpoint import FURTHEST_AHEAD
from shared.calendar import EARLIEST, local_date, zone_names
from tests.unit.streak.slow_fold import SlowResult, slow_fold
from tests.unit.streak.stored import Stored, assert_same
from tests.unit.streak.worlds import redefine, slow_facts, slow_rules, worlds


@given(worlds())
def test_the_fold_equals_one_that_goes_day_by_day(
    world: tuple[StreakDefinition, list[Fact], datetime],
) -> None:
    definition, history, now = world
    expected = slow_fold(slow_rules(definition), slow_facts(history, definition), now)
    folded = fold(definition, facts(history), now)
    if folded is None:
        assert expected == SlowResult()
        return
    rows = [
        (row.start_date, row.end_date, row.status.name, row.length, row.settle_time)
        for row in folded.rows.periods
    ]
    assert rows == expected.periods
    assert [
        (line.effective_date, line.reason.name, line.amount)
        for line in sorted(folded.rows.ledger, key=lambda line: line.key)
    ] == expected.ledger
    assert folded.current.length == expected.length
    assert folded.current.longest == expected.longest
    assert folded.current.freeze_count == expected.balance == sum(line.amount for line in folded.rows.ledger)


@given(worlds(), st.data())
def test_any_order_of_arrival_with_any_maintenance_gives_the_rows_of_the_fold(
    world: tuple[StreakDefinition, list[Fact], datetime], data: st.DataObject
) -> None:
    definition, history, now = world
    stored = Stored(definition)
    earliest = min(event.occur_time for event in history)
    span = int((now - earliest) / timedelta(hours=1))
    for event in history:
        if data.draw(st.booleans()):
            stored.maintain(earliest + timedelta(hours=data.draw(st.integers(0, max(span, 0)))))
        stored.take(event, min(event.occur_time, now))
    stored.maintain(now)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(history, definition), now))


@given(worlds(), st.integers(1, 3))
def test_chronological_arrival_never_needs_history_in_one_zone(
    world: tuple[StreakDefinition, list[Fact], datetime], maintenance_every: int
) -> None:
    definition, history, now = world
    at_home = [
        fact(event.entry_id, event.metric, event.contribution_micros, event.occur_time, "UTC")
        for event in sorted(history, key=lambda one: one.order)
    ]
    stored = Stored(definition)
    for number, event in enumerate(at_home):
        assert not needs_history(definition, stored.streak, event)
        stored.take(event, event.occur_time)
        if number % maintenance_every == 0:
            stored.maintain(event.occur_time)
    stored.maintain(now)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(at_home, definition), now))


@given(worlds(), st.data())
def test_an_undone_event_leaves_what_the_others_alone_would_have_given(
    world: tuple[StreakDefinition, list[Fact], datetime], data: st.DataObject
) -> None:
    definition, history, now = world
    doomed = data.draw(st.sets(st.sampled_from(history), max_size=5))
    stored = Stored(definition)
    for event in history:
        stored.take(event, min(event.occur_time, now))
        if event in doomed and data.draw(st.booleans()):
            stored.undo(event, now)
            doomed = doomed - {event}
    for event in doomed:
        stored.undo(event, now)
    stored.maintain(now)
    remaining = list(stored.facts.events)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(remaining, definition), now))


@given(worlds(), st.integers(2, 5))
def test_a_state_does_not_tell_in_which_order_its_facts_came(
    world: tuple[StreakDefinition, list[Fact], datetime], late_every: int
) -> None:
    definition, history, now = world
    in_order = sorted(history, key=lambda one: one.order)
    stored = Stored(definition)
    for event in [event for number, event in enumerate(in_order) if number % late_every]:
        stored.take(event, event.occur_time)
    for event in in_order[::late_every]:
        stored.take(event, now)
    folded = fold(definition, facts(history), now)
    assert stored.streak.state == (folded.state if folded else None)


@pytest.mark.parametrize("freezes", [FreezeSettings(1, 0, 0, 2), FreezeSettings(1, 1, 2, 2)])
def test_a_checkpoint_may_lie_before_the_date_from_which_grants_are_counted(freezes: FreezeSettings) -> None:
    definition = StreakDefinition("focus", Frequency.DAILY, (MetricThreshold("commits", 1),), freezes=freezes)
    now = datetime(2025, 3, 9, 20, tzinfo=UTC)

    def did(number: int, day: int, hour: int, zone: str) -> Fact:
        time = datetime(2025, 3, day, hour, 30, tzinfo=UTC)
        return fact(UUID(int=number), "commits", 1, time, zone)

    first = did(1, 3, 10, "Pacific/Kiritimati")  # the fourth already
    before = did(2, 4, 10, "Pacific/Pago_Pago")  # still the third
    stored = Stored(definition)
    for event in (first, before, did(3, 5, 12, "UTC"), did(4, 9, 12, "UTC"), did(5, 4, 12, "UTC")):
        stored.take(event, now)
    assert [past.last.start_date.day for past in stored.pasts(first.local_date)] == [3]
    stored.undo(first, now)
    remaining = list(stored.facts.events)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(remaining, definition), now))


@pytest.mark.parametrize("before", [(), (3,), (2, 3)])
def test_a_move_takes_a_period_to_the_next_definition_which_its_only_event_does_not_count_for(
    before: tuple[int, ...],
) -> None:
    commits, lines = MetricThreshold("commits", 1), MetricThreshold("lines", 1)
    stored = Stored(StreakDefinition("focus", Frequency.DAILY, (commits, lines)))
    changed = replace(stored.definition, metrics=(commits,))

    def came(number: int, metric: str, day: int, hour: int, zone: str = "UTC") -> None:
        event = fact(UUID(int=number), metric, 1, datetime(2025, 3, day, hour, tzinfo=UTC), zone)
        stored.take(event, event.occur_time)

    for day in before:
        came(day, "commits", day, 12)
    came(4, "lines", 4, 12)
    stored.definition = redefine(stored.definition, changed, datetime(2025, 3, 5, 2, tzinfo=UTC))
    now = datetime(2025, 3, 5, 3, tzinfo=UTC)
    stored.maintain(now)
    came(5, "steps", 4, 20, "Pacific/Honolulu")  # where the fourth has not ended yet
    remaining = slow_facts(list(stored.facts.events), stored.definition)
    assert_same(stored, slow_fold(slow_rules(stored.definition), remaining, now))
    assert stored.streak.followed.length == len(before)


@given(st.sampled_from(sorted(zone_names())), st.integers(0, 200 * 365 * 24 * 4 - 1))
def test_no_fact_of_a_period_lies_before_the_instant_from_which_its_facts_are_read(
    zone: str, quarters: int
) -> None:
    instant = EARLIEST + timedelta(minutes=15 * quarters)
    begins = datetime.combine(local_date(instant, zone), time(), UTC)
    assert instant >= begins - FURTHEST_AHEAD


@given(worlds())
def test_nothing_is_recorded_before_the_next_close_time_and_something_is_at_it(
    world: tuple[StreakDefinition, list[Fact], datetime],
) -> None:
    definition, history, now = world
    folded = fold(definition, facts(history), now)
    if folded is None:
        return
    due = folded.current.next_close_time
    if due is None:
        later = fold(definition, facts(history), now + timedelta(days=400))
        assert later
        assert later.rows.periods == folded.rows.periods
        return
    before = fold(definition, facts(history), max(now, due - timedelta(microseconds=1)))
    at = fold(definition, facts(history), due)
    assert before
    assert at
    assert before.rows.periods == folded.rows.periods
    # A date that the zone skipped ends with the one before it.
    assert len(at.rows.periods) - len(folded.rows.periods) in (1, 2)


@given(worlds(), worlds())
def test_a_changed_definition_refolds_what_was_recorded_under_the_old_one(
    world: tuple[StreakDefinition, list[Fact], datetime],
    other: tuple[StreakDefinition, list[Fact], datetime],
) -> None:
    definition, history, now = world
    changed = replace(
        other[0],
        frequency=definition.frequency,
        day_start=definition.day_start,
        days_off=other[0].days_off if definition.frequency is Frequency.DAILY else frozenset(),
        fingerprint=1,
    )
    stored = Stored(definition)
    for event in history[:-1]:
        stored.take(event, min(event.occur_time, now))
    stored.definition = changed
    assert stored.streak.state is None or touched_since(changed, stored.streak, history[-1]) == date.min
    stored.take(history[-1], now)
    stored.store(refold(changed, stored.streak, stored.rows, stored.facts, now))
    live = list(stored.facts.events)
    assert_same(stored, slow_fold(slow_rules(changed), slow_facts(live, definition), now))


@given(worlds(), st.data())
def test_what_events_contribute_may_change_at_any_time_and_in_any_order(
    world: tuple[StreakDefinition, list[Fact], datetime], data: st.DataObject
) -> None:
    definition, history, now = world
    stored = Stored(definition)
    # By versions of the total: of each event the last holds, and so it is the same whatever came first.
    told = {event.entry_id: data.draw(st.sampled_from((0, 1, 2))) for event in history}
    waiting = list(history)
    for event in history:
        early = data.draw(st.booleans())
        stored.take(replace(event, contribution_micros=told[event.entry_id]) if early else event, now)
        if early:
            waiting.remove(event)
        elif data.draw(st.booleans()):
            waiting.remove(event)
            stored.revise([replace(event, contribution_micros=told[event.entry_id])], now)
        if data.draw(st.integers(0, 9)) == 0 and event not in waiting:
            stored.undo(event, now)
    order = data.draw(st.permutations(waiting))
    size = data.draw(st.integers(1, 3))
    for begin in range(0, len(order), size):
        events = order[begin : begin + size]
        stored.revise([replace(event, contribution_micros=told[event.entry_id]) for event in events], now)
    stored.maintain(now)
    live = list(stored.facts.events)
    assert all(event.contribution_micros == told[event.entry_id] for event in live)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(live, definition), now))
