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

from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand
from services.streak.domain.definition import StreakDefinition
from services.streak.domain.facts import Fact, Facts, Order, dated
from services.streak.domain.freezes import Freezes, grant_until
from services.streak.domain.gaps import Gap, carrying, close_gap, end_time, refund
from services.streak.domain.rows import LedgerLine, Period, PeriodStatus, Reach, Rows, Run
from services.streak.domain.state import Anchor, Checkpoint, Current, Folded, Settled, StreakState
from services.streak.domain.tally import counted, known_since, reach_as_they_came, tally_of_one
from services.streak.domain.terms import counts, freeze_eras, terms_at
from services.streak.domain.travel import Sighting, forgiven_count
from services.streak.domain.zones import Steps, ZoneChange, moved_into, period_of, steps_since, zone_steps

_DAY = timedelta(days=1)
_NO_ROWS = Rows()


class Reached(Struct, frozen=True):
    """What the facts of the periods up to one come to, where others are later."""

    settled: Settled
    zones: Steps
    """From its anchor on, or from the latest facts."""
    first_order: Order
    rows: Rows


def fold(
    definition: StreakDefinition, facts: Facts, now: datetime, start: Checkpoint | None = None
) -> Folded | None:
    """Periods, freeze ledger and current state that follow from these facts; None where there are none.

    Facts of metrics that the definition does not name are no facts of it. With a checkpoint, those up to its
    period are none either, and the rows are those after it.
    """
    advanced = _advanced(definition, facts, start)
    if advanced is None:
        return None
    state, rows = advanced
    tail, current = close(definition, state, now)
    return Folded(joined([*rows, tail]), current, state)


def reached(definition: StreakDefinition, facts: Facts, start: Checkpoint | None = None) -> Reached | None:
    """What comes of these facts by what is later; None where nothing comes before that."""
    advanced = _advanced(definition, facts, start)
    if advanced is not None:
        state, rows = advanced
        settled, last = _settle(definition, state, definition.first_date(state.tally.period + 1))
        return Reached(settled, state.zones, state.first_order, joined([*rows, last]))
    if start is None:
        return None
    zones = steps_since(zone_steps(definition, facts.zones), start.anchor.period)
    return Reached(Settled(start.freezes, start.anchor, start.longest), zones, start.first_order, _NO_ROWS)


def _advanced(
    definition: StreakDefinition, facts: Facts, start: Checkpoint | None
) -> tuple[StreakState, list[Rows]] | None:
    """The state after these facts, and the rows that are settled by it."""
    by_hand = facts.by_hand
    steps = zone_steps(definition, facts.zones)
    events = _counted_events(definition, steps, facts)
    if start:
        events = [fact for fact in events if definition.period_of(fact.local_date) > start.anchor.period]
    if not events:
        return None
    events.sort(key=lambda event: (definition.period_of(event.local_date), event.order))
    settled_rows: list[Rows] = []
    if start:
        state = resume(definition, start, events[0], steps, by_hand)
    else:
        first = min(events, key=lambda event: event.order)
        state = begin(definition, events[0], steps, by_hand, first)
    for event in events[1:]:
        state, rows = advance(definition, state, event)
        settled_rows.append(rows)
    return state, settled_rows


def granted_reach(definition: StreakDefinition, facts: Facts, period: int) -> Reach | None:
    """The event to which belongs what was granted for a period when it qualified (RULES 2.5): the one with which it did
    by what had come until then.
    """
    steps = zone_steps(definition, facts.zones)
    events = [
        event
        for event in _counted_events(definition, steps, facts)
        if definition.period_of(event.local_date) == period
    ]
    events.sort(key=lambda event: (event.arrive_time, event.order))
    return reach_as_they_came(terms_at(definition, period, steps, facts.by_hand), events)


def _counted_events(definition: StreakDefinition, steps: Steps, facts: Facts) -> list[Fact]:
    known = (dated(definition, event) for event in facts.events)
    return [event for event in known if counts(definition, steps, facts.by_hand, event)]


def begin(
    definition: StreakDefinition,
    fact: Fact,
    steps: Steps,
    by_hand: ByHand = NOTHING_BY_HAND,
    first: Fact | None = None,
) -> StreakState:
    """The state after one fact. `first` is the one that happened first, where that lies in a later period."""
    first = first or fact
    tally = tally_of_one(_judging(definition, steps, by_hand, fact), fact)
    return StreakState(
        first_order=first.order,
        latest_date=fact.local_date,
        zones=steps_since(steps, min(tally.period, _freezes_since(definition, first, tally.period))),
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
        tally=tally_of_one(_judging(definition, steps, by_hand, fact), fact),
        by_hand=by_hand,
    )


