"""What is stored of the zones of users who moved (RULES 3.7), and of contributions that change (RULES 2.2)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.streak.domain import Fact, ZoneChange
from services.streak.rows import columns_of, fact_of
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State

Place = tuple[str, datetime, UUID]
"""A user, and where an entry is among the others by time."""

# Those from an instant on, and the one that holds at it.
ZONE_CHANGES: Final = """
    SELECT wanted.user_id, change.*
      FROM unnest($1::text[], $2::timestamptz[]) AS wanted (user_id, since)
     CROSS JOIN LATERAL (
           SELECT occur_time, entry_id, time_zone FROM zone_changes
            WHERE user_id = wanted.user_id
              AND occur_time >= coalesce((SELECT max(occur_time) FROM zone_changes
                                           WHERE user_id = wanted.user_id AND occur_time < wanted.since), wanted.since)
            ORDER BY occur_time, entry_id
     ) AS change
"""
# The next entry of a user after a place, by time, that names a zone. Of older rows it is not known: all count as such.
FOLLOWING: Final = """
    SELECT wanted.user_id, wanted.occur_time AS after_time, wanted.entry_id AS after_id,
           next.occur_time, next.entry_id, next.time_zone
      FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) AS wanted (user_id, occur_time, entry_id)
      LEFT JOIN LATERAL (
           SELECT occur_time, entry_id, time_zone FROM request_log
            WHERE user_id = wanted.user_id AND state = 1 AND streaks IS NOT NULL AND names_zone IS NOT FALSE
              AND (occur_time, entry_id) > (wanted.occur_time, wanted.entry_id)
            ORDER BY occur_time, entry_id LIMIT 1
      ) AS next ON true
"""
# Events whose contributions may change, and what was told of those that have not come yet.
CONTRIBUTIONS: Final = """
    SELECT wanted.entry_id, log.state, log.metric, log.contribution_micros, log.contribution_version, log.occur_time,
           log.time_zone, log.apply_time, log.streaks,
           told.contribution_micros AS told_micros, told.version AS told_version
      FROM unnest($1::uuid[]) AS wanted (entry_id)
      LEFT JOIN request_log AS log ON log.entry_id = wanted.entry_id
      LEFT JOIN contributions AS told ON told.entry_id = wanted.entry_id
"""


class Contribution(Struct, frozen=True):
    """What an event contributes, and as of which version of the total."""

    micros: int
    version: int


class Counted(Struct, frozen=True):
    """An event whose contribution may change, and the streaks that it counts for."""

    fact: Fact
    version: int
    streaks: Sequence[str]


class Contributions(Struct, frozen=True):
    """What is known of some entries whose contributions change."""

    counted: Mapping[UUID, Counted] = {}
    """Those that came, and were not undone."""
    told: Mapping[UUID, Contribution] = {}
    """What was told of those that have not come."""
    undone: Mapping[UUID, Counted | None] = {}
    """Those that came and are gone; None where all that came was their undoing."""


class ZoneStore:
    """Zones and contributions. Each method is one statement, and none where nothing is asked for."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def changes(
        self, since: Mapping[str, datetime], connection: Connection | None = None
    ) -> dict[str, tuple[ZoneChange, ...]]:
        """Of each of these users the zones from an instant on, and the one that holds at it."""
        if not since:
            return {}
        rows = await (connection or self._pool).fetch(ZONE_CHANGES, list(since), list(since.values()))
        found: dict[str, list[ZoneChange]] = {user: [] for user in since}
        for row in rows:
            found[row["user_id"]].append(_change_of(row))
        return {user: tuple(changes) for user, changes in found.items()}

    async def following(
        self, places: Collection[Place], connection: Connection | None = None
    ) -> dict[Place, tuple[ZoneChange, ...]]:
        """Which of a user's entries that name a zone follows each place, and which that is; empty where none does."""
        if not places:
            return {}
        rows = await (connection or self._pool).fetch(FOLLOWING, *columns_of(sorted(places), 3))
        return {
            (row["user_id"], row["after_time"], row["after_id"]): (_change_of(row),)
            if row["entry_id"]
            else ()
            for row in rows
        }

    async def contributions(
        self, entries: Collection[UUID], connection: Connection | None = None
    ) -> Contributions:
        """What is known of these entries."""
        if not entries:
            return Contributions()
        rows = await (connection or self._pool).fetch(CONTRIBUTIONS, sorted(entries))
        events = {row["entry_id"]: _counted_of(row) for row in rows if row["metric"] is not None}
        undone = [
            row["entry_id"] for row in rows if row["state"] is not None and row["state"] != State.APPLIED
        ]
        return Contributions(
            counted={entry_id: event for entry_id, event in events.items() if entry_id not in undone},
            told={
                row["entry_id"]: Contribution(row["told_micros"], row["told_version"])
                for row in rows
                if row["told_version"] is not None
            },
            undone={entry_id: events.get(entry_id) for entry_id in undone},
        )


def _counted_of(row: asyncpg.Record) -> Counted:
    return Counted(fact_of(row), row["contribution_version"] or 0, row["streaks"] or ())


def _change_of(row: asyncpg.Record) -> ZoneChange:
    return ZoneChange(row["occur_time"], row["entry_id"], row["time_zone"])
