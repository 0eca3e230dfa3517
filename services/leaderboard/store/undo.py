"""What undoing an entry reads and writes, inside the transaction of its reversal. Rare, and so step by step."""

from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.leaderboard.domain.boards import Board, Boards, Order, ScoreRule
from services.leaderboard.domain.members import held_order
from services.leaderboard.domain.runs import Run
from services.leaderboard.domain.scores import Fact, Score, folded, lessened, without
from services.leaderboard.domain.states import Decision, Draft, Runs, UserState
from services.leaderboard.store import drafts, rows
from shared.postgres.pool import Connection

CONFIGURATION: Final = "SELECT version, (SELECT marker FROM projection) FROM configuration_version"
USER_OF: Final = "SELECT user_id, apply_time FROM request_log WHERE entry_id = $1"
LOCK_USER: Final = """
    SELECT version, profile_version, name, attributes, exclusions FROM users WHERE user_id = $1 FOR UPDATE
"""
HELD: Final = """
    SELECT board, run_start, segment, score, reach_time, entry_id, source_version, order_score, beyond
      FROM scores WHERE user_id = $1
"""
# Held until the end of the transaction: maintenance archives none of them before.
SHARE_RUNS: Final = """
    SELECT board, start_date, end_date, finalize_time, finalized
      FROM runs JOIN unnest($1::text[], $2::date[]) AS held (board, start_date) USING (board, start_date)
     WHERE NOT finalized
     ORDER BY board, start_date
       FOR SHARE OF runs
"""
EVENT: Final = """
    SELECT metric, entry_id, value_micros, occur_time, local_date, contribution_version, contribution_micros,
           local_minute
      FROM request_log WHERE entry_id = $1 AND metric IS NOT NULL
"""
_OTHERS: Final = f"""
      FROM request_log
     WHERE user_id = $1 AND metric = $2 AND local_date BETWEEN $3 AND $4 AND state = 1 AND entry_id <> $5
       AND {rows.within_window("$6::integer", "$7::integer")}
"""
_COLUMNS: Final = """
    SELECT metric, entry_id, value_micros, occur_time, local_date, contribution_version, contribution_micros,
           local_minute
"""
# An instant has three local dates at most: the latest one is of one of the last dates.
NEWEST_REACH: Final = f"""
    SELECT max(occur_time) {_OTHERS} AND coalesce(contribution_micros, value_micros) <> 0
       AND local_date >= (
           SELECT local_date {_OTHERS} AND coalesce(contribution_micros, value_micros) <> 0
            ORDER BY local_date DESC LIMIT 1) - 3
"""
LATEST_EVENT: Final = f"""
    {_COLUMNS} {_OTHERS} AND local_date >= (SELECT local_date {_OTHERS} ORDER BY local_date DESC LIMIT 1) - 3
     ORDER BY occur_time DESC, entry_id DESC LIMIT 1
"""
GREATEST_EVENT: Final = f"{_COLUMNS} {_OTHERS} ORDER BY value_micros DESC, occur_time, entry_id LIMIT 1"
LEAST_EVENT: Final = f"{_COLUMNS} {_OTHERS} ORDER BY value_micros, occur_time, entry_id LIMIT 1"
BUMP_USER: Final = "UPDATE users SET version = $2 WHERE user_id = $1"
# `|| ''` keeps the planner from the index that orders a board's members, of which it would look at all: while the
# table is empty it looks as good as the key. So do other statements by user.
SET_SCORE: Final = """
    UPDATE scores
       SET score = $4, order_score = $5, reach_time = $6, entry_id = $7, source_version = $8, version = $9
     WHERE user_id = $1 AND board || '' = $2 AND run_start = $3
"""
REMOVE_HISTORY: Final = "DELETE FROM rank_events WHERE user_id = $1 AND change_time = $2 AND entry_id = $3"
SET_DRAFT: Final = "UPDATE request_log SET draft = $2 WHERE entry_id = $1"


class Locked(Struct, frozen=True):
    """A user's state, locked until the end of the transaction, and their runs that are open."""

    user: UserState
    runs: Runs
    apply_time: datetime
    """Of the entry: its rank history is dated so."""


class UndoStore:
    """The SQL of reversals."""

    async def configuration(self, connection: Connection) -> tuple[int, str | None]:
        """The version of the definitions, and the marker of complete sorted sets."""
        row = await connection.fetchrow(CONFIGURATION)
        assert row is not None  # the migration inserts it
        return row[0], row[1]

    async def lock(self, connection: Connection, entry_id: UUID) -> Locked:
        """The user whose applied entry is undone."""
        entry = await connection.fetchrow(USER_OF, entry_id)
        assert entry is not None  # it is locked
        user_id = entry["user_id"]
        user = await connection.fetchrow(LOCK_USER, user_id)
        held = await connection.fetch(HELD, user_id)
        runs = await connection.fetch(
            SHARE_RUNS, [row["board"] for row in held], [row["run_start"] for row in held]
        )
        states = [rows.run_state(row) for row in runs]
        return Locked(
            rows.user_state(user_id, user, held),
            {(run.board, run.run.start): run for run in states},
            entry["apply_time"],
        )

    async def event(self, connection: Connection, entry_id: UUID) -> list[Fact]:
        """What a metric's event said; nothing where the entry was none. It stays, as part of the request log, whose
        state says that it does not count. What the entry said about points and streaks is taken back by the correction
        that follows.
        """
        return [rows.event(tuple(row)) for row in await connection.fetch(EVENT, entry_id)]

    async def score_without(
        self, connection: Connection, board: Board, run: Run, user: UserState, fact: Fact
    ) -> Score:
        """The score in a run without one event. Others are read only where the score does not tell."""
        held = user.held[board.key, run.start].score
        score = without(board, held, fact)
        if score is not None:
            return score
        window = (board.schedule.window.first_minute, board.schedule.window.minute_count)
        others = (user.user_id, fact.source.key, run.start, run.end, fact.entry_id, *window)
        if board.rule.adds:
            return lessened(held, fact, await connection.fetchval(NEWEST_REACH, *others))
        if board.rule is ScoreRule.LAST:
            query = LATEST_EVENT
        else:
            query = GREATEST_EVENT if board.order is Order.DESC else LEAST_EVENT
        return folded(board, [rows.event(tuple(row)) for row in await connection.fetch(query, *others)])

    async def save(
        self, connection: Connection, boards: Boards, locked: Locked, decision: Decision, draft: Draft
    ) -> None:
        """Store what is left, and what remains to be projected."""
        user = decision.user
        await connection.execute(BUMP_USER, user.user_id, user.version)
        await connection.executemany(SET_SCORE, _score_rows(boards, decision))
        await connection.execute(REMOVE_HISTORY, user.user_id, locked.apply_time, draft.entry_id)
        await connection.execute(SET_DRAFT, draft.entry_id, drafts.to_text(draft))


def _score_rows(boards: Boards, decision: Decision) -> list[tuple[object, ...]]:
    return [
        (
            decision.user.user_id,
            *key,
            held.score.amount,
            held_order(boards.by_key[key[0]].order, held),
            held.score.reach_time,
            held.score.entry_id,
            held.score.source_version,
            decision.user.version,
        )
        for key, held in sorted(decision.changed.items())
    ]
