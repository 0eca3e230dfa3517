"""The event path: two round trips for a whole batch before it is projected, and one after it (DESIGN 3). Users who came
lately are not loaded again (`shared.recent`), and the first of the two falls away.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.leaderboard.domain.boards import Boards, SourceKind
from services.leaderboard.domain.facts import Command
from services.leaderboard.domain.lengths import Period
from services.leaderboard.domain.members import Held, held_order
from services.leaderboard.domain.scores import Fact, FactKey, key_of
from services.leaderboard.domain.states import Decision, Draft, Recalled, RunKey, Runs, UserState
from services.leaderboard.store import drafts, history, rows
from services.leaderboard.store.history import RankChange
from services.leaderboard.store.known_runs import KnownRun, KnownRuns
from services.leaderboard.store.rows import columns
from shared.postgres.pool import Pool
from shared.postgres.request_log import State
from shared.recent import RecentStates

# One statement and so one snapshot: scores of a finalised run are gone when the run says so.
LOAD: Final = """
    SELECT (SELECT version FROM configuration_version) AS configuration_version,
           ARRAY(SELECT ROW(user_id, version, profile_version, name, attributes, exclusions)
                   FROM users WHERE user_id = ANY($1::text[])) AS users,
           ARRAY(SELECT ROW(user_id, board, run_start, segment, score, reach_time, entry_id, source_version,
                            order_score, beyond)
                   FROM scores WHERE user_id = ANY($1::text[])) AS held,
           ARRAY(SELECT ROW(board, start_date, end_date, finalize_time, finalized, cleanings)
                   FROM runs WHERE NOT finalized AND ($4::text[] IS NULL OR board = ANY($4::text[]))
                  UNION ALL
                 SELECT ROW(board, start_date, end_date, finalize_time, finalized, cleanings)
                   FROM runs JOIN unnest($2::text[], $3::date[]) AS wanted (board, start_date)
                        USING (board, start_date)
                  WHERE finalized) AS runs
"""

# One statement is one transaction: entries, points, scores, and the checks that nobody was faster, that the definitions
# are the same and that no run was finalised or rid of segments meanwhile, stand or fall together. Rows go in by key, so
# that writers do not wait in a circle. The share lock on the runs keeps maintenance from archiving them before this has
# ended. A run that is opened needs its board: while its definition is being deleted, the batch waits and is decided
# anew. Points that are taken for new must be: where something stands under their key, the batch is decided anew, and
# with it. The marker of complete sorted sets comes from before others can see what is stored: whoever fills the sets
# without it gives them another.
_SAVE: Final = """
    WITH known AS (
        UPDATE users
           SET version = batch.version, profile_version = batch.profile_version, name = batch.name,
               attributes = batch.attributes, exclusions = batch.exclusions
          FROM unnest($1::user_row_2[]) AS batch
         WHERE users.user_id = batch.user_id AND users.version = batch.loaded_version
        RETURNING 1
    ), new AS (
        INSERT INTO users (user_id, version, profile_version, name, attributes, exclusions)
        SELECT user_id, version, profile_version, name, attributes, exclusions
          FROM unnest($1::user_row_2[]) AS batch
         WHERE loaded_version = 0
            ON CONFLICT (user_id) DO NOTHING
        RETURNING 1
    ), log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time, draft, metric,
                                 value_micros, occur_time, local_date, contribution_micros, contribution_version,
                                 local_minute)
        SELECT * FROM unnest($2::log_row_3[])
    ), opened AS (
        INSERT INTO runs (board, start_date, end_date, finalize_time)
        SELECT * FROM unnest($3::run_row[])
            ON CONFLICT (board, start_date) DO NOTHING
        RETURNING 1
    ), unchanged AS MATERIALIZED (
        SELECT 1 FROM configuration_version WHERE version = $8 AND cardinality($3::run_row[]) > 0 FOR SHARE
    ), still_open AS MATERIALIZED (
        SELECT 1
          FROM runs JOIN unnest($4::run_key_2[]) AS batch USING (board, start_date)
         WHERE NOT finalized AND runs.cleanings = batch.cleanings
           FOR SHARE OF runs
    ), ranked AS (
        INSERT INTO scores (user_id, board, run_start, segment, score, order_score, reach_time, entry_id,
                            source_version, version, beyond)
        SELECT * FROM unnest($5::score_row_2[])
            ON CONFLICT (user_id, board, run_start) DO UPDATE
               SET segment = EXCLUDED.segment, score = EXCLUDED.score, order_score = EXCLUDED.order_score,
                   reach_time = EXCLUDED.reach_time, entry_id = EXCLUDED.entry_id,
                   source_version = EXCLUDED.source_version, version = EXCLUDED.version,
                   beyond = EXCLUDED.beyond
    ), seen AS (
        INSERT INTO segments (board, run_start, segment)
        SELECT * FROM unnest($6::segment_row[])
            ON CONFLICT (board, run_start, segment) DO NOTHING
    ), earned AS (
        INSERT INTO earnings (user_id, points_system, local_date, entry_id, amount, reach_time)
        SELECT * FROM unnest($7::earning_row[])
            ON CONFLICT (user_id, points_system, local_date, entry_id) DO NOTHING
        RETURNING 1
    {past}
    )
    SELECT require_rows(
        (SELECT count(*) FROM known) + (SELECT count(*) FROM new)
            + (SELECT count(*) FROM opened) + (SELECT count(*) FROM still_open)
            + (SELECT count(*) FROM unchanged) + (SELECT count(*) FROM earned)
            + (SELECT count(*) FROM configuration_version WHERE version = $8),
        cardinality($1::user_row_2[]) + cardinality($3::run_row[]) + cardinality($4::run_key_2[])
            + (cardinality($3::run_row[]) > 0)::integer + cardinality($7::earning_row[]) + 1),
        (SELECT marker FROM projection)
