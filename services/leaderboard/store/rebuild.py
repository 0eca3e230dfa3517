"""What a rebuild of the sorted sets reads: every score, or those of one run."""

from collections.abc import AsyncGenerator, Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from services.leaderboard.domain.members import Held
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.states import RunKey
from services.leaderboard.store import rows
from shared.postgres.pool import Connection

PAGE: Final = """
    SELECT user_id, version, board, run_start, segment, score, reach_time, entry_id, source_version, order_score,
           beyond
      FROM scores
     WHERE (user_id, board, run_start) > ($1, $2, $3)
     ORDER BY user_id, board, run_start
     LIMIT $4
"""
OF_RUN: Final = """
    SELECT user_id, version, board, run_start, segment, score, reach_time, entry_id, source_version, order_score,
           beyond
      FROM scores
     WHERE board = $1 AND run_start = $2
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


class StoredScore(Struct, frozen=True):
    """A score as it is stored, also of who is no member any more."""

    user_id: str
    version: int
    run: RunKey
    held: Held


async def scores(connection: Connection, size: int) -> AsyncGenerator[Sequence[StoredScore], None]:
    """Every score in the order of the key, `size` at a time, as they are when their turn comes."""
    last: tuple[str, str, date] = ("", "", date.min)
    while found := await connection.fetch(PAGE, *last, size):
        page = _stored(found)
        yield page
        last = (page[-1].user_id, *page[-1].run)


async def scores_of_run(
    connection: Connection, run: RunKey, size: int
) -> AsyncGenerator[Sequence[StoredScore], None]:
    """The scores of one run, `size` at a time, as they are when the first are asked for."""
    async with connection.transaction():
        cursor = await connection.cursor(OF_RUN, *run)
        while found := await cursor.fetch(size):
            yield _stored(found)


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


def _stored(found: Sequence[rows.Row]) -> list[StoredScore]:
    return [StoredScore(row["user_id"], row["version"], *rows.held(tuple(row)[2:])) for row in found]
