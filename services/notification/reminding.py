"""Who has to be reminded of a streak is found an hour or two before, by its end. One replica at a time looks.

A window that a process did not live to end is looked at again: whoever was reminded meanwhile is not reminded twice.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from laurel.streak.v1 import streak_service_pb2
from msgspec import Struct

from services.notification import message_convert as convert
from services.notification.domain import messages, reminders, timing
from services.notification.domain.contacts import MessageType
from services.notification.domain.messages import Definition
from services.notification.following import PASSING
from services.notification.reading import Reader
from services.notification.store.messages import Key, MessageStore
from shared import faults
from shared.clock import Clock
from shared.errors import NotFound, Unimplemented
from shared.postgres.pool import Pool
from shared.rpc.convert import to_datetime

FOUND: Final = faults.declare(
    "notification.plan.reminders_found", "a page of streak reminders is planned, its window is not noted"
)
_LOGGER: Final = logging.getLogger(__name__)


class _Ending(Struct, frozen=True):
    """A streak that ends, and when its user is to be looked at."""

    user_id: str
    end: datetime
    look_time: datetime


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
        except (*PASSING, Unimplemented) as error:  # the streak service may be of the release before
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
        reading = asyncio.create_task(self._reader.streak_ends(streak, begin, end, ""))
        try:
            while True:
                page = await reading
                if token := page.next_page_token:
                    reading = asyncio.create_task(self._reader.streak_ends(streak, begin, end, token))
                await self._save(page, definition)
                await FOUND.reach()
                if not token:
                    await self._store.found(streak, end)
                    return
        except NotFound:
            return  # the streak was deleted meanwhile
        finally:
            reading.cancel()

    async def _save(self, page: streak_service_pb2.ListStreakEndsResponse, definition: Definition) -> None:
        now = self._clock.now()
        found = [
            _Ending(user_id, end, max(now, timing.last_before(end, definition.send_time, user_id, zone)))
            for each in page.ends
            for end, zone in [(to_datetime(each.end_time), each.time_zone)]
            for user_id in each.user_ids
        ]
        plans = [messages.endangered(None, ending.user_id, ending.end, now) for ending in found]
        look_times = [ending.look_time for ending in found]
        if not await self._store.add(MessageType.STREAK_REMINDER, plans, look_times):
            await self._reconsider(found, now)

    async def _reconsider(self, found: Sequence[_Ending], now: datetime) -> None:
        """Of some a reminder was planned before: by a run that did not end, or for another streak."""
        those: dict[Key, _Ending] = {
            (ending.user_id, MessageType.STREAK_REMINDER): ending for ending in found
        }
        async with self._pool.acquire() as connection, connection.transaction():
            known = await self._store.load(connection, those)
            plans = {}
            for key, ending in those.items():
                plan = messages.endangered(known.get(key), ending.user_id, ending.end, now)
                if plan is not known.get(key):
                    plans[key] = (plan, ending.look_time)
            if plans:
                await self._store.save(connection, plans)
