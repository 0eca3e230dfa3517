"""Closing what is due at local midnights (RULES 3.7), and telling others of it by the change feed."""

from datetime import datetime
from typing import Final

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.streak import convert
from services.streak.batch import Batch
from services.streak.domain import Catalogue, Evaluation
from services.streak.handlers import StoredCatalogue, with_histories
from services.streak.store import Key, Store
from services.streak.store_history import HistoryStore
from services.streak.store_maintenance import MaintenanceStore
from shared import faults
from shared.clock import Clock
from shared.ids import derived_id_at
from shared.postgres.feed import Feed
from shared.postgres.maintenance import hold, is_held
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp

BEFORE_COMMIT: Final = faults.declare(
    "streak.maintenance.before_commit", "periods are closed and changes written, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "streak.maintenance.after_commit", "a batch of closings is durable, more may be due"
)


class Maintenance:
    """Passes over everything that is due, in transactions of `batch_size` user streaks."""

    def __init__(self, pool: Pool, catalogue: StoredCatalogue, clock: Clock, batch_size: int) -> None:
        self._pool = pool
        self._store = Store(pool)
        self._histories = HistoryStore(pool)
        self._due = MaintenanceStore(pool)
        self._feed = Feed(pool)
        self._catalogue = catalogue
        self._clock = clock
        self._batch_size = batch_size

    async def run(self, now: datetime, hold_seconds: int | None) -> int:
        """Close everything that is due at `now`, and hold off or release the service's own passes.

        The result is the number of user streaks that were brought up to date.
        """
        if hold_seconds is not None:
            async with self._pool.acquire() as connection:
                await hold(connection, hold_seconds)
        return await self._close_all(now, history=bool(hold_seconds))

    async def run_by_clock(self) -> None:
        """A pass at the present instant, unless an import has maintenance in its hands."""
        async with self._pool.acquire() as connection:
            if await is_held(connection):
                return
        await self._close_all(self._clock.now())

    async def _close_all(self, now: datetime, *, history: bool = False) -> int:
        closed = 0
        while await self._due.is_due(now):
            async with self._pool.acquire() as connection, connection.transaction():
                closed += await self._close_batch(connection, now, history=history)
                await BEFORE_COMMIT.reach()
            await AFTER_COMMIT.reach()
        return closed

    async def _close_batch(self, connection: Connection, now: datetime, *, history: bool) -> int:
        """Close what has been due longest, with everybody else kept from these users."""
        due = await self._due.due(connection, now, self._batch_size)
        if not due:
            return 0
        users = {user_id for user_id, _ in due}
        await self._store.lock_users(connection, users)
        loaded = await self._store.load(users, {streak for _, streak in due}, connection)
        catalogue = await self._catalogue.at(loaded.configuration_version, connection)
        batch, evaluations = await with_histories(
            self._histories, connection, loaded, lambda batch: _close(catalogue, batch, list(due), now)
        )
        await self._store.save((), batch.writes(), connection)
        await self._due.park(connection, due.keys() - evaluations.keys())
        origin = entry_pb2.ENTRY_ORIGIN_IMPORT if history else entry_pb2.ENTRY_ORIGIN_MAINTENANCE
        found = (_found(key, evaluation, due[key], origin) for key, evaluation in evaluations.items())
        await self._feed.append(
            connection, [change.SerializeToString(deterministic=True) for change in found if change]
        )
        return len(evaluations)


def _close(catalogue: Catalogue, batch: Batch, due: list[Key], now: datetime) -> dict[Key, Evaluation]:
    """The evaluations of those that are still there to be closed, in the order in which they came due."""
    closed = {}
    for user_id, streak in due:
        definition = catalogue.get(streak)
        evaluation = definition and batch.bring_up_to(user_id, definition, now)
        if evaluation:
            closed[user_id, streak] = evaluation
    return closed


def _found(
    key: Key, evaluation: Evaluation, due_time: datetime, origin: entry_pb2.EntryOrigin.ValueType
) -> participant_service_pb2.Change | None:
    """What others are told: a break at the local midnight that broke, anything else when it came due."""
    change, current = evaluation.change, evaluation.current
    if change is None or current is None:
        return None
    user_id, streak = key
    occur_time = change.reach_time if change.length == 0 else due_time
    message = participant_service_pb2.Change(
        entry_id=str(derived_id_at(occur_time, "streak", *key, str(change.version))),
        user_id=user_id,
        time_zone=current.time_zone,
        occur_time=to_timestamp(occur_time),
        origin=origin,
    )
    message.streak_closing.change.CopyFrom(convert.change_to_proto(streak, change))
    return message
