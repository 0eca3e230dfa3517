"""Anniversaries of users of whom nothing is heard: a pass gives what is due, as an entry would (RULES 4).

What a pass and what an entry find is told in the feed in the same form, so points and boards follow it once, whoever
was first.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.achievement import convert
from services.achievement.domain import (
    Came,
    Catalogue,
    Decision,
    Fact,
    Past,
    UserState,
    WantedFacts,
    advanced,
)
from services.achievement.past import PastStore
from services.achievement.store import Asked, Loaded, LogEntry, Store
from shared import faults
from shared.ids import derived_id_beside
from shared.passes import Pass
from shared.postgres import definitions as stored
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import FOUND, State
from shared.rpc.convert import to_timestamp

USERS_PER_CALL: Final = 500
"""In one transaction."""

IS_DUE: Final = "SELECT EXISTS (SELECT FROM users WHERE next_anniversary <= $1)"
# In the order of the key, as by whoever decides about users.
DUE: Final = """
    SELECT user_id FROM users
     WHERE user_id IN (SELECT user_id FROM users WHERE next_anniversary <= $1 ORDER BY next_anniversary LIMIT $2)
     ORDER BY user_id
       FOR UPDATE
"""

BEFORE_COMMIT: Final = faults.declare(
    "achievement.anniversary.before_commit", "anniversaries of some users are written, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "achievement.anniversary.after_commit", "anniversaries of some users are durable, others may follow"
)


class Anniversaries:
    """Passes over the users for whom something is due."""

    def __init__(self, pool: Pool, store: Store, catalogue: stored.Catalogue[Catalogue]) -> None:
        self._pool = pool
        self._store = store
        self._catalogue = catalogue
        self._feed = Feed(pool)

    async def run(self, now: datetime, history: bool) -> Pass:
        """Give a bounded number of users what is due at `now`. `history`: nothing is told of it."""
        return await self.part(now, USERS_PER_CALL, history=history)

    async def part(self, now: datetime, most: int, *, history: bool = False) -> Pass:
        """Give so many users at most what is due, in one transaction. One look-up by index when nothing is."""
        if not await self._pool.fetchval(IS_DUE, now):
            return Pass()
        async with self._pool.acquire() as connection, connection.transaction():
            due = [row["user_id"] for row in await connection.fetch(DUE, now, most)]
            if not due:
                return Pass()
            await self._give(connection, due, now, history=history)
            await BEFORE_COMMIT.reach()
        await AFTER_COMMIT.reach()
        return Pass(len(due), more=True)

    async def _give(
        self, connection: Connection, due: Sequence[str], now: datetime, *, history: bool
    ) -> None:
        catalogue, loaded = await self._load(connection, due)
        after: dict[str, UserState] = {}
        entries: list[LogEntry] = []
        told: list[bytes] = []
        for user_id in due:
            after[user_id], came = await _advanced(connection, catalogue, loaded.states[user_id], now)
            entries += (came_entry(user_id, each) for each in came)
            told += told_of(user_id, came, catalogue, history=history)
        await self._store.save_given(connection, entries, loaded, after)
        await self._feed.append(connection, told)

    async def _load(self, connection: Connection, due: Sequence[str]) -> tuple[Catalogue, Loaded]:
        version = await self._store.configuration_version(connection)
        catalogue = await self._catalogue.at(version, connection)
        keys = frozenset(catalogue.with_composites(each.key for each in catalogue.anniversaries))
        asked = Asked(achievements=keys, whose=keys)
        return catalogue, await self._store.load(due, asked, connection)


async def _advanced(
    connection: Connection, catalogue: Catalogue, state: UserState, now: datetime
) -> tuple[UserState, tuple[Came, ...]]:
    """With as much of what is stored as it takes. Nothing may be due any more: then it is known when something is."""
    facts: dict[UUID, Fact | None] = {}
    while True:
        try:
            return advanced(catalogue, state, now, Past(facts))
        except WantedFacts as wanted:
            facts |= dict.fromkeys(wanted.entry_ids) | await PastStore(connection).facts(wanted.entry_ids)


def came_entry(user_id: str, came: Came) -> LogEntry:
    """An instant at which something was due, as it goes into the log: nobody asks for it, so there is no outcome."""
    decision = Decision(UserState(user_id), came.fact, came.changes)
    return LogEntry(user_id, FOUND, State.APPLIED, b"", came.time, decision)


def told_of(user_id: str, came: Sequence[Came], catalogue: Catalogue, *, history: bool) -> list[bytes]:
    """What others have to hear: of what is no past all; of what is, what points hang on."""
    now_origin = entry_pb2.ENTRY_ORIGIN_IMPORT if history else entry_pb2.ENTRY_ORIGIN_MAINTENANCE
    told = []
    for each in came:
        effects = convert.effects(user_id, each.changes, catalogue).achievements
        fresh = [change for change in effects if not change.backdated]
        backdated = [change for change in effects if change.backdated and not change.unrewarded]
        entry_id = each.fact.entry_id
        for origin, name, changes in (
            (now_origin, entry_id, fresh),
            (entry_pb2.ENTRY_ORIGIN_BACKFILL, derived_id_beside(entry_id, "backdated"), backdated),
        ):
            if changes:
                change = participant_service_pb2.Change(
                    entry_id=str(name),
                    user_id=user_id,
                    time_zone=each.zone,
                    occur_time=to_timestamp(each.time),
                    origin=origin,
                    anniversary=entry_pb2.Anniversary(changes=changes),
                )
                told.append(change.SerializeToString(deterministic=True))
    return told
