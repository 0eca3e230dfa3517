"""What a rebuild of the sorted sets reads: every score, in the order of the key."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from services.leaderboard.domain.entries import Held, RunKey
from services.leaderboard.store import rows
from shared.postgres.pool import Connection

PAGE: Final = """
    SELECT user_id, version, board, run_start, segment, score, reach_time, entry_id, source_version
      FROM scores
     WHERE (user_id, board, run_start) > ($1, $2, $3)
     ORDER BY user_id, board, run_start
     LIMIT $4
"""
SET_MARKER: Final = "UPDATE projection SET marker = $1"
MARKER: Final = "SELECT marker FROM projection"


class StoredScore(Struct, frozen=True):
    """A score as it is stored, also of who is no member any more."""

    user_id: str
    version: int
    run: RunKey
    held: Held


async def page(connection: Connection, after: StoredScore | None, size: int) -> Sequence[StoredScore]:
    """The scores after the last one read."""
    last = (after.user_id, *after.run) if after else ("", "", date.min)
    found = await connection.fetch(PAGE, *last, size)
    return [StoredScore(row["user_id"], row["version"], *rows.held(tuple(row)[2:])) for row in found]


async def set_marker(connection: Connection, marker: str) -> None:
    """What complete sorted sets say of themselves from now on."""
    await connection.execute(SET_MARKER, marker)


async def marker(connection: Connection) -> str | None:
    """What complete sorted sets say of themselves."""
    found: str | None = await connection.fetchval(MARKER)
    return found
