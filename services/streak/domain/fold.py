"""The one definition of a streak: a pure function of its facts (RULES 3.1).

`fold` is `begin` at the first fact, `advance` over the others by period and then by order, and `close` at
`now`. What is stored is extended by the same `advance` and `close`, so it cannot differ from a fold of
everything. Where a fact belongs before the last one, `follows` says no and the stored rows are folded anew
from a checkpoint before it: `resume` there stands for `begin`.

Readings of the rules that this module decides:

* A period is judged by the sum of what all its facts contribute. A negative value can take its qualification
  back, and it qualified when the sum last came to reach the threshold in the order of the facts.
* Periods close in the user's zone at that point (zones.py): the newest of those in which the user was in the period
  or before it, whichever metric said so. So no result depends on when anything arrived.
* The current period is the one of today in the user's zone, and never lies before the period of a fact.
* A date that the user's zone skipped never was: nothing is expected on it, as on one that travel took.
* A freeze that a late event made needless was consumed all the same: at the midnight after the period, when nothing
  had come that qualified it. When that is so is told by the facts themselves, each of which keeps on which local date
  it arrived: a period that qualifies only by facts which arrived after its last date, where the streak was alive by
  what had arrived of the qualified period before it, and a freeze was at hand, has a consumption and, on the date of
  the arrival that it qualified by, a refund. They cancel out, so that balances are what they are in every other order
  of arrival. The ledger is then as much a function of the facts as the periods are: nobody has to have looked at
  midnight, and taking a fact out takes its refund along. How many freezes there were is taken as it is known now, so
  that a fold may begin at a checkpoint; of several such periods in a row the first has its refund.
* What follows the last qualified period is provisional: it is derived from the state as of that period every
  time, because the zones of the next qualifying facts may forgive some of it (RULES 3.6).
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand, DateRange
from services.streak.domain.definition import Frequency, StreakDefinition
from services.streak.domain.facts import Fact, Facts, Order
from services.streak.domain.freezes import Freezes, consume, consumed_and_refunded, grant_until
from services.streak.domain.rows import LedgerLine, Period, PeriodStatus, Reach, Rows, Run
from services.streak.domain.travel import Sighting, forgiven_count
from services.streak.domain.zones import (
    Steps,
    ZoneChange,
    moved_into,
    period_of,
    steps_since,
    zone_at,
    zone_steps,
)
from shared.calendar import local_date, local_midnight

_DAY = timedelta(days=1)
_NO_ROWS = Rows()


class Anchor(Struct, frozen=True):
    """A qualified period behind which nothing is provisional."""

    period: int
    run: Run
    """The run that it belongs to, with its length up to here."""
    reach: Reach
    """The event with which it qualified."""
    latest: Sighting
    """Its latest fact."""
    known_date: date
    """The date from which on what had arrived qualified it; never before its last one, up to which it could."""


class Settled(Struct, frozen=True):
    """Everything up to and including the last qualified period before the one with the newest facts."""

    freezes: Freezes
    anchor: Anchor | None = None
    longest: int = 0


class Tally(Struct, frozen=True):
    """The facts of one period, added up; the latest period that has any."""

    period: int
    sums_micros: tuple[int, ...]
    """In the order of the definition's metrics."""
    earliest: Sighting
    latest: Sighting
    latest_order: Order
    late: tuple[tuple[date, tuple[int, ...]], ...] = ()
    """Of the sums, what came after the period's last date: by the local date of its arrival, ascending."""
    reach: Reach | None = None
    """The event with which the sums came to reach the thresholds; None while they do not."""


class StreakState(Struct, frozen=True, omit_defaults=True):
    """All that is needed to go on from here without the facts. Its size does not grow with them."""

    first_order: Order
    latest_date: date
    """The latest local date of any fact."""
    zones: Steps
    """In which zones periods close, from the anchor on, or else from the tally on."""
    settled: Settled
    tally: Tally
    by_hand: ByHand = NOTHING_BY_HAND
    """What was done by hand, kept beside the stored state: it is there also without events."""

    @property
    def zone(self) -> str:
        """The user's zone."""
        return self.zones[-1][1]


class Checkpoint(Struct, frozen=True):
    """What the facts up to and including a qualified period come to: a fold of later ones may begin here."""

    anchor: Anchor
    freezes: Freezes
    longest: int
    first_order: Order


