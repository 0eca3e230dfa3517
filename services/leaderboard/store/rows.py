"""Rows to values and back, for all modules of the store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from msgspec import json

from services.leaderboard.domain.boards import Source, SourceKind
from services.leaderboard.domain.entries import Draft, Held, Move, Profile, RunKey, UserState
from services.leaderboard.domain.ranks import Member
from services.leaderboard.domain.runs import Run, RunState
from services.leaderboard.domain.scores import Fact, Score

KINDS: Final[Mapping[SourceKind, int]] = {
    SourceKind.METRIC: 1,
    SourceKind.BALANCE: 2,
    SourceKind.POINTS: 3,
    SourceKind.STREAK: 4,
}
"""How kinds of sources are written. Dates without bound are written as -infinity and infinity (asyncpg)."""

_SOURCE_KINDS: Final = {number: kind for kind, number in KINDS.items()}

Row = Any
"""A record, or a row value inside one."""


def run_state(row: Row) -> RunState:
    """From board, start_date, end_date, finalize_time, finalized."""
    return RunState(row[0], Run(row[1], row[2]), row[3], row[4])


def profile(row: Row) -> tuple[int, Profile]:
    """From version, profile_version, name, attributes."""
    return row[0], Profile(row[1], row[2], json.decode(row[3]))


def held(row: Row) -> tuple[RunKey, Held]:
    """From board, run_start, segment, score, reach_time, entry_id, source_version."""
    return (row[0], row[1]), Held(row[2], Score(row[3], row[4], row[5], row[6]))


def user_state(user_id: str, user: Row | None, scores: Sequence[Row]) -> UserState:
    """A user from their row, without the user id, and the rows of their scores."""
    if user is None:
        return UserState(user_id)
    version, known = profile(user)
    return UserState(user_id, version, known, dict(map(held, scores)))


def fact(row: Row) -> Fact:
    """From kind, key, entry_id, origin_id, amount, reach_time, local_date, version."""
    return Fact(Source(_SOURCE_KINDS[row[0]], row[1]), *row[2:8])


def member(row: Row) -> Member:
    """From user_id, score, reach_time."""
    return Member(row[0], row[1], row[2])


def attributes_text(attributes: Mapping[str, str]) -> str:
    """Attributes as they are stored."""
    return json.encode(attributes, order="sorted").decode()


def draft_text(draft: Draft) -> str:
    """A draft as it is stored."""
    values = [
        draft.user_id,
        draft.version,
        draft.now,
        [[*_run_values(one.run), one.segment, one.before, one.after, one.reported] for one in draft.moves],
        [_run_values(closed) for closed in draft.closed],
        draft.is_reversal,
        draft.keeps_history,
    ]
    return json.encode(values).decode()


def draft(row: Row) -> Draft:
    """From entry_id, draft."""
    user_id, version, now, moves, closed, is_reversal, keeps_history = json.decode(row[1])
    return Draft(
        entry_id=row[0],
        user_id=user_id,
        version=version,
        now=datetime.fromisoformat(now),
        moves=tuple(Move(_run_of(one[:5]), *one[5:]) for one in moves),
        closed=tuple(_run_of(one) for one in closed),
        is_reversal=is_reversal,
        keeps_history=keeps_history,
    )


def _run_values(state: RunState) -> list[Any]:
    return [state.board, state.run.start, state.run.end, state.finalize_time, state.finalized]


def _run_of(values: Sequence[Any]) -> RunState:
    board, start, end, due, finalized = values
    run = Run(date.fromisoformat(start), date.fromisoformat(end))
    return RunState(board, run, datetime.fromisoformat(due) if due else None, finalized)


def columns(values: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Keys that are asked for, as one array for each of their parts; empty arrays where there are none."""
    turned = [list(column) for column in zip(*values, strict=True)]
    return turned or [[] for _ in range(width)]
