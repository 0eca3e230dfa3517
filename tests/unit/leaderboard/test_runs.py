"""RULES 6.1 and 6.2: the runs of a board."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.leaderboard.domain.boards import Board, Boards, Source, SourceKind
from services.leaderboard.domain.runs import (
    PERPETUAL,
    WHOLE_DAY,
    Run,
    RunState,
    RunStatus,
    RunUnit,
    Schedule,
    Window,
    finalize_time,
    run_of,
    status_of,
)
from shared.tenants import stored
from tests.unit.leaderboard.worlds import COMMITS

dates = st.dates(date(1970, 1, 5), date(2199, 12, 31))
schedules = st.builds(
    Schedule,
    start=st.dates(date(1970, 1, 5), date(2030, 12, 31)),
    unit=st.sampled_from(RunUnit),
    every=st.integers(1, 366),
)
ONE_HOUR = timedelta(hours=1)


def test_a_perpetual_board_has_one_run_for_every_date() -> None:
    assert (
        run_of(PERPETUAL, date(1999, 1, 1)) == run_of(PERPETUAL, date(2099, 1, 1)) == Run(date.min, date.max)
    )


def test_a_perpetual_board_with_dates_counts_nothing_outside_them() -> None:
    schedule = Schedule(start=date(2026, 1, 1), end=date(2026, 1, 31))
    assert run_of(schedule, date(2025, 12, 31)) is None
    assert run_of(schedule, date(2026, 1, 31)) == Run(date(2026, 1, 1), date(2026, 1, 31))
    assert run_of(schedule, date(2026, 2, 1)) is None


def test_for_a_date_the_boards_of_a_source_are_found_with_their_runs_and_without_those_that_have_none() -> (
    None
):
    weekly = Board("weekly", COMMITS, schedule=Schedule(unit=RunUnit.WEEK))
    over = Board("over", COMMITS, schedule=Schedule(end=date(2026, 1, 31)))
    points = Board("points", Source(SourceKind.BALANCE, "commits"))
    boards = Boards.of([weekly, over, points], ["acme"])
    for day in (date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 2)):
        for user_id in ("ada", stored("acme", "ada"), stored("unheard", "ada")):
            ranking = boards.ranking(COMMITS, user_id)
            assert list(boards.runs_on(COMMITS, user_id, day)) == [
                (board, run) for board in ranking if (run := run_of(board.schedule, day))
            ]
    assert [board.key for board, _ in boards.runs_on(COMMITS, "ada", date(2026, 2, 1))] == ["weekly"]


def test_weeks_start_on_monday_when_no_start_is_given() -> None:
    run = run_of(Schedule(unit=RunUnit.WEEK), date(2026, 3, 4))
    assert run == Run(date(2026, 3, 2), date(2026, 3, 8))


def test_weeks_start_on_the_weekday_of_the_start_date() -> None:
    run = run_of(Schedule(start=date(2026, 1, 3), unit=RunUnit.WEEK, every=2), date(2026, 1, 20))
    assert run == Run(date(2026, 1, 17), date(2026, 1, 30))


def test_there_is_no_run_before_the_start_date() -> None:
    assert run_of(Schedule(start=date(2026, 1, 3), unit=RunUnit.DAY), date(2026, 1, 2)) is None


@pytest.mark.parametrize(
    ("day", "run"),
    [
        (date(2026, 1, 31), Run(date(2026, 1, 31), date(2026, 2, 27))),
        (date(2026, 2, 28), Run(date(2026, 2, 28), date(2026, 3, 30))),
        (date(2026, 3, 31), Run(date(2026, 3, 31), date(2026, 4, 29))),
        (date(2028, 2, 29), Run(date(2028, 2, 29), date(2028, 3, 30))),
    ],
)
def test_months_from_the_31st_start_on_the_last_day_of_shorter_months(day: date, run: Run) -> None:
    assert run_of(Schedule(start=date(2026, 1, 31), unit=RunUnit.MONTH), day) == run


def test_years_from_a_leap_day_start_on_28_february_in_common_years() -> None:
    schedule = Schedule(start=date(2024, 2, 29), unit=RunUnit.YEAR)
    assert run_of(schedule, date(2025, 3, 1)) == Run(date(2025, 2, 28), date(2026, 2, 27))


@given(schedules, dates)
def test_every_date_from_the_start_on_is_in_exactly_one_run(schedule: Schedule, day: date) -> None:
    run = run_of(schedule, day)
    if schedule.start is None or day < schedule.start:
        assert run is None
        return
    assert run is not None
    assert run.start <= day <= run.end
    assert run_of(schedule, run.start) == run_of(schedule, run.end) == run
    following = run_of(schedule, run.end + timedelta(days=1))
    assert following is not None
    assert following.start == run.end + timedelta(days=1)


def test_a_run_is_finalised_when_its_last_date_has_ended_in_the_last_zone_and_the_grace_is_over() -> None:
    last_moment = datetime(2026, 3, 9, tzinfo=ZoneInfo("Etc/GMT+12"))
    finalised = finalize_time(Run(date(2026, 3, 2), date(2026, 3, 8)), ONE_HOUR)
    assert finalised == last_moment + ONE_HOUR


def test_a_run_without_end_is_never_finalised() -> None:
    assert finalize_time(Run(date.min, date.max), ONE_HOUR) is None


def test_a_run_is_closed_from_its_finalisation_on_whether_or_not_maintenance_came_by() -> None:
    due = datetime(2026, 3, 9, 13, tzinfo=UTC)
    state = RunState("weekly", Run(date(2026, 3, 2), date(2026, 3, 8)), due)
    assert not state.is_closed(due - timedelta(microseconds=1))
    assert state.is_closed(due)
    assert RunState("weekly", state.run, due, finalized=True).is_closed(due - ONE_HOUR)


def test_a_repeating_board_with_an_end_has_a_last_run_that_ends_with_it() -> None:
    schedule = Schedule(unit=RunUnit.WEEK, end=date(2026, 3, 4))
    assert run_of(schedule, date(2026, 3, 3)) == Run(date(2026, 3, 2), date(2026, 3, 4))
    assert run_of(schedule, date(2026, 3, 5)) is None
    assert run_of(schedule, date(2026, 2, 25)) == Run(date(2026, 2, 23), date(2026, 3, 1))


@pytest.mark.parametrize(
    ("at", "status"),
    [
        (datetime(2026, 3, 1, 9, 59, tzinfo=UTC), RunStatus.UPCOMING),
        (datetime(2026, 3, 1, 10, tzinfo=UTC), RunStatus.RUNNING),
        (datetime(2026, 3, 9, 11, 59, tzinfo=UTC), RunStatus.RUNNING),
        (datetime(2026, 3, 9, 12, tzinfo=UTC), RunStatus.CLOSING),
    ],
)
def test_a_run_goes_on_from_the_first_zone_to_the_last(at: datetime, status: RunStatus) -> None:
    run = Run(date(2026, 3, 2), date(2026, 3, 8))
    state = RunState("weekly", run, finalize_time(run, ONE_HOUR))
    assert status_of(state, at) is status


def test_what_is_archived_is_final_whatever_the_time_and_what_has_no_end_runs() -> None:
    state = RunState("all", Run(date.min, date.max), None)
    assert status_of(state, datetime(2199, 1, 1, tzinfo=UTC)) is RunStatus.RUNNING
    assert status_of(replace(state, finalized=True), datetime(1999, 1, 1, tzinfo=UTC)) is RunStatus.FINALIZED


@given(st.integers(0, 1439), st.integers(1, 1439), st.integers(0, 1439))
def test_a_window_has_so_many_minutes_from_its_first_on_also_across_midnight(
    first: int, count: int, minute: int
) -> None:
    inside = {(first + passed) % 1440 for passed in range(count)}
    assert Window(first, count).has(minute) is (minute in inside)


def test_what_has_no_known_time_of_the_day_counts_where_the_whole_day_does() -> None:
    assert WHOLE_DAY.has(None)
    assert not Window(0, 1439).has(None)
