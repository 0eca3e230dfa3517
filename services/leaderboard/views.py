"""What reads are asked for and answer with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.entries import Move
from services.leaderboard.domain.ranks import Member, Placement, SegmentKey
from services.leaderboard.domain.runs import RunState


@dataclass(frozen=True, slots=True)
class Selector:
    """Which list: a segment's attribute values (none: the whole board), and a date inside the run (None: today)."""

    board: str
    segment: Mapping[str, str]
    run_date: date | None


@dataclass(frozen=True, slots=True)
class RankedMembers:
    """Successive ranked members with their ranks and names."""

    board: Board
    run: RunState
    members: Sequence[tuple[int, Member]]
    names: Mapping[str, str]
    member_count: int
    is_rebuilding: bool = False


@dataclass(frozen=True, slots=True)
class UserStanding:
    """Where a user stands in one segment of one run."""

    board: Board
    move: Move
    placement: Placement


@dataclass(frozen=True, slots=True)
class RankEvent:
    """A change of a user's rank."""

    key: SegmentKey
    entry_id: UUID
    previous_rank: int
    rank: int
    score: int
    change_time: datetime


@dataclass(frozen=True, slots=True)
class ArchivedPlace:
    """A user's place in one segment of a finalised run; rank 0: beyond the participant limit."""

    run: RunState
    segment: str
    rank: int
    member: Member


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that has members. Only of a finalised run is their number known here."""

    key: SegmentKey
    member_count: int | None
