"""The event path: two round trips for a whole batch before it is projected, and one after it (DESIGN 3)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from services.leaderboard.domain.boards import Boards, SourceKind
from services.leaderboard.domain.entries import (
    Command,
    Decision,
    Draft,
    Held,
    Move,
    RunKey,
    Runs,
    UserState,
)
from services.leaderboard.domain.ranks import order_score
from services.leaderboard.store import rows
from services.leaderboard.store.rows import columns
from shared.postgres.pool import Pool
from shared.postgres.request_log import State

# One statement and so one snapshot: scores of a finalised run are gone when the run says so.
LOAD: Final = """
    SELECT (SELECT version FROM configuration_version) AS configuration_version,
           (SELECT marker FROM projection) AS marker,
           ARRAY(SELECT ROW(user_id, version, profile_version, name, attributes)
                   FROM users WHERE user_id = ANY($1::text[])) AS users,
           ARRAY(SELECT ROW(user_id, board, run_start, segment, score, reach_time, entry_id, source_version)
                   FROM scores WHERE user_id = ANY($1::text[])) AS held,
           ARRAY(SELECT ROW(board, start_date, end_date, finalize_time, finalized)
                   FROM runs WHERE NOT finalized
                  UNION ALL
                 SELECT ROW(board, start_date, end_date, finalize_time, finalized)
                   FROM runs JOIN unnest($2::text[], $3::date[]) AS wanted (board, start_date)
                        USING (board, start_date)
                  WHERE finalized) AS runs
"""

# One statement is one transaction: entries, facts, scores, and the checks that nobody was faster and that no
# run was finalised meanwhile, stand or fall together. Rows go in by key, so that writers do not wait in a
# circle. The share lock on the runs keeps maintenance from archiving them before this has ended. A run that is
# opened needs its board: while its definition is being deleted, the batch waits and is decided anew.
SAVE: Final = """
    WITH known AS (
        UPDATE users
           SET version = batch.version, profile_version = batch.profile_version, name = batch.name,
               attributes = batch.attributes
          FROM unnest($1::user_row[]) AS batch
         WHERE users.user_id = batch.user_id AND users.version = batch.loaded_version
        RETURNING 1
    ), new AS (
        INSERT INTO users (user_id, version, profile_version, name, attributes)
        SELECT user_id, version, profile_version, name, attributes
          FROM unnest($1::user_row[]) AS batch
         WHERE loaded_version = 0
            ON CONFLICT (user_id) DO NOTHING
        RETURNING 1
    ), log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time, draft, metric,
                                 value_micros, occur_time, local_date)
        SELECT * FROM unnest($2::log_row[])
    ), opened AS (
        INSERT INTO runs (board, start_date, end_date, finalize_time)
        SELECT * FROM unnest($3::run_row[])
            ON CONFLICT (board, start_date) DO NOTHING
        RETURNING 1
    ), unchanged AS MATERIALIZED (
        SELECT 1 FROM configuration_version WHERE version = $8 AND cardinality($3::run_row[]) > 0 FOR SHARE
    ), still_open AS MATERIALIZED (
        SELECT 1
          FROM runs JOIN unnest($4::run_key[]) AS batch USING (board, start_date)
         WHERE NOT finalized
           FOR SHARE OF runs
    ), ranked AS (
        INSERT INTO scores (user_id, board, run_start, segment, score, order_score, reach_time, entry_id,
                            source_version, version)
        SELECT * FROM unnest($5::score_row[])
            ON CONFLICT (user_id, board, run_start) DO UPDATE
               SET segment = EXCLUDED.segment, score = EXCLUDED.score, order_score = EXCLUDED.order_score,
                   reach_time = EXCLUDED.reach_time, entry_id = EXCLUDED.entry_id,
                   source_version = EXCLUDED.source_version, version = EXCLUDED.version
    ), seen AS (
        INSERT INTO segments (board, run_start, segment)
        SELECT * FROM unnest($6::segment_row[])
            ON CONFLICT (board, run_start, segment) DO NOTHING
    ), said AS (
        INSERT INTO facts (user_id, kind, key, local_date, entry_id, origin_id, amount, reach_time, version)
        SELECT * FROM unnest($7::fact_row[])
    )
    SELECT require_rows(
        (SELECT count(*) FROM known) + (SELECT count(*) FROM new)
            + (SELECT count(*) FROM opened) + (SELECT count(*) FROM still_open)
            + (SELECT count(*) FROM unchanged),
        cardinality($1::user_row[]) + cardinality($3::run_row[]) + cardinality($4::run_key[])
            + (cardinality($3::run_row[]) > 0)::integer)
