"""Streams of events, and how far each has been published."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from services.notification import convert
from services.notification.domain.streams import Stream
from shared.postgres.pool import Connection, Pool

_COLUMNS: Final = """key, stream_id, body, revision, switched_off, cursor, failing_since, failure, last_publish_time,
    published_count, create_time, update_time, behind_since"""

_ALL: Final = f"SELECT {_COLUMNS} FROM event_streams ORDER BY key"
_GET: Final = f"SELECT {_COLUMNS} FROM event_streams WHERE key = $1"
_GET_FOR_UPDATE: Final = f"{_GET} FOR UPDATE"
_LIST: Final = f"SELECT {_COLUMNS} FROM event_streams WHERE key > $1 ORDER BY key LIMIT $2"
# The lock: of two who create the last one that there may be, the second sees the first.
_COUNT: Final = (
    "SELECT count(*) FROM event_streams, (SELECT pg_advisory_xact_lock(hashtext('event_streams'))) AS held"
)
_INSERT: Final = """
    INSERT INTO event_streams (key, stream_id, body, revision, switched_off, cursor, create_time, update_time)
    VALUES ($1, $2, $3, 1, $4, $5, $6, $6)
        ON CONFLICT (key) DO NOTHING
    RETURNING true
"""
_UPDATE: Final = """
    UPDATE event_streams
       SET body = $2, switched_off = $3, revision = revision + 1, update_time = $4,
           failing_since = CASE WHEN $3 THEN NULL ELSE failing_since END,
           failure = CASE WHEN $3 THEN '' ELSE failure END,
           behind_since = CASE WHEN $3 THEN NULL ELSE behind_since END
     WHERE key = $1
"""
_REWIND: Final = "UPDATE event_streams SET cursor = $2, revision = revision + 1 WHERE key = $1"
_DELETE: Final = "DELETE FROM event_streams WHERE key = $1"
_PUBLISHED: Final = """
    UPDATE event_streams
       SET cursor = $4, published_count = published_count + $5, failing_since = NULL, failure = '',
           last_publish_time = CASE WHEN $5::bigint > 0 THEN $6 ELSE last_publish_time END,
           behind_since = CASE WHEN $7 THEN coalesce(behind_since, $6) END
     WHERE stream_id = $1 AND revision = $2 AND cursor = $3
    RETURNING true
"""
_FAILED: Final = """
    UPDATE event_streams
       SET failing_since = coalesce(failing_since, $3), failure = $4, behind_since = coalesce(behind_since, $3)
     WHERE stream_id = $1 AND revision = $2
"""
_RECOVERED: Final = """
    UPDATE event_streams SET failing_since = NULL, failure = '', behind_since = NULL
     WHERE stream_id = $1 AND revision = $2
"""


class StreamStore:
    """The table `event_streams`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def all(self) -> list[Stream]:
        """All streams as they are now."""
        return [convert.stream_from_row(row) for row in await self._pool.fetch(_ALL)]

    async def get(self, key: str, connection: Connection | None = None) -> asyncpg.Record | None:
        """The row of a stream; with a connection it is locked."""
        if connection is not None:
            return await connection.fetchrow(_GET_FOR_UPDATE, key)
        return await self._pool.fetchrow(_GET, key)

    async def list(self, source: Pool | Connection, after: str, limit: int) -> Sequence[asyncpg.Record]:
        """Rows by key."""
        return await source.fetch(_LIST, after, limit)

    async def count(self, connection: Connection) -> int:
        """How many there are; nobody else creates one before this transaction ends."""
        count: int = await connection.fetchval(_COUNT)
        return count

    async def insert(
        self,
        connection: Connection,
        stream_id: UUID,
        key: str,
        body: bytes,
        switched_off: bool,
        cursor: str,
        now: datetime,
    ) -> bool:
        """Whether the key was free."""
        return bool(await connection.fetchval(_INSERT, key, stream_id, body, switched_off, cursor, now))

    async def update(
        self, connection: Connection, key: str, body: bytes, switched_off: bool, now: datetime
    ) -> None:
        """What an operator changes."""
        await connection.execute(_UPDATE, key, body, switched_off, now)

    async def rewind(self, connection: Connection, key: str, cursor: str) -> None:
        """It goes on from there."""
        await connection.execute(_REWIND, key, cursor)

    async def delete(self, connection: Connection, key: str) -> None:
        """The stream is gone."""
        await connection.execute(_DELETE, key)

    async def published(
        self, connection: Connection, stream: Stream, cursor: str, count: int, now: datetime, *, more: bool
    ) -> bool:
        """Note that a page has been published, and whether there is more; not where an operator or another replica has
        moved the stream.
        """
        return bool(
            await connection.fetchval(
                _PUBLISHED, stream.stream_id, stream.revision, stream.cursor, cursor, count, now, more
            )
        )

    async def failed(self, stream: Stream, failure: str, now: datetime) -> None:
        """The broker or the feed did not answer as it should."""
        await self._pool.execute(_FAILED, stream.stream_id, stream.revision, now, failure)

    async def recovered(self, stream: Stream) -> None:
        """There was nothing to publish, and nothing is wrong."""
        await self._pool.execute(_RECOVERED, stream.stream_id, stream.revision)
