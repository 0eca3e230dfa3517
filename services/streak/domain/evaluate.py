"""What an event, the passing of time or an undoing does to a user's streak, as a difference of two folds."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.arrivals import NOT_ASKED, Arrivals, as_they_came
from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand, Done, Override, Reset, first_day
from services.streak.domain.checkpoint import Around, Window, inside, periods_of
from services.streak.domain.definition import StreakDefinition
from services.streak.domain.facts import Altered, Fact, Facts
from services.streak.domain.fold import (
    advance,
    begin,
    close,
    close_on,
    closed_rows,
    fold,
    follows,
    granted_reach,
    joined,
    moved,
    moves_on,
    reached,
    today_of,
)
from services.streak.domain.recorded import details_of, go_on, told_anew, told_by
from services.streak.domain.rows import (
    NO_CHANGE,
    HistoryChange,
    PeriodStatus,
    RowChanges,
    Rows,
    history_change,
    row_changes,
    with_period,
)
from services.streak.domain.state import Checkpoint, Current, StreakState, Tally
from services.streak.domain.terms import first_after
from services.streak.domain.zones import ZoneChange, period_of, zone_steps


class Followed(Struct, frozen=True):
    """What other services follow: lengths in periods, and when the present one was reached."""

    length: int = 0
    longest: int = 0
    reach_time: datetime | None = None
    """None where there never was a length."""


class UserStreak(Struct, frozen=True):
    """What is remembered of one user's streak, from one evaluation to the next."""

    version: int
    """Grows with every change that others follow, also across an undoing of everything."""
    followed: Followed
    fingerprint: int
    """Of the definition that it was folded under."""
    closed_time: datetime | None
    """Up to when periods are closed. The effective now never lies before it."""
    state: StreakState | None
    """None where no fact is left."""
    by_hand: ByHand = NOTHING_BY_HAND


_FURTHEST: Final = timedelta(days=1)

NEVER_SEEN: Final = UserStreak(0, Followed(), 0, None, None)


class StreakChange(Struct, frozen=True):
    """A change that others follow: absolute values with a version, and what differs in history."""

    version: int
    length_before: int
    length: int
    longest: int
    reach_time: datetime
    history: HistoryChange
    arrivals: Arrivals = NOT_ASKED
    """Where an event is undone: what each arrival changed with it and without it, where that tells more."""


_NO_ROW: Final = RowChanges()


class Evaluation(Struct, frozen=True):
    """The outcome of one evaluation."""

    streak: UserStreak
    current: Current | None
    """How it looks now; None where no fact is left."""
    rows: RowChanges
    change: StreakChange | None
    extended: bool = False
    """Whether the event made its period qualify (RULES 3.10)."""


def needs_history(
    definition: StreakDefinition, streak: UserStreak, fact: Fact | None, move: ZoneChange | None = None
) -> bool:
    """Whether this fact or change of the zone, which comes after all others, touches the past, or the definition
    changed: then only a refold gives the result.
    """
    state = streak.state
    if state is None:
        return False
    if is_outdated(definition, streak) or (fact is not None and not follows(definition, state, fact)):
        return True
    return move is not None and not moves_on(definition, state, move)


def touched_since(definition: StreakDefinition, streak: UserStreak, fact: Fact) -> date:
    """The first date of the earliest period that may change by this fact, a late one or one taken away; never one after
    the newest facts, with which a refold ends: a fact may lie behind them that does not count.

    It is `date.min` where everything may: with the user's first fact the days of all grants move.
    """
    state = streak.state
    if state is None or not definition.counts(fact.metric) or fact.order <= state.first_order:
        return date.min
    period = min(definition.period_of(fact.local_date), state.tally.period)
    if _is_all_of(state.tally, fact):
        # Without it the newest facts are those of an earlier period: the last settled one, or one after it.
        if state.settled.anchor is None:
            return date.min
        period = state.settled.anchor.period
    return min(definition.first_date(period), outdated_since(definition, streak))


def is_outdated(definition: StreakDefinition, streak: UserStreak) -> bool:
    """Whether the state was folded under a definition that has changed since in what the fold reads."""
    return streak.state is not None and streak.fingerprint != definition.fingerprint


def outdated_since(definition: StreakDefinition, streak: UserStreak) -> date:
    """The first date of the earliest period that may change because the definition has changed; `date.max` for none,
    else never one after the newest facts, with which a refold ends.
    """
    if streak.state is None or not is_outdated(definition, streak):
        return date.max
    changed, state = definition.past.get(streak.fingerprint), streak.state
    if changed is None:
        return date.min
    touched = date.max
    if changed.amnestied is not None:
        # No local date is further from that in UTC.
        period = definition.period_of((changed.amnestied - _FURTHEST).date())
        touched = definition.first_date(min(period, state.tally.period))
    if changed.redefined is not None:
        period = first_after(definition, state.zones, changed.redefined)
        touched = min(touched, _recounted_since(definition, state, min(period, state.tally.period)))
    return touched


