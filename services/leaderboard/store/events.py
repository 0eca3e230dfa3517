"""The event path: two round trips for a whole batch before it is projected, and one after it (DESIGN 3)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from services.leaderboard.domain.boards import Boards, SourceKind
from services.leaderboard.domain.entries import (
    Command,
    Decision,
    Draft,
    Move,
    RunKey,
    Runs,
    UserState,
)
from services.leaderboard.domain.ranks import order_score
from services.leaderboard.store import rows
from services.leaderboard.store.rows import columns
from shared.postgres.pool import Pool

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
          FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
            AS batch (user_id, loaded_version, version, profile_version, name, attributes)
         WHERE users.user_id = batch.user_id AND users.version = batch.loaded_version
        RETURNING 1
    ), new AS (
        INSERT INTO users (user_id, version, profile_version, name, attributes)
        SELECT user_id, version, profile_version, name, attributes
          FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
            AS batch (user_id, loaded_version, version, profile_version, name, attributes)
         WHERE loaded_version = 0
            ON CONFLICT (user_id) DO NOTHING
        RETURNING 1
    ), log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time, draft, metric,
                                 value_micros, occur_time, local_date)
        SELECT entry_id, user_id, digest, 1, outcome, apply_time, draft, metric, value_micros, occur_time,
               local_date
          FROM unnest($7::uuid[], $8::text[], $9::bytea[], $10::bytea[], $11::timestamptz[], $12::text[],
                      $13::text[], $14::bigint[], $15::timestamptz[], $16::date[])
            AS log (entry_id, user_id, digest, outcome, apply_time, draft, metric, value_micros, occur_time,
                    local_date)
    ), opened AS (
        INSERT INTO runs (board, start_date, end_date, finalize_time)
        SELECT * FROM unnest($17::text[], $18::date[], $19::date[], $20::timestamptz[])
            ON CONFLICT (board, start_date) DO NOTHING
        RETURNING 1
    ), unchanged AS MATERIALIZED (
        SELECT 1 FROM configuration_version WHERE version = $45 AND cardinality($17::text[]) > 0 FOR SHARE
    ), still_open AS MATERIALIZED (
        SELECT 1
          FROM runs JOIN unnest($21::text[], $22::date[]) AS batch (board, start_date)
               USING (board, start_date)
         WHERE NOT finalized
           FOR SHARE OF runs
    ), ranked AS (
        INSERT INTO scores (user_id, board, run_start, segment, score, order_score, reach_time, entry_id,
                            source_version, version)
        SELECT * FROM unnest($23::text[], $24::text[], $25::date[], $26::text[], $27::bigint[], $28::bigint[],
                             $29::timestamptz[], $30::uuid[], $31::bigint[], $32::bigint[])
            ON CONFLICT (user_id, board, run_start) DO UPDATE
               SET segment = EXCLUDED.segment, score = EXCLUDED.score, order_score = EXCLUDED.order_score,
                   reach_time = EXCLUDED.reach_time, entry_id = EXCLUDED.entry_id,
                   source_version = EXCLUDED.source_version, version = EXCLUDED.version
    ), seen AS (
        INSERT INTO segments (board, run_start, segment)
        SELECT * FROM unnest($33::text[], $34::date[], $35::text[])
            ON CONFLICT (board, run_start, segment) DO NOTHING
    ), said AS (
        INSERT INTO facts (user_id, kind, key, local_date, entry_id, origin_id, amount, reach_time, version)
        SELECT * FROM unnest($36::text[], $37::smallint[], $38::text[], $39::date[], $40::uuid[], $41::uuid[],
                             $42::bigint[], $43::timestamptz[], $44::bigint[])
    )
    SELECT require_rows(
        (SELECT count(*) FROM known) + (SELECT count(*) FROM new)
            + (SELECT count(*) FROM opened) + (SELECT count(*) FROM still_open)
            + (SELECT count(*) FROM unchanged),
        cardinality($1::text[]) + cardinality($17::text[]) + cardinality($21::text[])
            + (cardinality($17::text[]) > 0)::integer)
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
          FROM unnest($3::text[], $4::timestamptz[], $5::uuid[], $6::text[], $7::date[], $8::text[],
                      $9::bigint[], $10::bigint[], $11::bigint[])
            AS event (user_id, change_time, entry_id, board, run_start, segment, previous_rank, rank, score)
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
            *_user_columns(loaded.users, users),
            *_log_columns(entries),
            *columns(
                [
                    (board, start, run.run.end, run.finalize_time)
                    for (board, start), run in sorted(runs.items())
                    if (board, start) not in loaded.runs
                ],
                4,
            ),
            *columns([key for key in sorted(runs) if key in loaded.runs], 2),
            *columns(
                [
                    (
                        *key,
                        held.segment,
                        held.score.amount,
                        None
                        if held.score.amount is None
                        else order_score(boards.by_key[key[1]].order, held.score.amount),
                        held.score.reach_time,
                        held.score.entry_id,
                        held.score.source_version,
                        version,
                    )
                    for key, (held, version) in sorted(changed.items())
                ],
                10,
            ),
            *columns(sorted(segments), 3),
            *_fact_columns(entries),
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
        history = [
            (
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
            for change in changes
        ]
        completed = await self._pool.fetch(
            COMPLETE, *columns(sorted(outcomes.items()), 2), *columns(history, 9)
        )
        return {row["entry_id"] for row in completed}

    async def complete_reversals(self, outcomes: Mapping[UUID, bytes]) -> set[UUID]:
        """Give reverted entries the outcome of their reversal; those for which this call was the first."""
        completed = await self._pool.fetch(COMPLETE_REVERSALS, *columns(sorted(outcomes.items()), 2))
        return {row["entry_id"] for row in completed}


def _user_columns(loaded: Mapping[str, UserState], users: Mapping[str, UserState]) -> list[list[Any]]:
    return columns(
        [
            (
                user_id,
                loaded[user_id].version,
                user.version,
                user.profile.version,
                user.profile.name,
                rows.attributes_text(user.profile.attributes),
            )
            for user_id, user in sorted(users.items())
        ],
        6,
    )


def _log_columns(entries: Iterable[Stored]) -> list[list[Any]]:
    return columns(
        [
            (
                one.command.entry.entry_id,
                one.command.entry.user.user_id,
                one.digest,
                one.outcome,
                one.command.entry.now,
                rows.draft_text(one.draft) if one.draft else None,
                *_metric_fact(one.command),
            )
            for one in sorted(entries, key=lambda one: one.command.entry.entry_id)
        ],
        10,
    )


def _metric_fact(command: Command) -> tuple[Any, ...]:
    for fact in command.facts:
        if fact.source.kind is SourceKind.METRIC:
            return fact.source.key, fact.amount, fact.reach_time, fact.local_date
    return None, None, None, None


def _fact_columns(entries: Iterable[Stored]) -> list[list[Any]]:
    return columns(
        sorted(
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
            for one in entries
            for fact in one.decision.kept_facts
        ),
        9,
    )