class Current(Struct, frozen=True):
    """A streak as it looks at some instant (RULES 3.10)."""

    run: Run | None
    """The present run; None at length 0."""
    longest: int
    reach_time: datetime
    """When the present length was reached; for a length 0 that never was more, the first fact's time."""
    period_start_date: date
    period_end_date: date
    period_qualified: bool
    sums_micros: tuple[int, ...]
    """Progress of the current period, in the order of the definition's metrics."""
    freeze_count: int
    time_zone: str
    expire_time: datetime | None
    """When the last period in which the user can still act ends, freezes not counted; None at length 0."""
    next_close_time: datetime | None
    """The next instant at which a period closes with a result; None while nothing is at stake."""
    pauses: tuple[DateRange, ...] = ()
    """Those that have not ended before the current period, by their first dates."""

    @property
    def length(self) -> int:
        """The present length, in periods."""
        return self.run.length if self.run else 0


class Folded(Struct, frozen=True):
    """The result of a fold."""

    rows: Rows
    current: Current
    state: StreakState


def fold(
    definition: StreakDefinition, facts: Facts, now: datetime, start: Checkpoint | None = None
) -> Folded | None:
    """Periods, freeze ledger and current state that follow from these facts; None where there are none.

    Facts of metrics that the definition does not name are no facts of it. With a checkpoint, those up to its
    period are none either, and the rows are those after it.
    """
    by_hand = facts.by_hand
    events = [
        event
        for event in facts.events
        if definition.counts(event.metric) and by_hand.counts(definition, event.order, event.local_date)
    ]
    if start:
        events = [fact for fact in events if definition.period_of(fact.local_date) > start.anchor.period]
    if not events:
        return None
    events.sort(key=lambda event: (definition.period_of(event.local_date), event.order))
    settled_rows: list[Rows] = []
    steps = zone_steps(definition, facts.zones)
    if start:
        state = resume(definition, start, events[0], steps, by_hand)
    else:
        first = min(events, key=lambda event: event.order)
        state = begin(definition, events[0], steps, by_hand, first)
    for event in events[1:]:
        state, rows = advance(definition, state, event)
        settled_rows.append(rows)
    tail, current = close(definition, state, now)
    return Folded(_joined([*settled_rows, tail]), current, state)


def begin(
    definition: StreakDefinition,
    fact: Fact,
    steps: Steps,
    by_hand: ByHand = NOTHING_BY_HAND,
    first: Fact | None = None,
) -> StreakState:
    """The state after one fact. `first` is the one that happened first, where that lies in a later period."""
    first = first or fact
    tally = _tally_of(definition, fact)
    return StreakState(
        first_order=first.order,
        latest_date=fact.local_date,
        zones=steps_since(steps, tally.period),
        settled=Settled(Freezes(first.local_date)),
        tally=tally,
        by_hand=by_hand,
    )


def resume(
    definition: StreakDefinition,
    start: Checkpoint,
    fact: Fact,
    steps: Steps,
    by_hand: ByHand = NOTHING_BY_HAND,
) -> StreakState:
    """The state after the first fact behind a checkpoint."""
    return StreakState(
        first_order=start.first_order,
        latest_date=fact.local_date,
        zones=steps_since(steps, start.anchor.period),
        settled=Settled(freezes=start.freezes, anchor=start.anchor, longest=start.longest),
        tally=_tally_of(definition, fact),
        by_hand=by_hand,
    )


def moved(definition: StreakDefinition, state: StreakState, change: ZoneChange) -> StreakState:
    """The state of a user who has come into another zone. `moves_on` said yes."""
    return replace(state, zones=moved_into(definition, state.zones, change))


def moves_on(definition: StreakDefinition, state: StreakState, change: ZoneChange) -> bool:
    """Whether the state tells what a change of the zone does, that comes after all others."""
    return period_of(definition, change) >= state.zones[0][0]


def follows(definition: StreakDefinition, state: StreakState, fact: Fact) -> bool:
    """Whether the state can be advanced by this fact; where it touches the past, it cannot."""
    period = definition.period_of(fact.local_date)
    if fact.order < state.first_order or period < state.tally.period:
        return False
    return period > state.tally.period or fact.order > state.tally.latest_order