"""
SAVE: Final = _SAVE.format(past="")

# The same where entries change what others have said, or tell lengths of streaks. Contributions are found by position,
# as outcomes are (see COMPLETE).
SAVE_WITH_PAST: Final = _SAVE.format(
    past="""
    ), corrected AS (
        UPDATE earnings
           SET amount = batch.amount
          FROM unnest($9::earning_row[]) AS batch
         WHERE earnings.user_id = batch.user_id AND earnings.points_system = batch.points_system
           AND earnings.local_date = batch.local_date AND earnings.entry_id = batch.entry_id
    ), revised AS (
        UPDATE request_log
           SET contribution_micros = ($11::bigint[])[array_position($10::uuid[], entry_id)],
               contribution_version = ($12::bigint[])[array_position($10::uuid[], entry_id)]
         WHERE entry_id = ANY($10::uuid[]) AND state = 1
           AND entry_id BETWEEN ($10::uuid[])[1] AND ($10::uuid[])[cardinality($10::uuid[])]
    ), kept AS (
        INSERT INTO early_revisions (entry_id, user_id, contribution_micros, version)
        SELECT * FROM unnest($13::early_revision_row[])
            ON CONFLICT (entry_id) DO UPDATE
               SET contribution_micros = EXCLUDED.contribution_micros, version = EXCLUDED.version
             WHERE early_revisions.version < EXCLUDED.version
    ), used AS (
        DELETE FROM early_revisions WHERE entry_id = ANY($14::uuid[])
    ), measured AS (
        INSERT INTO lengths (user_id, streak, start_date, end_date, length, reach_time, version)
        SELECT * FROM unnest($15::length_row[])
            ON CONFLICT (user_id, streak, start_date) DO UPDATE
               SET end_date = EXCLUDED.end_date, length = EXCLUDED.length, reach_time = EXCLUDED.reach_time,
                   version = EXCLUDED.version
"""
)

# Ids come in order, here and below: their bounds tell the partitions (docs/adr/0010).
PENDING: Final = """
    SELECT entry_id, draft
      FROM request_log
     WHERE entry_id = ANY($1::uuid[]) AND draft IS NOT NULL
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""
OUTCOMES: Final = """
    SELECT entry_id, CASE state WHEN 2 THEN revert_outcome ELSE outcome END AS outcome
      FROM request_log
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
       AND (state = 2) = $2
"""
MARKER: Final = "SELECT marker FROM projection"

# The first to complete an entry decides its outcome; an entry undone meanwhile gets none, and no history. Outcomes are
# found by position: a join would look cheapest, while the table is empty, with all entries between the bounds. Inside
# CASE those who were first are hashed; a join would compare each change with each of them.
COMPLETE: Final = """
    WITH completed AS (
        UPDATE request_log
           SET outcome = ($2::bytea[])[array_position($1::uuid[], entry_id)], draft = NULL
         WHERE entry_id = ANY($1::uuid[]) AND state = 1 AND outcome IS NULL
           AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
        RETURNING entry_id
    ), history AS (
        INSERT INTO rank_events (user_id, change_time, entry_id, board, run_start, segment, previous_rank, rank,
                                 score, others)
        SELECT event.*
          FROM unnest($3::rank_event_row_2[]) AS event
         WHERE CASE WHEN event.entry_id IN (SELECT entry_id FROM completed) THEN true END
    )
    SELECT entry_id FROM completed
"""
COMPLETE_REVERSALS: Final = """
    UPDATE request_log
       SET revert_outcome = ($2::bytea[])[array_position($1::uuid[], entry_id)], draft = NULL
     WHERE entry_id = ANY($1::uuid[]) AND state = 2 AND revert_outcome = ''
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
    RETURNING entry_id
"""


class Loaded(Struct, frozen=True):
    """The state that a batch is decided on."""

    configuration_version: int
    users: Mapping[str, UserState]
    runs: Runs
    cleanings: Mapping[RunKey, int]
    """Of the runs, how often they were rid of segments that everybody had left."""
    is_guess: bool = False
    """Not all of it was read: some is what was stored last. Storing checks it."""


class Stored(Struct, frozen=True):
    """One entry and all that is to be stored of it: a draft, or, where nothing is to project, the outcome."""

    command: Command
    digest: bytes
    decision: Decision
    draft: Draft | None
    outcome: bytes | None
    state: State = State.APPLIED


class EventStore:
    """The SQL of the event path."""

    def __init__(self, pool: Pool, recent_users: int = 0) -> None:
        self._pool = pool
        self.recent: RecentStates[UserState] = RecentStates(recent_users)
        self._runs = KnownRuns()

    async def recall(
        self,
        users: Mapping[str, int],
        runs: Collection[RunKey],
        of_boards: Sequence[str] | None,
        version: int,
    ) -> Loaded:
        """What `load` gives of these users, each in a life, by definitions of this version. Of users who came lately it
        is known, where the runs are known too: one that is not may have been archived.
        """
        kept = self.recent.known(users, version)
        known = self._runs.of(of_boards)
        if len(kept) == len(users) and all(run in known for run in runs):
            return _guess(version, kept, known)
        loaded = await self.load([user_id for user_id in users if user_id not in kept], runs, of_boards)
        self.recent.configuration_version = loaded.configuration_version
        if self._runs.read(_open(loaded), known):
            # Who comes often would otherwise keep the scores of all runs that are over.
            self.recent.forget_all()
        return replace(loaded, users={**loaded.users, **kept}, is_guess=bool(kept))

    async def load(
        self, user_ids: Collection[str], runs: Collection[RunKey], of_boards: Sequence[str] | None = None
    ) -> Loaded:
        """The state of these users and runs, and all open runs, of these boards alone where some are given. One round
        trip.
        """
        row = await self._pool.fetchrow(
            LOAD, sorted(user_ids), [board for board, _ in runs], [start for _, start in runs], of_boards
        )
        assert row is not None  # a SELECT without FROM has one row
        users = {user[0]: user[1:] for user in map(tuple, row["users"])}
        held: defaultdict[str, list[rows.Row]] = defaultdict(list)
        for score in map(tuple, row["held"]):
            held[score[0]].append(score[1:])
        return Loaded(
            configuration_version=row["configuration_version"],
            users={
                user_id: rows.user_state(user_id, users.get(user_id), held[user_id]) for user_id in user_ids
            },
            runs={(run.board, run.run.start): run for run in map(rows.run_state, row["runs"])},
            cleanings={(run[0], run[1]): run[5] for run in row["runs"]},
        )

    async def save(self, loaded: Loaded, boards: Boards, entries: Sequence[Stored]) -> str | None:
        """Store a batch whole; the marker of complete sorted sets, as it was then at the latest. One round trip.

        Raises a serialization failure when a user, a run or the definitions moved since they were loaded, or points
        were taken for new that are not, and a violation of `request_log_pkey` when an entry is known.
        """
        users = {stored.decision.user.user_id: stored.decision.user for stored in entries}
        changed = {
            (stored.decision.user.user_id, *key): (held, stored.decision.user.version)
            for stored in entries
            for key, held in stored.decision.changed.items()
        }
        runs = {key: run for stored in entries for key, run in stored.decision.runs.items()}
        # Also those that were left again within the batch: their sorted sets have to go in the end.
        segments = {
            (*key, part)
            for stored in entries
            for key, held in stored.decision.changed.items()
            for part in ("", held.segment)
        }
        past = _Past.of(loaded, entries)
        opened = {key: run for key, run in sorted(runs.items()) if key not in loaded.runs}
        arguments = [
            [_user_row(loaded.users[user_id], user) for user_id, user in sorted(users.items())],
            sorted((_log_row(stored, past.revised) for stored in entries), key=lambda row: row[0]),
            [(*key, run.run.end, run.finalize_time) for key, run in opened.items()],
            [(*key, loaded.cleanings[key]) for key in sorted(runs) if key in loaded.runs],
            [_score_row(boards, key, *one) for key, one in sorted(changed.items())],
            sorted(segments),
            past.new_earnings,
            loaded.configuration_version,
        ]
        query = SAVE
        if past.is_touched:
            query, arguments = SAVE_WITH_PAST, [*arguments, *past.arguments()]
        marker: str | None = await self._pool.fetchval(query, *arguments, column=1)
        self._runs.opened(opened.values())
        self.recent.keep(
            {user_id: _as_loaded(user) for user_id, user in users.items()},
            {stored.command.entry.user.user_id: stored.command.entry.user.life for stored in entries},
        )
        return marker

    async def pending(self, entry_ids: Collection[UUID]) -> dict[UUID, Draft]:
        """The drafts of those entries that are stored and not projected yet."""
        return {
            row["entry_id"]: drafts.from_text(row["entry_id"], row["draft"])
            for row in await self._pool.fetch(PENDING, sorted(entry_ids))
        }

    async def outcomes(self, entry_ids: Collection[UUID], *, reversals: bool) -> dict[UUID, bytes]:
        """The outcomes of those entries that are complete; or else those of their reversals."""
        found = await self._pool.fetch(OUTCOMES, sorted(entry_ids), reversals)
        return {row["entry_id"]: row["outcome"] for row in found if row["outcome"]}

    async def marker(self) -> str | None:
        """What complete sorted sets say of themselves."""
        marker: str | None = await self._pool.fetchval(MARKER)
        return marker

    async def complete(
        self, outcomes: Mapping[UUID, bytes], changes: Iterable[Sequence[RankChange]]
    ) -> set[UUID]:
        """Give applied entries their outcome, and those that changed ranks their history; the entries for which this
        call was the first.
        """
        completed = await self._pool.fetch(
            COMPLETE, *columns(sorted(outcomes.items()), 2), [history.row(own) for own in changes if own]
        )
        return {row["entry_id"] for row in completed}

    async def complete_reversals(self, outcomes: Mapping[UUID, bytes]) -> set[UUID]:
        """Give reverted entries the outcome of their reversal; those for which this call was the first."""
        completed = await self._pool.fetch(COMPLETE_REVERSALS, *columns(sorted(outcomes.items()), 2))
        return {row["entry_id"] for row in completed}


def _guess(version: int, users: Mapping[str, UserState], known: Mapping[RunKey, KnownRun]) -> Loaded:
    return Loaded(
        version,
        users,
        {key: run.state for key, run in known.items()},
        {key: run.cleanings for key, run in known.items()},
        is_guess=True,
    )


def _open(loaded: Loaded) -> dict[RunKey, KnownRun]:
    return {
        key: KnownRun(run, loaded.cleanings[key]) for key, run in loaded.runs.items() if not run.finalized
    }


def _as_loaded(user: UserState) -> UserState:
    """A user as a later load would find them: of what was looked up beside the state nothing is kept, and of who has no
    score it is not stored whether the score would be hidden.
    """
    held = user.held
    if any(one.hidden and one.score.amount is None for one in held.values()):
        held = {
            key: replace(one, hidden=one.hidden and one.score.amount is not None) for key, one in held.items()
        }
    return replace(user, held=held, recalled=Recalled())


def _user_row(loaded: UserState, user: UserState) -> tuple[Any, ...]:
    return (
        user.user_id,
        loaded.version,
        user.version,
        user.profile.version,
        user.profile.name,
        rows.attributes_text(user.profile.attributes),
        rows.exclusions_text(user.exclusions),
    )


class _Past(Struct, frozen=True):
    """What is stored of a batch besides entries and scores: what it adds to the past of its users, or changes of it."""

    new_earnings: list[tuple[Any, ...]]
    corrected_earnings: list[tuple[Any, ...]]
    revised: Mapping[UUID, Fact]
    early: list[tuple[Any, ...]]
    used: list[UUID]
    lengths: list[tuple[Any, ...]]

    @classmethod
    def of(cls, loaded: Loaded, entries: Sequence[Stored]) -> "_Past":
        """Of several entries that say something under one key the last tells how it now stands."""
        earnings: dict[tuple[str, FactKey], Fact] = {}
        lengths: dict[tuple[str, str, date], Period] = {}
        revised: dict[UUID, Fact] = {}
        early: dict[UUID, tuple[Any, ...]] = {}
        for stored in entries:
            decision, user_id = stored.decision, stored.decision.user.user_id
            for fact in decision.awards:
                earnings[user_id, key_of(fact)] = fact
            for fact in decision.revised:
                revised[fact.entry_id] = fact
            for revision in decision.early:
                early[revision.entry_id] = (
                    revision.entry_id,
                    user_id,
                    revision.contribution,
                    revision.version,
                )
            for streak, periods in decision.lengths.items():
                lengths.update({(user_id, streak, period.start): period for period in periods})
        came = {stored.command.entry.entry_id for stored in entries}
        known: dict[bool, list[tuple[Any, ...]]] = {False: [], True: []}
        for (user_id, key), fact in sorted(earnings.items(), key=_by_user_and_entry):
            is_known = key in loaded.users[user_id].recalled.awards
            known[is_known].append(_earning_row(user_id, fact))
        return cls(
            known[False],
            known[True],
            revised,
            [row for entry_id, row in sorted(early.items()) if entry_id not in came],
            sorted(
                entry_id
                for user in loaded.users.values()
                for entry_id in user.recalled.early
                if entry_id in came
            ),
            [
                (*key, period.end, period.length, period.reach_time, period.version)
                for key, period in sorted(lengths.items(), key=lambda item: item[0])
            ],
        )

    @property
    def is_touched(self) -> bool:
        """Whether there is more than new points."""
        return bool(self.corrected_earnings or self.revised or self.early or self.used or self.lengths)

    def arguments(self) -> list[Any]:
        """The arguments of the statement beyond those of the common case."""
        revised = sorted(self.revised)
        return [
            self.corrected_earnings,
            revised,
            [self.revised[entry_id].contribution for entry_id in revised],
            [self.revised[entry_id].version for entry_id in revised],
            self.early,
            self.used,
            self.lengths,
        ]


def _by_user_and_entry(item: tuple[tuple[str, FactKey], Fact]) -> tuple[str, str, date, UUID]:
    (user_id, (source, entry_id, day)), _ = item
    return user_id, source.key, day, entry_id


def _earning_row(user_id: str, fact: Fact) -> tuple[Any, ...]:
    return user_id, fact.source.key, fact.local_date, fact.entry_id, fact.amount, fact.reach_time


def _log_row(stored: Stored, revised: Mapping[UUID, Fact]) -> tuple[Any, ...]:
    entry = stored.command.entry
    return (
        entry.entry_id,
        entry.user.user_id,
        stored.digest,
        stored.state,
        stored.outcome,
        entry.now,
        drafts.to_text(stored.draft) if stored.draft else None,
        *_event(stored, revised),
    )


def _event(stored: Stored, revised: Mapping[UUID, Fact]) -> tuple[Any, ...]:
    """A metric's event, with what it contributes as it stands after the batch."""
    for fact in stored.command.facts:
        if fact.source.kind is SourceKind.METRIC:
            minute = fact.local_minute
            if fact.contribution is None:
                return fact.source.key, fact.amount, fact.reach_time, fact.local_date, None, None, minute
            fact = revised.get(fact.entry_id) or stored.decision.user.recalled.events[fact.entry_id]
            return (
                fact.source.key,
                fact.amount,
                fact.reach_time,
                fact.local_date,
                fact.contribution,
                fact.version,
                minute,
            )
    return None, None, None, None, None, None, None


def _score_row(boards: Boards, key: tuple[str, str, date], held: Held, version: int) -> tuple[Any, ...]:
    score = held.score
    return (
        *key,
        held.segment,
        score.amount,
        held_order(boards.by_key[key[1]].order, held),
        score.reach_time,
        score.entry_id,
        score.source_version,
        version,
        held.beyond,
    )
