"""Drafts: what is stored of an entry until it is projected. A replica of another release may have to go on from it."""

from datetime import date

import pytest
from msgspec import json

from services.leaderboard.domain.boards import Order
from services.leaderboard.domain.ranks import position_of
from services.leaderboard.domain.runs import Run, RunState, finalize_time
from services.leaderboard.domain.scores import Score
from services.leaderboard.domain.states import Change, Draft
from services.leaderboard.store import drafts
from tests.unit.leaderboard.worlds import GRACE, NOON, entry_id

WEEK = Run(date(2026, 3, 2), date(2026, 3, 8))
WEEKLY = RunState("weekly", WEEK, finalize_time(WEEK, GRACE))
ALL_TIME = RunState("all-time", Run(date.min, date.max), None)
BEFORE = position_of(Order.DESC, "ada", Score(1, NOON))
AFTER = position_of(Order.DESC, "ada", Score(2, NOON))
FULL = Draft(
    entry_id=entry_id(1),
    user_id="ada",
    version=3,
    now=NOON,
    changes=(
        Change(ALL_TIME, None, AFTER),
        Change(WEEKLY, BEFORE, AFTER, segment='{"plan":"pro"}', left='{"plan":"free"}', stays=False),
        Change(WEEKLY, BEFORE, None, evaluated=False),
    ),
    closed=(RunState("weekly", WEEK, None, finalized=True),),
    is_reversal=True,
    keeps_history=False,
)
PLAIN = Draft(entry_id(1), "ada", 1, NOON, ())


@pytest.mark.parametrize("draft", [FULL, PLAIN])
def test_a_draft_is_read_as_it_was_written(draft: Draft) -> None:
    assert drafts.from_text(draft.entry_id, drafts.to_text(draft)) == draft


def test_a_draft_names_what_is_not_as_usual_and_nothing_else() -> None:
    assert json.decode(drafts.to_text(PLAIN)) == {"user": "ada", "version": 1, "now": "2026-03-04T12:00:00Z"}
    (change, *_) = json.decode(drafts.to_text(FULL))["changes"]
    assert change.keys() == {"board", "after"}


def test_a_field_of_a_later_release_harms_nobody() -> None:
    stored = json.decode(drafts.to_text(FULL))
    stored["new"] = 1
    stored["changes"][0]["new"] = {"more": 2}
    assert drafts.from_text(FULL.entry_id, json.encode(stored).decode()) == FULL
