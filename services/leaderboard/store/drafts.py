"""Drafts as they are stored: JSON by field names, without what is as usual.

A replica of another release may read them. So a name means for ever what it means; a new one needs a value for where it
is missing, and is ignored by who does not know it.
"""

from datetime import date, datetime
from typing import Final
from uuid import UUID

from msgspec import Struct, json

from services.leaderboard.domain.boards import WHOLE
from services.leaderboard.domain.ranks import PREFIX_WIDTH
from services.leaderboard.domain.runs import Run, RunState
from services.leaderboard.domain.states import Change, Draft


class _Run(Struct, omit_defaults=True):
    board: str
    start: date = date.min
    end: date = date.max
    due: datetime | None = None
    finalized: bool = False


class _Change(_Run, omit_defaults=True):
    """Positions are without the user id, which is the draft's."""

    before: str | None = None
    after: str | None = None
    segment: str = WHOLE
    left: str = WHOLE
    stays: bool = True
    evaluated: bool = True


class _Draft(Struct, omit_defaults=True):
    user: str
    version: int
    now: datetime
    changes: list[_Change] = []
    closed: list[_Run] = []
    reversal: bool = False
    history: bool = True
    live: bool = True


_ENCODER: Final = json.Encoder()
_DECODER: Final = json.Decoder(_Draft)


def to_text(draft: Draft) -> str:
    """A draft as it is stored."""
    stored = _Draft(
        draft.user_id,
        draft.version,
        draft.now,
        [_change(change) for change in draft.changes],
        [
            _Run(run.board, run.run.start, run.run.end, run.finalize_time, run.finalized)
            for run in draft.closed
        ],
        draft.is_reversal,
        draft.keeps_history,
        draft.is_live,
    )
    return _ENCODER.encode(stored).decode()


def from_text(entry_id: UUID, text: str) -> Draft:
    """The draft of an entry."""
    stored = _DECODER.decode(text)
    return Draft(
        entry_id=entry_id,
        user_id=stored.user,
        version=stored.version,
        now=stored.now,
        changes=tuple(
            Change(
                run=_state(change),
                before=None if change.before is None else change.before + stored.user,
                after=None if change.after is None else change.after + stored.user,
                segment=change.segment,
                left=change.left,
                stays=change.stays,
                evaluated=change.evaluated,
            )
            for change in stored.changes
        ),
        closed=tuple(map(_state, stored.closed)),
        is_reversal=stored.reversal,
        keeps_history=stored.history,
        is_live=stored.live,
    )


def _change(change: Change) -> _Change:
    state = change.run
    return _Change(
        state.board,
        state.run.start,
        state.run.end,
        state.finalize_time,
        state.finalized,
        change.before and change.before[:PREFIX_WIDTH],
        change.after and change.after[:PREFIX_WIDTH],
        change.segment,
        change.left,
        change.stays,
        change.evaluated,
    )


def _state(stored: _Run) -> RunState:
    return RunState(stored.board, Run(stored.start, stored.end), stored.due, stored.finalized)
