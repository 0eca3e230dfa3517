"""How streaks and what entries did to them are shown."""

import pytest
from laurel.common.v1.date_pb2 import LocalDate
from laurel.ledger.v1 import effects_pb2
from laurel.streak.v1 import streak_pb2

from services.cli.show_event import show_effects
from services.cli.show_streak import show_streak_states


@pytest.mark.parametrize(
    ("extended", "before", "after", "shown"),
    [(True, 1, 2, "extended it"), (False, 0, 5, "0 -> 5"), (False, 3, 3, "no change")],
)
def test_a_length_that_no_event_extended_is_shown_with_what_it_was(
    extended: bool, before: int, after: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    effect = streak_pb2.StreakEffect(extended=extended, state=streak_pb2.StreakState(streak="daily"))
    effect.change.length_before, effect.change.length = before, after
    show_effects(effects_pb2.Effects(streaks=[effect]))
    assert shown in capsys.readouterr().out


def test_pauses_that_have_not_ended_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    state = streak_pb2.StreakState(streak="daily", length=3)
    first, last = (LocalDate(year=2026, month=7, day=day) for day in (1, 14))
    state.pauses.add(start_date=first, end_date=last)
    show_streak_states([state])
    assert "2026-07-01 to 2026-07-14" in capsys.readouterr().out