def moved(definition: StreakDefinition, state: StreakState, change: ZoneChange) -> StreakState:
    """The state of a user who has come into another zone. `moves_on` said yes."""
    return replace(state, zones=moved_into(definition, state.zones, change))


def moves_on(definition: StreakDefinition, state: StreakState, change: ZoneChange) -> bool:
    """Whether the state tells what a change of the zone does, that comes after all others."""
    if period_of(definition, change) < state.zones[0][0]:
        return False
    if not definition.earlier:
        return True
    anchor, zones = state.settled.anchor, moved_into(definition, state.zones, change)
    periods = (state.tally.period, anchor.period if anchor else state.tally.period)
    return all(
        terms_at(definition, period, zones, state.by_hand)
        == terms_at(definition, period, state.zones, state.by_hand)
        for period in periods
    )


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
    judging = _judging(definition, zones, state.by_hand, fact)
    if period > state.tally.period:
        settled, rows = _settle(definition, state, definition.first_date(state.tally.period + 1))
        tally = tally_of_one(judging, fact)
        unsettled = zones[0][0] if definition.earlier else period
        zones = steps_since(zones, settled.anchor.period if settled.anchor else unsettled)
    else:
        settled, rows, tally = state.settled, _NO_ROWS, counted(judging, state.tally, fact)
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
    return close_on(definition, state, today_of(definition, state, now))


def close_on(definition: StreakDefinition, state: StreakState, today: date) -> tuple[Rows, Current]:
    """The same on the local date where the user is (`today_of`)."""
    zone, tally = state.zone, state.tally
    current = definition.period_of(today)
    settled, gap, freezes, rows = _closed(definition, state, today, current)
    qualified = current == tally.period and tally.reach is not None
    anchor = settled.anchor
    alive = anchor is not None and gap.break_time is None
    judging = terms_at(definition, current, state.zones, state.by_hand)
    expected = alive and not judging.switched_off
    close_time = end_time(definition, current + qualified, zone) if expected else None
    return rows, Current(
        run=anchor.run if anchor and alive else None,
        longest=settled.longest,
        reach_time=gap.break_time or (anchor.reach.occur_time if anchor else state.first_order[0]),
        period_start_date=definition.first_date(current),
        period_end_date=definition.last_date(current),
        period_qualified=qualified,
        metrics=judging.metrics,
        sums_micros=tally.sums_micros if current == tally.period else (0,) * len(judging.metrics),
        freeze_count=freezes.balance,
        time_zone=zone,
        expire_time=expire_time(definition, state, current + qualified, close_time) if close_time else None,
        next_close_time=close_time,
        period_end_time=end_time(definition, current, zone),
        override=state.by_hand.override_in(definition, current),
        pauses=state.by_hand.pauses_since(definition.first_date(current)),
    )


def running_period(current: Current) -> Period:
    """The period that is still open and has not qualified, as a calendar shows it."""
    return Period(
        current.period_start_date,
        current.period_end_date,
        PeriodStatus.OPEN,
        current.length,
        current.period_end_time,
    )


def expires_by(current: Current, instant: datetime) -> bool:
    """Whether a streak that is alive ends by then unless its user acts; freezes not counted."""
    return not current.period_qualified and current.expire_time is not None and current.expire_time <= instant


def closed_rows(definition: StreakDefinition, state: StreakState, now: datetime) -> Rows:
    """The rows of `close` alone."""
    today = today_of(definition, state, now)
    return _closed(definition, state, today, definition.period_of(today))[-1]


def today_of(definition: StreakDefinition, state: StreakState, now: datetime) -> date:
    """The local date at `now` where the user is; never before the date of a fact."""
    shown, resets = today_in(definition, now, state.zone), state.by_hand.resets
    return max(shown, state.latest_date, *(reset.day for reset in resets))


def today_in(definition: StreakDefinition, now: datetime, zone: str) -> date:
    """The day whose beginning came last. Where clocks go back over midnight the wall shows the day before
    once more; what closed then stays closed.
    """
    shown = definition.day_of(now, zone)
    return shown + _DAY if definition.day_begins(shown + _DAY, zone) <= now else shown


def expire_time(
    definition: StreakDefinition, state: StreakState, period: int, close_time: datetime
) -> datetime | None:
    """The end of the first period from this one on, which closes at `close_time`, in which something is expected; None
    where the user has switched it off by then.
    """
    zone = state.zone
    while carrying(definition, period, zone, state.by_hand) is not None:
        if terms_at(definition, period, state.zones, state.by_hand).switched_off:
            return None
        period += 1
        close_time = end_time(definition, period, zone)
    return close_time


