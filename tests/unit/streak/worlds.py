"""Strategies: definitions, histories and arrivals, with zones, clock changes and travel among them."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from msgspec.structs import replace

from services.streak.domain import (
    Amnesty,
    ByHand,
    Changed,
    DateRange,
    Done,
    Fact,
    FreezeGrant,
    FreezeSettings,
    Frequency,
    MetricMode,
    MetricThreshold,
    Override,
    Reset,
    Resume,
    StreakDefinition,
    fact,
    with_grant,
    with_override,
    with_pause,
    with_reset,
    with_restore,
    with_resume,
)
from shared.calendar import local_date
from tests.unit.streak.slow_fold import SlowByHand, SlowFact, SlowOverride, SlowRules

Change = Callable[[ByHand, Any], ByHand]

# Clocks change in most of them in the span below; Apia leaves out a whole day, St. John's changed at 00:01.
ZONES = (
    "UTC",
    "Asia/Tokyo",
    "America/Los_Angeles",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Honolulu",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
)
BEGINNING = datetime(2011, 10, 8, tzinfo=UTC)
METRICS = ("commits", "lines")
SPAN_DAYS = {Frequency.DAILY: 24, Frequency.WEEKLY: 84, Frequency.MONTHLY: 300}


@st.composite
def definitions(draw: st.DrawFn) -> StreakDefinition:
    """Any definition that the service accepts, with thresholds and freezes small enough to matter."""
    frequency = draw(st.sampled_from(Frequency))
    metrics = draw(st.sampled_from([("commits",), METRICS]))
    initial = draw(st.integers(0, 2))
    earn, every = draw(st.sampled_from([(0, 0), (1, 3), (2, 5), (1, 30)]))
    maximum = draw(st.integers(max(initial, 1), 3)) if initial or earn else 0
    daily = frequency is Frequency.DAILY
    return StreakDefinition(
        key="focus",
        frequency=frequency,
        metrics=tuple(MetricThreshold(metric, draw(st.integers(1, 3))) for metric in metrics),
        mode=draw(st.sampled_from(MetricMode)),
        days_off=draw(st.frozensets(st.integers(0, 6), max_size=3)) if daily else frozenset(),
        freezes=FreezeSettings(initial, earn, every, maximum),
        week_start=draw(st.integers(0, 6)) if frequency is Frequency.WEEKLY else 0,
        day_start=timedelta(minutes=draw(st.sampled_from((0, 0, 1, 150, 240, 720)))),
    )


@st.composite
def histories(draw: st.DrawFn, frequency: Frequency) -> list[Fact]:
    """Up to 30 facts, some of them below zero, mostly in one zone; entry ids are drawn apart from times."""
    count = draw(st.integers(1, 30))
    entries = draw(st.permutations(range(1, count + 1)))
    home = draw(st.sampled_from(ZONES))
    found = []
    for entry in entries:
        occur_time = BEGINNING + timedelta(minutes=draw(st.integers(0, SPAN_DAYS[frequency] * 24 * 6)) * 10)
        days_late = draw(st.sampled_from((0, 0, 0, 1, 2, 5)))
        found.append(
            fact(
                UUID(int=entry),
                draw(st.sampled_from((*METRICS, "other"))),
                draw(st.sampled_from((1, 1, 1, 2, 3, -1, -2))),
                occur_time,
                draw(st.sampled_from((home, home, home, *ZONES))),
                occur_time + timedelta(days=days_late),
            )
        )
    return found


@st.composite
def by_hands(draw: st.DrawFn, history: list[Fact], *, daily: bool = True) -> list[tuple[Change, Done]]:
    """Some things that are done by hand around the time of a history, each with how it is added to others."""
    days = sorted({event.local_date for event in history})
    span = (days[-1] - days[0]).days + 9
    found: list[tuple[Change, Done]] = []
    for number in range(draw(st.integers(1, 5))):
        entry_id = UUID(int=1_000 + number)
        first = days[0] + timedelta(days=draw(st.integers(-4, span)))
        last = first + timedelta(days=draw(st.sampled_from((0, 1, 3, 20))))
        instant = datetime.combine(first, time(draw(st.integers(0, 23))), UTC)
        reset = Reset(entry_id, instant, local_date(instant, draw(st.sampled_from(ZONES))))
        override = Override(
            entry_id,
            instant,
            reset.day,
            draw(st.sampled_from((None, *MetricMode))),
            draw(st.sampled_from(((), (("commits", 0),), (("lines", 2),), (("lines", 1), ("commits", 3))))),
            draw(st.sampled_from((None, (), (1, 5)))) if daily else None,
            draw(st.integers(0, 3)) == 0,
        )
        doings: list[tuple[Change, Done]] = [
            (with_override, override),
            (with_override, override),
            (with_grant, FreezeGrant(entry_id, first, draw(st.integers(1, 3)))),
            (with_pause, DateRange(entry_id, first, last)),
            (with_restore, DateRange(entry_id, first, last)),
            (with_resume, Resume(entry_id, first, tuple(UUID(int=1_000 + other) for other in range(number)))),
            (with_reset, reset),
        ]
        found.append(draw(st.sampled_from(doings)))
    return found


@st.composite
def amnesties(draw: st.DrawFn, history: list[Fact]) -> list[Amnesty]:
    """Some windows around the time of a history, declared before or after the fact."""
    times = sorted(event.occur_time for event in history)
    span = int((times[-1] - times[0]) / timedelta(hours=1)) + 200
    found = []
    for _ in range(draw(st.integers(0, 3))):
        begin = times[0] + timedelta(hours=draw(st.integers(-50, span)))
        end = begin + timedelta(hours=draw(st.sampled_from((1, 5, 30, 80))))
        found.append(Amnesty(begin, end, begin + timedelta(hours=draw(st.sampled_from((-24, 2, 40, 200))))))
    return found


def redefine(before: StreakDefinition, after: StreakDefinition, now: datetime) -> StreakDefinition:
    """A definition that asks otherwise from an instant on; its periods stay."""
    asks = replace(
        before, metrics=after.metrics, mode=after.mode, freezes=after.freezes, days_off=after.days_off
    )
    if before.frequency is not Frequency.DAILY:
        asks = replace(asks, days_off=frozenset())
    earlier = (*before.earlier, (now, replace(before, earlier=(), amnesties=(), past={})))
    return revised(replace(asks, earlier=earlier), before, Changed(redefined=now))


def declare(definition: StreakDefinition, amnesty: Amnesty) -> StreakDefinition:
    """The definition with one more amnesty."""
    more = replace(definition, amnesties=(*definition.amnesties, amnesty))
    return revised(more, definition, Changed(amnestied=amnesty.start_time))


def withdraw(definition: StreakDefinition, amnesty: Amnesty) -> StreakDefinition:
    """The definition without an amnesty."""
    left = tuple(each for each in definition.amnesties if each != amnesty)
    return revised(replace(definition, amnesties=left), definition, Changed(amnestied=amnesty.start_time))


def revised(after: StreakDefinition, before: StreakDefinition, changed: Changed) -> StreakDefinition:
    """The definition that knows what it was before."""
    past = {known: earlier.and_also(changed) for known, earlier in before.past.items()}
    return replace(after, fingerprint=before.fingerprint + 1, past={**past, before.fingerprint: changed})


def slow_by_hand(by_hand: ByHand) -> SlowByHand:
    """The same in plain values."""
    return SlowByHand(
        grants=tuple((grant.day, grant.count) for grant in by_hand.grants),
        pauses=tuple((pause.first, pause.last) for pause in by_hand.held_pauses()),
        resets=tuple((reset.occur_time, reset.entry_id.int, reset.day) for reset in by_hand.resets),
        restores=tuple((restore.first, restore.last) for restore in by_hand.restores),
        overrides=tuple(
            (each.occur_time, each.entry_id.int, each.day, slow_override(each)) for each in by_hand.overrides
        ),
    )


def slow_override(override: Override) -> SlowOverride:
    """The same in plain values."""
    return SlowOverride(
        None if override.mode is None else override.mode is MetricMode.ALL,
        dict(override.metrics) or None,
        None if override.days_off is None else frozenset(override.days_off),
        override.switched_off,
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[StreakDefinition, list[Fact], datetime]:
    """A definition, a history in any order of arrival, and an instant after it."""
    definition = draw(definitions())
    history = draw(histories(definition.frequency))
    last = max(event.occur_time for event in history)
    later = draw(st.integers(0, SPAN_DAYS[definition.frequency] * 24)) * 60 - 5
    return definition, history, last + timedelta(minutes=later)


def slow_rules(definition: StreakDefinition) -> SlowRules:
    """The same definition in plain values."""
    return SlowRules(
        frequency=definition.frequency.name,
        thresholds={wanted.metric: wanted.threshold_micros for wanted in definition.metrics},
        all_metrics=definition.mode is MetricMode.ALL,
        days_off=definition.days_off,
        initial=definition.freezes.initial_count,
        earn=definition.freezes.earn_count,
        every=definition.freezes.earn_every_days,
        maximum=definition.freezes.max_count,
        week_start=definition.week_start,
        day_start=int(definition.day_start / timedelta(minutes=1)),
        amnesties=tuple((each.start_time, each.end_time, each.declare_time) for each in definition.amnesties),
        earlier=tuple((until, slow_rules(before)) for until, before in definition.earlier),
    )


def slow_facts(history: list[Fact], definition: StreakDefinition) -> list[SlowFact]:
    """The same facts in plain values."""
    return [
        SlowFact(
            event.occur_time,
            event.entry_id.int,
            event.metric,
            event.contribution_micros,
            event.time_zone,
            event.arrive_time,
            int(definition.day_start / timedelta(minutes=1)),
        )
        for event in history
    ]
