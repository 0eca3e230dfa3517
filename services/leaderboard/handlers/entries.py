"""Entries applied and undone: stored in PostgreSQL first, then projected, then answered (DESIGN 3).

Between storing and answering, an entry is in the request log without an outcome, with a draft of what remains to be
done. Whoever is asked for it again, after a crash or while the sorted sets were away, goes on from the draft: to the
shared protocol such an entry has an empty outcome.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as pb
from msgspec import Struct
from msgspec.structs import replace

from services.leaderboard.convert import entries as convert
from services.leaderboard.convert.common import DOMAIN
from services.leaderboard.domain.boards import Boards
from services.leaderboard.domain.entries import (
    decide,
    keeps_rank_history,
    touched,
    undone,
    unknown_board_of,
)
from services.leaderboard.domain.facts import Command
from services.leaderboard.domain.past import (
    newest_wanted,
    runs_wanted,
    segments_wanted,
    wanted,
    with_refused,
    with_seats,
)
from services.leaderboard.domain.ranks import Placement, Step, amount_of, shown_rank
from services.leaderboard.domain.states import Decision, Draft, Move, Past
from services.leaderboard.handlers.lists import unknown_board
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.handlers.refreshing import bring_up_to_date
from services.leaderboard.handlers.tracking import Tracker
from services.leaderboard.projection import Projection
from services.leaderboard.store.events import EventStore, Loaded, Stored
from services.leaderboard.store.history import RankChange
from services.leaderboard.store.leagues import LeagueStore
from services.leaderboard.store.past import PastStore
from services.leaderboard.store.segments import SegmentStore
from services.leaderboard.store.standings import StandingStore
from services.leaderboard.store.undo import UndoStore
from shared import faults
from shared.entries import Reversal, half_id
from shared.errors import Aborted
from shared.participant import Work, apply_batch, revert_batch
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import Known, State
from shared.rpc.participants import applied_outcome, nothing_reverted, refused_outcome, reverted_outcome
from shared.tenants import tenant_of

BEFORE_STORE: Final = faults.declare(
    "leaderboard.apply.before_store", "a batch is decided, nothing of it is stored"
)
AFTER_STORE: Final = faults.declare(
    "leaderboard.apply.after_store", "a batch is stored, the sorted sets know nothing of it"
)
AFTER_PROJECTION: Final = faults.declare(
    "leaderboard.apply.after_projection", "a batch is in the sorted sets, its outcomes are not stored"
)
AFTER_OUTCOME: Final = faults.declare(
    "leaderboard.apply.after_outcome", "outcomes are stored, the caller has no answer yet"
)
BEFORE_COMMIT: Final = faults.declare(
    "leaderboard.revert.before_commit", "an entry is undone, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "leaderboard.revert.after_commit", "entries are undone, the sorted sets know nothing of it"
)

NOT_PROJECTED: Final = b""
"""The outcome, as the shared protocol sees it, of what is stored and not projected yet."""

_REFUSE: Final = partial(refused_outcome, domain=DOMAIN)

StoredCatalogue = Catalogue[Boards]


@dataclass
class _Batch:
    """What one call has stored and must still project."""

    drafts: dict[UUID, Draft] = field(default_factory=dict)
    boards: Boards | None = None
    """By which it was decided; None when nothing was."""
    marker: str | None = None
    """Of complete sorted sets, as PostgreSQL said with the first that was stored."""
    attempts: int = 0


class EntryHandlers:
    """The use cases of the saga."""

    def __init__(
        self,
        pool: Pool,
        catalogue: StoredCatalogue,
        projection: Projection,
        rebuilder: Rebuilder,
        segments: SegmentStore,
        tracker: Tracker,
        grace: timedelta,
        recent_users: int = 0,
    ) -> None:
        self.rank_change_count = 0
        """Of this process."""
        self._pool = pool
        self._events = EventStore(pool, recent_users)
        self._past = PastStore(pool)
        self._leagues = LeagueStore(pool)
        self._segments = segments
        self._tracker = tracker
        self._undo_store = UndoStore()
        self._standings = StandingStore(pool)
        self._catalogue = catalogue
        self._projection = projection
        self._rebuilder = rebuilder
        self._grace = grace

    async def apply_entries(self, work: Sequence[Work[Command]]) -> list[bytes]:
        """One serialized outcome for each command, in order. Raises as `apply_batch` does.

        What an entry is for others than its user is applied under ids of its own. It can be repeated, so that all of it
        is there once it is answered.
        """
        parts = [[task, *_halves(task)] for task in work]
        if len(parts) == sum(map(len, parts)):
            return await self._apply(work)
        outcomes = iter(await self._apply([part for own in parts for part in own]))
        return [_joined(pb.Outcome, [next(outcomes) for _ in own]) for own in parts]

    async def revert_entries(self, reversals: Sequence[Reversal]) -> list[bytes]:
        """One serialized outcome for each reversal, in order."""
        parts = [[reversal, *_reversed_halves(reversal)] for reversal in reversals]
        if len(parts) == sum(map(len, parts)):
            return await self._revert(reversals)
        outcomes = iter(await self._revert([part for own in parts for part in own]))
        return [_joined(pb.RevertOutcome, [next(outcomes) for _ in own]) for own in parts]

    async def _apply(self, work: Sequence[Work[Command]]) -> list[bytes]:
        batch = _Batch()
        outcomes = await apply_batch(self._pool, work, partial(self._run, batch), _REFUSE)
        waiting = [
            task.entry_id for task, outcome in zip(work, outcomes, strict=True) if outcome == NOT_PROJECTED
        ]
        if not waiting:
            return outcomes
        completed = await self._complete(batch, waiting, reversals=False)
        await AFTER_OUTCOME.reach()
        return [outcome or completed[task.entry_id] for task, outcome in zip(work, outcomes, strict=True)]

    async def _revert(self, reversals: Sequence[Reversal]) -> list[bytes]:
        batch = _Batch()
        undo = partial(self._undo, batch)
        outcomes = await revert_batch(self._pool, reversals, undo, nothing_reverted)
        await AFTER_COMMIT.reach()
        waiting = [
            reversal.entry_id
            for reversal, outcome in zip(reversals, outcomes, strict=True)
            if outcome == NOT_PROJECTED
        ]
        if not waiting:
            return outcomes
        completed = await self._complete(batch, waiting, reversals=True)
        return [
            outcome or completed[reversal.entry_id]
            for reversal, outcome in zip(reversals, outcomes, strict=True)
        ]

    async def _run(self, batch: _Batch, fresh: Sequence[Work[Command]]) -> list[bytes]:
        """Load, decide and store entries that were never seen."""
        boards, loaded = await self._load(fresh)
        with self._events.recent.decided_and_stored(loaded.users.keys(), guessed=loaded.is_guess):
            entries, marker = await self._decide_and_store(batch, boards, loaded, fresh)
        if batch.boards is None:
            # Of a batch that is stored in parts the oldest: sets that were filled since have another.
            batch.marker = marker
        batch.boards = boards
        batch.drafts.update({stored.draft.entry_id: stored.draft for stored in entries if stored.draft})
        await AFTER_STORE.reach()
        return [stored.outcome or NOT_PROJECTED for stored in entries]

    async def _decide_and_store(
        self, batch: _Batch, boards: Boards, loaded: Loaded, fresh: Sequence[Work[Command]]
    ) -> tuple[list[Stored], str | None]:
        """What was stored, and the marker of complete sorted sets at that time."""
        commands = [work.command for work in fresh]
        # That nothing stands under the key of new points is taken for granted at first (`EventStore.save`).
        loaded, past = await self._look_back(boards, loaded, commands, careful=batch.attempts > 0)
        batch.attempts += 1
        users, runs = dict(loaded.users), dict(loaded.runs)
        entries = []
        for work in fresh:
            decision = decide(boards, users[work.user_id], work.command, runs, past, self._grace)
            users[work.user_id] = decision.user
            runs |= decision.runs
            entries.append(_stored(boards, work, decision))
        await BEFORE_STORE.reach()
        return entries, await self._events.save(loaded, boards, entries)

    async def _load(self, fresh: Sequence[Work[Command]]) -> tuple[Boards, Loaded]:
        """The boards, and the state of the users and of the runs that these entries can touch."""
        users = {work.user_id: work.command.entry.user.life for work in fresh}
        tenants = {tenant_of(user_id) for user_id in users}

        async def load(boards: Boards, version: int) -> Loaded:
            unheard = tenants - boards.tenants - {""}
            if unheard:
                await self._catalogue.add_tenants(unheard)
            runs = runs_wanted(boards, (work.command for work in fresh), self._grace)
            of_boards = boards.of_tenants(tenants) if boards.tenants else None
            return await self._events.recall(users, sorted(runs), of_boards, version)

        return await self._catalogue.with_state(load)

    async def _look_back(
        self, boards: Boards, loaded: Loaded, commands: Sequence[Command], *, careful: bool
    ) -> tuple[Loaded, Past]:
        """The state with what is known of the past that the entries touch. In the common case nothing is read."""
        look_up = wanted(boards, loaded.users, loaded.runs, commands, self._grace, careful=careful)
        users = await self._past.recalled(look_up, loaded.users, commands)
        if look_up.seats:
            users = with_seats(users, await self._leagues.take(boards, look_up.seats))
        refused = await self._segments.refused(
            boards.by_key,
            segments_wanted(boards, users, loaded.runs, commands, self._grace),
            loaded.cleanings,
        )
        if refused:
            users = with_refused(users, refused)
        histories = await self._past.histories(look_up.histories)
        newest = {}
        if look_up.awards or look_up.events:
            newest = await self._past.newest(newest_wanted(boards, users, commands))
        return replace(loaded, users=users), Past(histories, newest)

    async def _undo(self, batch: _Batch, connection: Connection, reversal: Reversal, _known: Known) -> bytes:
        """Undo one applied entry in the transaction of its reversal."""
        store = self._undo_store
        version, batch.marker = await store.configuration(connection)
        boards = batch.boards = await self._catalogue.at(version, connection)
        locked = await store.lock(connection, reversal.entry_id)
        user = locked.user
        self._events.recent.forget([user.user_id])
        scores = {
            (board.key, run.start): await store.score_without(connection, board, run, user, fact)
            for board, run, fact in touched(
                boards, user.user_id, await store.event(connection, reversal.entry_id)
            )
            if (state := locked.runs.get((board.key, run.start))) and not state.is_closed(reversal.now)
        }
        decision = undone(boards, user, scores, locked.runs)
        draft = Draft(
            reversal.entry_id,
            user.user_id,
            decision.user.version,
            reversal.now,
            decision.changes,
            is_reversal=True,
        )
        await store.save(connection, boards, locked, decision, draft)
        batch.drafts[reversal.entry_id] = draft
        await BEFORE_COMMIT.reach()
        return NOT_PROJECTED

    async def _complete(
        self, batch: _Batch, entry_ids: Sequence[UUID], *, reversals: bool
    ) -> dict[UUID, bytes]:
        """Project what is stored, and store the outcomes that come of it; the first to do so decides them.

        Raises `Aborted` where an entry that was being applied has been undone meanwhile.
        """
        drafts = dict(batch.drafts)
        pending: dict[UUID, Draft] = {}
        left_behind = [entry_id for entry_id in entry_ids if entry_id not in drafts]
        if left_behind:
            pending = await self._events.pending(left_behind)
            drafts |= pending
        boards = batch.boards or await self._catalogue.latest()
        if pending:
            late = list(pending.values())
            # The sets may have been filled since, and do not remember then who left a segment after this.
            await self._bring_up_to_date(boards, _steps(late, [draft.moves() for draft in late]))
        marker = batch.marker if batch.boards else await self._events.marker()
        settled = await self._settle(boards, marker, list(drafts.values()))
        outcomes = {entry.draft.entry_id: _outcome(boards, entry) for entry in settled}
        first = await self._store_outcomes(boards, settled, outcomes)
        self._touch(boards, settled)
        asked = set(entry_ids)
        rest = asked - first
        if rest:
            outcomes |= await self._events.outcomes(rest, reversals=reversals)
        undone = any(
            entry.draft.is_reversal != reversals for entry in settled if entry.draft.entry_id in asked
        )
        if undone or not outcomes.keys() >= asked:
            raise Aborted("an entry was undone while it was applied", reason="CONTENTION")
        return outcomes

    async def _settle(self, boards: Boards, marker: str | None, drafts: Sequence[Draft]) -> list["_Settled"]:
        """Take the moves of these drafts in the sorted sets; their places before and after."""
        moves = [draft.moves() for draft in drafts]
        steps = _steps(drafts, moves)
        placements = iter(await self._placed(boards, marker, steps))
        await AFTER_PROJECTION.reach()
        return [
            _Settled(draft, [(move, next(placements)) for move in own])
            for draft, own in zip(drafts, moves, strict=True)
        ]

    async def _bring_up_to_date(self, boards: Boards, steps: Sequence[Step]) -> None:
        await bring_up_to_date(self._projection, self._standings, steps, boards.by_key.__getitem__)

    async def _placed(self, boards: Boards, marker: str | None, steps: Sequence[Step]) -> list[Placement]:
        """From the sorted sets where they are complete, else exactly the same from PostgreSQL."""
        board_of = boards.by_key.__getitem__
        placements, stamp = await self._projection.place(steps, board_of)
        if stamp.is_complete(marker):
            return placements
        self._rebuilder.request(stamp.unready)
        await self._bring_up_to_date(boards, steps)
        return await self._standings.place(steps, board_of)

    def _touch(self, boards: Boards, settled: Sequence["_Settled"]) -> None:
        """Whom they overtook is found out later."""
        if not boards.has_tracked:
            return
        for entry in settled:
            if entry.draft.is_live:
                for move, placement in entry.moves:
                    self._tracker.touch(boards.by_key[move.run.board], move.key, placement)

    async def _store_outcomes(
        self, boards: Boards, settled: Sequence["_Settled"], outcomes: Mapping[UUID, bytes]
    ) -> set[UUID]:
        """The entries of which these are the outcomes now; others had one, or were undone."""
        applied = [entry for entry in settled if not entry.draft.is_reversal]
        reverted = [entry for entry in settled if entry.draft.is_reversal]
        first: set[UUID] = set()
        if applied:
            changes = [_rank_changes(boards, entry) for entry in applied]
            first |= await self._events.complete(_of(applied, outcomes), changes)
            self.rank_change_count += sum(map(len, changes))
        if reverted:
            first |= await self._events.complete_reversals(_of(reverted, outcomes))
        return first


def _halves(work: Work[Command]) -> list[Work[Command]]:
    return [
        Work(half, half.entry.entry_id, half.entry.user.user_id, work.digest) for half in work.command.halves
    ]


def _reversed_halves(reversal: Reversal) -> list[Reversal]:
    return [
        Reversal(half_id(reversal.entry_id, user_id), user_id, reversal.now)
        for user_id in reversal.other_user_ids
    ]


def _joined(kind: type[pb.Outcome | pb.RevertOutcome], outcomes: Sequence[bytes]) -> bytes:
    """One outcome of all parts of an entry, under its own id: what all changed, or the error of one."""
    if len(outcomes) == 1:
        return outcomes[0]
    joined = kind.FromString(outcomes[0])
    entry_id = joined.entry_id
    for outcome in outcomes[1:]:
        joined.MergeFromString(outcome)
    joined.entry_id = entry_id
    return joined.SerializeToString(deterministic=True)


class _Settled(Struct, frozen=True):
    """A draft, and its moves with what they did."""

    draft: Draft
    moves: Sequence[tuple[Move, Placement]]


def _steps(drafts: Sequence[Draft], moves: Sequence[Sequence[Move]]) -> list[Step]:
    return [
        Step(move.key, draft.user_id, draft.version, move.before, move.after)
        for draft, own in zip(drafts, moves, strict=True)
        for move in own
    ]


def _of(settled: Sequence[_Settled], outcomes: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    return {entry.draft.entry_id: outcomes[entry.draft.entry_id] for entry in settled}


def _outcome(boards: Boards, settled: _Settled) -> bytes:
    write = reverted_outcome if settled.draft.is_reversal else applied_outcome
    changed = convert.effects(settled.draft, settled.moves, boards.by_key.__getitem__)
    return write(settled.draft.entry_id, changed)


def _stored(boards: Boards, work: Work[Command], decision: Decision) -> Stored:
    """What is to be stored of an entry. Where no board ranks it, nothing remains to be done, and it is answered."""
    entry = work.command.entry
    if unknown := unknown_board_of(boards, entry):
        outcome = _REFUSE(entry.entry_id, unknown_board(unknown))
        return Stored(work.command, work.digest, decision, draft=None, outcome=outcome, state=State.REJECTED)
    if not decision.changes and not decision.closed:
        outcome = applied_outcome(entry.entry_id, Effects())
        return Stored(work.command, work.digest, decision, draft=None, outcome=outcome)
    draft = Draft(
        entry_id=entry.entry_id,
        user_id=entry.user.user_id,
        version=decision.user.version,
        now=entry.now,
        changes=decision.changes,
        closed=decision.closed,
        keeps_history=keeps_rank_history(entry.kind),
        is_live=not entry.is_history,
    )
    return Stored(work.command, work.digest, decision, draft, outcome=None)


def _rank_changes(boards: Boards, settled: _Settled) -> list[RankChange]:
    """What the rank history gets: where the acting user's rank is another than before (RULES 6.8)."""
    changes: list[RankChange] = []
    if not settled.draft.keeps_history:
        return changes
    for move, placement in settled.moves:
        board = boards.by_key[move.run.board]
        previous, rank = shown_rank(board, placement.before), shown_rank(board, placement.after)
        if move.reported and previous != rank:
            score = amount_of(board.order, move.after) if move.after else 0
            changes.append(RankChange(settled.draft, move, previous, rank, score))
    return changes
