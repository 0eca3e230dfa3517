"""That boosts begin and end is told: once each, by a pass (RULES 5.3, 8.1)."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2
from laurel.points.v1 import points_pb2

from services.points.definitions import Configuration, boost_of
from shared.ids import derived_id_at
from shared.postgres import definitions as stored
from shared.postgres.feed import Feed
from shared.postgres.pool import Pool
from shared.rpc.convert import to_timestamp

TOLD: Final = "SELECT points_system, boost, finished FROM told_boosts"
TELL: Final = """
    INSERT INTO told_boosts (points_system, boost, finished) VALUES ($1, $2, $3)
        ON CONFLICT (points_system, boost) DO UPDATE SET finished = EXCLUDED.finished
         WHERE told_boosts.finished <> EXCLUDED.finished
    RETURNING true
"""

Change = tuple[str, points_pb2.PointsBoost, bool, datetime]
"""System, boost, whether it ended, when."""


class BoostEvents:
    """Tells of boosts."""

    def __init__(self, pool: Pool, configuration: stored.Catalogue[Configuration]) -> None:
        self._pool = pool
        self._configuration = configuration
        self._feed = Feed(pool)

    async def run(self, now: datetime) -> None:
        """Tell what has begun and ended by now. Of what was over before anybody looked, nothing."""
        configuration = await self._configuration.latest()
        if not any(message.boosts for message in configuration.messages.values()):
            return
        rows = await self._pool.fetch(TOLD)
        told = {(row["points_system"], row["boost"]): row["finished"] for row in rows}
        for key, boost, finished, time in _changes(configuration, told, now):
            async with self._pool.acquire() as connection, connection.transaction():
                # Another pass may have told it meanwhile.
                if await connection.fetchval(TELL, key, boost.key, finished):
                    await self._feed.append(connection, [_change(key, boost, time, finished=finished)])


def _changes(
    configuration: Configuration, told: dict[tuple[str, str], bool], now: datetime
) -> Iterator[Change]:
    for key, system in sorted(configuration.messages.items()):
        for message in system.boosts:
            start, end = boost_of(message).window.ends
            over = message.cancelled or (end is not None and end <= now)
            finished = told.get((key, message.key))
            if finished is None and not over and start <= now:
                yield key, message, False, start
            elif finished is False and over:
                yield key, message, True, now if end is None or message.cancelled else min(end, now)
            elif finished and not over and start <= now:
                # It has another window now.
                yield key, message, False, start


def _change(key: str, boost: points_pb2.PointsBoost, time: datetime, *, finished: bool) -> bytes:
    name = "boost finished" if finished else "boost started"
    change = participant_service_pb2.Change(
        entry_id=str(derived_id_at(time, name, key, boost.key)),
        occur_time=to_timestamp(time),
        origin=entry_pb2.ENTRY_ORIGIN_MAINTENANCE,
        boost_change=points_pb2.BoostChange(points_system=key, boost=boost, finished=finished),
    )
    return change.SerializeToString(deterministic=True)
