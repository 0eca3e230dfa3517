"""What a decision about an entry is made of: what is known of a user before, and what is to be stored and projected."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from services.leaderboard.domain.boards import WHOLE, Board
from services.leaderboard.domain.facts import Revision
from services.leaderboard.domain.leagues import Seat, seat_segment
from services.leaderboard.domain.lengths import Lengths, Period
from services.leaderboard.domain.members import (
    Exclusions,
    Held,
    Profile,
    held_for,
)
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.runs import RunState
from services.leaderboard.domain.scores import Fact, FactKey, Score

RunKey = tuple[str, date]
"""A board's key and the start of one of its runs."""


class Recalled(Struct, frozen=True):
    """What was looked up of a user's past for a batch, with what the entries of the batch say."""

    awards: Mapping[FactKey, Fact] = field(default_factory=dict)
    """Points by the entry and date that they belong to."""
    events: Mapping[UUID, Fact] = field(default_factory=dict)
    """Events whose contribution can change."""
    undone: frozenset[UUID] = frozenset()
    """Events that are revised, but were undone: it changes nothing."""
    early: Mapping[UUID, Revision] = field(default_factory=dict)
    """Revisions of events that have not come."""
    lengths: Mapping[str, Lengths] = field(default_factory=dict)
    """By streak."""
    seats: Mapping[RunKey, Seat] = field(default_factory=dict)
    """In the cohorts of leagues."""
    refused: frozenset[SegmentKey] = frozenset()
    """Segments for which their boards have no room."""


class UserState(Struct, frozen=True):
    """A user's scores in every open run. `version` grows by one with every entry, 0: never seen."""

    user_id: str
    version: int = 0
    profile: Profile = Profile()
    held: Mapping[RunKey, Held] = field(default_factory=dict)
    recalled: Recalled = Recalled()
    exclusions: Exclusions = field(default_factory=dict)

    def held_on(self, board: Board, run_start: date, score: Score) -> Held:
        """A score where it belongs now. Who is in a cohort stays there."""
        held = held_for(board, self.profile, self.exclusions, score)
        if board.league is None:
            is_refused = SegmentKey(board.key, run_start, held.segment) in self.recalled.refused
            return replace(held, segment=WHOLE, beyond=True) if is_refused else held
        key = (board.key, run_start)
        known = self.held.get(key)
        segment = WHOLE if known is None else known.segment
        return replace(held, segment=segment or seat_segment(board.league, self.recalled.seats.get(key)))


class Move(Struct, frozen=True):
    """A change of position in one segment of one run. None: not a member, before or after.

    One that is not `reported` follows from another change: the old segment of a user whose attributes
    changed.
    """

    run: RunState
    segment: str
    before: str | None
    after: str | None
    reported: bool = True

    @property
    def key(self) -> SegmentKey:
        """Where it happens."""
        return SegmentKey(self.run.board, self.run.run.start, self.segment)


class Change(Struct, frozen=True):
    """How a user's position and segment changed in one run. None: not a member, before or after."""

    run: RunState
    before: str | None
    after: str | None
    segment: str = WHOLE
    """The user's segment; `WHOLE` for who is in the whole only."""
    left: str = WHOLE
    """The segment that the user left; `WHOLE` for none."""
    stays: bool = True
    """Whether the user was in this segment before."""
    evaluated: bool = True
    """Whether the score was looked at; else only the segment is another, and the whole board is left alone."""

    def moves(self) -> Iterator[Move]:
        """The changes of position that it consists of, the whole board first."""
        if self.evaluated:
            yield Move(self.run, WHOLE, self.before, self.after)
        if self.left != WHOLE and self.before:
            yield Move(self.run, self.left, self.before, None, reported=False)
        if self.segment != WHOLE:
            before = self.before if self.stays else None
            if before or self.after:
                yield Move(self.run, self.segment, before, self.after)


class Decision(Struct, frozen=True):
    """What is to be stored of one entry, and then to be projected."""

    user: UserState
    changed: Mapping[RunKey, Held]
    runs: Mapping[RunKey, RunState]
    """The runs of what changed."""
    changes: tuple[Change, ...]
    closed: tuple[RunState, ...] = ()
    """Runs into which the entry would have fallen, but which were finalised."""
    awards: tuple[Fact, ...] = ()
    """Points that boards with runs need later, as they now stand."""
    revised: tuple[Fact, ...] = ()
    """Events whose contribution is another now."""
    early: tuple[Revision, ...] = ()
    """Revisions that are kept until their event comes."""
    lengths: Mapping[str, Sequence[Period]] = field(default_factory=dict)
    """By streak, the periods of which something newer is known."""


class Draft(Struct, frozen=True):
    """What was stored of an entry and remains to be projected; the ranks that come of it complete its
    outcome.
    """

    entry_id: UUID
    user_id: str
    version: int
    """Of the user, with the entry: in the sorted sets the newest wins."""
    now: datetime
    changes: tuple[Change, ...]
    closed: tuple[RunState, ...] = ()
    is_reversal: bool = False
    keeps_history: bool = True
    is_live: bool = True
    """Not of an import's history."""

    def moves(self) -> list[Move]:
        """What is to be projected, in order."""
        return [move for change in self.changes for move in change.moves()]


class Past(Struct, frozen=True):
    """What was read beside the state, by user, board and start of the run (`domain.past`)."""

    histories: Mapping[tuple[str, str, date], Sequence[Fact]] = field(default_factory=dict)
    """All facts that are stored of a run in which the user has no score yet."""
    newest: Mapping[tuple[str, str, date], datetime | None] = field(default_factory=dict)
    """The latest reach time of what is stored of a run and was not recalled; None: nothing is."""


class Replaced(Struct, frozen=True):
    """What stands under a key, before an entry and after it."""

    before: Fact
    after: Fact


class Resolved(Struct, frozen=True):
    """What an entry says, next to what had been said under the same keys."""

    user: UserState
    facts: Sequence[Fact]
    """New ones."""
    replaced: Sequence[Replaced] = ()
    early: tuple[Revision, ...] = ()


Runs = Mapping[RunKey, RunState]
"""The stored runs."""
