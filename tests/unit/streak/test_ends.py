"""Whose streak ends soon: said of many at once, and so without looking at each as closely (RULES 3.4, 3.5)."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import combinations
from uuid import UUID

import pytest
from msgspec.structs import replace

from services.streak.domain import (
    NOTHING_BY_HAND,
    Amnesty,
    ByHand,
    DateRange,
    FreezeGrant,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    Override,
    Reset,
    StreakDefinition,
    StreakState,
    close,
    end_of,
    ends_of,
    fact,
    facts,
    fold,
    with_grant,
    with_override,
    with_pause,
    with_reset,
)
from tests.unit.streak.worlds import declare, redefine

EVENING = datetime(2025, 3, 5, 19, tzinfo=UTC)
MIDNIGHT = datetime(2025, 3, 6, tzinfo=UTC)
YESTERDAY = EVENING - timedelta(days=1)
ENTRY = UUID(int=1_000)

DAILY = StreakDefinition("daily", Frequency.DAILY, (MetricThreshold("commits", 1),))
FREEZES = replace(DAILY, freezes=FreezeSettings(1, earn_count=1, earn_every_days=3, max_count=2))
DEFINITIONS = {
    "daily": DAILY,
    "with freezes": FREEZES,
    "with days off": replace(DAILY, days_off=frozenset({3})),
    "weekly": replace(DAILY, frequency=Frequency.WEEKLY, week_start=3),
    "with freezes since yesterday": redefine(DAILY, FREEZES, YESTERDAY),
    "without freezes since yesterday": redefine(FREEZES, DAILY, YESTERDAY),
    "with an amnesty": declare(DAILY, Amnesty(EVENING, MIDNIGHT, EVENING)),
}
ZONES = (("UTC",), ("Asia/Tokyo",), ("America/Los_Angeles",), ("UTC", "Asia/Tokyo"))
"""Of the days, in turn."""
BY_HAND = (
    NOTHING_BY_HAND,
    with_pause(NOTHING_BY_HAND, DateRange(ENTRY, EVENING.date(), EVENING.date())),
    with_grant(NOTHING_BY_HAND, FreezeGrant(ENTRY, EVENING.date(), 1)),
    with_reset(NOTHING_BY_HAND, Reset(ENTRY, YESTERDAY, YESTERDAY.date())),
    with_override(NOTHING_BY_HAND, Override(ENTRY, EVENING, EVENING.date(), switched_off=True)),
)


def state_of(
    definition: StreakDefinition,
    *days: int,
    zones: tuple[str, ...] = ("UTC",),
    by_hand: ByHand = NOTHING_BY_HAND,
) -> StreakState | None:
    """A commit at noon of each of these days of March."""
    events = [
        fact(UUID(int=day), "commits", 1, datetime(2025, 3, day, 12, tzinfo=UTC), zones[day % len(zones)])
        for day in days
    ]
    folded = fold(definition, facts(events, by_hand), EVENING)
    return folded.state if folded else None


@lru_cache
def everybody(name: str) -> list[StreakState]:
    """Whoever did something on any of four days, in several zones, with and without something done by hand."""
    states = [
        state_of(DEFINITIONS[name], *days, zones=zones, by_hand=by_hand)
        for count in range(1, 5)
        for days in combinations(range(2, 6), count)
        for by_hand in reversed(BY_HAND)
        for zones in ZONES
    ]
    return [state for state in states if state]


@pytest.mark.parametrize("hours", [-24, 0, 6, 24])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_what_is_said_of_many_at_once_is_what_is_said_of_each(name: str, hours: int) -> None:
    definition, now = DEFINITIONS[name], EVENING + timedelta(hours=hours)
    each = [end_of(close(definition, state, now)[1]) for state in everybody(name)]
    assert ends_of(definition, everybody(name), now) == each


def test_who_has_begun_tomorrow_already_has_until_then() -> None:
    began = fact(ENTRY, "commits", 0, MIDNIGHT + timedelta(hours=1), "UTC")
    done = fact(UUID(int=1), "commits", 1, EVENING, "UTC")
    folded = fold(DAILY, facts([done, began]), MIDNIGHT + timedelta(hours=2))
    assert folded
    assert ends_of(DAILY, [folded.state], EVENING) == [MIDNIGHT + timedelta(days=1)]


@pytest.mark.parametrize(
    ("days", "freezes", "end"),
    [
        ((3, 4), 0, MIDNIGHT),
        ((3, 4, 5), 0, None),
        ((2, 3), 0, None),
        ((2, 4), 0, MIDNIGHT),
        ((3, 4), 1, None),
        ((2, 4), 1, MIDNIGHT),
    ],
    ids=[
        "nothing was done today",
        "it is done",
        "it has ended before",
        "it has begun anew",
        "a freeze would keep it",
        "the freeze is spent",
    ],
)
def test_a_streak_ends_tonight_where_nothing_is_done_and_no_freeze_keeps_it(
    days: tuple[int, ...], freezes: int, end: datetime | None
) -> None:
    definition = replace(DAILY, freezes=FreezeSettings(initial_count=freezes, max_count=freezes))
    state = state_of(definition, *days)
    assert state
    assert ends_of(definition, [state], EVENING) == [end]
