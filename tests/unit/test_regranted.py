"""What is granted by lengths when an event is undone: told by the streak service, read by the two that grant, and held
against what is granted arrival by arrival (RULES 2.5, 7.3).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st
from laurel.ledger.v1.effects_pb2 import Effects

from services.achievement import convert as achievement_convert
from services.points import convert as points_convert
from services.points.domain.definitions import Catalogue, PointsSystem, StreakCause, Trigger
from services.points.domain.streaks import Shift, shifts
from services.streak import convert as streak_convert
from services.streak.convert import Effect
from services.streak.domain import (
    NEVER_SEEN,
    Evaluation,
    Fact,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    StreakDefinition,
    fact,
    facts,
    fold,
    refold,
)
from services.streak.domain.arrivals import MOST_EVENTS
from shared.entries import EntryKind
from shared.errors import Violations
from tests.fixtures.slow_grants import grants
from tests.unit.points.user import User
from tests.unit.streak.slow_fold import SlowFact, SlowResult, SlowRules, slow_fold

DAILY = StreakDefinition(
    "daily", Frequency.DAILY, (MetricThreshold("commits", 1),), freezes=FreezeSettings(1, 0, 0, 1)
)
RULES = SlowRules("DAILY", {"commits": 1}, initial=1, maximum=1)
LENGTH = 2
XP = PointsSystem("xp", (Trigger("days", 11, StreakCause("daily", LENGTH)),))
CATALOGUE = Catalogue.of([XP])
FIRST = datetime(2025, 6, 9, tzinfo=UTC)
NOW = FIRST + timedelta(days=10)

Happened = tuple[int, int]
"""A day and an hour."""


def arrived(happened: Sequence[Happened]) -> list[Fact]:
    """Events in the order in which they arrived."""
    return [
        fact(
            UUID(int=number + 1),
            "commits",
            1,
            FIRST + timedelta(days=day, hours=hour, seconds=number),
            "UTC",
            NOW - timedelta(minutes=len(happened) - number),
        )
        for number, (day, hour) in enumerate(happened)
    ]


def undone(history: Sequence[Fact], gone: Fact) -> Evaluation:
    """What becomes of the streak when an event is taken away."""
    left = facts(event for event in history if event is not gone)
    before = fold(DAILY, facts(history), NOW)
    assert before
    return refold(DAILY, NEVER_SEEN, before.rows, left, NOW, gone=gone)


def slow_pasts(history: Sequence[Fact]) -> list[SlowResult]:
    """The streak after each arrival."""
    known = [SlowFact(event.occur_time, number, "commits", 1, "UTC") for number, event in enumerate(history)]
    return [slow_fold(RULES, known[:count], NOW) for count in range(1, len(known) + 1)]


def slow_awards(history: Sequence[Fact]) -> dict[date, datetime]:
    """By period, when the event happened that the award belongs to."""
    due = [
        {
            start: at
            for start, _, status, length, at in past.periods
            if status == "QUALIFIED" and length % LENGTH == 0
        }
        for past in slow_pasts(history)
    ]
    granted = grants(dict.fromkeys(one, 1) for one in due)
    return {period: due[arrival][period] for arrival, period, _ in granted}


def slow_completions(history: Sequence[Fact]) -> dict[int, datetime]:
    """By length, when the event happened with which it had been reached when it first was."""
    found: dict[int, datetime] = {}
    for past in slow_pasts(history):
        for length, reach in past.first_reaches.items():
            found.setdefault(length, reach.time)
    return found


def retold(told: Effects) -> Shift | None:
    """What points read of it."""
    violations = Violations()
    command = points_convert.command(User([XP]).entry(EntryKind.CORRECTION), told, "effects", violations)
    violations.raise_if_any()
    return next(iter(shifts(CATALOGUE, command.streak_changes)), None)


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 22)), min_size=2, max_size=9),
    st.integers(0, 8),
)
@example([(3, 9), (2, 9), (1, 9), (0, 9)], 0)
@example([(1, 9), (0, 9), (2, 9), (2, 4)], 0)
def test_what_is_granted_without_an_event_is_what_the_others_would_have_been_granted_as_they_came(
    happened: list[Happened], which: int
) -> None:
    history = arrived(happened)
    gone = history[which % len(history)]
    told = streak_convert.effects("ada", [Effect(DAILY, undone(history, gone))])
    if not (told.streaks[0].change.arrivals_before or told.streaks[0].change.arrivals_after):
        return
    others = [event for event in history if event is not gone]
    shift = retold(told)
    assert shift
    assert shift.retold
    for granted, wanted in ((shift.retold.before, history), (shift.retold.after, others)):
        assert {day: owner.occur_time for day, owner in granted.owners.items()} == slow_awards(wanted)
    violations = Violations()
    command = achievement_convert.command(User([XP]).entry(EntryKind.CORRECTION), told, "effects", violations)
    violations.raise_if_any()
    (change,) = command.streak_changes
    for reached, wanted in ((change.granted_before, history), (change.granted_after, others)):
        assert {length: reach.occur_time for length, reach in reached.items()} == slow_completions(wanted)


def test_where_the_undone_event_and_all_since_came_in_order_arrivals_are_not_told() -> None:
    history = arrived([(3, 9), (1, 9), (2, 9), (4, 9), (5, 9)])
    change = undone(history, history[3]).change
    assert change
    assert change.history.periods
    assert not change.arrivals.after


def test_of_more_events_than_are_folded_again_arrivals_are_not_told() -> None:
    history = arrived([(4, 9), *((number % 4, number % 20) for number in range(MOST_EVENTS))])
    change = undone(history, history[0]).change
    assert change
    assert not change.arrivals.after