def advance(definition: StreakDefinition, state: StreakState, fact: Fact) -> tuple[StreakState, Rows]:
    """The state with one more fact, and the rows that are provisional no more.

    The fact comes after all others, by period and then by order.
    """
    period = definition.period_of(fact.local_date)
    zones = state.zones
    if period > state.tally.period:
        settled, rows = _settle(definition, state, definition.first_date(state.tally.period + 1))
        tally = _tally_of(definition, fact)
        zones = steps_since(zones, settled.anchor.period if settled.anchor else period)
    else:
        settled, rows, tally = state.settled, _NO_ROWS, _counted(definition, state.tally, fact)
    return StreakState(
        first_order=state.first_order,
        latest_date=max(state.latest_date, fact.local_date),
        zones=zones,
        settled=settled,
        tally=tally,
        by_hand=state.by_hand,
    ), rows


def close(definition: StreakDefinition, state: StreakState, now: datetime) -> tuple[Rows, Current]:
    """The provisional rows after the last settled period, and the streak as it looks at `now`."""
    zone, tally = state.zone, state.tally
    today = today_of(state, now)
    current = definition.period_of(today)
    settled, gap, freezes, rows = _closed(definition, state, today, current)
    qualified = current == tally.period and tally.reach is not None
    anchor = settled.anchor
    alive = anchor is not None and gap.break_time is None
    close_time = _end_time(definition, current + qualified, zone) if alive else None
    return rows, Current(
        run=anchor.run if anchor and alive else None,
        longest=settled.longest,
        reach_time=gap.break_time or (anchor.reach.occur_time if anchor else state.first_order[0]),
        period_start_date=definition.first_date(current),
        period_end_date=definition.last_date(current),
        period_qualified=qualified,
        sums_micros=tally.sums_micros if current == tally.period else (0,) * len(definition.metrics),
        freeze_count=freezes.balance,
        time_zone=zone,
        expire_time=_expire_time(definition, state, current + qualified, close_time) if close_time else None,
        next_close_time=close_time,
        pauses=state.by_hand.pauses_since(definition.first_date(current)),
    )


def running_period(current: Current) -> Period:
    """The period that is still open and has not qualified, as a calendar shows it."""
    assert current.next_close_time is not None
    return Period(
        current.period_start_date,
        current.period_end_date,
        PeriodStatus.OPEN,
        current.length,
        current.next_close_time,
    )


def expires_by(current: Current, instant: datetime) -> bool:
    """Whether a streak that is alive ends by then unless its user acts; freezes not counted."""
    return not current.period_qualified and current.expire_time is not None and current.expire_time <= instant


def closed_rows(definition: StreakDefinition, state: StreakState, now: datetime) -> Rows:
    """The rows of `close` alone."""
    today = today_of(state, now)
    return _closed(definition, state, today, definition.period_of(today))[-1]


def today_of(state: StreakState, now: datetime) -> date:
    """The local date at `now` where the user is; never before the date of a fact."""
    return max(_today(now, state.zone), state.latest_date, *(reset.day for reset in state.by_hand.resets))


def settled_until(definition: StreakDefinition, state: StreakState) -> date | None:
    """The date up to which recorded rows are settled; what `close` gives comes after it. None: nothing is."""
    anchor = state.settled.anchor
    return definition.last_date(anchor.period) if anchor else None


class _Gap(Struct, frozen=True):
    """What became of the periods after an anchor."""

    rows: Rows
    freezes: Freezes
    break_time: datetime | None


def _closed(
    definition: StreakDefinition, state: StreakState, today: date, current: int
) -> tuple[Settled, _Gap, Freezes, Rows]:
    settled, rows = _settle(definition, state, today)
    gap = _close_gap(definition, settled, state, current, is_open=True)
    freezes, granted = grant_until(definition.freezes, gap.freezes, today, state.by_hand)
    if gap.rows.periods or gap.rows.ledger or granted:
        rows = rows + gap.rows + Rows(ledger=granted)
    return settled, gap, freezes, rows


