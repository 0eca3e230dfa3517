"""What a service would keep of a user's streak, brought up to date in every way that it has, and who follows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from msgspec.structs import replace

from services.streak.domain import (
    EVERYTHING,
    NEVER_SEEN,
    NOT_ASKED,
    Altered,
    Around,
    ByHand,
    Checkpoint,
    Done,
    Evaluation,
    Fact,
    Facts,
    FreezeReason,
    HistoryChange,
    LedgerKey,
    LedgerLine,
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
    altered_by_rows,
    altered_within,
    bring_up_to,
    checkpoint,
    counts,
    dated,
    done_since,
    extend,
    facts_since,
    facts_until,
    follows,
    heard,
    inside,
    is_outdated,
    moved_since,
    needs_history,
    outdated_since,
    periods_of,
    refold,
    refold_since,
    says_nothing_new,
    start,
    touched_since,
    undone,
    whole_life,
    wider,
    with_rows,
    zone_steps,
)
from services.streak.domain import moved as moved_to
from tests.unit.streak.slow_fold import SlowFact, SlowResult

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
    """For each void or revision: the facts of how many later periods had to be read beside the rows; None for all."""
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

    def revise(self, facts: Sequence[Fact], now: datetime) -> None:
        """Some events contribute something else from now on."""
        before = self.facts.events
        micros = {fact.entry_id: fact.contribution_micros for fact in facts}
        revised = [
            replace(event, contribution_micros=micros[event.entry_id])
            for event in before
            if event.entry_id in micros
        ]
        altered = Altered(revised=tuple(sorted(revised, key=lambda event: event.order)))
        self.facts = replace(self.facts, events=altered.after(before))
        counted = [
            fact
            for fact in altered.revised
            if fact.metric != UNCOUNTED
            and self.facts.by_hand.counts(self.definition, fact.order, fact.local_date)
        ]
        if not counted:
            return
        touched = min(touched_since(self.definition, self.streak, fact) for fact in counted)
        if not is_outdated(self.definition, self.streak):
            self.compare_windows(Altered(revised=tuple(counted)), before, touched, now)
        self.store(self.refold(touched, now))

    def undo(self, fact: Fact, now: datetime) -> None:
        """An event is taken away, whatever it contributes by now."""
        before = self.facts.events
        others = tuple(event for event in before if event.entry_id != fact.entry_id)
        (fact,) = set(before) - set(others)
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
            self.compare_windows(Altered(gone=fact), before, min(since), now)
        if since:
            self.store(self.refold(min(since), now))

    def compare_windows(self, altered: Altered, before: Sequence[Fact], touched: date, now: datetime) -> None:
        """What is around facts that are altered gives what everything gives, or says that it is not enough."""
        whole = refold(self.definition, self.streak, self.rows, self.facts, now, gone=altered.gone)
        pasts = self.pasts(touched)
        begin, later = self.checkpoint(pasts[-1]) if pasts else (None, self.facts)
        ids = {event.entry_id for event in (*later.events, *altered.events)}
        events = tuple(event for event in before if event.entry_id in ids)
        periods = periods_of(self.definition, altered)
        # All of them in one stretch, and each later one for itself.
        for last, far in ((periods[-1], frozenset[int]()), (periods[0], frozenset(periods[1:]))):
            # A user's first fact may lie on a later date than another one, by its zone: it has to be among them.
            for behind in (1, 4) if begin else (4,):
                until = last + behind
                window = Window(EVERYTHING, self.definition.first_date(until), periods=far)
                if not far:
                    around = Facts(inside(self.definition, window, events), later.zones, later.by_hand)
                    found = altered_within(self.definition, self.streak, around, altered, now, begin)
                    assert found is None or but_for_arrivals(found) == but_for_arrivals(whole)
                if self.streak.state and self.is_settled(max(until - 1, periods[-1])):
                    self.compare_rows(altered, events, touched, window, whole, now)

    def is_settled(self, period: int) -> bool:
        state = self.streak.state
        anchor = state.settled.anchor if state else None
        return anchor is not None and anchor.period > period

    def compare_rows(
        self,
        altered: Altered,
        before: Sequence[Fact],
        touched: date,
        window: Window,
        whole: Evaluation,
        now: datetime,
    ) -> None:
        """The facts of few periods with the rows of all give what all facts give."""
        pasts = self.pasts(touched)
        begin, later = self.checkpoint(pasts[-1]) if pasts else (None, self.facts)
        after = pasts[-1].last.end_date if pasts else date.min
        rows = Rows(
            tuple(row for row in self.rows.periods if row.start_date > after),
            tuple(line for line in self.rows.ledger if line.about_date > after),
        )
        looked: Window | None = with_rows(self.definition, replace(window, looks=-100), window.periods)
        while looked:
            events = tuple(
                event
                for event in before
                if event.occur_time < facts_until(looked)
                or any(begins <= event.occur_time < ends for begins, ends in looked.spans)
            )
            around = Around(events, pasts[-1] if pasts else None, rows)
            found = altered_by_rows(
                self.definition, self.streak, looked, around, later.zones, altered, now, begin
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
