"""Streak reminders over a real channel and a real database, to a real SMTP server (RULES 8.6)."""

from datetime import timedelta
from typing import Any

import pytest
from laurel.notification.v1 import contact_pb2, message_pb2
from laurel.streak.v1 import streak_pb2

from services.notification.domain.timing import SPREAD_SECONDS
from shared.rpc.convert import to_timestamp
from tests.fixtures import clock
from tests.fixtures.mailbox import Mailbox
from tests.fixtures.receiver import Receiver
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_contacts import update
from tests.service.notification.test_messages import define, ended, planned, sent, switch_off

REMINDER = contact_pb2.MESSAGE_TYPE_STREAK_REMINDER
EMAIL = contact_pb2.MESSAGE_CHANNEL_EMAIL


@pytest.fixture
def settings(mail_settings: dict[str, Any]) -> dict[str, Any]:
    return mail_settings


def at_risk(feed: Feed, user: str, *, freezes: int = 0, length: int = 12) -> None:
    """The user's streak ends within the hour unless something is done."""
    end = clock.now() + timedelta(minutes=45)
    feed.streaks.states[user] = streak_pb2.StreakState(
        streak="daily", length=length, freeze_count=freezes, expire_time=to_timestamp(end)
    )


async def remind(service: Service, **fields: Any) -> None:
    """Everyone is reminded so long before the end that whoever is found is due."""
    time = clock.now() - timedelta(seconds=SPREAD_SECONDS)
    await define(
        service, REMINDER, switched_on=True, send_time=f"{time:%H:%M}", **{"channels": [EMAIL], **fields}
    )


async def test_who_would_lose_a_streak_is_reminded_once_and_who_is_safe_is_not(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    users = ("ada", "bob", "cleo", "dan")
    for user in users:
        await update(service, user, email=f"{user}@example.com")
    at_risk(feed, "ada")
    at_risk(feed, "bob", freezes=1)
    at_risk(feed, "cleo", length=3)
    await remind(service)
    message = await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    await ended(service, "cleo", message_pb2.MESSAGE_STATE_SENT)
    assert (message.type, message.channel) == (REMINDER, EMAIL)
    await planned(service, 0)
    found = sorted((email["To"], email["Subject"].partition(",")[0]) for email in mailbox.emails)
    assert found == [("ada@example.com", "Daily: 12 in a row"), ("cleo@example.com", "Daily: 3 in a row")]
    # Looked for once more, as after a process that died over it: nobody hears twice.
    await service.database.execute("UPDATE reminded_streaks SET found_until = '2000-01-01Z'")

    async def looked() -> bool:
        return bool(
            await service.database.fetchval("SELECT found_until > '2001-01-01Z' FROM reminded_streaks")
        )

    await until(looked, seconds=30, what="it is looked for again")
    await planned(service, 0)
    assert len(mailbox.emails) == len(await sent(service, "ada")) + len(await sent(service, "cleo")) == 2


async def test_a_streak_that_is_saved_before_the_reminder_goes_out_is_none(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    await update(service, "ada", email="ada@example.com")
    at_risk(feed, "ada")
    soon = clock.now() + timedelta(minutes=30)
    await define(service, REMINDER, switched_on=True, channels=[EMAIL], send_time=f"{soon:%H:%M}")
    await planned(service, 1)
    feed.streaks.states["ada"].period_qualified = True
    await remind(service)
    await service.database.execute("UPDATE planned_messages SET look_time = '2000-01-01Z'")
    await planned(service, 0)
    assert mailbox.emails == []
    assert await sent(service, "ada") == []


async def test_who_sends_by_themselves_are_told_of_the_streaks_at_risk(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    at_risk(feed, "ada")
    await service.create("crm", receiver.url, "message.streak_reminder_due")
    await remind(service, channels=[])

    async def is_told() -> bool:
        return bool(receiver.accepted)

    await until(is_told, seconds=30, what="the webhook is called")
    payload = receiver.accepted[0].json
    assert (payload["type"], payload["userId"]) == ("message.streak_reminder_due", "ada")
    (streak,) = payload["data"]["streaks"]
    assert (streak["key"], streak["name"], streak["length"]) == ("daily", "Daily", 12)
    assert streak["expire_time"].endswith("Z")


async def test_nobody_is_looked_for_while_reminders_are_off(service: Service, feed: Feed) -> None:
    at_risk(feed, "ada")
    soon = clock.now() + timedelta(minutes=30)
    await define(service, REMINDER, switched_on=True, send_time=f"{soon:%H:%M}")
    await planned(service, 1)
    await switch_off(service, REMINDER)
    await service.database.execute("UPDATE planned_messages SET look_time = '2000-01-01Z'")
    await planned(service, 0)

    async def is_forgotten() -> bool:
        return not await service.database.fetchval("SELECT count(*) FROM reminded_streaks")

    await until(is_forgotten, seconds=30, what="what was looked for is forgotten")
