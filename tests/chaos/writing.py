"""Who is written to during a storm: e-mails about achievements, and whether any came twice (RULES 8.6)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import asyncpg
from laurel.notification.v1 import contact_pb2, message_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from tests.fixtures.clients import persist
from tests.fixtures.mailbox import Mailbox, receiving_mail
from tests.fixtures.system import System
from tests.fixtures.waiting import until

CALM_SECONDS: Final = 60.0
_HURRY_SECONDS: Final = 0.5
# A message waits an hour for what else is completed; the storm does not last so long.
_HURRY: Final = """
    UPDATE planned_messages
       SET look_time = '2000-01-01Z',
           plan = jsonb_set(jsonb_set(plan::jsonb, '{first_time}', to_jsonb($1::text)),
                            '{last_time}', to_jsonb($1::text))::text
     WHERE (plan::jsonb ->> 'last_time')::timestamptz > now() - interval '1 hour'
"""
_SINCE_LONG: Final = "UPDATE message_definitions SET since = '2000-01-01Z'"
_TWO_HOURS_AGO: Final = """
    SELECT to_char((now() - interval '2 hours') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
"""
_OVER_SENDING: Final = "SELECT count(*) FROM sent_messages WHERE state = 1"
# A lease lasts minutes. Nothing is killed any more: whoever sent what is under way for so long has died over it.
_END_LEASES: Final = """
    UPDATE planned_messages AS planned
       SET look_time = '2000-01-01Z'
      FROM sent_messages AS sent
     WHERE sent.state = 1 AND sent.send_time < now() - interval '10 seconds'
       AND planned.user_id = sent.user_id AND planned.type = sent.type AND planned.look_time > now()
"""
_NOTED: Final = "SELECT message_id, state FROM sent_messages"
_STATES: Final = {1: "under way", 2: "sent", 3: "refused", 4: "nobody knows", 5: "told to webhooks alone"}


@dataclass
class Writing:
    """The mailbox of all users, and what was noted of what went there."""

    mailbox: Mailbox
    noted: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, int]:
        """For the report."""
        return {
            "e-mails that came": len(self.mailbox.emails),
            **{f"messages noted: {state}": count for state, count in self.noted.items()},
        }

    @property
    def settings(self) -> dict[str, str]:
        """Where the service sends to."""
        return {
            "LAUREL_SMTP_URL": self.mailbox.url,
            "LAUREL_MAIL_FROM": "Laurel <hello@example.com>",
            "LAUREL_UNSUBSCRIBE_URL": "https://example.com/{token}",
        }

    async def begin(self, system: System, users: Iterable[str]) -> None:
        """From here on these users are written to."""
        for user in users:
            contact = contact_pb2.Contact(user_id=user, email=f"{user}@example.com")
            request = pb.UpdateContactRequest(request_id=f"contact-{user}", contact=contact)
            await system.notification.UpdateContact(request, timeout=10)
        message = message_pb2.MessageDefinition(
            type=contact_pb2.MESSAGE_TYPE_ACHIEVEMENT,
            switched_on=True,
            channels=[contact_pb2.MESSAGE_CHANNEL_EMAIL],
        )
        update = pb.UpdateMessageDefinitionRequest(request_id=str(uuid4()), message=message)
        update.update_mask.paths.extend(["switched_on", "channels"])

        async def switch() -> object:
            return await system.notification.UpdateMessageDefinition(update, timeout=10)

        await persist(switch)
        database = await asyncpg.connect(system.stack.service_dsn("notification"))
        await database.execute(_SINCE_LONG)
        await database.close()

    async def hurry(self, system: System) -> None:
        """What is planned is due at once; never returns."""
        while True:
            # PostgreSQL may be being restarted.
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._hurry(system)
            await asyncio.sleep(_HURRY_SECONDS)

    async def wrong(self, system: System) -> list[str]:
        """What came twice, and what was noted as sent and did not come or the other way round."""
        database = await asyncpg.connect(system.stack.service_dsn("notification"))

        async def is_over() -> bool:
            await database.execute(_END_LEASES)
            return bool(await database.fetchval(_OVER_SENDING) == 0)

        try:
            await until(is_over, seconds=CALM_SECONDS, what="what was under way is noted")
            noted = {str(row["message_id"]): _STATES[row["state"]] for row in await database.fetch(_NOTED)}
        finally:
            await database.close()
        self.noted = Counter(noted.values())
        came = Counter(
            str(email["Message-ID"]).strip("<>").partition("@")[0] for email in self.mailbox.emails
        )
        return [
            *(f"message {id_} came {count} times" for id_, count in came.items() if count > 1),
            *(f"message {id_} came and was not noted" for id_ in came.keys() - noted.keys()),
            *(
                f"message {id_} was noted as sent and did not come"
                for id_, state in noted.items()
                if state == "sent" and id_ not in came
            ),
        ]

    async def _hurry(self, system: System) -> None:
        database = await asyncpg.connect(system.stack.service_dsn("notification"))
        try:
            await database.execute(_HURRY, await database.fetchval(_TWO_HOURS_AGO))
        finally:
            await database.close()


@asynccontextmanager
async def writing() -> AsyncIterator[Writing]:
    """As long as the block lasts."""
    async with receiving_mail(Mailbox()) as mailbox:
        yield Writing(mailbox)
