"""What reads are asked for and answer with."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.leagues import Cohort, Outcome
from services.leaderboard.domain.members import Profile
from services.leaderboard.domain.prizes import Prize
from services.leaderboard.domain.ranks import Member, Placement, SegmentKey
from services.leaderboard.domain.runs import RunState
from services.leaderboard.domain.states import Move, RunKey


class Selector(Struct, frozen=True):
    """Which list: a segment's attribute values (none: the whole board), and a date inside the run (None: today)."""

    board: str
    segment: Mapping[str, str]
    run_date: date | None


class MemberList(Struct, frozen=True):
    """A selector that was understood: one segment of one run."""

    board: Board
    run: RunState
    key: SegmentKey


class RankedMembers(MemberList, frozen=True):
    """Ranked members of it with their ranks and profiles."""

    members: Sequence[tuple[int, Member]]
    profiles: Mapping[str, Profile]
    member_count: int
    is_rebuilding: bool = False
    better_counts: Sequence[int] = ()
    """Of single users that were asked for: how many have a better rank than each of these members."""


class MemberStanding(Struct, frozen=True):
    """Where one user is."""

    found: RankedMembers
    """The user alone."""
    better_count: int
    """Members with a better rank."""
    next_better: tuple[int, Member] | None
    """The last of those, with the rank; their profile is in `found`."""
    prizes: Sequence[Prize]
    """What would be given if the run ended now."""
    next_prize: tuple[Prize, Member] | None
    """The prize that lies next ahead, and the last member who would be given it."""


class RunStatistics(Struct, frozen=True):
    """What is said of all ranked members together. Scores are as they are stored."""

    member_count: int
    total: int
    average: float
    median: int
    lowest: int
    highest: int
    counts: Sequence[int]
    """Members in each of the equally wide ranges from the lowest score to the highest."""


class UserStanding(Struct, frozen=True):
    """Where a user stands in one segment of one run."""

    board: Board
    move: Move
    placement: Placement


class LeagueStanding(Struct, frozen=True):
    """Where a user stands in a league. Distances are of scores as they are stored."""

    found: RankedMembers
    """All members of the cohort; none for who is in none."""
    user_id: str
    division: int
    cohort: Cohort | None
    waits: bool
    rank: int
    outcome: Outcome | None
    next_division: int
    promotion_distance: int | None
    demotion_distance: int | None


class RankedGroup(Struct, frozen=True):
    """A group; the score is as it is stored, or a mean of such."""

    rank: int
    segment: str
    score: float
    member_count: int
    group_count: int
    """Of the run."""


class GivenPrize(Struct, frozen=True):
    """A prize that was given for a run."""

    run: RunKey
    segment: str
    ordinal: int
    user_id: str
    rank: int
    prize: Prize
    entry_id: UUID
    """Of the ledger."""


class DailyRank(Struct, frozen=True):
    """Where a user stood at the end of a UTC date."""

    day: date
    run_start: date
    rank: int
    score: int


class DailyMember(Struct, frozen=True):
    """Who stood on a rank at the end of a UTC date."""

    rank: int
    user_id: str
    score: int


class DailyMembers(Struct, frozen=True):
    """A part of a list as it was at the end of a UTC date."""

    board: Board
    run: RunState
    day: date
    members: Sequence[DailyMember]
    profiles: Mapping[str, Profile]


class Climber(Struct, frozen=True):
    """A member who has come up."""

    user_id: str
    first_day: date
    first_rank: int
    last_day: date
    last_rank: int


class Difference(Struct, frozen=True):
    """A segment of which the sorted set is not what the scores say."""

    key: SegmentKey
    missing_count: int
    surplus_count: int


class Verified(Struct, frozen=True):
    """What a comparison of sorted sets and scores came to."""

    segment_count: int
    member_count: int
    differences: Sequence[Difference]
    memory_bytes: int


class RankEvent(Struct, frozen=True):
    """A change of a user's rank."""

    key: SegmentKey
    entry_id: UUID
    previous_rank: int
    rank: int
    score: int
    change_time: datetime
    passed: bool
    """By others: then the entry is none of the ledger."""


class ArchivedPlace(Struct, frozen=True):
    """A user's place in one segment of a finalised run; rank 0: beyond the participant limit."""

    run: RunState
    segment: str
    rank: int
    member: Member


class Segment(Struct, frozen=True):
    """A segment that has members. Only of a finalised run is their number known here."""

    key: SegmentKey
    member_count: int | None