def moved_since(definition: StreakDefinition, streak: UserStreak, change: ZoneChange) -> date:
    """The first date of the earliest period that may change by the user's coming into a zone; never one after the
    newest facts, with which a refold ends.
    """
    if streak.state is None:
        return date.min
    period = min(period_of(definition, change), streak.state.tally.period)
    touched = definition.first_date(period)
    if definition.earlier and definition.earlier[-1][0].date() >= touched:
        # Where a period closes decides by which definition it is judged.
        touched = _recounted_since(definition, streak.state, period)
    return min(touched, outdated_since(definition, streak))


def done_since(definition: StreakDefinition, streak: UserStreak, done: Done) -> date:
    """The first date of the earliest period that may change by what is done by hand or undone; never one after the
    newest facts, with which a refold ends.
    """
    state = streak.state
    if state is None:
        return date.min
    period = min(definition.period_of(first_day(done)), state.tally.period)
    touched = definition.first_date(period)
    if isinstance(done, Reset | Override):
        touched = _recounted_since(definition, state, period)
    return min(touched, outdated_since(definition, streak))


def _recounted_since(definition: StreakDefinition, state: StreakState, period: int) -> date:
    """The first date of what is to be folded where facts may count no more, from a period on: without them the newest
    are those of an earlier one.
    """
    anchor = state.settled.anchor
    if anchor is None or period <= anchor.period:
        return date.min
    return definition.first_date(anchor.period)


def start(
    definition: StreakDefinition, streak: UserStreak, fact: Fact, zones: Iterable[ZoneChange], now: datetime
) -> Evaluation:
    """The first fact. The user's zones are those from it on, the first of them from before it."""
    closed_time = _effective(streak, now)
    state = begin(definition, fact, zone_steps(definition, zones), streak.by_hand)
    rows, current = close(definition, state, closed_time)
    return _evaluated(
        definition,
        streak,
        state,
        current,
        closed_time,
        row_changes(Rows(), rows),
        history_change(0, Rows(), rows),
        extended=state.tally.reach is not None,
    )


def extend(
    definition: StreakDefinition,
    streak: UserStreak,
    fact: Fact,
    now: datetime,
    move: ZoneChange | None = None,
) -> Evaluation:
    """One more fact at the end, and with it perhaps another zone; `needs_history` said no."""
    stored, closed_time = streak.state, _effective(streak, now)
    if stored is None or streak.closed_time is None:
        raise ValueError("the first fact of a streak extends nothing")
    before = moved(definition, stored, move) if move else stored
    state, settled = advance(definition, before, fact)
    today = today_of(definition, state, closed_time)
    if _records_nothing(definition, stored, streak.closed_time, state, today):
        _, current = close_on(definition, state, today)
        return _evaluated(definition, streak, state, current, closed_time, _NO_ROW, NO_CHANGE)
    old_rows = closed_rows(definition, stored, streak.closed_time)
    was_qualified = before.tally.period == state.tally.period and before.tally.reach is not None
    tail, current = close_on(definition, state, today)
    rows = settled + tail
    return _evaluated(
        definition,
        streak,
        state,
        current,
        closed_time,
        row_changes(old_rows, rows),
        history_change(stored.settled.longest, old_rows, rows),
        extended=state.tally.reach is not None and not was_qualified,
    )


def _records_nothing(
    definition: StreakDefinition,
    before: StreakState,
    closed_before: datetime,
    after: StreakState,
    today: date,
) -> bool:
    """Whether an event of the current period, such as a second one of a day, leaves all rows as they are.

    Where some came late, one more can tell that the period was in time without them.
    """
    return (
        after.settled is before.settled
        and after.tally.reach == before.tally.reach
        and not after.tally.late
        and after.zones == before.zones
        and today == today_of(definition, before, closed_before)
    )


def bring_up_to(
    definition: StreakDefinition, streak: UserStreak, now: datetime, move: ZoneChange | None = None
) -> Evaluation:
    """Nothing but time has passed (RULES 3.7), and perhaps the user has come into another zone. The streak has facts,
    and `needs_history` said no.
    """
    if streak.state is None or streak.closed_time is None:
        raise ValueError("a streak without facts has nothing to close")
    closed_time = _effective(streak, now)
    old_rows = closed_rows(definition, streak.state, streak.closed_time)
    state = moved(definition, streak.state, move) if move else streak.state
    rows, current = close(definition, state, closed_time)
    settled = state.settled
    return _evaluated(
        definition,
        streak,
        state,
        current,
        closed_time,
        row_changes(old_rows, rows),
        history_change(settled.longest, old_rows, rows),
    )


