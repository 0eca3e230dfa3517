"""Rows to values and back, for all modules of the store."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import json

from services.leaderboard.domain.boards import Source, SourceKind
from services.leaderboard.domain.lengths import Period
from services.leaderboard.domain.members import Exclusion, Exclusions, Held, Profile
from services.leaderboard.domain.ranks import Member, micros_of
from services.leaderboard.domain.runs import Run, RunState
from services.leaderboard.domain.scores import Fact, Score
from services.leaderboard.domain.states import RunKey, UserState

_ATTRIBUTES: Final = json.Decoder(dict[str, str])
_EXCLUSIONS: Final = json.Decoder(dict[str, Exclusion])

POSITION: Final = """
    lpad(to_hex(order_score # (-9223372036854775808)::bigint), 16, '0')
        || lpad(to_hex((extract(epoch FROM reach_time) * 1000000)::bigint + 4611686018427387904), 16, '0') || user_id
"""
"""Of a row of `scores` what `domain.ranks.position_of` says; NULL for who is not ranked."""

Row = Any
"""A record, or a row value inside one."""


def run_state(row: Row) -> RunState:
    """From board, start_date, end_date, finalize_time, finalized."""
    return RunState(row[0], Run(row[1], row[2]), row[3], row[4])


def profile(row: Row) -> tuple[int, Profile]:
    """From version, profile_version, name, attributes."""
    return row[0], Profile(row[1], row[2], attributes(row[3]))


def attributes(text: str) -> Mapping[str, str]:
    """As they are stored."""
    return _ATTRIBUTES.decode(text)


def held(row: Row) -> tuple[RunKey, Held]:
    """From board, run_start, segment, score, reach_time, entry_id, source_version, order_score, beyond."""
    hidden = row[3] is not None and row[7] is None
    return (row[0], row[1]), Held(row[2], Score(*row[3:7]), hidden, row[8])


def exclusions(text: str) -> Exclusions:
    """As they are stored."""
    return _EXCLUSIONS.decode(text) if text != "{}" else {}


def exclusions_text(known: Exclusions) -> str:
    """Exclusions as they are stored."""
    return json.encode(known, order="sorted").decode() if known else "{}"


def user_state(user_id: str, user: Row | None, scores: Sequence[Row]) -> UserState:
    """A user from their row, which is one of `profile` with the exclusions, and the rows of their scores."""
    if user is None:
        return UserState(user_id)
    version, known = profile(user)
    return UserState(user_id, version, known, dict(map(held, scores)), exclusions=exclusions(user[4]))


def event(row: Row) -> Fact:
    """From metric, entry_id, value_micros, occur_time, local_date, contribution_version, contribution_micros,
    local_minute.
    """
    return Fact(
        Source(SourceKind.METRIC, row[0]),
        entry_id=row[1],
        amount=row[2],
        reach_time=row[3],
        local_date=row[4],
        version=row[5] or 0,
        contribution=row[6],
        local_minute=row[7],
    )


def earning(row: Row) -> Fact:
    """From points_system, entry_id, amount, reach_time, local_date."""
    return Fact(Source(SourceKind.POINTS, row[0]), *row[1:5])


def period(row: Row) -> Period:
    """From start_date, end_date, length, reach_time, version."""
    return Period(*row)


def member(row: Row) -> Member:
    """From user_id, score, reach_time."""
    return Member(row[0], row[1], micros_of(row[2]))


def attributes_text(attributes: Mapping[str, str]) -> str:
    """Attributes as they are stored."""
    return json.encode(attributes, order="sorted").decode()


def within_window(first_minute: str, minute_count: str) -> str:
    """The condition that an event happened inside a daily window (`domain.runs.Window.has`)."""
    return f"coalesce((local_minute - {first_minute} + 1440) % 1440, 1439) < {minute_count}"


def columns(values: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Keys that are asked for, as one array for each of their parts; empty arrays where there are none."""
    turned = [list(column) for column in zip(*values, strict=True)]
    return turned or [[] for _ in range(width)]
