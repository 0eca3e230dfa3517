"""Messages that are due: each is decided with what is true now, noted, and only then sent.

So a process that dies over a message leaves a note, and nobody sends it again: at most once (RULES 8.6). What has
certainly not gone out is tried again. Every replica does this, each plan under a lease.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from services.notification import contact_convert
from services.notification import message_convert as convert
from services.notification.carriers import Carried, Carrier, Letter
from services.notification.config import Settings
from services.notification.domain import messages, reminders
from services.notification.domain.contacts import Channel, Contact, MessageType
from services.notification.domain.links import link_token
from services.notification.domain.messages import Definition, MessageState, Plan, Send, Skip, User, Wait
from services.notification.following import PASSING, Writer
from services.notification.reading import Names, Reader
from services.notification.rendering import DEFAULTS, Template, TemplateFailure, written
from services.notification.store.contacts import ContactStore
from services.notification.store.endpoints import EndpointStore
from services.notification.store.messages import Claimed, MessageStore
from services.notification.store.tickets import TicketStore
from shared import faults
from shared.clock import Clock
from shared.postgres.errors import log_failure
from shared.postgres.pool import Connection, Pool

NOTED: Final = faults.declare(
    "notification.message.noted", "it is noted that a message is sent, it has not been sent"
)
SENT: Final = faults.declare("notification.message.sent", "a message is sent, what came of it is not noted")

_LOGGER: Final = logging.getLogger(__name__)
_LEASE: Final = timedelta(minutes=5)
"""Longer than a message may take by all channels."""
_TRY_AGAIN: Final = timedelta(minutes=5)
_CLAIMS_A_PLACE: Final = 4


class Messenger:
    """Looks at plans that may be due, and sends what is."""

    def __init__(
        self,
        pool: Pool,
        reader: Reader,
        store: MessageStore,
        contacts: ContactStore,
        tickets: TicketStore,
        endpoints: EndpointStore,
        writer: Writer,
        carriers: Mapping[Channel, Carrier],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._reader = reader
        self._store = store
        self._contacts = contacts
        self._tickets = tickets
        self._endpoints = endpoints
        self._writer = writer
        self._carriers = carriers
        self._poll_seconds = settings.message_poll_seconds
        self._unsubscribe_url = settings.unsubscribe_url
        self._places = asyncio.Semaphore(settings.message_concurrency)
        self._most = settings.message_concurrency * _CLAIMS_A_PLACE
        self._clock = clock
        # As they were at the last look.
        self._streak_names: dict[str, str] | None = None
        self._names: Names | None = None

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                while await self.look():
                    pass
            except Exception as error:
                log_failure(_LOGGER, "messages cannot be looked at", error)
            await asyncio.sleep(self._poll_seconds)

    async def look(self) -> bool:
        """Look at some of what may be due: whether there may be more."""
        now = self._clock.now()
        claimed = await self._store.claim(now, now + _LEASE, self._most)
        self._streak_names = self._names = None
        if claimed:
            rows = {row["type"]: row for row in await self._store.definitions()}
            secret = await self._contacts.link_secret()
            await asyncio.gather(*(self._settle(plan, rows.get(plan.plan.type), secret) for plan in claimed))
        return len(claimed) == self._most

    async def _settle(self, claimed: Claimed, row: asyncpg.Record | None, secret: bytes) -> None:
        """One plan. What goes wrong here holds up this one alone, until its lease ends."""
        async with self._places:
            try:
                if row is None:
                    await self._done(claimed.plan, None)
                else:
                    await self._decided(
                        claimed, convert.definition_from_row(row), convert.templates_from_row(row), secret
                    )
            except PASSING as error:
                _LOGGER.warning("a message is put off", extra={"reason": error.reason})
            except Exception as error:
                log_failure(_LOGGER, "a message is put off", error, type=claimed.plan.type.name)

    async def _decided(
        self, claimed: Claimed, definition: Definition, templates: list[Template], secret: bytes
    ) -> None:
        plan = claimed.plan
        now = self._clock.now()
        user = await self._reader.user(plan.user_id)
        if user is None:
            await self._done(plan, None)
            return
        contact = await self._contact(plan.user_id)
        last = await self._store.last_sent(plan)
        if last is not None and last[1] is MessageState.SENDING:
            # Whoever sent it died over it, or its lease ended: nobody knows whether it went out.
            await self._end(plan, definition, last[0], 0, Carried(MessageState.UNKNOWN, "the process died"))
            return
        decision = messages.decide(plan, definition, user, contact, last and last[0], now)
        if isinstance(decision, Send):
            plan = await self._read(plan, definition, user, now)
            decision = messages.confirmed(plan, decision)
        match decision:
            case Wait(until):
                await self._store.wait(claimed, until)
            case Skip():
                await self._done(plan, definition)
            case Send():
                await self._send(plan, definition, decision, user, contact, templates, secret)

    async def _send(
        self,
        plan: Plan,
        definition: Definition,
        decision: Send,
        user: User,
        contact: Contact | None,
        templates: list[Template],
        secret: bytes,
    ) -> None:
        now = self._clock.now()
        day = decision.local_date
        message_id = convert.message_id_of(plan.user_id, plan.type, day.isoformat())
        event = convert.due_event(message_id, plan, user, now)
        async with self._pool.acquire() as connection, connection.transaction():
            is_new = await self._store.begin(connection, message_id, plan, day, now)
            if is_new is None:
                return  # another replica has it: its lease ends with what that one noted
            if is_new:
                endpoints = (await self._endpoints.load(connection)).on
                await self._writer.write(connection, [event], endpoints)
        await NOTED.reach()
        channel, carried = 0, Carried(MessageState.TOLD)
        for candidate in decision.channels:
            if contact is None or (carrier := self._carriers.get(candidate)) is None:
                continue
            try:
                letter = self._letter(message_id, plan, user, contact, candidate, templates, secret)
            except TemplateFailure as failure:
                channel, carried = candidate, Carried(MessageState.REFUSED, str(failure)[:300])
                break
            channel, carried = candidate, await carrier.carry(contact, letter)
            for device in carried.dead:
                await self._contacts.remove_device(self._pool, plan.user_id, device, now)
            if carried.state is not MessageState.REFUSED:
                break
        await SENT.reach()
        await self._end(plan, definition, day, channel, carried)

    def _letter(
        self,
        message_id: UUID,
        plan: Plan,
        user: User,
        contact: Contact,
        channel: Channel,
        templates: list[Template],
        secret: bytes,
    ) -> Letter:
        """What is brought. Raises `TemplateFailure`."""
        token = link_token(plan.user_id, plan.type, channel, secret)
        url = self._unsubscribe_url.replace("{token}", token)
        known = {**messages.variables(plan, user), "unsubscribe_url": url}
        text = written(templates or DEFAULTS[plan.type], contact.language, known)
        return Letter(message_id, plan.type, text, url, self._clock.now())

    async def _end(
        self, plan: Plan, definition: Definition, day: date, channel: int, carried: Carried
    ) -> None:
        """Note what came of it, and what is planned next."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._store.end(connection, plan, day, channel, carried.state, carried.detail)
            await self._tickets.add(connection, carried.tickets)
            if carried.state is MessageState.WAITING:
                await self._again(connection, plan)
            else:
                await self._next(connection, plan, definition)

    async def _done(self, plan: Plan, definition: Definition | None) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._next(connection, plan, definition)

    async def _next(self, connection: Connection, done: Plan, definition: Definition | None) -> None:
        """What is planned after this; without a definition or a user: nothing."""
        key = (done.user_id, done.type)
        current = (await self._store.load(connection, [key])).get(key)
        if current is None:
            return
        planned = None if definition is None else messages.after(current, done, self._clock.now())
        if definition is None or planned is None:
            await self._store.forget(connection, [key])
        elif definition.switched_on:
            look_time = messages.look_time(planned, definition, self._clock.now())
            await self._store.save(connection, {key: (planned, look_time)})
        else:
            await self._store.forget(connection, [key])

    async def _again(self, connection: Connection, plan: Plan) -> None:
        key = (plan.user_id, plan.type)
        current = (await self._store.load(connection, [key])).get(key)
        if current is not None:
            await self._store.save(connection, {key: (current, self._clock.now() + _TRY_AGAIN)})

    async def _read(self, plan: Plan, definition: Definition, user: User, now: datetime) -> Plan:
        """The plan with what it is written with, where that is read now."""
        if plan.type is MessageType.STREAK_REMINDER:
            if self._streak_names is None:
                self._streak_names = await self._reader.streak_names()
            streaks = await self._reader.streaks(user.user_id, self._streak_names)
            due = reminders.due(streaks, definition.send_time, user.user_id, user.time_zone, now)
            return replace(plan, streaks=due)
        if plan.type is MessageType.RECAP:
            if self._names is None:
                self._names = await self._reader.names()
            return replace(plan, recap=await self._reader.recap(plan, definition, user, self._names))
        return plan

    async def _contact(self, user_id: str) -> Contact | None:
        row = await self._contacts.get(user_id)
        if row is None:
            return None
        devices = await self._contacts.devices(user_id)
        return contact_convert.contact_of(contact_convert.shown(row, devices))