def refold(
    definition: StreakDefinition,
    streak: UserStreak,
    stored: Rows,
    facts: Facts,
    now: datetime,
    fact: Fact | None = None,
    start: Checkpoint | None = None,
    gone: Fact | None = None,
    *,
    tells_arrivals: bool = True,
) -> Evaluation:
    """Everything anew from all facts, where `stored` are all the rows that were recorded until now.

    `fact` is the one among them that is new, `gone` one that was taken away: of its period is told however it
    stands, for what others have granted with it passes to the event with which the period qualifies without it. With
    a checkpoint that lies before what was touched, later facts and the rows recorded after it are enough.
    `tells_arrivals`: also what each arrival changed, where that tells more.
    """
    closed_time = _effective(streak, now)
    folded = fold(definition, facts, closed_time, start)
    rows = folded.rows if folded else Rows()
    state, current = (folded.state, folded.current) if folded else (None, None)
    history = history_change(start.longest if start else 0, stored, rows)
    arrivals = NOT_ASKED
    if gone is not None:
        before = Facts((*facts.events, gone), facts.zones, facts.by_hand)
        history = _with_period_of(definition, history, rows, gone, before, facts)
        if tells_arrivals:
            arrivals = as_they_came(definition, before, gone, closed_time, start)
    return _evaluated(
        definition,
        streak,
        state,
        current,
        closed_time,
        row_changes(stored, rows),
        history,
        extended=fact is not None
        and _has_qualified(definition, rows, fact)
        and not _has_qualified(definition, stored, fact),
        arrivals=arrivals,
    )


def altered_within(
    definition: StreakDefinition,
    streak: UserStreak,
    facts: Facts,
    altered: Altered,
    now: datetime,
    start: Checkpoint | None = None,
    *,
    tells_arrivals: bool = True,
) -> Evaluation | None:
    """What follows where facts are altered, by those of the periods around them as they were, with one that is gone:
    all from the checkpoint to the end of some period. None where that is not enough.

    Once the fold comes to the state that it had before, everything later is as it was.
    """
    closed_time = _effective(streak, now)
    live = replace(facts, events=altered.after(facts.events))
    old = fold(definition, facts, closed_time, start)
    new = fold(definition, live, closed_time, start)
    if streak.state is None or streak.closed_time is None or old is None or new is None:
        return None
    # The first fact of all may be gone, and another of its date the first.
    if replace(new.state, first_order=old.state.first_order) != old.state or new.state.settled.anchor is None:
        return None
    state = replace(streak.state, first_order=new.state.first_order)
    tail, current = close(definition, state, closed_time)
    provisional, _ = close(definition, old.state, closed_time)
    before = _without(old.rows, provisional) + closed_rows(definition, streak.state, streak.closed_time)
    after = _without(new.rows, provisional) + tail
    history = history_change(start.longest if start else 0, before, after)
    arrivals = NOT_ASKED
    if altered.gone is not None:
        history = _with_period_of(definition, history, new.rows, altered.gone, facts, live)
        if tells_arrivals:
            arrivals = as_they_came(definition, facts, altered.gone, closed_time, start)
    return _evaluated(
        definition,
        streak,
        state,
        current,
        closed_time,
        row_changes(before, after),
        history,
        arrivals=arrivals,
    )


