"""What a rebuild of the sorted sets reads: every score, or those of one run."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final

from services.leaderboard.domain.ranks import GONE, SegmentKey
from services.leaderboard.domain.states import RunKey
from services.leaderboard.store import rows
from shared.postgres.pool import Connection

# In the order of the ranks: a sorted set is filled in half the time when what comes next stands beside what came last.
ENTRIES: Final = f"""
    SELECT segment, version || ':' || coalesce({rows.POSITION}, '{GONE}' || user_id) AS entry
      FROM scores
     WHERE board = $1 AND run_start = $2
     ORDER BY order_score, reach_time, user_id
"""
SEGMENTS: Final = """
    SELECT segments.board, segments.run_start, segments.segment
      FROM runs JOIN segments ON segments.board = runs.board AND segments.run_start = runs.start_date
     WHERE NOT runs.finalized
"""
SEGMENTS_OF_RUN: Final = f"{SEGMENTS} AND runs.board = $1 AND runs.start_date = $2"
OPEN_RUNS: Final = "SELECT board, start_date FROM runs WHERE board = $1 AND NOT finalized ORDER BY start_date"
SET_MARKER: Final = "UPDATE projection SET marker = $1"
MARKER: Final = "SELECT marker FROM projection"
UNLIMITED: Final = "SET LOCAL statement_timeout = 0"


async def entries(
    connection: Connection, runs: Iterable[RunKey], size: int
) -> AsyncGenerator[tuple[RunKey, Sequence[rows.Row]], None]:
    """Of each of these runs the segment and the entry (`scripts.FILL`) of all users, `size` at a time, as they are when
    the first of the run are asked for.
    """
    for run in runs:
        async with connection.transaction():
            await connection.execute(UNLIMITED)
            cursor = await connection.cursor(ENTRIES, *run)
            while found := await cursor.fetch(size):
                yield run, found


def is_member(entry: str) -> bool:
    """Whether it is of somebody who is ranked."""
    return not entry.startswith(GONE, entry.index(":") + 1)


async def segments(connection: Connection) -> list[SegmentKey]:
    """Every segment of every open run."""
    return [SegmentKey(*row) for row in await connection.fetch(SEGMENTS)]


async def segments_of_run(connection: Connection, run: RunKey) -> list[SegmentKey]:
    """The segments of a run; none of one that is over."""
    return [SegmentKey(*row) for row in await connection.fetch(SEGMENTS_OF_RUN, *run)]


async def open_runs(connection: Connection, board: str) -> list[RunKey]:
    """The runs of a board that are not finalised."""
    return [(row["board"], row["start_date"]) for row in await connection.fetch(OPEN_RUNS, board)]


async def set_marker(connection: Connection, marker: str | None) -> None:
    """What complete sorted sets say of themselves from now on; None: none are complete."""
    await connection.execute(SET_MARKER, marker)


async def marker(connection: Connection) -> str | None:
    """What complete sorted sets say of themselves."""
    found: str | None = await connection.fetchval(MARKER)
    return found