def _settle(definition: StreakDefinition, state: StreakState, today: date) -> tuple[Settled, Rows]:
    """The state as of the newest facts' period where that has qualified, and the rows up to it."""
    settled, tally = state.settled, state.tally
    anchor = settled.anchor
    if tally.reach is None:
        return settled, _NO_ROWS
    forgiven = 0
    if anchor:
        missed = tally.period - anchor.period - 1
        forgiven = forgiven_count(definition, missed, anchor.latest, tally.earliest)
    gap = _close_gap(definition, settled, state, tally.period, forgiven)
    start = definition.first_date(tally.period)
    end = definition.last_date(tally.period)
    goes_on = anchor is not None and gap.break_time is None
    run = Run(anchor.run.start_date, anchor.run.length + 1) if anchor and goes_on else Run(start, 1)
    freezes, granted = grant_until(definition.freezes, gap.freezes, min(end, today), state.by_hand)
    known_date = known_since(definition, tally) if tally.late else end
    if (
        known_date > end
        and today > end
        and anchor
        and goes_on
        and anchor.known_date <= end
        and freezes.balance > 0
    ):
        granted += _refund(definition, tally.period, known_date, state)
    reach = tally.reach
    qualified = Period(start, end, PeriodStatus.QUALIFIED, run.length, reach.occur_time, reach)
    return Settled(
        freezes=freezes,
        anchor=Anchor(tally.period, run, reach, tally.latest, known_date),
        longest=max(settled.longest, run.length),
    ), gap.rows + Rows((qualified,), granted)


def tally_of(definition: StreakDefinition, facts: Iterable[Fact]) -> Tally:
    """The tally of a period that has these facts, in order."""
    first, *others = facts
    tally = _tally_of(definition, first)
    for other in others:
        tally = _counted(definition, tally, other)
    return tally


def known_since(definition: StreakDefinition, tally: Tally) -> date:
    """The local date from which on what had arrived by it qualified a period that qualifies: its last one, where that
    was in time.
    """
    end = definition.last_date(tally.period)
    if not tally.late:
        return end
    sums = tally.sums_micros
    for _, late in tally.late:
        sums = tuple(total - part for total, part in zip(sums, late, strict=True))
    known_date = end if definition.qualifies(sums) else None
    for arrive_date, late in tally.late:
        sums = tuple(total + part for total, part in zip(sums, late, strict=True))
        known_date = (known_date or arrive_date) if definition.qualifies(sums) else None
    assert known_date  # with all of them it qualifies
    return known_date


def _refund(
    definition: StreakDefinition, period: int, refund_date: date, state: StreakState
) -> tuple[LedgerLine, ...]:
    """The freeze that was spent on a period and given back; nothing where nothing was expected of it."""
    zone = zone_at(state.zones, period)
    if _carrying(definition, period, zone, state.by_hand):
        return ()
    return consumed_and_refunded(definition.last_date(period), refund_date)


def _close_gap(
    definition: StreakDefinition,
    settled: Settled,
    state: StreakState,
    until: int,
    forgiven: int = 0,
    *,
    is_open: bool = False,
) -> _Gap:
    """Close the periods between the anchor and `until`, none of which qualified, in the order of RULES 3.4.

    The last `forgiven` of them were lost to travel. After a break nothing is recorded. `until` is the period that
    qualified next, or else the open one, where a reset shows (RULES 3.9).
    """
    anchor, freezes, zones = settled.anchor, settled.freezes, state.zones
    if anchor is None or until <= anchor.period:
        return _Gap(_NO_ROWS, freezes, None)
    reset = state.by_hand.reset_between(definition, anchor.period, until)
    if until == anchor.period + 1 and reset is None:
        return _Gap(_NO_ROWS, freezes, None)
    periods: list[Period] = []
    ledger: list[LedgerLine] = []
    break_time = None
    for period in range(anchor.period + 1, reset[0] if reset else until):
        end = definition.last_date(period)
        zone = zone_at(zones, period)
        settle_time = _end_time(definition, period, zone)
        freezes, granted = grant_until(definition.freezes, freezes, end, state.by_hand)
        ledger += granted
        is_forgiven = period >= until - forgiven
        if (carried := _carrying(definition, period, zone, state.by_hand, is_forgiven)) is not None:
            status = carried
        elif freezes.balance > 0:
            status = PeriodStatus.FROZEN
            freezes, consumed = consume(freezes, end)
            ledger.append(consumed)
        else:
            status = PeriodStatus.BROKEN
            break_time = settle_time
        length = 0 if break_time else anchor.run.length
        periods.append(Period(definition.first_date(period), end, status, length, settle_time))
        if break_time:
            break
    if reset and break_time is None:
        period, break_time = reset[0], reset[1].occur_time
        if period < until or is_open:
            start, end = definition.first_date(period), definition.last_date(period)
            periods.append(Period(start, end, PeriodStatus.RESET, 0, break_time))
    return _Gap(Rows(tuple(periods), tuple(ledger)), freezes, break_time)


