"""Where a refold begins: behind the last qualified period before what it is about (RULES 3.1).

What the periods up to a qualified one come to depends on nothing that follows. So a late event costs what
has happened since, however long a user has been there.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.arrivals import asked_until
from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand
from services.streak.domain.definition import StreakDefinition
from services.streak.domain.facts import Altered, Fact, dated
from services.streak.domain.freezes import freezes_left
from services.streak.domain.rows import Period, PeriodStatus, Rows, Run
from services.streak.domain.state import Anchor, Checkpoint, StreakState, Tally
from services.streak.domain.tally import known_since, tally_of
from services.streak.domain.terms import counts, freeze_eras, terms_at
from services.streak.domain.zones import Steps, ZoneChange, zone_steps

FURTHEST_AHEAD: Final = timedelta(hours=15)
"""No zone has been further ahead of UTC since 1900: no local date begins longer before the date in UTC."""


_LATEST: Final = timedelta(hours=27)
"""No day begins longer after it has begun in UTC: noon at the latest, in a zone behind."""


Span = tuple[datetime, datetime]
"""From an instant until before another."""


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
    """What is looked at where facts are altered: what is around them, and what turned out to be needed besides."""

    since: Since
    until: date
    """The facts lie before this date."""
    with_rows: bool = False
    """Whether all rows since then are asked for."""
    periods: frozenset[int] = frozenset()
    """Later ones, of which the facts are asked for too."""
    spans: tuple[Span, ...] = ()
    """When those happened."""
    looks: int = 1
    """How often something was asked for."""


class Around(Struct, frozen=True):
    """What is stored of a user's streak in a window."""

    events: tuple[Fact, ...]
    """With those of the period that `past` ends with, and perhaps some of other ones."""
    past: Past | None = None
    rows: Rows = Rows()
    """All since `past`, where they were asked for."""


BEHIND: Final = 3
"""The facts of so many periods behind that of a fact which is altered are looked at, at least."""
_NEAR: Final = 14
"""Where between two such facts lie more periods, the later one is looked at for itself."""
_MOST_LOOKS: Final = 5
"""Each is a round trip. Then everything is read."""


def window_around(
    definition: StreakDefinition, state: StreakState | None, altered: Altered, touched: date
) -> Window | None:
    """What is looked at first where facts are altered, which may change the period that begins at `touched`. None where
    little is later.
    """
    anchor = state.settled.anchor if state else None
    periods = periods_of(definition, altered)
    near = periods[:1]
    for period in periods[1:]:
        if period > near[-1] + 1 + _NEAR:
            break
        near.append(period)
    until = definition.first_date(near[-1] + 1 + BEHIND)
    if altered.gone is not None:
        until = max(until, asked_until(definition, altered.gone))
    far = [period for period in periods if period >= definition.period_of(until)]
    last = max(definition.period_of(until) - 1, periods[-1] + BEHIND)
    if anchor is None or anchor.period <= last:
        return None
    window = Window(refold_since(definition, state, touched), until)
    return with_rows(definition, window, frozenset(far)) if far else window


def periods_of(definition: StreakDefinition, altered: Altered) -> list[int]:
    """The periods of the facts that are altered, ascending."""
    return sorted({definition.period_of(event.local_date) for event in altered.events})


def wider(
    definition: StreakDefinition, window: Window, periods: frozenset[int] = frozenset()
) -> Window | None:
    """The window with all rows, and with these periods; None where it is no use to look on."""
    if window.looks >= _MOST_LOOKS or (window.with_rows and periods <= window.periods):
        return None
    return replace(with_rows(definition, window, window.periods | periods), looks=window.looks + 1)


def with_rows(definition: StreakDefinition, window: Window, periods: frozenset[int]) -> Window:
    """The window with all rows, and of these later periods the facts."""
    return replace(window, with_rows=True, periods=periods, spans=_spans(definition, periods))


def _spans(definition: StreakDefinition, periods: Iterable[int]) -> tuple[Span, ...]:
    """When the facts of these periods happened, ascending."""
    found: list[Span] = []
    for period in sorted(periods):
        begin = _earliest(definition.first_date(period))
        if found and begin <= found[-1][1]:
            begin = found.pop()[0]
        found.append((begin, _latest(definition.first_date(period + 1))))
    return tuple(found)


def facts_until(window: Window) -> datetime:
    """All facts of the window happened before this."""
    return _latest(window.until)


def inside(definition: StreakDefinition, window: Window, events: Iterable[Fact]) -> tuple[Fact, ...]:
    """The facts of the window, among others."""
    last = definition.period_of(window.until)
    known = (dated(definition, event) for event in events)
    return tuple(event for event in known if definition.period_of(event.local_date) < last)


def _earliest(day: date) -> datetime:
    """No fact of a day happened before this."""
    return datetime.combine(day, time(), UTC) - FURTHEST_AHEAD


def _latest(day: date) -> datetime:
    """All facts of the days before this one happened before this."""
    return datetime.combine(day, time(), UTC) + _LATEST


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
    return _earliest(past.last.start_date)


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
    tally = tally_in(definition, period, steps, by_hand, [dated(definition, event) for event in events])
    if tally is None or tally.reach is None or past.last.reach is None:
        return None
    origin = state.settled.freezes.origin
    return Checkpoint(
        anchor=Anchor(
            period=period,
            run=Run(past.run_start_date, past.last.length),
            reach=past.last.reach,
            latest=tally.latest,
            known_date=known_since(terms_at(definition, period, steps, by_hand), tally),
        ),
        freezes=freezes_left(
            freeze_eras(definition, steps), origin, past.freeze_count, past.last.end_date, by_hand
        ),
        longest=past.longest,
        first_order=state.first_order,
    )


def tally_in(
    definition: StreakDefinition, period: int, steps: Steps, by_hand: ByHand, events: Iterable[Fact]
) -> Tally | None:
    """The facts of a period among these, added up; None where there are none."""
    inside = [
        event
        for event in events
        if definition.period_of(event.local_date) == period and counts(definition, steps, by_hand, event)
    ]
    if not inside:
        return None
    return tally_of(
        terms_at(definition, period, steps, by_hand), sorted(inside, key=lambda event: event.order)
    )
