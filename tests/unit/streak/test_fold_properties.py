"""The fold against a slow one, and every way of getting to a state against the fold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.streak.domain import (
    EVERYTHING,
    NEVER_SEEN,
    NOT_ASKED,
    Around,
    ByHand,
    Checkpoint,
    Done,
    Evaluation,
    Fact,
    Facts,
    FreezeReason,
    FreezeSettings,
    Frequency,
    HistoryChange,
    LedgerKey,
    LedgerLine,
    MetricThreshold,
    Moved,
    Past,
    Period,
    PeriodChange,
    PeriodStatus,
    Reach,
    Rows,
    StreakChange,
    StreakDefinition,
    UserStreak,
    UserZone,
    Window,
    ZoneChange,
    bring_up_to,
    checkpoint,
    counts,
    dated,
    done_since,
    extend,
    fact,
    facts,
    facts_since,
    facts_until,
    fold,
    follows,
    heard,
    inside,
    is_outdated,
    moved_since,
    needs_history,
    outdated_since,
    refold,
    refold_since,
    says_nothing_new,
    start,
    touched_since,
    undone,
    undone_by_rows,
    undone_within,
    whole_life,
    wider,
    zone_steps,
)
from services.streak.domain import moved as moved_to
from services.streak.domain.checkpoint import FURTHEST_AHEAD
from shared.calendar import EARLIEST, local_date, zone_names
from tests.unit.streak.slow_fold import SlowFact, SlowResult, slow_fold
from tests.unit.streak.worlds import redefine, slow_facts, slow_rules, worlds

UNCOUNTED = "uncounted"


def as_it_came(definition: StreakDefinition, fact: Fact) -> Fact:
    """An event counts for the streaks that had its metric when it came. A streak that gets the metric later does not
    know it; where the user was it tells all the same.
    """
    return fact if definition.counts(fact.metric) else replace(fact, metric=UNCOUNTED)


def but_for_arrivals(found: Evaluation) -> Evaluation:
    """What follows from the streak alone: how far around an event it is asked what came when differs from way to way,
    and with it whether there is anything to tell.
    """
    change = found.change
    if change is not None and change.history == HistoryChange():
        change = None
    if change is not None:
        change = replace(change, version=0, arrivals=NOT_ASKED)
    return replace(found, streak=replace(found.streak, version=0), change=change)


@dataclass
class Stored:
    """What a service would keep: rows by their keys, the compact state, and the facts for a refold."""

    definition: StreakDefinition
    streak: UserStreak = NEVER_SEEN
    facts: Facts = field(default_factory=Facts)
    user: UserZone | None = None
    periods: dict[date, Period] = field(default_factory=dict)
    ledger: dict[LedgerKey, LedgerLine] = field(default_factory=dict)
    changes: list[StreakChange] = field(default_factory=list)
    looked_at: list[int | None] = field(default_factory=list)
    """For each void: the facts of how many later periods had to be read beside the rows; None for all."""
    compares_checkpoints: bool = True
    """Whether a refold is compared with what every checkpoint gives."""

    @property
    def rows(self) -> Rows:
        return Rows(
            tuple(self.periods[key] for key in sorted(self.periods)),
            tuple(self.ledger[key] for key in sorted(self.ledger)),
        )

    def take(self, fact: Fact, now: datetime) -> None:
        fact = as_it_came(self.definition, dated(self.definition, fact))
        known = self.facts.events
        moved = self.hear(fact)
        # Another zone, or None where what was said of zones is other than what was known.
        move, rewritten = None, moved is not None
        if moved and moved.appended:
            move, rewritten = moved.since, False
        self.facts = replace(self.facts, events=(*known, fact))
        by_hand, state = self.facts.by_hand, self.streak.state
        counted = fact if by_hand.counts(self.definition, fact.order, fact.local_date) else None
        if counted and state and follows(self.definition, state, fact):
            zones = moved_to(self.definition, state, move).zones if move else state.zones
            counted = fact if counts(self.definition, zones, by_hand, fact) else None
        if counted is None and moved is None:
            return
        if state is None:
            if counts(self.definition, zone_steps(self.definition, self.facts.zones), by_hand, fact):
                self.store(start(self.definition, self.streak, fact, self.facts.zones, now))
        elif rewritten or needs_history(self.definition, self.streak, counted, move):
            since = [touched_since(self.definition, self.streak, counted)] if counted else []
            since += [moved_since(self.definition, self.streak, moved.since)] if moved else []
            self.store(self.refold(min(since), now, counted))
        elif counted:
            self.store(extend(self.definition, self.streak, fact, now, move))
        elif move:
            self.store(bring_up_to(self.definition, self.streak, now, move))

    def hear(self, fact: Fact) -> Moved | None:
        """What a fact says of the user's zone, each of which names it."""
        own = ZoneChange(fact.occur_time, fact.entry_id, fact.time_zone)
        if self.user is None:
            self.user = UserZone(own.time_zone, 1)
            self.facts = replace(self.facts, zones=(whole_life(self.user),))
            return None
        if says_nothing_new(self.user, own):
            return None
        return self.moved(heard(self.user, self.facts.zones, own, self.following(own)))

    def following(self, change: ZoneChange) -> tuple[ZoneChange, ...]:
        said = [ZoneChange(event.occur_time, event.entry_id, event.time_zone) for event in self.facts.events]
        later = [zone for zone in said if zone.order > change.order]
        return tuple(sorted(later, key=lambda zone: zone.order)[:1])

    def moved(self, moved: Moved | None) -> Moved | None:
        if moved:
            self.user, self.facts = moved.user, replace(self.facts, zones=moved.changes)
        return moved

    def revise(self, fact: Fact, now: datetime) -> None:
        """An event contributes something else from now on."""
        fact = dated(self.definition, fact)
        others = tuple(event for event in self.facts.events if event.entry_id != fact.entry_id)
        self.facts = replace(self.facts, events=(*others, fact))
        if self.definition.counts(fact.metric):
            self.store(self.refold(touched_since(self.definition, self.streak, fact), now))

    def undo(self, fact: Fact, now: datetime) -> None:
        """An event is taken away, whatever it contributes by now."""
        others = tuple(event for event in self.facts.events if event.entry_id != fact.entry_id)
        (fact,) = set(self.facts.events) - set(others)
        self.facts = replace(self.facts, events=others)
        moved = None
        if self.user:
            gone = ZoneChange(fact.occur_time, fact.entry_id, fact.time_zone)
            moved = self.moved(undone(self.user, self.facts.zones, fact.entry_id, self.following(gone)))
        counted = fact.metric != UNCOUNTED and self.facts.by_hand.counts(
            self.definition, fact.order, fact.local_date
        )
        since = [touched_since(self.definition, self.streak, fact)] if counted else []
        since += [moved_since(self.definition, self.streak, moved.since)] if moved else []
        outdated = is_outdated(self.definition, self.streak)
        if since and not (moved or outdated) and self.definition.counts(fact.metric):
            self.compare_windows(fact, min(since), now)
        if since:
            self.store(self.refold(min(since), now))

    def compare_windows(self, gone: Fact, touched: date, now: datetime) -> None:
        """What is around a fact that is taken away gives what everything gives, or says that it is not enough."""
        whole = refold(self.definition, self.streak, self.rows, self.facts, now, gone=gone)
        pasts = self.pasts(touched)
        begin, later = self.checkpoint(pasts[-1]) if pasts else (None, self.facts)
        for behind in (1, 4):
            until = self.definition.period_of(gone.local_date) + behind
            window = Window(EVERYTHING, self.definition.first_date(until))
            around = Facts(inside(self.definition, window, (*later.events, gone)), later.zones, later.by_hand)
            found = undone_within(self.definition, self.streak, around, gone, now, begin)
            assert found is None or but_for_arrivals(found) == but_for_arrivals(whole)
            if self.streak.state and self.is_settled(until - 1):
                self.compare_rows(gone, touched, window, whole, now)

    def is_settled(self, period: int) -> bool:
        state = self.streak.state
        anchor = state.settled.anchor if state else None
        return anchor is not None and anchor.period > period

    def compare_rows(
        self, gone: Fact, touched: date, window: Window, whole: Evaluation, now: datetime
    ) -> None:
        """The facts of few periods with the rows of all give what all facts give."""
        pasts = self.pasts(touched)
        begin, later = self.checkpoint(pasts[-1]) if pasts else (None, self.facts)
        after = pasts[-1].last.end_date if pasts else date.min
        rows = Rows(
            tuple(row for row in self.rows.periods if row.start_date > after),
            tuple(line for line in self.rows.ledger if line.about_date > after),
        )
        looked: Window | None = replace(window, with_rows=True, looks=-100)
        while looked:
            events = tuple(
                event
                for event in later.events
                if event.occur_time < facts_until(looked)
                or any(begins <= event.occur_time < ends for begins, ends in looked.spans)
            )
            around = Around((*events, gone), pasts[-1] if pasts else None, rows)
            found = undone_by_rows(
                self.definition, self.streak, looked, around, later.zones, gone, now, begin
            )
            if isinstance(found, Evaluation):
                assert but_for_arrivals(found) == but_for_arrivals(whole)
                self.looked_at.append(len(looked.periods))
                return
            looked = wider(self.definition, looked, found) if found else None
        self.looked_at.append(None)

    def do(self, by_hand: ByHand, done: Done, now: datetime) -> None:
        """Something is done by hand, or undone, after which this holds."""
        touched = done_since(self.definition, self.streak, done)
        self.facts = replace(self.facts, by_hand=by_hand)
        self.streak = replace(self.streak, by_hand=by_hand)
        self.store(self.refold(touched, now))

    def refold(self, touched: date, now: datetime, fact: Fact | None = None) -> Evaluation:
        """Everything folded anew, after a look at what every checkpoint before it would have given."""
        whole = refold(self.definition, self.streak, self.rows, self.facts, now, fact)
        for past in self.pasts(touched) if self.compares_checkpoints else ():
            after = past.last.end_date
            rows = Rows(
                tuple(row for row in self.rows.periods if row.start_date > after),
                tuple(line for line in self.rows.ledger if line.about_date > after),
            )
            begin, later = self.checkpoint(past)
            assert refold(self.definition, self.streak, rows, later, now, fact, begin) == whole
        return whole

    def checkpoint(self, past: Past) -> tuple[Checkpoint, Facts]:
        """The checkpoint, and the facts that would have been read for it."""
        since = facts_since(past)
        events = tuple(event for event in self.facts.events if event.occur_time >= since)
        zones = [change for change in self.facts.zones if change.occur_time < since][-1:]
        zones += [change for change in self.facts.zones if change.occur_time >= since]
        by_hand = self.facts.by_hand
        later = Facts(events, tuple(zones), by_hand)
        assert self.streak.state
        begin = checkpoint(self.definition, self.streak.state, past, later.events, later.zones, by_hand)
        assert begin
        return begin, later

    def pasts(self, touched: date) -> list[Past]:
        """What lies before every checkpoint; the last one is also what the state knows, if it knows it."""
        found = []
        for number, row in enumerate(self.rows.periods):
            if row.start_date >= touched or row.status is not PeriodStatus.QUALIFIED:
                continue
            until = self.rows.periods[: number + 1]
            found.append(
                Past(
                    last=row,
                    run_start_date=[
                        period.start_date
                        for period in until
                        if period.length == 1 and period.status is PeriodStatus.QUALIFIED
                    ][-1],
                    longest=max(period.length for period in until),
                    freeze_count=sum(
                        line.amount for line in self.rows.ledger if line.about_date <= row.end_date
                    ),
                )
            )
        known = refold_since(self.definition, self.streak.state, touched).past
        assert known is None or known == found[-1]
        return found

    def maintain(self, now: datetime) -> None:
        if is_outdated(self.definition, self.streak):
            self.store(self.refold(outdated_since(self.definition, self.streak), now))
        elif self.streak.state:
            self.store(bring_up_to(self.definition, self.streak, now))

    def store(self, evaluation: Evaluation) -> None:
        rows = evaluation.rows
        for first in rows.removed_periods:
            del self.periods[first]
        for key in rows.removed_ledger:
            del self.ledger[key]
        self.periods |= {row.key: row for row in rows.periods}
        self.ledger |= {row.key: row for row in rows.ledger}
        if evaluation.change:
            assert evaluation.change.version == self.streak.version + 1
            assert evaluation.change.length_before == self.streak.followed.length
            self.changes.append(evaluation.change)
        self.streak = evaluation.streak


