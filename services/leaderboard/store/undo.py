"""What undoing an entry reads and writes, inside the transaction of its reversal. Rare, and so step by step."""

from typing import Final
from uuid import UUID

from msgspec import Struct

from services.leaderboard.domain.boards import Boards, Source, SourceKind
from services.leaderboard.domain.entries import Decision, Draft, Runs, UserState
from services.leaderboard.domain.ranks import order_score
from services.leaderboard.domain.runs import Run
from services.leaderboard.domain.scores import Fact
from services.leaderboard.store import rows
from shared.postgres.pool import Connection

CONFIGURATION: Final = "SELECT version, (SELECT marker FROM projection) FROM configuration_version"
USER_OF: Final = "SELECT user_id FROM request_log WHERE entry_id = $1"
LOCK_USER: Final = """
    SELECT version, profile_version, name, attributes FROM users WHERE user_id = $1 FOR UPDATE
"""
HELD: Final = """
    SELECT board, run_start, segment, score, reach_time, entry_id, source_version FROM scores WHERE user_id = $1
"""
# Held until the end of the transaction: maintenance archives none of them before.
SHARE_RUNS: Final = """
    SELECT board, start_date, end_date, finalize_time, finalized
      FROM runs JOIN unnest($1::text[], $2::date[]) AS held (board, start_date) USING (board, start_date)
     WHERE NOT finalized
     ORDER BY board, start_date
       FOR SHARE OF runs
"""
METRIC_FACT: Final = """
    SELECT 1 AS kind, metric, entry_id, entry_id AS origin_id, value_micros, occur_time, local_date,
           0::bigint AS version
      FROM request_log WHERE entry_id = $1 AND metric IS NOT NULL
"""
REMOVE_LENGTHS: Final = """
    DELETE FROM facts
     WHERE user_id = $1 AND kind = 4 AND entry_id = $2
    RETURNING kind, key, entry_id, origin_id, amount, reach_time, local_date, version
"""
REMAINING_METRIC: Final = """
    SELECT 1 AS kind, metric, entry_id, entry_id AS origin_id, value_micros, occur_time, local_date,
           0::bigint AS version
      FROM request_log
     WHERE user_id = $1 AND metric = $2 AND local_date BETWEEN $3 AND $4 AND state = 1 AND entry_id <> $5
"""
REMAINING_LENGTHS: Final = """
    SELECT kind, key, entry_id, origin_id, amount, reach_time, local_date, version
      FROM facts
     WHERE user_id = $1 AND kind = 4 AND key = $2 AND local_date BETWEEN $3 AND $4 AND entry_id <> $5
"""
BUMP_USER: Final = "UPDATE users SET version = $2 WHERE user_id = $1"
# `|| ''` keeps the planner from the index that orders a board's members, of which it would look at all: while the
# table is empty it looks as good as the key. So do other statements by user.
SET_SCORE: Final = """
    UPDATE scores
       SET score = $4, order_score = $5, reach_time = $6, entry_id = $7, source_version = $8, version = $9
     WHERE user_id = $1 AND board || '' = $2 AND run_start = $3
"""
REMOVE_HISTORY: Final = "DELETE FROM rank_events WHERE user_id = $1 AND entry_id = $2"
SET_DRAFT: Final = "UPDATE request_log SET draft = $2 WHERE entry_id = $1"


class Locked(Struct, frozen=True):
    """A user's state, locked until the end of the transaction, and their runs that are open."""

    user: UserState
    runs: Runs


class UndoStore:
    """The SQL of reversals."""

    async def configuration(self, connection: Connection) -> tuple[int, str | None]:
        """The version of the definitions, and the marker of complete sorted sets."""
        row = await connection.fetchrow(CONFIGURATION)
        assert row is not None  # the migration inserts it
        return row[0], row[1]

    async def lock(self, connection: Connection, entry_id: UUID) -> Locked:
        """The user whose applied entry is undone."""
        user_id: str = await connection.fetchval(USER_OF, entry_id)
        user = await connection.fetchrow(LOCK_USER, user_id)
        held = await connection.fetch(HELD, user_id)
        runs = await connection.fetch(
            SHARE_RUNS, [row["board"] for row in held], [row["run_start"] for row in held]
        )
        states = [rows.run_state(row) for row in runs]
        return Locked(
            rows.user_state(user_id, user, held), {(one.board, one.run.start): one for one in states}
        )

    async def void_facts(self, connection: Connection, user_id: str, entry_id: UUID) -> list[Fact]:
        """The facts of an entry that its reversal takes back: its metric value, and the lengths it reported.

        What it said about points is taken back by the correction that follows. The metric's fact stays, as part of
        the request log, whose state says that it does not count.
        """
        metric = await connection.fetch(METRIC_FACT, entry_id)
        lengths = await connection.fetch(REMOVE_LENGTHS, user_id, entry_id)
        return [rows.fact(tuple(row)) for row in (*metric, *lengths)]

    async def remaining(
        self, connection: Connection, user_id: str, entry_id: UUID, source: Source, run: Run
    ) -> list[Fact]:
        """The other facts about a source in a run."""
        query = REMAINING_METRIC if source.kind is SourceKind.METRIC else REMAINING_LENGTHS
        found = await connection.fetch(query, user_id, source.key, run.start, run.end, entry_id)
        return [rows.fact(tuple(row)) for row in found]

    async def save(self, connection: Connection, boards: Boards, decision: Decision, draft: Draft) -> None:
        """Store what is left, and what remains to be projected."""
        user = decision.user
        await connection.execute(BUMP_USER, user.user_id, user.version)
        await connection.executemany(SET_SCORE, _score_rows(boards, decision))
        await connection.execute(REMOVE_HISTORY, user.user_id, draft.entry_id)
        await connection.execute(SET_DRAFT, draft.entry_id, rows.draft_text(draft))


def _score_rows(boards: Boards, decision: Decision) -> list[tuple[object, ...]]:
    return [
        (
            decision.user.user_id,
            *key,
            held.score.amount,
            None
            if held.score.amount is None
            else order_score(boards.by_key[key[0]].order, held.score.amount),
            held.score.reach_time,
            held.score.entry_id,
            held.score.source_version,
            decision.user.version,
        )
        for key, held in sorted(decision.changed.items())
    ]
