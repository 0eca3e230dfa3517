"""Push over a real channel and a real database, to stand-ins of the providers (RULES 8.7)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from laurel.notification.v1 import contact_pb2, message_pb2

from tests.fixtures.mailbox import Mailbox
from tests.fixtures.push import Providers, providing
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_contacts import add, delete, get, update
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
        "expo_receipt_seconds": 0.05,
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


async def tickets(service: Service) -> int:
    """How many receipts are still to be heard of."""
    count: int = await service.database.fetchval("SELECT count(*) FROM push_tickets")
    return count


async def test_a_token_that_a_receipt_calls_dead_is_removed_and_others_stay(
    service: Service, feed: Feed, providers: Providers
) -> None:
    providers.expo.receipts.update(watch="DeviceNotRegistered", clock="MessageRateExceeded")
    providers.expo.withheld.add("watch")
    clock = contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_EXPO, token="clock")
    ring = contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_EXPO, token="ring")
    await earned(service, feed, WATCH, clock, ring)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)

    async def is_one_left() -> bool:
        return await tickets(service) == 1

    await until(is_one_left, seconds=30, what="the receipts that are there are read")
    assert {device.token for device in (await get(service, "ada")).devices} == {"watch", "clock", "ring"}
    providers.expo.withheld.clear()

    async def is_none_left() -> bool:
        return await tickets(service) == 0

    await until(is_none_left, seconds=30, what="the receipt that came late is read")
    assert {device.token for device in (await get(service, "ada")).devices} == {"clock", "ring"}


async def test_a_device_that_was_added_again_outlives_the_receipt_of_what_was_sent_before(
    service: Service, feed: Feed, providers: Providers
) -> None:
    providers.expo.receipts["watch"] = "DeviceNotRegistered"
    providers.expo.status = 503
    await earned(service, feed, WATCH)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_WAITING)
    providers.expo.status = 200
    providers.expo.withheld.add("watch")
    await age(service)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    await add(service, "bob", WATCH)
    providers.expo.withheld.clear()

    async def is_none_left() -> bool:
        return await tickets(service) == 0

    await until(is_none_left, seconds=30, what="the receipt is read")
    assert [device.token for device in (await get(service, "bob")).devices] == ["watch"]


async def test_receipts_that_expo_does_not_tell_are_asked_for_until_it_has_forgotten_them(
    service: Service, feed: Feed, providers: Providers
) -> None:
    providers.expo.withheld.add("watch")
    await earned(service, feed, WATCH)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    asked = providers.expo.asked

    async def is_asked_again() -> bool:
        return providers.expo.asked > asked + 1

    await until(is_asked_again, seconds=30, what="it is asked again")
    assert await tickets(service) == 1
    await service.database.execute("UPDATE push_tickets SET create_time = create_time - interval '1 day'")

    async def is_none_left() -> bool:
        return await tickets(service) == 0

    await until(is_none_left, seconds=30, what="the ticket is dropped")
    assert [device.token for device in (await get(service, "ada")).devices] == ["watch"]


async def test_the_tickets_of_a_contact_go_with_it(
    service: Service, feed: Feed, providers: Providers
) -> None:
    providers.expo.withheld.add("watch")
    await earned(service, feed, WATCH)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    assert await tickets(service) == 1
    await delete(service, "ada")
    assert await tickets(service) == 0
