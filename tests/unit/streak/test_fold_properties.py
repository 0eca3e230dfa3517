"""The fold against a slow one, and every way of getting to a state against the fold."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.streak.domain import (
    NEVER_SEEN,
    Evaluation,
    Fact,
    Facts,
    FreezeReason,
    Frequency,
    LedgerLine,
    Period,
    Rows,
    StreakDefinition,
    UserStreak,
    bring_up_to,
    extend,
    facts,
    fold,
    needs_history,
    refold,
)
from tests.unit.streak.slow_fold import SlowResult, slow_fold
from tests.unit.streak.worlds import slow_facts, slow_rules, worlds

WORLDS = settings(max_examples=150, deadline=None)


@dataclass
class Stored:
    """What a service would keep: rows by their keys, the compact state, and the facts for a refold."""

    definition: StreakDefinition
    streak: UserStreak = NEVER_SEEN
    facts: Facts = field(default_factory=Facts)
    periods: dict[date, Period] = field(default_factory=dict)
    ledger: dict[tuple[date, FreezeReason], LedgerLine] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> Rows:
        return Rows(
            tuple(self.periods[key] for key in sorted(self.periods)),
            tuple(self.ledger[key] for key in sorted(self.ledger)),
        )

    def take(self, fact: Fact, now: datetime) -> None:
        self.facts = self.facts.with_event(fact)
        if not self.definition.counts(fact.metric):
            return
        if needs_history(self.definition, self.streak, fact):
            self.store(refold(self.definition, self.streak, self.rows, self.facts, now, fact))
        else:
            self.store(extend(self.definition, self.streak, fact, now))

    def undo(self, fact: Fact, now: datetime) -> None:
        self.facts = self.facts.without(fact.entry_id)
        self.store(refold(self.definition, self.streak, self.rows, self.facts, now))

    def maintain(self, now: datetime) -> None:
        if self.streak.state:
            self.store(bring_up_to(self.definition, self.streak, now))

    def store(self, evaluation: Evaluation) -> None:
        rows = evaluation.rows
        for start in rows.removed_periods:
            del self.periods[start]
        for key in rows.removed_ledger:
            del self.ledger[key]
        self.periods |= {row.key: row for row in rows.periods}
        self.ledger |= {row.key: row for row in rows.ledger}
        if evaluation.change:
            assert evaluation.change.version == self.streak.version + 1
            assert evaluation.change.length_before == self.streak.followed.length
            for name, value in VALUES.items():
                self.runs[name] = self.runs.get(name, 0) + sum(
                    value(run.length_after) - value(run.length_before) for run in evaluation.change.runs
                )
        self.streak = evaluation.streak


VALUES: dict[str, Callable[[int], int]] = {
    "sum": lambda length: length,
    "count": lambda length: int(length > 0),
    "multiples of three": lambda length: length // 3,
    "squares": lambda length: length * length,
}


def assert_same(stored: Stored, expected: SlowResult) -> None:
    rows = [
        (row.start_date, row.end_date, row.status.name, row.length, row.settle_time)
        for row in stored.rows.periods
    ]
    assert rows == expected.periods
    ledger = [(line.effective_date, line.reason.name, line.amount) for line in stored.rows.ledger]
    assert ledger == expected.ledger
    assert stored.streak.followed.length == expected.length
    assert stored.streak.followed.longest == expected.longest
    for name, value in VALUES.items():
        assert stored.runs.get(name, 0) == sum(map(value, expected.runs)), name


@WORLDS
@given(worlds())
def test_the_fold_equals_one_that_goes_day_by_day(
    world: tuple[StreakDefinition, list[Fact], datetime],
) -> None:
    definition, history, now = world
    expected = slow_fold(slow_rules(definition), slow_facts(history), now)
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
        (line.effective_date, line.reason.name, line.amount) for line in folded.rows.ledger
    ] == expected.ledger
    assert folded.current.length == expected.length
    assert folded.current.longest == expected.longest
    assert folded.current.freeze_count == expected.balance == sum(line.amount for line in folded.rows.ledger)


@WORLDS
@given(worlds(), st.data())
def test_any_order_of_arrival_with_any_maintenance_gives_the_rows_of_the_fold(
    world: tuple[StreakDefinition, list[Fact], datetime], data: st.DataObject
) -> None:
    definition, history, now = world
    stored = Stored(definition)
    earliest = min(one.occur_time for one in history)
    span = int((now - earliest) / timedelta(hours=1))
    for one in history:
        if data.draw(st.booleans()):
            stored.maintain(earliest + timedelta(hours=data.draw(st.integers(0, max(span, 0)))))
        stored.take(one, min(one.occur_time, now))
    stored.maintain(now)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(history), now))


@WORLDS
@given(worlds(), st.integers(1, 3))
def test_chronological_arrival_never_needs_history_in_one_zone(
    world: tuple[StreakDefinition, list[Fact], datetime], maintenance_every: int
) -> None:
    definition, history, now = world
    at_home = [
        Fact(one.entry_id, one.metric, one.value_micros, one.occur_time, "UTC", one.occur_time.date())
        for one in sorted(history, key=lambda one: one.order)
    ]
    stored = Stored(definition)
    for number, one in enumerate(at_home):
        assert not needs_history(definition, stored.streak, one)
        stored.take(one, one.occur_time)
        if number % maintenance_every == 0:
            stored.maintain(one.occur_time)
    stored.maintain(now)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(at_home), now))


@WORLDS
@given(worlds(), st.data())
def test_an_undone_event_leaves_what_the_others_alone_would_have_given(
    world: tuple[StreakDefinition, list[Fact], datetime], data: st.DataObject
) -> None:
    definition, history, now = world
    doomed = data.draw(st.sets(st.sampled_from(history), max_size=5))
    stored = Stored(definition)
    for one in history:
        stored.take(one, min(one.occur_time, now))
        if one in doomed and data.draw(st.booleans()):
            stored.undo(one, now)
            doomed = doomed - {one}
    for one in doomed:
        stored.undo(one, now)
    stored.maintain(now)
    remaining = list(stored.facts.events)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(remaining), now))


@WORLDS
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
    assert len(at.rows.periods) == len(folded.rows.periods) + 1


@WORLDS
@given(worlds(), worlds())
def test_a_changed_definition_refolds_what_was_recorded_under_the_old_one(
    world: tuple[StreakDefinition, list[Fact], datetime],
    other: tuple[StreakDefinition, list[Fact], datetime],
) -> None:
    definition, history, now = world
    changed = replace(
        other[0],
        frequency=definition.frequency,
        days_off=other[0].days_off if definition.frequency is Frequency.DAILY else frozenset(),
        fingerprint=1,
    )
    stored = Stored(definition)
    for one in history[:-1]:
        stored.take(one, min(one.occur_time, now))
    stored.definition = changed
    stored.take(history[-1], now)
    stored.store(refold(changed, stored.streak, stored.rows, stored.facts, now))
    assert_same(stored, slow_fold(slow_rules(changed), slow_facts(history), now))
