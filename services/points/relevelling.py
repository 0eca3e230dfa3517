"""When thresholds change, users are looked at again, a part at a time (RULES 5.5).

Reads and decisions go by the definitions and never by the level that is stored: that is what was told last.
"""

from datetime import datetime
from typing import Final

import msgspec
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.points import convert
from services.points.definitions import Configuration
from services.points.domain.definitions import PointsSystem
from services.points.domain.ledger import relevelled
from services.points.store import Store
from shared.ids import derived_id_at
from shared.postgres import definitions as stored
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp

KNOWN: Final = "SELECT points_system, levels, after_user FROM relevellings"
BEGIN: Final = """
    INSERT INTO relevellings (points_system, levels, after_user) VALUES ($1, $2, '')
        ON CONFLICT (points_system) DO UPDATE SET levels = EXCLUDED.levels, after_user = ''
"""
USERS: Final = """
    SELECT user_id, balance, lifetime, level
      FROM balances
     WHERE user_id > $1 AND points_system = $2
     ORDER BY user_id
     LIMIT $3
"""
MOVE_ON: Final = """
    UPDATE relevellings SET after_user = $2 WHERE points_system = $1 AND levels = $3
"""


class Relevelling:
    """Looks at users whose levels may have become others."""

    def __init__(self, pool: Pool, store: Store, configuration: stored.Catalogue[Configuration]) -> None:
        self._pool = pool
        self._store = store
        self._configuration = configuration
        self._feed = Feed(pool)

    async def run(self, now: datetime, most: int) -> int:
        """Look at so many users at most; at how many."""
        configuration = await self._configuration.latest()
        known = {row["points_system"]: row for row in await self._pool.fetch(KNOWN)}
        for key, system in sorted(configuration.catalogue.systems.items()):
            levels, row = _levels(system), known.get(key)
            if row is None or row["levels"] != levels:
                await self._pool.execute(BEGIN, key, levels)
                after_user = ""
            elif row["after_user"] is None:
                continue
            else:
                after_user = row["after_user"]
            looked_at = await self._look(system, levels, after_user, now, most)
            if looked_at:
                return looked_at
        return 0

    async def _look(
        self, system: PointsSystem, levels: str, after_user: str, now: datetime, most: int
    ) -> int:
        found = await self._pool.fetch(USERS, after_user, system.key, most)
        for row in found:
            level = system.level_at(row["balance"], row["lifetime"])
            if row["level"] != (level.key if level else ""):
                async with self._pool.acquire() as connection, connection.transaction():
                    await self._relevel(connection, row["user_id"], system.key, now)
        last = found[-1]["user_id"] if len(found) == most else None
        await self._pool.execute(MOVE_ON, system.key, last, levels)
        return len(found)

    async def _relevel(self, connection: Connection, user_id: str, key: str, now: datetime) -> None:
        await self._store.lock_user(connection, user_id)
        loaded = await self._store.load([user_id], connection=connection)
        version = loaded.configuration_version
        configuration = await self._configuration.at(version, connection)
        before = loaded.states[user_id]
        found = relevelled(configuration.catalogue, before, key)
        if found is None:
            return
        after, change = found
        await self._store.save([], {}, {user_id: before}, {user_id: after}, version, connection)
        told = participant_service_pb2.Change(
            entry_id=str(derived_id_at(now, "relevelled", user_id, key, str(change.after.version))),
            user_id=user_id,
            time_zone="UTC",
            occur_time=to_timestamp(now),
            origin=entry_pb2.ENTRY_ORIGIN_MAINTENANCE,
            timed_points=entry_pb2.TimedPoints(changes=convert.effects(user_id, [change]).points),
        )
        await self._feed.append(connection, [told.SerializeToString(deterministic=True)])


def _levels(system: PointsSystem) -> str:
    """What decides about levels, as a text that is the same while they are."""
    thresholds = [(level.key, level.threshold) for level in system.levels]
    return msgspec.json.encode((system.level_basis, thresholds)).decode()
