"""Open runs that are kept in memory, as reads and stores that overtake each other leave them."""

from datetime import date

from services.leaderboard.domain.runs import Run, RunState
from services.leaderboard.store.known_runs import KnownRun, KnownRuns

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)


def state(board: str, day: date) -> RunState:
    return RunState(board, Run(day, day), None)


def known(board: str, day: date, cleanings: int = 0) -> KnownRun:
    return KnownRun(state(board, day), cleanings)


def test_what_was_read_or_opened_is_known_by_board() -> None:
    runs = KnownRuns()
    assert not runs.read({("daily", MONDAY): known("daily", MONDAY, 2)}, ())
    runs.opened([state("other", TUESDAY)])
    assert runs.of(["daily", "none"]) == {("daily", MONDAY): known("daily", MONDAY, 2)}
    assert runs.of(None).keys() == {("daily", MONDAY), ("other", TUESDAY)}


def test_what_is_not_read_any_more_is_over() -> None:
    runs = KnownRuns()
    runs.opened([state("daily", MONDAY), state("daily", TUESDAY), state("other", MONDAY)])
    before = runs.of(["daily"])
    assert runs.read({("daily", TUESDAY): known("daily", TUESDAY)}, before)
    assert runs.of(None).keys() == {("daily", TUESDAY), ("other", MONDAY)}
    assert not runs.read({("daily", TUESDAY): known("daily", TUESDAY)}, runs.of(["daily"]))


def test_what_was_opened_while_it_was_read_stays() -> None:
    runs = KnownRuns()
    before = runs.of(None)
    runs.opened([state("daily", MONDAY)])
    assert not runs.read({}, before)
    assert runs.of(None).keys() == {("daily", MONDAY)}


def test_how_often_a_run_was_cleaned_is_what_was_read_last() -> None:
    runs = KnownRuns()
    runs.read({("daily", MONDAY): known("daily", MONDAY, 2)}, ())
    runs.opened([state("daily", MONDAY)])
    assert runs.of(None) == {("daily", MONDAY): known("daily", MONDAY, 2)}
    runs.read({("daily", MONDAY): known("daily", MONDAY, 3)}, ())
    assert runs.of(None) == {("daily", MONDAY): known("daily", MONDAY, 3)}
