"""The feed of domain events: how the statements that complete and settle write it, how it is read and trimmed."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.orchestrator.domain_events import Told
from shared.postgres.feed import TRIMMED_AT_ONCE, Feed, Place, place_in, place_of
from shared.postgres.pool import Pool

NEWEST: Final = "newest"
"""The cursor of a follower who wants nothing of what is there."""

TELL: Final = """
    INSERT INTO domain_events (sequence, entry, effects)
    SELECT told.sequence, told.entry, told.effects
      FROM unnest({rows}::domain_event_row[]) AS told
     WHERE {condition}
"""
"""Written with what it tells. `rows` are those of `rows_of`."""

_TRIMS_AT_ONCE: Final = 50


def rows_of(told: Iterable[tuple[UUID, Told | None]]) -> list[tuple[object, ...]]:
    """What entries tell, as rows; of those completed together in the order in which they were recorded."""
    return [
        (entry_id, sequence, row.entry, row.effects)
        for sequence, (entry_id, row) in enumerate(told)
        if row is not None
    ]


class ToldRow(Struct, frozen=True):
    """A row of the feed."""

    cursor: str
    """Behind it."""
    told: Told


class ToldPage(Struct, frozen=True):
    """A part of the feed."""

    rows: Sequence[ToldRow]
    """Oldest first."""
    cursor: str
    """Behind all of them."""


class DomainEventStore:
    """Reads the feed of domain events, and keeps it in bounds."""

    def __init__(self, pool: Pool) -> None:
        self._feed = Feed(pool, "domain_events", "entry, effects")

    async def place(self, cursor: str, field: str) -> Place:
        """The place of a cursor. Raises `InvalidArgument` that names the field."""
        return await self._feed.newest() if cursor == NEWEST else place_of(cursor, field)

    async def after(self, place: Place, limit: int) -> ToldPage:
        """What comes after a place."""
        page = await self._feed.after(place, limit)
        rows = [ToldRow(place_in(row).cursor, Told(row["entry"], row["effects"])) for row in page.rows]
        return ToldPage(rows, page.cursor)

    async def lag(self) -> timedelta:
        """For how long what was told has been held back from followers by older transactions."""
        return await self._feed.lag()

    async def trim(self, older_than: timedelta) -> None:
        """Delete what is older, a bounded part of it."""
        newest = await self._feed.newest()
        for _ in range(_TRIMS_AT_ONCE):
            if await self._feed.trim(newest, older_than) < TRIMMED_AT_ONCE:
                return
