"""Segments that everybody has left: they count for the limit no more, and their sorted sets go (RULES 6.13)."""

from collections.abc import Sequence
from typing import Final

from services.leaderboard.domain.states import RunKey
from shared.postgres.pool import Connection, Pool

_LEFT: Final = """
      FROM segments
     WHERE board = {board} AND run_start = {run_start} AND segment <> ''
       AND NOT EXISTS (SELECT FROM scores
                        WHERE scores.board = {board} AND scores.run_start = {run_start}
                          AND scores.segment = segments.segment AND scores.segment <> '')
"""
LEFT: Final = f"SELECT segment {_LEFT.format(board='$1', run_start='$2')}"
RUNS_TO_LOOK_AT: Final = f"""
    SELECT board, start_date
      FROM runs
     WHERE NOT finalized AND board = ANY($1::text[])
       AND EXISTS (SELECT {_LEFT.format(board="runs.board", run_start="runs.start_date")})
"""
# Waits for writers that hold a share lock on the run; later ones find another number, and decide again.
CLEAN: Final = """
    UPDATE runs SET cleanings = cleanings + 1 WHERE board = $1 AND start_date = $2 AND NOT finalized RETURNING true
"""
REMOVE: Final = """
    WITH looked AS (
        DELETE FROM tracked_tops WHERE board = $1 AND run_start = $2 AND segment = ANY($3::text[])
    )
    DELETE FROM segments WHERE board = $1 AND run_start = $2 AND segment = ANY($3::text[])
"""


async def runs_to_look_at(pool: Pool, boards: Sequence[str]) -> list[RunKey]:
    """The open runs of these boards that have such segments."""
    return [(row["board"], row["start_date"]) for row in await pool.fetch(RUNS_TO_LOOK_AT, list(boards))]


async def left(connection: Pool | Connection, run: RunKey) -> list[str]:
    """The segments of a run in which nobody has a score, ranked or not."""
    return [row["segment"] for row in await connection.fetch(LEFT, *run)]


async def begin(connection: Connection, run: RunKey) -> bool:
    """From here to the end of the transaction nobody enters a segment of the run; False where the run is over."""
    return bool(await connection.fetchval(CLEAN, *run))


async def remove(connection: Connection, run: RunKey, segments: Sequence[str]) -> None:
    """These segments are no more."""
    await connection.execute(REMOVE, *run, list(segments))
