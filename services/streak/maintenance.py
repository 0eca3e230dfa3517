"""Closing what is due at local midnights (RULES 3.7), and telling others of it by the change feed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.streak import convert
from services.streak.amnesties import Amnesties
from services.streak.backfills import Backfills
from services.streak.convert import Effect
from services.streak.domain import Catalogue
from services.streak.handlers import MoreStore, StoredCatalogue
from services.streak.open_streaks import OpenStreaks
from services.streak.rows import Key
from services.streak.store import Store
from services.streak.store_maintenance import MaintenanceStore
from shared import faults
from shared.ids import derived_id_at
from shared.passes import Pass
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp

BATCHES_PER_CALL: Final = 10
"""Transactions of one call: a large midnight takes several, none of which outlasts its deadline."""

BEFORE_COMMIT: Final = faults.declare(
    "streak.maintenance.before_commit", "periods are closed and changes written, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "streak.maintenance.after_commit", "a batch of closings is durable, more may be due"
)


class Maintenance:
    """Passes over everything that is due, in transactions of `batch_size` user streaks at most."""

    def __init__(self, pool: Pool, catalogue: StoredCatalogue, batch_size: int) -> None:
        self._pool = pool
        self._store = Store(pool)
        self._more = MoreStore(pool)
        self._due = MaintenanceStore(pool)
        self._amnesties = Amnesties(pool, catalogue)
        self._backfills = Backfills(pool, catalogue)
        self._feed = Feed(pool)
        self._catalogue = catalogue
        self._batch_size = batch_size

    async def run(self, now: datetime, history: bool) -> Pass:
        """Close a bounded part of what is due at `now`: user streaks that were brought up to date.

        `history`: the instant is one of an import, and nothing is told of what is found.
        """
        return await self._close_some(now, self._batch_size, BATCHES_PER_CALL, history=history)

    async def part(self, now: datetime, most: int) -> Pass:
        """Close so many at most, in one transaction."""
        return await self._close_some(now, most, 1)

    async def _close_some(self, now: datetime, size: int, batches: int, *, history: bool = False) -> Pass:
        closed = 0
        is_due = await self._due.is_due(now)
        for _ in range(batches):
            if not is_due and (history or not await self._is_left()):
                return Pass(closed)
            async with self._pool.acquire() as connection, connection.transaction():
                was_due = is_due
                if was_due:
                    due = await self._due.due(connection, now, size)
                    closed += await self._close_batch(connection, due, now, history=history)
                    is_due = len(due) == size
                elif await self._amnesties.is_pending():
                    closed += await self._amnesties.judge_some(connection, now, size)
                else:
                    closed += await self._backfills.count_some(connection, now, size)
                await BEFORE_COMMIT.reach()
            await AFTER_COMMIT.reach()
            is_due = is_due if was_due else await self._due.is_due(now)
        more = is_due or (not history and await self._is_left())
        return Pass(closed, more)

    async def _is_left(self) -> bool:
        """Whether an amnesty or a backfill has work left; an import leaves that to later passes."""
        return await self._amnesties.is_pending() or await self._backfills.is_pending()

    async def _close_batch(
        self, connection: Connection, due: Mapping[Key, datetime], now: datetime, *, history: bool
    ) -> int:
        """Close what is due, with everybody else kept from these users."""
        if not due:
            return 0
        users = {user_id for user_id, _ in due}
        await self._store.lock_users(connection, users)
        loaded = await self._store.load(users, {streak for _, streak in due}, connection)
        catalogue = await self._catalogue.at(loaded.configuration_version, connection)
        open_streaks, closed = await self._more.decided(
            connection, loaded, lambda open_streaks: _close(catalogue, open_streaks, list(due), now)
        )
        await self._store.save((), open_streaks.writes(), loaded, connection)
        await self._due.park(connection, due.keys() - closed.keys())
        found = (_found(key, effect, due[key], history) for key, effect in closed.items())
        await self._feed.append(
            connection, [change.SerializeToString(deterministic=True) for change in found if change]
        )
        return len(closed)


def _close(
    catalogue: Catalogue, open_streaks: OpenStreaks, due: list[Key], now: datetime
) -> dict[Key, Effect]:
    """What became of those that are still there to be closed, in the order in which they came due."""
    closed = {}
    for user_id, streak in due:
        definition = catalogue.get(streak)
        evaluation = definition and open_streaks.evaluate(user_id, definition, now)
        if definition and evaluation:
            closed[user_id, streak] = Effect(definition, evaluation)
    return closed


def _found(
    key: Key, effect: Effect, due_time: datetime, history: bool
) -> participant_service_pb2.Change | None:
    """What others are told: a break at the local midnight that broke, anything else when it came due.

    Of history only what others have to follow.
    """
    change, current = effect.evaluation.change, effect.evaluation.current
    closing = convert.closing(key[0], effect)
    if current is None or closing is None or (history and change is None):
        return None
    occur_time = change.reach_time if change and change.length == 0 else due_time
    # An instant comes due once: of each there is at most one closing that leaves the length as it was.
    name = str(change.version) if change else "closed"
    return participant_service_pb2.Change(
        entry_id=str(derived_id_at(occur_time, "streak", *key, name)),
        user_id=key[0],
        time_zone=current.time_zone,
        occur_time=to_timestamp(occur_time),
        origin=entry_pb2.ENTRY_ORIGIN_IMPORT if history else entry_pb2.ENTRY_ORIGIN_MAINTENANCE,
        streak_closing=closing,
    )