def settled_until(definition: StreakDefinition, state: StreakState) -> date | None:
    """The date up to which recorded rows are settled; what `close` gives comes after it. None: nothing is."""
    anchor = state.settled.anchor
    return definition.last_date(anchor.period) if anchor else None


def _closed(
    definition: StreakDefinition, state: StreakState, today: date, current: int
) -> tuple[Settled, Gap, Freezes, Rows]:
    settled, rows = _settle(definition, state, today)
    gap = close_gap(definition, settled, state.zones, state.by_hand, current, is_open=True)
    eras = freeze_eras(definition, state.zones)
    freezes, granted = grant_until(eras, gap.freezes, today, state.by_hand)
    if gap.rows.periods or gap.rows.ledger or granted:
        rows = rows + gap.rows + Rows(ledger=granted)
    return settled, gap, freezes, rows


def _settle(definition: StreakDefinition, state: StreakState, today: date) -> tuple[Settled, Rows]:
    """The state as of the newest facts' period where that has qualified, and the rows up to it."""
    settled, tally = state.settled, state.tally
    anchor = settled.anchor
    if tally.reach is None:
        return settled, _NO_ROWS
    end = definition.last_date(tally.period)
    forgiven, known_date = 0, end
    if anchor:
        missed = tally.period - anchor.period - 1
        forgiven = forgiven_count(definition, missed, anchor.latest, tally.earliest)
    if tally.late:
        known_date = known_since(terms_at(definition, tally.period, state.zones, state.by_hand), tally)
    refund_date = known_date if anchor and anchor.known_date <= end < min(known_date, today) else None
    qualified = Qualified(tally.period, tally.reach, tally.latest, known_date, forgiven, refund_date)
    return settle(definition, settled, state.zones, state.by_hand, qualified, min(end, today))


class Qualified(Struct, frozen=True):
    """A period that has qualified."""

    period: int
    reach: Reach
    """The event with which it did."""
    latest: Sighting
    """Its latest fact."""
    known_date: date
    """Since when it was known that it did; never before its last date."""
    forgiven: int = 0
    """Of the periods missed since the one before, so many, the last ones, were lost to travel."""
    refund_date: date | None = None
    """When a freeze came back that had been spent on it, where one was at hand; None where it was in time."""


def settle(
    definition: StreakDefinition,
    settled: Settled,
    zones: Steps,
    by_hand: ByHand,
    qualified: Qualified,
    until: date,
) -> tuple[Settled, Rows]:
    """What is settled with one more period that has qualified, and the rows up to it, with the freezes that are granted
    up to `until`.
    """
    anchor, period = settled.anchor, qualified.period
    gap = close_gap(definition, settled, zones, by_hand, period, qualified.forgiven)
    start = definition.first_date(period)
    end = definition.last_date(period)
    goes_on = anchor is not None and gap.break_time is None
    run = Run(anchor.run.start_date, anchor.run.length + 1) if anchor and goes_on else Run(start, 1)
    freezes, granted = grant_until(freeze_eras(definition, zones), gap.freezes, until, by_hand)
    if qualified.refund_date and goes_on and freezes.balance > 0:
        granted += refund(definition, period, qualified.refund_date, zones, by_hand)
    reach = qualified.reach
    row = Period(start, end, PeriodStatus.QUALIFIED, run.length, reach.occur_time, reach)
    return Settled(
        freezes=freezes,
        anchor=Anchor(period, run, reach, qualified.latest, qualified.known_date),
        longest=max(settled.longest, run.length),
    ), gap.rows + Rows((row,), granted)


def _freezes_since(definition: StreakDefinition, first: Fact, period: int) -> int:
    """From which period on freezes go by where the user was: by that another definition of them begins to hold."""
    return definition.period_of(first.local_date) if definition.earlier else period


def _judging(definition: StreakDefinition, zones: Steps, by_hand: ByHand, fact: Fact) -> StreakDefinition:
    """The definition by which the period of a fact is judged."""
    return terms_at(definition, definition.period_of(fact.local_date), zones, by_hand)


def joined(stretches: Iterable[Rows]) -> Rows:
    """All stretches as one."""
    periods: list[Period] = []
    ledger: list[LedgerLine] = []
    for stretch in stretches:
        periods += stretch.periods
        ledger += stretch.ledger
    return Rows(tuple(periods), tuple(ledger))
