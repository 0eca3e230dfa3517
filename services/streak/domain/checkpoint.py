"""Where a refold begins: behind the last qualified period before what it is about (RULES 3.1).

What the periods up to a qualified one come to depends on nothing that follows. So a late event costs what
has happened since, however long a user has been there.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from msgspec import Struct

from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand
from services.streak.domain.definition import StreakDefinition
from services.streak.domain.facts import Fact, dated
from services.streak.domain.freezes import freezes_left
from services.streak.domain.rows import Period, PeriodStatus, Rows, Run
from services.streak.domain.state import Anchor, Checkpoint, StreakState
from services.streak.domain.tally import known_since, tally_of
from services.streak.domain.terms import counts, freeze_eras, terms_at
from services.streak.domain.zones import ZoneChange, zone_steps

FURTHEST_AHEAD: Final = timedelta(hours=15)
"""No zone has been further ahead of UTC since 1900: no local date begins longer before the date in UTC."""


_LATEST: Final = timedelta(hours=27)
"""No day begins longer after it has begun in UTC: noon at the latest, in a zone behind."""


class Past(Struct, frozen=True):
    """What the recorded rows up to and including a qualified period come to."""

    last: Period
    run_start_date: date
    longest: int
    freeze_count: int


class Since(Struct, frozen=True):
    """How much of what is stored a refold needs."""

    touched: date
    """The first date of the earliest period that may change. What comes after the last qualified period before
    it is needed; where there is none, everything is.
    """
    past: Past | None = None
    """What lies up to that one, where it is known without a look at the rows."""


EVERYTHING: Final = Since(date.min)


class Window(Struct, frozen=True):
    """The facts around one that is taken away."""

    since: Since
    until: date
    """They lie before this date."""


class Around(Struct, frozen=True):
    """What is stored of a user's streak in a window."""

    events: tuple[Fact, ...]
    """With those of the period that `past` ends with, and perhaps some of earlier and of later ones."""
    past: Past | None = None


WINDOWS: Final = (3, 12)
"""So many periods behind that of a fact which is taken away are looked at first, then everything."""


def windows(
    definition: StreakDefinition, state: StreakState | None, fact: Fact, touched: date
) -> tuple[Window, ...]:
    """The windows to try where `fact` is taken away, which may change the period that begins at `touched`. None where
    little is later.
    """
    anchor = state.settled.anchor if state else None
    period = definition.period_of(fact.local_date)
    if anchor is None or anchor.period <= period + WINDOWS[0]:
        return ()
    since = refold_since(definition, state, touched)
    return tuple(Window(since, definition.first_date(period + 1 + later)) for later in WINDOWS)


def facts_until(window: Window) -> datetime:
    """All facts of the window happened before this."""
    return datetime.combine(window.until, time(), UTC) + _LATEST


def inside(definition: StreakDefinition, window: Window, events: Iterable[Fact]) -> tuple[Fact, ...]:
    """The facts of the window, among others."""
    last = definition.period_of(window.until)
    known = (dated(definition, event) for event in events)
    return tuple(event for event in known if definition.period_of(event.local_date) < last)


class History(Struct, frozen=True):
    """What is stored of a user's streak: all of it, or what comes after `past`."""

    events: tuple[Fact, ...]
    """With those of the period that `past` ends with, and perhaps some of earlier ones."""
    rows: Rows
    past: Past | None = None


def refold_since(definition: StreakDefinition, state: StreakState | None, touched: date) -> Since:
    """What a refold needs that may change the period which begins at `touched`, and all later ones.

    `state` is the one that is stored. It knows what comes before the newest facts.
    """
    settled = state.settled if state else None
    if settled is None or settled.anchor is None:
        return Since(touched)
    anchor = settled.anchor
    start = definition.first_date(anchor.period)
    if start >= touched:
        return Since(touched)
    end = definition.last_date(anchor.period)
    reach = anchor.reach
    last = Period(start, end, PeriodStatus.QUALIFIED, anchor.run.length, reach.occur_time, reach)
    return Since(touched, Past(last, anchor.run.start_date, settled.longest, settled.freezes.balance))


def facts_since(past: Past) -> datetime:
    """No fact of the period that `past` ends with, or of a later one, happened before this."""
    return datetime.combine(past.last.start_date, time(), UTC) - FURTHEST_AHEAD


def checkpoint(
    definition: StreakDefinition,
    state: StreakState,
    past: Past,
    events: Iterable[Fact],
    zones: Iterable[ZoneChange],
    by_hand: ByHand = NOTHING_BY_HAND,
) -> Checkpoint | None:
    """The checkpoint behind `past`. `events` are all since `facts_since`, and perhaps more, `zones` those since then.

    None where no fact is there that makes the period qualify: past and facts are not of one time.
    """
    period = definition.period_of(past.last.start_date)
    steps = zone_steps(definition, zones)
    inside = [
        event
        for event in (dated(definition, each) for each in events)
        if definition.period_of(event.local_date) == period and counts(definition, steps, by_hand, event)
    ]
    if not inside or past.last.reach is None:
        return None
    judging = terms_at(definition, period, steps, by_hand)
    tally = tally_of(judging, sorted(inside, key=lambda event: event.order))
    if tally.reach is None:
        return None
    origin = state.settled.freezes.origin
    return Checkpoint(
        anchor=Anchor(
            period=period,
            run=Run(past.run_start_date, past.last.length),
            reach=past.last.reach,
            latest=tally.latest,
            known_date=known_since(judging, tally),
        ),
        freezes=freezes_left(
            freeze_eras(definition, steps), origin, past.freeze_count, past.last.end_date, by_hand
        ),
        longest=past.longest,
        first_order=state.first_order,
    )