def altered_by_rows(
    definition: StreakDefinition,
    streak: UserStreak,
    window: Window,
    around: Around,
    zones: tuple[ZoneChange, ...],
    altered: Altered,
    now: datetime,
    start: Checkpoint | None = None,
    *,
    tells_arrivals: bool = True,
) -> Evaluation | frozenset[int] | None:
    """What follows where facts are altered, by those of the periods around them as they were, with one that is gone,
    and by the rows of all that are later. The checkpoint lies behind what is before the window.

    Gives the periods of which the facts are needed too, where there are any; None where that is not enough.
    """
    closed_time, stored = _effective(streak, now), streak.state
    facts = Facts(inside(definition, window, around.events), zones, streak.by_hand)
    live, recorded = replace(facts, events=altered.after(facts.events)), around.rows
    begun = reached(definition, live, start)
    if stored is None or stored.settled.anchor is None or begun is None:
        return None
    anchor = stored.settled.anchor
    until = definition.period_of(window.until) - 1
    told = told_by(definition, recorded, around.past, until, anchor.period)
    events = altered.after(around.events)
    details = details_of(definition, begun.zones, streak.by_hand, window.periods, events)
    changed = periods_of(definition, altered)
    told = told_anew(told, [period for period in changed if period > until], details)
    later = go_on(definition, begun.settled, begun.zones, streak.by_hand, told, details, changed)
    if later.wanted or later.settled.anchor is None:
        return later.wanted or None
    anchor = replace(anchor, run=later.settled.anchor.run)
    settled = replace(later.settled, anchor=anchor)
    state = replace(stored, first_order=begun.first_order, settled=settled)
    tail, current = close(definition, state, closed_time)
    rows = joined([begun.rows, later.rows, tail])
    history = history_change(start.longest if start else 0, recorded, rows)
    arrivals = NOT_ASKED
    if altered.gone is not None:
        history = _with_period_of(definition, history, rows, altered.gone, facts, live)
        if tells_arrivals:
            arrivals = as_they_came(definition, facts, altered.gone, closed_time, start)
    return _evaluated(
        definition,
        streak,
        state,
        current,
        closed_time,
        row_changes(recorded, rows),
        history,
        arrivals=arrivals,
    )


def _with_period_of(
    definition: StreakDefinition, history: HistoryChange, rows: Rows, gone: Fact, before: Facts, after: Facts
) -> HistoryChange:
    """How history differs, with what became of the period of an event that is gone."""
    period = definition.period_of(gone.local_date)
    changes = with_period(
        history.periods,
        rows,
        definition.first_date(period),
        granted_reach(definition, before, period),
        granted_reach(definition, after, period),
    )
    return replace(history, periods=changes)


def _without(rows: Rows, last: Rows) -> Rows:
    """The rows but for those at their end."""
    periods, lines = len(rows.periods) - len(last.periods), len(rows.ledger) - len(last.ledger)
    return Rows(rows.periods[:periods], rows.ledger[:lines])


def _evaluated(
    definition: StreakDefinition,
    streak: UserStreak,
    state: StreakState | None,
    current: Current | None,
    closed_time: datetime,
    rows: RowChanges,
    history: HistoryChange,
    extended: bool = False,
    arrivals: Arrivals = NOT_ASKED,
) -> Evaluation:
    followed = _followed(current)
    version, change = streak.version, None
    if history != NO_CHANGE or followed != streak.followed or arrivals.differ:
        version += 1
        change = StreakChange(
            version=version,
            length_before=streak.followed.length,
            length=followed.length,
            longest=followed.longest,
            reach_time=followed.reach_time or (current.reach_time if current else closed_time),
            history=history,
            arrivals=arrivals,
        )
    after = UserStreak(version, followed, definition.fingerprint, closed_time, state, streak.by_hand)
    return Evaluation(after, current, rows, change, extended)


def nothing_left(definition: StreakDefinition, streak: UserStreak, now: datetime) -> Evaluation:
    """Of a streak without facts there is nothing to fold."""
    return _evaluated(definition, streak, None, None, _effective(streak, now), _NO_ROW, NO_CHANGE)


def with_arrivals(evaluation: Evaluation, arrivals: Arrivals, now: datetime) -> Evaluation:
    """The same, told with what each arrival changed, where that is asked."""
    if arrivals == NOT_ASKED:
        return evaluation
    if evaluation.change is not None:
        return replace(evaluation, change=replace(evaluation.change, arrivals=arrivals))
    if not arrivals.differ:
        return evaluation
    streak, current = evaluation.streak, evaluation.current
    change = StreakChange(
        version=streak.version + 1,
        length_before=streak.followed.length,
        length=streak.followed.length,
        longest=streak.followed.longest,
        reach_time=streak.followed.reach_time or (current.reach_time if current else now),
        history=NO_CHANGE,
        arrivals=arrivals,
    )
    return replace(evaluation, streak=replace(streak, version=change.version), change=change)


def _followed(current: Current | None) -> Followed:
    if current is None or current.longest == 0:
        return Followed()
    return Followed(current.length, current.longest, current.reach_time)


def _effective(streak: UserStreak, now: datetime) -> datetime:
    return max(streak.closed_time, now) if streak.closed_time else now


def _is_all_of(tally: Tally, fact: Fact) -> bool:
    return fact.order == tally.latest_order and fact.occur_time == tally.earliest.time


def _has_qualified(definition: StreakDefinition, rows: Rows, fact: Fact) -> bool:
    start = definition.first_date(definition.period_of(fact.local_date))
    return any(row.start_date == start and row.status is PeriodStatus.QUALIFIED for row in rows.periods)