"""

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
                                 score)
        SELECT event.*
          FROM unnest($3::rank_event_row[]) AS event
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
    marker: str | None
    users: Mapping[str, UserState]
    runs: Runs


class Stored(Struct, frozen=True):
    """One entry and all that is to be stored of it: a draft, or, where nothing is to project, the outcome."""

    command: Command
    digest: bytes
    decision: Decision
    draft: Draft | None
    outcome: bytes | None


class RankChange(Struct, frozen=True):
    """A row of the rank history."""

    draft: Draft
    move: Move
    previous_rank: int
    rank: int
    score: int


class EventStore:
    """The SQL of the event path."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self, user_ids: Collection[str], runs: Collection[RunKey]) -> Loaded:
        """The state of these users and runs. One round trip."""
        row = await self._pool.fetchrow(
            LOAD, sorted(user_ids), [board for board, _ in runs], [start for _, start in runs]
        )
        assert row is not None  # a SELECT without FROM has one row
        users = {user[0]: user[1:] for user in map(tuple, row["users"])}
        held: defaultdict[str, list[rows.Row]] = defaultdict(list)
        for score in map(tuple, row["held"]):
            held[score[0]].append(score[1:])
        return Loaded(
            configuration_version=row["configuration_version"],
            marker=row["marker"],
            users={one: rows.user_state(one, users.get(one), held[one]) for one in user_ids},
            runs={(one.board, one.run.start): one for one in map(rows.run_state, row["runs"])},
        )

    async def save(self, loaded: Loaded, boards: Boards, entries: Sequence[Stored]) -> None:
        """Store a batch whole. One round trip.

        Raises a serialization failure when a user or run moved since it was loaded, and a violation of
        `request_log_pkey` when an entry is known.
        """
        users = {one.decision.user.user_id: one.decision.user for one in entries}
        changed = {
            (one.decision.user.user_id, *key): (held, one.decision.user.version)
            for one in entries
            for key, held in one.decision.changed.items()
        }
        runs = {key: run for one in entries for key, run in one.decision.runs.items()}
        segments = {(*key[1:], part) for key, (held, _) in changed.items() for part in ("", held.segment)}
        await self._pool.execute(
            SAVE,
            [_user_row(loaded.users[user_id], user) for user_id, user in sorted(users.items())],
            sorted(map(_log_row, entries), key=lambda row: row[0]),
            [
                (*key, run.run.end, run.finalize_time)
                for key, run in sorted(runs.items())
                if key not in loaded.runs
            ],
            [key for key in sorted(runs) if key in loaded.runs],
            [_score_row(boards, key, *one) for key, one in sorted(changed.items())],
            sorted(segments),
            sorted(row for one in entries for row in _fact_rows(one)),
            loaded.configuration_version,
        )

    async def pending(self, entry_ids: Collection[UUID]) -> dict[UUID, Draft]:
        """The drafts of those entries that are stored and not projected yet."""
        return {
            row["entry_id"]: rows.draft(row) for row in await self._pool.fetch(PENDING, sorted(entry_ids))
        }

    async def outcomes(self, entry_ids: Collection[UUID]) -> dict[UUID, bytes]:
        """The outcomes of those entries that are complete."""
        found = await self._pool.fetch(OUTCOMES, sorted(entry_ids))
        return {row["entry_id"]: row["outcome"] for row in found if row["outcome"]}

    async def marker(self) -> str | None:
        """What complete sorted sets say of themselves."""
        marker: str | None = await self._pool.fetchval(MARKER)
        return marker

    async def complete(self, outcomes: Mapping[UUID, bytes], changes: Sequence[RankChange]) -> set[UUID]:
        """Give applied entries their outcome and history; those for which this call was the first."""
        completed = await self._pool.fetch(
            COMPLETE, *columns(sorted(outcomes.items()), 2), [_rank_event_row(one) for one in changes]
        )
        return {row["entry_id"] for row in completed}

    async def complete_reversals(self, outcomes: Mapping[UUID, bytes]) -> set[UUID]:
        """Give reverted entries the outcome of their reversal; those for which this call was the first."""
        completed = await self._pool.fetch(COMPLETE_REVERSALS, *columns(sorted(outcomes.items()), 2))
        return {row["entry_id"] for row in completed}


def _user_row(loaded: UserState, user: UserState) -> tuple[Any, ...]:
    return (
        user.user_id,
        loaded.version,
        user.version,
        user.profile.version,
        user.profile.name,
        rows.attributes_text(user.profile.attributes),
    )


def _log_row(one: Stored) -> tuple[Any, ...]:
    return (
        one.command.entry.entry_id,
        one.command.entry.user.user_id,
        one.digest,
        State.APPLIED,
        one.outcome,
        one.command.entry.now,
        rows.draft_text(one.draft) if one.draft else None,
        *_metric_fact(one.command),
    )


def _metric_fact(command: Command) -> tuple[Any, ...]:
    for fact in command.facts:
        if fact.source.kind is SourceKind.METRIC:
            return fact.source.key, fact.amount, fact.reach_time, fact.local_date
    return None, None, None, None


def _score_row(boards: Boards, key: tuple[str, str, date], held: Held, version: int) -> tuple[Any, ...]:
    score = held.score
    return (
        *key,
        held.segment,
        score.amount,
        None if score.amount is None else order_score(boards.by_key[key[1]].order, score.amount),
        score.reach_time,
        score.entry_id,
        score.source_version,
        version,
    )


def _fact_rows(one: Stored) -> list[tuple[Any, ...]]:
    return [
        (
            one.command.entry.user.user_id,
            rows.KINDS[fact.source.kind],
            fact.source.key,
            fact.local_date,
            fact.entry_id,
            fact.origin_id,
            fact.amount,
            fact.reach_time,
            fact.version,
        )
        for fact in one.decision.kept_facts
    ]


def _rank_event_row(change: RankChange) -> tuple[Any, ...]:
    return (
        change.draft.user_id,
        change.draft.now,
        change.draft.entry_id,
        change.move.run.board,
        change.move.run.run.start,
        change.move.segment,
        change.previous_rank,
        change.rank,
        change.score,
    )
