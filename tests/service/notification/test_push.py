"""Push over a real channel and a real database, to stand-ins of the providers (RULES 8.7)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from laurel.notification.v1 import contact_pb2, message_pb2

from tests.fixtures.mailbox import Mailbox
from tests.fixtures.push import Providers, providing
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_contacts import add, get, update
from tests.service.notification.test_messages import ACHIEVEMENT, age, ended, planned, switch_on

PUSH = contact_pb2.MESSAGE_CHANNEL_PUSH
EMAIL = contact_pb2.MESSAGE_CHANNEL_EMAIL
PHONE = contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_APNS, token="phone")
TABLET = contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_FCM, token="tablet")
WATCH = contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_EXPO, token="watch")


@pytest.fixture
async def providers() -> AsyncIterator[Providers]:
    async with providing() as standing_in:
        yield standing_in


@pytest.fixture
def settings(mail_settings: dict[str, Any], providers: Providers) -> dict[str, Any]:
    return {
        **mail_settings,
        "apns_key": providers.apns.key,
        "apns_key_id": providers.apns.key_id,
        "apns_team_id": providers.apns.team_id,
        "apns_topic": providers.apns.topic,
        "apns_url": providers.apns.url,
        "fcm_account": providers.fcm.account,
        "fcm_url": providers.fcm.url,
        "expo_push": True,
        "expo_access_token": providers.expo.access_token,
        "expo_url": providers.expo.url,
    }


async def earned(service: Service, feed: Feed, *devices: contact_pb2.Device) -> None:
    """Ada has earned something, and has these devices and an address."""
    await update(service, "ada", email="ada@example.com")
    for device in devices:
        await add(service, "ada", device)
    await switch_on(service, ACHIEVEMENT, channels=[PUSH, EMAIL])
    await feed.tell("ada", achievement="first")
    await planned(service, 1)
    await age(service)


async def test_a_message_comes_on_every_device_of_a_user(
    service: Service, feed: Feed, providers: Providers, mailbox: Mailbox
) -> None:
    await earned(service, feed, PHONE, TABLET, WATCH)
    message = await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    assert message.channel == PUSH
    ((token, payload),) = providers.apns.got
    assert (token, payload["aps"]["alert"]["title"]) == ("phone", "First: well done!")
    assert payload["laurel"] == {"message_id": message.message_id, "type": "achievement"}
    assert [each["token"] for each in providers.fcm.got] == ["tablet"]
    assert [each["to"] for each in providers.expo.got] == ["watch"]
    assert mailbox.emails == []


async def test_a_token_that_is_dead_is_removed_and_an_email_comes_where_no_device_is_left(
    service: Service, feed: Feed, providers: Providers, mailbox: Mailbox
) -> None:
    providers.apns.answers["phone"] = (410, "Unregistered")
    providers.expo.errors["watch"] = "DeviceNotRegistered"
    await earned(service, feed, PHONE, WATCH)
    message = await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    assert message.channel == EMAIL
    assert [email["To"] for email in mailbox.emails] == ["ada@example.com"]
    assert list((await get(service, "ada")).devices) == []


async def test_a_push_that_may_have_come_is_not_sent_again_by_email(
    service: Service, feed: Feed, providers: Providers, mailbox: Mailbox
) -> None:
    providers.apns.answers["phone"] = (0, "")
    await earned(service, feed, PHONE)
    message = await ended(service, "ada", message_pb2.MESSAGE_STATE_UNKNOWN)
    assert message.detail.startswith("apns: ")
    await planned(service, 0)
    assert mailbox.emails == []


async def test_a_push_that_waits_goes_out_when_the_provider_takes_it(
    service: Service, feed: Feed, providers: Providers
) -> None:
    providers.apns.answers["phone"] = (429, "TooManyRequests")
    await earned(service, feed, PHONE)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_WAITING)
    providers.apns.answers.clear()
    await age(service)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    assert len(providers.apns.got) == 1