@dataclass
class Follower:
    """What others make of the changes in whatever order they come: of each period and length the newest holds."""

    turns: dict[date, tuple[int, PeriodChange]] = field(default_factory=dict)
    firsts: dict[int, tuple[int, Reach | None]] = field(default_factory=dict)
    sums: dict[date, int] = field(default_factory=dict)

    def hear(self, change: StreakChange) -> None:
        for period in change.history.periods:
            self.sums[period.start_date] = (
                self.sums.get(period.start_date, 0) + period.length_after - period.length_before
            )
            if self.turns.get(period.start_date, (0, period))[0] < change.version:
                self.turns[period.start_date] = change.version, period
        for first in change.history.first_reaches:
            if self.firsts.get(first.length, (0, None))[0] < change.version:
                self.firsts[first.length] = change.version, first.reach

    @property
    def periods(self) -> list[tuple[date, date, bool, int, Reach | None]]:
        told = [change for _, (_, change) in sorted(self.turns.items()) if change.recorded_after]
        return [
            (change.start_date, change.end_date, change.qualified_after, change.length_after, change.reach)
            for change in told
        ]

    @property
    def first_reaches(self) -> dict[int, Reach]:
        return {length: reach for length, (_, reach) in self.firsts.items() if reach}


def reach_of(fact: SlowFact) -> Reach:
    return Reach(UUID(int=fact.entry), fact.time, fact.wall_day)