def _carrying(
    definition: StreakDefinition, period: int, zone: str, by_hand: ByHand, is_forgiven: bool = False
) -> PeriodStatus | None:
    """What lets a period that did not qualify carry the length on, by itself; None where that takes a freeze."""
    first, last = definition.first_date(period), definition.last_date(period)
    if by_hand.is_paused(first, last):
        return PeriodStatus.PAUSED
    if definition.is_day_off(period):
        return PeriodStatus.DAY_OFF
    if is_forgiven or not _exists(definition, period, zone, _end_time(definition, period, zone)):
        return PeriodStatus.SKIPPED
    return PeriodStatus.RESTORED if by_hand.is_restored(first, last) else None


def _tally_of(definition: StreakDefinition, fact: Fact) -> Tally:
    """The tally of a period that has one fact."""
    seen = _sighting(fact)
    nothing = (0,) * len(definition.metrics)
    empty = Tally(definition.period_of(fact.local_date), nothing, seen, seen, fact.order)
    return _counted(definition, empty, fact)


def _counted(definition: StreakDefinition, tally: Tally, fact: Fact) -> Tally:
    sums = _added(definition, tally.sums_micros, fact)
    late = tally.late
    if fact.arrive_date != fact.local_date and fact.arrive_date > definition.last_date(tally.period):
        by_date = dict(late)
        nothing = (0,) * len(definition.metrics)
        by_date[fact.arrive_date] = _added(definition, by_date.get(fact.arrive_date, nothing), fact)
        late = tuple(sorted(by_date.items()))
    reach = (tally.reach or _reach(fact)) if definition.qualifies(sums) else None
    return Tally(tally.period, sums, tally.earliest, _sighting(fact), fact.order, late, reach)


def _added(definition: StreakDefinition, sums: tuple[int, ...], fact: Fact) -> tuple[int, ...]:
    return tuple(
        total + fact.contribution_micros if wanted.metric == fact.metric else total
        for total, wanted in zip(sums, definition.metrics, strict=True)
    )


def _reach(fact: Fact) -> Reach:
    return Reach(fact.entry_id, fact.occur_time, fact.local_date)


def _sighting(fact: Fact) -> Sighting:
    return Sighting(fact.occur_time, fact.time_zone)


def _today(now: datetime, zone: str) -> date:
    """The date whose midnight came last. Where clocks go back over midnight the wall shows the day before
    once more; what closed then stays closed.
    """
    shown = local_date(now, zone)
    return shown + _DAY if local_midnight(shown + _DAY, zone) <= now else shown


def _end_time(definition: StreakDefinition, period: int, zone: str) -> datetime:
    return local_midnight(definition.last_date(period) + _DAY, zone)


def _expire_time(
    definition: StreakDefinition, state: StreakState, period: int, close_time: datetime
) -> datetime:
    """The end of the first period from this one on, which closes at `close_time`, in which something is expected."""
    zone = state.zone
    while _carrying(definition, period, zone, state.by_hand) is not None:
        period += 1
        close_time = _end_time(definition, period, zone)
    return close_time


def _exists(definition: StreakDefinition, period: int, zone: str, close_time: datetime) -> bool:
    """Whether a period that closes then was at all: Pacific/Apia went from 2011-12-29 to 2011-12-31, and nobody skipped
    more than a day.
    """
    return (
        definition.frequency is not Frequency.DAILY
        or local_midnight(definition.first_date(period), zone) < close_time
    )


def _joined(stretches: Iterable[Rows]) -> Rows:
    """All stretches as one."""
    periods: list[Period] = []
    ledger: list[LedgerLine] = []
    for stretch in stretches:
        periods += stretch.periods
        ledger += stretch.ledger
    return Rows(tuple(periods), tuple(ledger))
