"""Who has to be reminded of a streak is found an hour or two before, by its end. One replica at a time looks.

A window that a process did not live to end is looked at again: whoever was reminded meanwhile is not reminded twice.
"""

import asyncio
import logging
from datetime import datetime
from typing import Final

from laurel.streak.v1 import streak_service_pb2

from services.notification import message_convert as convert
from services.notification.domain import messages, reminders, timing
from services.notification.domain.contacts import MessageType
from services.notification.domain.messages import Definition
from services.notification.following import PASSING
from services.notification.reading import Reader
from services.notification.store.messages import MessageStore
from shared import faults
from shared.clock import Clock
from shared.errors import NotFound
from shared.postgres.pool import Pool
from shared.rpc.convert import to_datetime

FOUND: Final = faults.declare(
    "notification.plan.reminders_found", "a page of streak reminders is planned, its window is not noted"
)
_LOGGER: Final = logging.getLogger(__name__)


class Reminders:
    """Plans streak reminders; reads nothing while they are switched off."""

    def __init__(self, pool: Pool, reader: Reader, store: MessageStore, clock: Clock) -> None:
        self._pool = pool
        self._reader = reader
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Plan what is near."""
        try:
            await self._plan()
        except PASSING as error:
            _LOGGER.warning("streaks that are at risk cannot be read", extra={"reason": error.reason})

    async def _plan(self) -> None:
        row = await self._store.definition(MessageType.STREAK_REMINDER)
        definition = None if row is None else convert.definition_from_row(row)
        found_until = await self._store.found_until()
        if definition is None or not definition.switched_on:
            await self._store.forget_found(list(found_until))
            return
        now = self._clock.now()
        window = reminders.next_window(min(found_until.values(), default=now), definition.send_time, now)
        if window is None and found_until:
            return  # of a streak that is new it is known soon enough
        names = await self._reader.streak_names()
        await self._store.forget_found([key for key in found_until if key not in names])
        for streak in names:
            until = found_until.get(streak, now)
            while window := reminders.next_window(until, definition.send_time, now):
                begin, until = window
                await self._find(streak, begin, until, definition)

    async def _find(self, streak: str, begin: datetime, end: datetime, definition: Definition) -> None:
        """A page is read while the one before is written."""
        reading = asyncio.create_task(self._reader.at_risk(streak, begin, ""))
        try:
            while True:
                page = await reading
                if token := page.next_page_token:
                    reading = asyncio.create_task(self._reader.at_risk(streak, begin, token))
                await self._save(page, definition)
                await FOUND.reach()
                if not token:
                    await self._store.found(streak, end)
                    return
        except NotFound:
            return  # the streak was deleted meanwhile
        finally:
            reading.cancel()

    async def _save(self, page: streak_service_pb2.ListStreaksAtRiskResponse, definition: Definition) -> None:
        now = self._clock.now()
        found = {
            (each.user_id, MessageType.STREAK_REMINDER): each
            for each in page.streaks
            if not each.state.freeze_count
        }
        if not found:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            known = await self._store.load(connection, found)
            plans = {}
            for key, each in found.items():
                end = to_datetime(each.state.expire_time)
                plan = messages.endangered(known.get(key), each.user_id, end, now)
                if plan is not known.get(key):
                    due = timing.last_before(end, definition.send_time, each.user_id, each.time_zone)
                    plans[key] = (plan, max(now, due))
            await self._store.save(connection, plans)
