"""What an entry does to its user's scores: the decision of the event path, pure (RULES 6.1 to 6.5)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial, reduce
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from services.leaderboard.domain.boards import WHOLE, Board, Boards, ScoreRule, Source, segment_of
from services.leaderboard.domain.ranks import SegmentKey, position_of
from services.leaderboard.domain.runs import Run, RunState, finalize_time, run_of
from services.leaderboard.domain.scores import Fact, Score, extended, folded
from shared.entries import Entry, EntryKind, UserSnapshot

RunKey = tuple[str, date]
"""A board's key and the start of one of its runs."""


class Command(Struct, frozen=True):
    """An entry and what it says about the sources that boards rank by."""

    entry: Entry
    facts: tuple[Fact, ...]


class Held(Struct, frozen=True):
    """A user's score on one board in one run, in the segment that the user's attributes name."""

    segment: str
    score: Score


class Profile(Struct, frozen=True):
    """The newest that is known of a user."""

    version: int = 0
    name: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


class UserState(Struct, frozen=True):
    """A user's scores in every open run. `version` grows by one with every entry, 0: never seen."""

    user_id: str
    version: int = 0
    profile: Profile = Profile()
    held: Mapping[RunKey, Held] = field(default_factory=dict)
    recent: tuple[Fact, ...] = ()
    """Facts of earlier entries of the same batch, which no history contains yet."""


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


class Decision(Struct, frozen=True):
    """What is to be stored of one entry, and then to be projected."""

    user: UserState
    kept_facts: tuple[Fact, ...]
    """Facts of points and streaks that boards with runs need later (`Board.keeps_facts`)."""
    changed: Mapping[RunKey, Held]
    runs: Mapping[RunKey, RunState]
    """The runs of what changed."""
    moves: tuple[Move, ...]
    closed: tuple[RunState, ...]
    """Runs into which the entry would have fallen, but which were finalised."""


class Draft(Struct, frozen=True):
    """What was stored of an entry and remains to be projected; the ranks that come of it complete its
    outcome.
    """

    entry_id: UUID
    user_id: str
    version: int
    """Of the user, with the entry: in the sorted sets the newest wins."""
    now: datetime
    moves: tuple[Move, ...]
    closed: tuple[RunState, ...] = ()
    is_reversal: bool = False
    keeps_history: bool = True


class History(Struct, frozen=True):
    """The facts that are stored of one user, source and run: asked for where a score has to be derived."""

    user_id: str
    board: str
    source: Source
    run: Run


Histories = Mapping[tuple[str, str, date], Sequence[Fact]]
"""The facts asked for by user, board and start of the run."""

Runs = Mapping[RunKey, RunState]
"""The stored runs."""


def touched(boards: Boards, facts: Iterable[Fact]) -> list[tuple[Board, Run, Fact]]:
    """Every board and run that these facts fall into, in order."""
    return [
        (board, run, fact)
        for fact in facts
        for board in boards.ranking(fact.source)
        if (run := run_of(board.schedule, fact.local_date)) is not None
    ]


def histories_wanted(
    boards: Boards, users: Mapping[str, UserState], commands: Iterable[Command]
) -> list[History]:
    """The facts that `decide` needs beside the state.

    Those of a score that is not there yet for a user who is (the board may be newer than the facts), and
    those of a net change that a correction touches, for only all of them tell when the remaining sum was
    reached.
    """
    wanted: dict[History, None] = {}
    for command in commands:
        user = users[command.entry.user.user_id]
        for board, run, fact in touched(boards, command.facts):
            if user.version and ((board.key, run.start) not in user.held or _needs_all(board, fact)):
                wanted[History(user.user_id, board.key, board.source, run)] = None
    return list(wanted)


def decide(
    boards: Boards, user: UserState, command: Command, runs: Runs, histories: Histories, grace: timedelta
) -> Decision:
    """What one entry changes. A finalised run takes nothing more (RULES 6.2)."""
    known = replace(user, profile=_newer(user.profile, command.entry.user))
    now = command.entry.now
    changed: dict[RunKey, Held] = {}
    open_runs: dict[RunKey, RunState] = {}
    closed: dict[RunKey, RunState] = {}
    for key, (board, run, facts) in _by_run(boards, command.facts).items():
        state = runs.get(key) or RunState(board.key, run, finalize_time(run, grace))
        if state.is_closed(now):
            closed[key] = replace(state, finalized=True)
        else:
            changed[key] = _with_facts(board, run, known, histories.get((user.user_id, *key), ()), facts)
            open_runs[key] = state
    moved = _moved_segments(boards, known, changed, runs, now)
    moves = [
        *_moves(boards, open_runs, user, changed, evaluated=True),
        *_moves(boards, runs, user, moved, evaluated=False),
    ]
    after = replace(
        known,
        version=user.version + 1,
        held={**user.held, **changed, **moved},
        recent=user.recent + command.facts,
    )
    return Decision(
        user=after,
        kept_facts=tuple(fact for fact in command.facts if boards.keep_facts_of(fact.source)),
        changed={**changed, **moved},
        runs={**open_runs, **{key: runs[key] for key in moved}},
        moves=tuple(moves),
        closed=tuple(closed.values()),
    )


