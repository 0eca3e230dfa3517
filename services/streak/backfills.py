"""Backfills: a streak that is defined with `backfill` has the periods that it would have had from the first event on.

The log has every event, also those that counted for no streak. User by user, in order of id, those of the streak's
metrics are counted and the streak is folded anew, in one transaction with the cursor. An event that comes meanwhile
counts as ever: whoever comes second finds the user changed, and decides again.
"""

from collections.abc import Sequence
from datetime import datetime

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2
from msgspec.structs import replace

from services.streak import convert
from services.streak.convert import Effect
from services.streak.domain import Evaluation, StreakDefinition
from services.streak.handlers import MoreStore, StoredCatalogue
from services.streak.open_streaks import OpenStreaks
from services.streak.store import Store
from services.streak.store_backfills import BackfillStore, Progress
from shared.ids import derived_id_at
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp


class Backfills:
    """Backfills on their way."""

    def __init__(self, pool: Pool, catalogue: StoredCatalogue) -> None:
        self._store = Store(pool)
        self._more = MoreStore(pool)
        self._backfills = BackfillStore(pool)
        self._feed = Feed(pool)
        self._catalogue = catalogue

    async def is_pending(self) -> bool:
        """Whether events are to be counted for a streak that was defined after them."""
        return bool(await self._pending())

    async def progress(self, definition: StreakDefinition) -> Progress | None:
        """How far the backfill of a streak has come; None for one that has none."""
        if definition.backfill_time is None:
            return None
        return await self._backfills.progress(definition.key, definition.backfill_time)

    async def count_some(self, connection: Connection, now: datetime, most: int) -> int:
        """Go on with one backfill, by so many users at most; how many users' streaks were folded."""
        await self._backfills.lock(connection)
        pending = await self._pending(connection)
        if not pending:
            return 0
        definition = pending[0]
        assert definition.backfill_time is not None
        known = await self._backfills.progress(definition.key, definition.backfill_time, connection)
        users = await self._backfills.users(connection, known.user_id, most)
        if not users:
            end = replace(known, user_id="", finish_time=now)
            await self._backfills.come_to(connection, definition.key, end)
            return 0
        found = await self._fold(connection, definition, users, now)
        come_to = replace(
            known,
            user_id=users[-1],
            looked_count=known.looked_count + len(users),
            found_count=known.found_count + found,
        )
        await self._backfills.come_to(connection, definition.key, come_to)
        return found

    async def _pending(self, connection: Connection | None = None) -> list[StreakDefinition]:
        catalogue = await self._catalogue.latest(connection)
        wanted = [each for each in catalogue.all() if each.backfill_time]
        if not wanted:
            return []
        finished = await self._backfills.finished(connection)
        return [each for each in wanted if (each.key, each.backfill_time) not in finished]

    async def _fold(
        self, connection: Connection, definition: StreakDefinition, users: Sequence[str], now: datetime
    ) -> int:
        await self._store.lock_users(connection, users)
        metrics = [wanted.metric for wanted in definition.metrics]
        found = await self._backfills.count(connection, users, definition.key, metrics)
        if not found:
            return 0
        loaded = await self._store.load(found, [definition.key], connection)
        open_streaks, folded = await self._more.decided(
            connection, loaded, lambda open_streaks: _folded(open_streaks, definition, found, now)
        )
        await self._store.save((), open_streaks.writes(), loaded, connection)
        changes = [_found(user_id, definition, each) for user_id, each in folded.items()]
        await self._feed.append(
            connection, [change.SerializeToString(deterministic=True) for change in changes if change]
        )
        return len(folded)


def _folded(
    open_streaks: OpenStreaks, definition: StreakDefinition, users: Sequence[str], now: datetime
) -> dict[str, Evaluation]:
    folded = {}
    for user_id in users:
        evaluation = open_streaks.fold_anew(user_id, definition, now)
        if evaluation:
            folded[user_id] = evaluation
    return folded


def _found(
    user_id: str, definition: StreakDefinition, evaluation: Evaluation
) -> participant_service_pb2.Change | None:
    """What others have to follow: it happened when the streak was defined, and nobody is told of it (RULES 8.3)."""
    closing = convert.closing(user_id, Effect(definition, evaluation))
    if definition.backfill_time is None or evaluation.current is None or closing is None:
        return None
    return participant_service_pb2.Change(
        entry_id=str(derived_id_at(definition.backfill_time, "streak", user_id, definition.key, "backfill")),
        user_id=user_id,
        time_zone=evaluation.current.time_zone,
        occur_time=to_timestamp(definition.backfill_time),
        origin=entry_pb2.ENTRY_ORIGIN_BACKFILL,
        streak_closing=closing,
    )