def assert_told(changes: Sequence[StreakChange], expected: SlowResult) -> None:
    """Whoever follows knows the periods and the first reaches."""
    follower = Follower()
    for change in changes:
        follower.hear(change)
    turns = [
        (start, end, status == "QUALIFIED", length, reach_of(expected.reaches[start]) if length else None)
        for start, end, status, length, _ in expected.periods
        if status in ("QUALIFIED", "BROKEN", "RESET")
    ]
    assert follower.periods == turns
    assert {start: length for start, length in follower.sums.items() if length} == {
        start: length for start, _, _, length, _ in turns if length
    }
    assert follower.first_reaches == {
        length: reach_of(fact) for length, fact in expected.first_reaches.items()
    }


def assert_same(stored: Stored, expected: SlowResult) -> None:
    rows = [
        (row.start_date, row.end_date, row.status.name, row.length, row.settle_time)
        for row in stored.rows.periods
    ]
    assert rows == expected.periods
    ledger = [(line.effective_date, line.reason.name, line.amount) for line in stored.rows.ledger]
    assert {line.about_date for line in stored.rows.ledger if line.reason is not FreezeReason.REFUNDED} >= {
        line.about_date for line in stored.rows.ledger if line.reason is FreezeReason.REFUNDED
    }
    assert ledger == expected.ledger
    assert stored.streak.followed.length == expected.length
    assert stored.streak.followed.longest == expected.longest
    reaches = {row.start_date: row.reach for row in stored.rows.periods if row.reach}
    assert reaches == {start: reach_of(fact) for start, fact in expected.reaches.items()}
    assert_told(stored.changes, expected)
    assert_told(sorted(stored.changes, key=lambda change: -change.version % 7), expected)


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
            stored.revise(replace(event, contribution_micros=told[event.entry_id]), now)
        if data.draw(st.integers(0, 9)) == 0 and event not in waiting:
            stored.undo(event, now)
    for event in data.draw(st.permutations(waiting)):
        stored.revise(replace(event, contribution_micros=told[event.entry_id]), now)
    stored.maintain(now)
    live = list(stored.facts.events)
    assert all(event.contribution_micros == told[event.entry_id] for event in live)
    assert_same(stored, slow_fold(slow_rules(definition), slow_facts(live, definition), now))