def undone(
    boards: Boards, user: UserState, remaining: Mapping[RunKey, Sequence[Fact]], runs: Runs
) -> Decision:
    """What is left of a user's scores when only the `remaining` facts count; only what differs changes."""
    folds = {key: folded(boards.by_key[key[0]], facts) for key, facts in remaining.items()}
    changed = {
        key: replace(user.held[key], score=score)
        for key, score in folds.items()
        if score != user.held[key].score
    }
    return Decision(
        user=replace(user, version=user.version + 1, held={**user.held, **changed}),
        kept_facts=(),
        changed=changed,
        runs={key: runs[key] for key in changed},
        moves=tuple(_moves(boards, runs, user, changed, evaluated=True)),
        closed=(),
    )


def _moves(
    boards: Boards, runs: Runs, user: UserState, changed: Mapping[RunKey, Held], *, evaluated: bool
) -> list[Move]:
    """The changes of position, whole board first, that lead from what was held to what changed.

    Where only the segment changes (not `evaluated`), the whole board is left alone.
    """
    moves: list[Move] = []
    for key, after in changed.items():
        order, run, before = boards.by_key[key[0]].order, runs[key], user.held.get(key)
        was = position_of(order, user.user_id, before.score) if before else None
        now = position_of(order, user.user_id, after.score)
        old_segment = before.segment if before else WHOLE
        stays = old_segment == after.segment
        if evaluated:
            moves.append(Move(run, WHOLE, was, now))
        if not stays and old_segment != WHOLE:
            moves.append(Move(run, old_segment, was, None, reported=False))
        if after.segment != WHOLE:
            moves.append(Move(run, after.segment, was if stays else None, now))
    return [move for move in moves if move.before or move.after]


def keeps_rank_history(kind: EntryKind) -> bool:
    """Whether an entry leaves rows in the rank history.

    A correction does not: together with the entry that it corrects, whose rows are removed, it leaves the
    history as though the entry had never been (RULES 7.3).
    """
    return kind is not EntryKind.CORRECTION


def _newer(profile: Profile, snapshot: UserSnapshot) -> Profile:
    """The newer of what is held and what came; a user's first snapshot always counts."""
    if profile.version and snapshot.version <= profile.version:
        return profile
    return Profile(snapshot.version, snapshot.name, snapshot.attributes)


def _by_run(boards: Boards, facts: Iterable[Fact]) -> dict[RunKey, tuple[Board, Run, list[Fact]]]:
    """The facts of one entry by the board and run that they fall into: of points there may be several."""
    by_run: dict[RunKey, tuple[Board, Run, list[Fact]]] = {}
    for board, run, fact in touched(boards, facts):
        by_run.setdefault((board.key, run.start), (board, run, []))[2].append(fact)
    return by_run


def _with_facts(
    board: Board, run: Run, user: UserState, stored: Sequence[Fact], facts: Sequence[Fact]
) -> Held:
    """The user's score on a board with one more entry's facts."""
    held = user.held.get((board.key, run.start))
    segment = segment_of(board, user.profile.attributes)
    if held is not None and not any(_needs_all(board, fact) for fact in facts):
        return Held(segment, reduce(partial(extended, board), facts, held.score))
    earlier = [f for f in user.recent if f.source == board.source and run.start <= f.local_date <= run.end]
    return Held(segment, folded(board, [*stored, *earlier, *facts]))


def _needs_all(board: Board, fact: Fact) -> bool:
    """Whether only all facts together tell the score: a correction may take an earlier one back."""
    return board.rule is ScoreRule.NET and fact.is_correction


def _moved_segments(
    boards: Boards, user: UserState, changed: Mapping[RunKey, Held], runs: Runs, now: datetime
) -> dict[RunKey, Held]:
    """The scores in other open runs that move, whole, because the user's attributes changed (RULES 6.5)."""
    moved: dict[RunKey, Held] = {}
    for key, held in user.held.items():
        board = boards.by_key.get(key[0])
        if board is None or not board.active or key in changed or key not in runs or runs[key].is_closed(now):
            continue
        segment = segment_of(board, user.profile.attributes)
        if segment != held.segment:
            moved[key] = Held(segment, held.score)
    return moved
