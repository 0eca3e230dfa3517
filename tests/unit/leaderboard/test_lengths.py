"""RULES 6.3: what a streak is worth in a run, whatever the order in which its periods are told."""

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from services.leaderboard.domain.lengths import Lengths, Period, length_in, reached, told
from services.leaderboard.domain.runs import Run, RunUnit, Schedule
from services.leaderboard.domain.scores import NO_SCORE, Score

FIRST = date(2026, 11, 9)
"""A Monday."""
DAY = timedelta(days=1)
WEEKS = [Run(FIRST + 7 * week * DAY, FIRST + (7 * week + 6) * DAY) for week in range(3)]


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), tzinfo=UTC)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def daily(day: date, length: int | None, version: int = 1) -> Period:
    return Period(day, day, length, noon(day) if length else None, version)


def known(*periods: Period) -> Lengths:
    return told({}, periods)


def test_the_length_of_a_run_is_that_of_its_last_period() -> None:
    lengths = known(*(daily(date(2026, 11, 21 + number), number) for number in (1, 2, 3)))
    assert length_in(lengths, WEEKS[1]) == Score(1, noon(date(2026, 11, 22)))
    assert length_in(lengths, WEEKS[2]) == Score(3, noon(date(2026, 11, 24)))


def test_a_streak_that_was_alive_when_the_run_began_ranks_in_it_before_anything_is_said() -> None:
    sunday = daily(date(2026, 11, 22), 4)
    assert length_in(known(sunday), WEEKS[2]) == Score(4, noon(sunday.start))


def test_a_streak_that_breaks_on_the_first_day_of_a_run_ranks_in_it_with_nothing() -> None:
    lost = known(daily(date(2026, 11, 22), 4), daily(date(2026, 11, 23), 0))
    assert length_in(lost, WEEKS[1]) == Score(4, noon(date(2026, 11, 22)))
    assert length_in(lost, WEEKS[2]) == Score(0, midnight(date(2026, 11, 24)))


def test_a_streak_that_broke_before_the_run_is_not_in_it() -> None:
    lost = known(daily(date(2026, 11, 20), 4), daily(date(2026, 11, 21), 0))
    assert length_in(lost, WEEKS[1]) == Score(0, midnight(date(2026, 11, 22)))
    assert length_in(lost, WEEKS[2]) == NO_SCORE


def test_what_freezes_carry_through_a_run_ranks_in_it() -> None:
    assert length_in(known(daily(FIRST, 4)), WEEKS[1]) == Score(4, noon(FIRST))


def test_a_week_s_streak_ranks_on_every_day_of_it_also_of_the_one_that_breaks_it() -> None:
    week = Period(FIRST, FIRST + 6 * DAY, 3, noon(FIRST + 2 * DAY), 1)
    broken = Period(FIRST + 7 * DAY, FIRST + 13 * DAY, 0, None, 1)
    for number, amount in ((0, 3), (6, 3), (7, 0), (13, 0), (14, None)):
        day = FIRST + number * DAY
        assert length_in(known(week, broken), Run(day, day)).amount == amount


def test_of_a_period_the_newest_version_holds_and_what_is_gone_stays_gone() -> None:
    day = date(2026, 11, 22)
    for order in permutations([daily(day, 1, 1), daily(day, None, 2)]):
        assert length_in(known(*order), WEEKS[1]) == NO_SCORE


def test_the_runs_between_two_dates_are_those_that_contain_one() -> None:
    weekly = Schedule(unit=RunUnit.WEEK)
    assert list(reached(weekly, date(2026, 11, 22), date(2026, 11, 23))) == WEEKS[1:]
    assert list(reached(weekly, date(2026, 11, 23), date(2026, 11, 22))) == []
    late = Schedule(date(2026, 11, 23), unit=RunUnit.WEEK)
    assert list(reached(late, date(2026, 11, 1), date(2026, 11, 24))) == WEEKS[2:]


Days = Iterator[tuple[date, int, int, bool]]


def day_by_day(active: Collection[int]) -> Days:
    """The days of a streak without freezes, seen on the 21st: length before and after, and whether it qualified."""
    length = 0
    for number in range(21):
        before = length
        length = length + 1 if number in active else length if number == 20 else 0
        yield FIRST + number * DAY, before, length, number in active


def recorded(active: Collection[int], version: int) -> dict[date, Period]:
    """What the streak service tells of it."""
    return {
        day: daily(day, after, version)
        for day, before, after, qualified in day_by_day(active)
        if qualified or before != after
    }


def expected(active: Collection[int], run: Run) -> tuple[int | None, datetime | None]:
    """Day by day: alive in the run with the length at its end."""
    length, at, is_member = 0, None, False
    for day, before, length_after, qualified in day_by_day(active):
        if day > run.end:
            break
        if qualified:
            at = noon(day)
        elif before and not length_after:
            at = midnight(day + DAY)
        length = length_after
        is_member |= day >= run.start and bool(before or length)
    return (length, at) if is_member else (None, None)


@given(st.lists(st.integers(0, 20), unique=True, max_size=14), st.data())
def test_every_order_of_events_and_of_messages_gives_what_the_days_give(
    active: list[int], data: st.DataObject
) -> None:
    happened = data.draw(st.permutations(active))
    undone = data.draw(st.sets(st.sampled_from(active))) if active else set()
    steps = [(number, True) for number in happened] + [(number, False) for number in sorted(undone)]
    days: set[int] = set()
    before: dict[date, Period] = {}
    messages = []
    for version, (number, is_new) in enumerate(steps, 1):
        days = days | {number} if is_new else days - {number}
        after = recorded(days, version)
        messages.append(
            [
                after.get(day, daily(day, None, version))
                for day in sorted(before.keys() | after.keys())
                if before.get(day, daily(day, None)).length != after.get(day, daily(day, None)).length
            ]
        )
        before = after
    lengths: Lengths = {}
    for message in data.draw(st.permutations(messages)):
        lengths = told(lengths, message)
    for run in (*WEEKS, *(Run(FIRST + number * DAY, FIRST + number * DAY) for number in range(21))):
        score = length_in(lengths, run)
        assert (score.amount, score.reach_time) == expected(days, run)
