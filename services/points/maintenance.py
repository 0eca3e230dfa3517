"""What comes due by time is found and told, also of users of whom nothing is heard (RULES 5.2, 5.6)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.points import convert, rows
from services.points.boost_events import BoostEvents
from services.points.definitions import Configuration
from services.points.domain.ledger import Award
from services.points.domain.lots import Lots
from services.points.domain.state import UserState
from services.points.domain.timing import Came, advanced, asks_for_lots, with_lots
from services.points.level_days import LevelDays
from services.points.relevelling import Relevelling
from services.points.rows import came_entry
from services.points.store import Store
from services.points.terms import Terms
from shared import faults
from shared.passes import Pass
from shared.postgres import definitions as stored
from shared.postgres.errors import is_conflict
from shared.postgres.feed import Feed
from shared.postgres.pool import Pool
from shared.rpc.convert import to_timestamp

USERS_PER_CALL: Final = 200
"""In one transaction, as long as events leave them alone."""

DUE: Final = """
    SELECT user_id
      FROM (SELECT user_id, next_time
              FROM trigger_states
             WHERE next_time <= $1
             ORDER BY next_time
             LIMIT $2) AS due
     GROUP BY user_id
     ORDER BY min(next_time)
"""

BEFORE_COMMIT: Final = faults.declare(
    "points.maintenance.before_commit", "what came due for some users is written, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "points.maintenance.after_commit", "what came due for some users is durable, others may follow"
)


class Maintenance:
    """Passes over the users for whom something is due."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        configuration: stored.Catalogue[Configuration],
        terms: Terms,
    ) -> None:
        self._pool = pool
        self._store = store
        self._configuration = configuration
        self._terms = terms
        self._feed = Feed(pool)
        self._boost_events = BoostEvents(pool, configuration)
        self._relevelling = Relevelling(pool, store, configuration)
        self._level_days = LevelDays(pool, configuration)

    async def run(self, now: datetime, history: bool) -> Pass:
        """Give a bounded number of users what is due at `now`, or look at the levels of as many."""
        return await self.part(now, USERS_PER_CALL, history=history)

    async def part(self, now: datetime, most: int, *, history: bool = False) -> Pass:
        """Give so many users at most what is due at `now`, or look at the levels of as many.

        `history`: the instant is one of an import, and nothing is told of what is found. Nor are users counted by
        level: who is not of the import is not as of then.
        """
        if not history:
            # Before anything of the new date is given.
            await self._level_days.keep(now.date() - timedelta(days=1))
        due = [row["user_id"] for row in await self._pool.fetch(DUE, now, most)]
        if due:
            await self._give_all(due, now, history=history)
        looked_at = 0 if due or history else await self._relevelling.run(now, most)
        if not due and not history:
            await self._boost_events.run(now)
        return Pass(len(due) + looked_at, more=bool(due or looked_at))

    async def _give_all(self, due: Sequence[str], now: datetime, *, history: bool) -> None:
        """Together. Where one of them moved meanwhile, or breaks it, each alone and kept from other writers."""
        try:
            await self._give(due, now, history=history)
        except Exception as error:
            if len(due) == 1 or not (is_conflict(error) or isinstance(error, asyncpg.DataError)):
                raise
            for user_id in due:
                await self._give([user_id], now, history=history)

    async def _give(self, due: Sequence[str], now: datetime, *, history: bool) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            if len(due) == 1:
                await self._store.lock_user(connection, due[0])
            loaded = await self._store.load(due, connection=connection)
            version = loaded.configuration_version
            configuration = await self._configuration.at(version, connection)
            await self._terms.keep(connection, configuration, for_good=False)
            before = dict(loaded.states)
            catalogue = configuration.catalogue
            asking = [user_id for user_id, state in before.items() if asks_for_lots(catalogue, state, now)]
            lots = await self._store.lots(asking, connection) if asking else {}
            before |= {user_id: with_lots(before[user_id], lots.get(user_id, Lots())) for user_id in asking}
            after: dict[str, UserState] = {}
            came: list[tuple[str, Came]] = []
            for user_id, state in before.items():
                after[user_id], found = advanced(catalogue, state, now)
                came.extend((user_id, each) for each in found)
            entries = [came_entry(user_id, each.fact, each.award_count, now) for user_id, each in came]
            awards: dict[str, list[Award]] = {}
            for user_id, each in came:
                awards.setdefault(user_id, []).extend(rows.awards_of(each.changes, refolded=False))
            await self._store.save(entries, awards, before, after, version, connection)
            told = [
                _found(user_id, each, history=history).SerializeToString(deterministic=True)
                for user_id, each in came
                if any(change.added for change in each.changes)
            ]
            await self._feed.append(connection, told)
            await BEFORE_COMMIT.reach()
        await AFTER_COMMIT.reach()


def _found(user_id: str, came: Came, *, history: bool) -> participant_service_pb2.Change:
    return participant_service_pb2.Change(
        entry_id=str(came.fact.instant.entry_id),
        user_id=user_id,
        time_zone=came.zone,
        occur_time=to_timestamp(came.fact.instant.occur_time),
        origin=entry_pb2.ENTRY_ORIGIN_IMPORT if history else entry_pb2.ENTRY_ORIGIN_MAINTENANCE,
        timed_points=entry_pb2.TimedPoints(changes=convert.effects(user_id, came.changes).points),
    )
