"""Corrections of one streak that reach points in another order than that in which the streak changed."""

from datetime import date, timedelta
from itertools import permutations
from uuid import UUID

import pytest

from services.points.domain.definitions import Catalogue, PointsSystem, StreakCause, Trigger, TriggerKey
from services.points.domain.facts import Instant, PeriodChange, StreakChange
from services.points.domain.state import StreakCount
from services.points.domain.streaks import LivePeriod, corrected, due_for, shifts
from shared.ids import derived_id
from tests.unit.points.account import START

CATALOGUE = Catalogue.of([PointsSystem("xp", (Trigger("days", 11, StreakCause("daily", 2)),))])


def day(number: int) -> date:
    return START.date() + timedelta(days=number)


def reach(number: int) -> Instant:
    return Instant(derived_id(f"day-{number}"), START + timedelta(days=number), day(number))


def period(number: int, before: int, after: int) -> PeriodChange:
    """Of a day that had qualified with one length and has with another; 0: it had not, or has not."""
    return PeriodChange(day(number), before, after, before > 0, after > 0, reach(number) if after else None)


STEPS = (
    (period(1, 0, 1), period(2, 0, 2)),  # two days in a row: the second is due
    (period(1, 1, 0), period(2, 2, 1), period(3, 0, 2)),  # the first is voided, a third one follows
    (period(2, 1, 0), period(3, 2, 1)),  # the second is voided
)
"""What the streak says, one after the other; in the end nothing is due."""


@pytest.mark.parametrize("order", list(permutations((1, 2))))
def test_nothing_is_left_of_what_no_streak_is_due_for_however_corrections_come(
    order: tuple[int, ...],
) -> None:
    (configured,) = CATALOGUE.by_streak["daily"]
    live = [LivePeriod(1, due_for(configured, STEPS[0][1]), derived_id("day-2"))]
    count = StreakCount(1, 1)
    for number in order:
        for shift in shifts(CATALOGUE, [StreakChange("daily", STEPS[number])]):
            settled = corrected(shift, count, live, UUID(int=number), gives=True)
            live = [one for one in live if one not in settled.taken]
            live += [LivePeriod(9, due_for(configured, change), UUID(int=number)) for change in settled.given]
            count = settled.count
    assert count == StreakCount(0, 0)
    assert live == []
    assert configured.key == TriggerKey("xp", "days")
