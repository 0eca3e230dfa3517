"""Least intervals: what was let through lately, and what is held."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from services.notification import convert
from services.notification.domain.pacing import Pace
from shared.postgres.pool import Connection

RELEASED_AT_ONCE: Final = 500

_COLUMNS: Final = """pace.endpoint_id, pace.user_id, pace.type, pace.subject, pace.last_time, pace.held_count,
    pace.first_event, pace.last_event"""
_LOAD: Final = f"""
    SELECT {_COLUMNS}
      FROM unnest($1::webhook_pace_key[]) AS wanted
      JOIN webhook_paces AS pace ON pace.endpoint_id = wanted.endpoint_id AND pace.user_id = wanted.user_id
           AND pace.type = wanted.type AND pace.subject = wanted.subject
     ORDER BY pace.endpoint_id, pace.user_id, pace.type, pace.subject
       FOR UPDATE OF pace
"""
_SAVE: Final = """
    INSERT INTO webhook_paces (endpoint_id, user_id, type, subject, last_time, release_time, held_count,
                               first_event, last_event)
    SELECT * FROM unnest($1::webhook_pace_row[])
     ORDER BY 1, 2, 3, 4
        ON CONFLICT (endpoint_id, user_id, type, subject) DO UPDATE
       SET last_time = EXCLUDED.last_time, release_time = EXCLUDED.release_time,
           held_count = EXCLUDED.held_count, first_event = EXCLUDED.first_event, last_event = EXCLUDED.last_event
"""
_DUE: Final = f"""
    SELECT {_COLUMNS}
      FROM webhook_paces AS pace
     WHERE pace.release_time <= $1
     ORDER BY pace.release_time
     LIMIT $2
       FOR UPDATE SKIP LOCKED
"""
_FORGET: Final = """
    DELETE FROM webhook_paces AS pace
     USING unnest($1::webhook_pace_key[]) AS old
     WHERE pace.endpoint_id = old.endpoint_id AND pace.user_id = old.user_id AND pace.type = old.type
       AND pace.subject = old.subject
"""


class PaceKey(NamedTuple):
    """What has a pace of its own."""

    endpoint_id: UUID
    user_id: str
    type: str
    subject: str


class PaceStore:
    """The table `webhook_paces`. All of it is done within a caller's transaction."""

    async def load(self, connection: Connection, keys: Iterable[PaceKey]) -> dict[PaceKey, Pace]:
        """The paces there are of these keys."""
        return _paces(await connection.fetch(_LOAD, sorted(keys)))

    async def due(self, connection: Connection, now: datetime) -> dict[PaceKey, Pace]:
        """Some of those whose interval is over."""
        return _paces(await connection.fetch(_DUE, now, RELEASED_AT_ONCE))

    async def save(
        self,
        connection: Connection,
        paces: Mapping[PaceKey, Pace],
        intervals: Mapping[UUID, timedelta],
    ) -> None:
        """What the paces have become."""
        rows = [
            (
                *key,
                pace.last_time,
                pace.release_time(intervals[key.endpoint_id]),
                pace.held_count,
                convert.held_to_text(pace.first),
                convert.held_to_text(pace.last),
            )
            for key, pace in paces.items()
        ]
        if rows:
            await connection.execute(_SAVE, rows)

    async def forget(self, connection: Connection, keys: Iterable[PaceKey]) -> None:
        """Nothing of these is held, and the next event may go at once."""
        await connection.execute(_FORGET, sorted(keys))


def _paces(rows: Iterable[Any]) -> dict[PaceKey, Pace]:
    found = {}
    for row in rows:
        key = PaceKey(*(row[name] for name in PaceKey._fields))
        found[key] = Pace(
            row["last_time"],
            row["held_count"],
            convert.held_from_text(row["first_event"]),
            convert.held_from_text(row["last_event"]),
        )
    return found
