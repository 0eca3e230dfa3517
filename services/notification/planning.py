"""What happens makes plans of messages, in the transaction that moves the cursor. One replica at a time reads."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from laurel.orchestrator.v1 import domain_event_pb2

from services.notification import message_convert as convert
from services.notification.domain import messages
from services.notification.domain.contacts import MessageType
from services.notification.domain.messages import Definition, Plan
from services.notification.feed import FeedReader
from services.notification.following import PASSING
from services.notification.store.messages import Key, MessageStore
from shared import faults
from shared.clock import Clock
from shared.postgres.pool import Pool
from shared.rpc.convert import to_datetime

BEFORE_COMMIT: Final = faults.declare(
    "notification.plan.before_commit", "a page of the feed is planned, not yet committed"
)
_LOGGER: Final = logging.getLogger(__name__)
_COMPLETED: Final = "achievement.completed"
_REVOKED: Final = "achievement.revoked"
_RECORDED: Final = "metric.recorded"
_MERGED: Final = "user.merged"
_TOLD_BY: Final = {
    MessageType.ACHIEVEMENT: (_COMPLETED, _REVOKED, _MERGED),
    MessageType.RECAP: (_RECORDED, _MERGED),
    MessageType.REACTIVATION: (_RECORDED, _MERGED),
}


class Planner:
    """Reads the feed for messages; nothing of it while none are switched on."""

    def __init__(self, pool: Pool, feed: FeedReader, store: MessageStore, clock: Clock) -> None:
        self._pool = pool
        self._feed = feed
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Plan what there is."""
        try:
            while await self._page():
                pass
        except PASSING as error:
            _LOGGER.warning("the feed cannot be read", extra={"reason": error.reason})

    async def _page(self) -> bool:
        """Whether there may be more."""
        definitions = {
            definition.type: definition
            for row in await self._store.definitions()
            if (definition := convert.definition_from_row(row)).switched_on and definition.type in _TOLD_BY
        }
        cursor = await self._store.cursor()
        if not definitions:
            if cursor is not None:
                await self._store.move(self._pool, cursor, None)
            return False
        if cursor is None:
            return await self._store.move(self._pool, None, await self._feed.newest())
        types = sorted({name for type_ in definitions for name in _TOLD_BY[type_]})
        page = await self._feed.after(cursor, types)
        if page.cursor == cursor:
            return False
        await self._plan(cursor, page.cursor, page.events, definitions)
        return page.more

    async def _plan(
        self,
        before: str,
        after: str,
        events: Sequence[domain_event_pb2.DomainEvent],
        definitions: dict[MessageType, Definition],
    ) -> None:
        """To a control user no messages go out (RULES 8.3)."""
        events = [event for event in events if not event.control]
        now = self._clock.now()
        told = [(event, type_) for event in events for type_ in definitions if event.type in _TOLD_BY[type_]]
        keys: dict[Key, None] = dict.fromkeys((event.user_id, type_) for event, type_ in told)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await self._store.move(connection, before, after):
                return
            known = await self._store.load(connection, keys) if keys else {}
            plans: dict[Key, Plan | None] = dict(known)
            for event, type_ in told:
                key = (event.user_id, type_)
                plans[key] = _planned(plans.get(key), event, type_, now)
            changed = {key: plan for key, plan in plans.items() if plan != known.get(key)}
            await self._store.save(
                connection,
                {
                    key: (plan, messages.look_time(plan, definitions[key[1]], now))
                    for key, plan in changed.items()
                    if plan is not None
                },
            )
            await self._store.forget(connection, [key for key, plan in changed.items() if plan is None])
            await BEFORE_COMMIT.reach()


def _planned(
    plan: Plan | None, event: domain_event_pb2.DomainEvent, type_: MessageType, now: datetime
) -> Plan | None:
    """What an event makes of the plan of a type."""
    user_id, time = event.user_id, to_datetime(event.time)
    match event.type, type_:
        case "user.merged", _:
            return None  # whom the id leads to has plans of their own
        case "achievement.completed", _:
            return messages.completed(plan, user_id, convert.item_of(event), time, now)
        case "achievement.revoked", _:
            return messages.revoked(plan, event.achievement.completion_id)
        case _, MessageType.RECAP:
            return messages.recorded(plan, user_id, event.metric.metric, event.metric.total_before, now)
        case _:
            return messages.seen(plan, user_id, time)
