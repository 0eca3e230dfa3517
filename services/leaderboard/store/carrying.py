"""Streaks that are alive in a run in which nothing was said of them: they are carried into it when it begins, and
before it is archived (RULES 6.3).

A run is entered with the first thing that is said of a streak in it: that a period qualified, or broke it. Where
freezes or days off carry it on, or its periods are longer than the board's runs, that may be never. Who had it alive is
then known from the run before.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from services.leaderboard.domain.boards import WHOLE, Board, Boards
from services.leaderboard.domain.lengths import length_in
from services.leaderboard.domain.members import Held, held_for, held_order
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.runs import Run, RunState
from services.leaderboard.store import rows
from services.leaderboard.store.past import read_lengths
from services.leaderboard.store.segments import SegmentStore
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Connection, Pool

# Who was ranked with a length in a run, be it archived already or not.
ALIVE: Final = """
    SELECT user_id FROM archive WHERE board = $1 AND run_start = $2 AND segment = '' AND score > 0
     UNION ALL
    SELECT user_id FROM scores WHERE board = $1 AND run_start = $2 AND score > 0
"""
# And has no score in the next.
CANDIDATES: Final = f"""
    SELECT user_id
      FROM ({ALIVE}) AS alive
     WHERE NOT EXISTS (
           SELECT FROM scores
            WHERE scores.user_id = alive.user_id AND scores.board || '' = $1 AND scores.run_start = $3)
"""
SEGMENTS_OF: Final = """
    SELECT user_id, segment FROM scores WHERE user_id = ANY($1::text[]) AND board || '' = $2 AND run_start = $3
"""
# A run that is opened needs its board: a write of definitions waits.
HOLD_DEFINITIONS: Final = "SELECT FROM configuration_version FOR SHARE"
OPEN: Final = """
    INSERT INTO runs (board, start_date, end_date, finalize_time) VALUES ($1, $2, $3, $4)
        ON CONFLICT (board, start_date) DO NOTHING
"""
# Whoever writes to these users meanwhile finds another version, and decides anew.
LOCK: Final = """
    SELECT user_id, version, profile_version, name, attributes, exclusions FROM users WHERE user_id = ANY($1::text[])
     ORDER BY user_id FOR UPDATE
"""
STILL_OPEN: Final = (
    "SELECT cleanings FROM runs WHERE board = $1 AND start_date = $2 AND NOT finalized FOR SHARE"
)
CARRY: Final = """
    WITH ranked AS (
        INSERT INTO scores (user_id, board, run_start, segment, score, order_score, reach_time, entry_id,
                            source_version, version, beyond)
        SELECT * FROM unnest($1::score_row_2[])
            ON CONFLICT (user_id, board, run_start) DO NOTHING
    ), seen AS (
        INSERT INTO segments (board, run_start, segment)
        SELECT DISTINCT board, run_start, part
          FROM unnest($1::score_row_2[]) AS batch CROSS JOIN LATERAL (VALUES (''), (batch.segment)) AS parts (part)
            ON CONFLICT (board, run_start, segment) DO NOTHING
    )
    UPDATE users SET version = batch.version FROM unnest($1::score_row_2[]) AS batch WHERE users.user_id = batch.user_id
"""


async def candidates(connection: Connection, board: Board, run: Run, before: Run) -> list[str]:
    """The users who may have to be carried from the run before into this one."""
    found = await connection.fetch(CANDIDATES, board.key, before.start, run.start)
    return sorted(row["user_id"] for row in found)


async def alive(pool: Pool, board: Board, run: Run) -> list[str]:
    """Who had the streak alive in a run."""
    return sorted({row["user_id"] for row in await pool.fetch(ALIVE, board.key, run.start)})


async def segments_of(pool: Pool, board: Board, run: Run, user_ids: Sequence[str]) -> dict[str, str]:
    """The segments of those of these users who have a score in a run."""
    found = await pool.fetch(SEGMENTS_OF, list(user_ids), board.key, run.start)
    return {row["user_id"]: row["segment"] for row in found}


async def open_run(connection: Connection, catalogue: Catalogue[Boards], state: RunState) -> bool:
    """Open a run that nobody has entered yet, inside a transaction; False where its board is gone."""
    await connection.execute(HOLD_DEFINITIONS)
    if state.board not in (await catalogue.latest(connection)).by_key:
        return False
    await connection.execute(OPEN, state.board, state.run.start, state.run.end, state.finalize_time)
    return True


async def carry(
    connection: Connection, segments: SegmentStore, board: Board, run: Run, user_ids: Sequence[str]
) -> None:
    """Give those whose streak was alive in the run their score, inside a transaction."""
    locked = await connection.fetch(LOCK, user_ids)
    cleanings = await connection.fetchval(STILL_OPEN, board.key, run.start)
    if cleanings is None:
        return
    lengths = await read_lengths(
        connection, {(row["user_id"], board.source.key): run.start for row in locked}
    )
    carried: list[tuple[str, int, Held]] = []
    for row in locked:
        version, profile = rows.profile(tuple(row)[1:])
        known = lengths.get(row["user_id"], {}).get(board.source.key, {})
        excluded = rows.exclusions(row["exclusions"])
        held = held_for(board, profile, excluded, length_in(known, run))
        if held.score.amount is not None:
            carried.append((row["user_id"], version + 1, held))
    wanted = {held.segment for _, _, held in carried} - {WHOLE}
    refused = await segments.refused(
        {board.key: board},
        [SegmentKey(board.key, run.start, one) for one in sorted(wanted)],
        {(board.key, run.start): cleanings},
        connection,
    )
    scored = []
    for user_id, version, held in carried:
        if SegmentKey(board.key, run.start, held.segment) in refused:
            held = replace(held, segment=WHOLE, beyond=True)
        scored.append(_row(board, run, user_id, version, held))
    await connection.execute(CARRY, scored)


def _row(board: Board, run: Run, user_id: str, version: int, held: Held) -> tuple[Any, ...]:
    return (
        user_id,
        board.key,
        run.start,
        held.segment,
        held.score.amount,
        held_order(board.order, held),
        held.score.reach_time,
        None,
        0,
        version,
        held.beyond,
    )
