"""Each provider of push is spoken to in its protocol, and its answers mean what its reference says (RULES 8.7)."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from services.notification.domain.contacts import Device, PushProvider
from services.notification.domain.messages import MessageState
from services.notification.push import (
    MOST_BODY_BYTES,
    Note,
    Provider,
    Pushed,
    Receipt,
    outcome,
    shortened,
)
from services.notification.push_providers import Apns, Expo, Fcm
from shared.clock import SystemClock
from tests.fixtures.push import Providers, providing

NOTE = Note(
    "11111111-2222-3333-4444-555555555555", "Wéll done", "You have earned: First", {"type": "achievement"}
)
SENT = Pushed(MessageState.SENT)


class Later:
    """A clock that is ahead."""

    ahead = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead


@pytest.fixture
async def providers() -> AsyncIterator[Providers]:
    async with providing() as standing_in:
        yield standing_in


@pytest.fixture
async def apns(providers: Providers) -> AsyncIterator[Apns]:
    there = providers.apns
    client = Apns(there.url, there.key, there.key_id, there.team_id, there.topic, 5, SystemClock())
    yield client
    await client.close()


@pytest.fixture
async def fcm(providers: Providers) -> AsyncIterator[Fcm]:
    client = Fcm(providers.fcm.url, json.loads(providers.fcm.account), 5, SystemClock())
    yield client
    await client.close()


@pytest.fixture
async def expo(providers: Providers) -> AsyncIterator[Expo]:
    client = Expo(providers.expo.url, providers.expo.access_token, 5)
    yield client
    await client.close()


async def test_apns_gets_an_alert_over_one_connection_of_http_2(providers: Providers, apns: Apns) -> None:
    assert [await apns.push(f"token-{number}", NOTE) for number in range(3)] == [SENT] * 3
    assert providers.apns.connections == 1
    token, payload = providers.apns.got[0]
    assert token == "token-0"
    assert payload["aps"]["alert"] == {"title": NOTE.title, "body": NOTE.body}
    assert payload["laurel"] == {"type": "achievement"}


@pytest.mark.parametrize(
    ("status", "reason", "state", "is_dead"),
    [
        (410, "Unregistered", MessageState.REFUSED, True),
        (410, "ExpiredToken", MessageState.REFUSED, True),
        (400, "BadDeviceToken", MessageState.REFUSED, True),
        (400, "DeviceTokenNotForTopic", MessageState.REFUSED, False),
        (413, "PayloadTooLarge", MessageState.REFUSED, False),
        (403, "ExpiredProviderToken", MessageState.WAITING, False),
        (429, "TooManyRequests", MessageState.WAITING, False),
        (503, "ServiceUnavailable", MessageState.WAITING, False),
        (500, "InternalServerError", MessageState.UNKNOWN, False),
        (0, "", MessageState.UNKNOWN, False),
    ],
)
async def test_what_apns_answers_decides(
    providers: Providers, apns: Apns, status: int, reason: str, state: MessageState, is_dead: bool
) -> None:
    providers.apns.answers["phone"] = (status, reason)
    pushed = await apns.push("phone", NOTE)
    assert (pushed.state, pushed.is_dead) == (state, is_dead)
    assert reason in pushed.detail
    assert "phone" not in pushed.detail


async def test_a_key_that_apns_does_not_know_sends_nothing_and_is_tried_again(providers: Providers) -> None:
    there = providers.apns
    stranger = Apns(there.url, there.key, "OTHER", there.team_id, there.topic, 5, SystemClock())
    assert (await stranger.push("phone", NOTE)).state is MessageState.WAITING
    await stranger.close()
    broken = Apns(there.url, "no key", there.key_id, there.team_id, there.topic, 5, SystemClock())
    assert (await broken.push("phone", NOTE)).state is MessageState.WAITING
    await broken.close()


async def test_a_token_cannot_lead_elsewhere(providers: Providers, apns: Apns) -> None:
    await apns.push("../x?y#z/ü", NOTE)
    assert providers.apns.got[0][0] == "..%2Fx%3Fy%23z%2F%C3%BC"


async def test_fcm_gets_messages_for_an_access_token_that_is_asked_for_once(
    providers: Providers, fcm: Fcm
) -> None:
    assert [await fcm.push(f"token-{number}", NOTE) for number in range(3)] == [SENT] * 3
    assert len(providers.fcm.given) == 1
    message = providers.fcm.got[0]
    assert message["notification"] == {"title": NOTE.title, "body": NOTE.body}
    assert message["data"] == {"type": "achievement"}


async def test_an_access_token_that_has_ended_is_asked_for_again(providers: Providers) -> None:
    clock = Later()
    fcm = Fcm(providers.fcm.url, json.loads(providers.fcm.account), 5, clock)
    assert await fcm.push("phone", NOTE) == SENT
    clock.ahead = timedelta(minutes=56)
    assert await fcm.push("phone", NOTE) == SENT
    assert len(providers.fcm.given) == 2
    # One that is not taken any more is forgotten, and the message waits.
    providers.fcm.given.append("another")
    assert (await fcm.push("phone", NOTE)).state is MessageState.WAITING
    assert await fcm.push("phone", NOTE) == SENT
    await fcm.close()


def _error(status: str, code: str = "", field: str = "") -> dict[str, object]:
    details: list[dict[str, object]] = [{"errorCode": code}] if code else []
    if field:
        details.append({"fieldViolations": [{"field": field}]})
    return {"status": status, "details": details}


@pytest.mark.parametrize(
    ("status", "error", "state", "is_dead"),
    [
        (404, _error("NOT_FOUND", "UNREGISTERED"), MessageState.REFUSED, True),
        (400, _error("INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.token"), MessageState.REFUSED, True),
        (400, _error("INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.data"), MessageState.REFUSED, False),
        (403, _error("PERMISSION_DENIED", "SENDER_ID_MISMATCH"), MessageState.REFUSED, False),
        (429, _error("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), MessageState.WAITING, False),
        (503, _error("UNAVAILABLE", "UNAVAILABLE"), MessageState.WAITING, False),
        (500, _error("INTERNAL", "INTERNAL"), MessageState.UNKNOWN, False),
    ],
)
async def test_what_fcm_answers_decides(
    providers: Providers, fcm: Fcm, status: int, error: dict[str, object], state: MessageState, is_dead: bool
) -> None:
    providers.fcm.answers["phone"] = (status, error)
    pushed = await fcm.push("phone", NOTE)
    assert (pushed.state, pushed.is_dead) == (state, is_dead)


async def test_expo_gets_a_message_and_gives_a_ticket(providers: Providers, expo: Expo) -> None:
    assert await expo.push("ExponentPushToken[x]", NOTE) == Pushed(MessageState.SENT, ticket_id="ticket-1")
    assert providers.expo.got[0]["title"] == NOTE.title
    stranger = Expo(providers.expo.url, None, 5)
    assert (await stranger.push("ExponentPushToken[x]", NOTE)).state is MessageState.WAITING
    await stranger.close()


@pytest.mark.parametrize(
    ("error", "state", "is_dead"),
    [
        ("DeviceNotRegistered", MessageState.REFUSED, True),
        ("MessageTooBig", MessageState.REFUSED, False),
        ("MessageRateExceeded", MessageState.WAITING, False),
        ("InvalidCredentials", MessageState.WAITING, False),
    ],
)
async def test_what_expo_answers_decides(
    providers: Providers, expo: Expo, error: str, state: MessageState, is_dead: bool
) -> None:
    providers.expo.errors["phone"] = error
    pushed = await expo.push("phone", NOTE)
    assert (pushed.state, pushed.is_dead, pushed.detail) == (state, is_dead, error)


async def test_expo_says_later_what_became_of_what_it_took(providers: Providers, expo: Expo) -> None:
    tickets = [(await expo.push(token, NOTE)).ticket_id for token in ("one", "two", "three", "four")]
    providers.expo.receipts.update(two="DeviceNotRegistered", three="MismatchSenderId")
    providers.expo.withheld.add("four")
    assert await expo.receipts(tickets) == {
        tickets[0]: Receipt(),
        tickets[1]: Receipt("DeviceNotRegistered", is_dead=True),
        tickets[2]: Receipt("MismatchSenderId"),
    }
    providers.expo.status = 502
    assert await expo.receipts(tickets) is None


@pytest.mark.parametrize(("status", "state"), [(429, MessageState.WAITING), (502, MessageState.UNKNOWN)])
async def test_where_expo_is_not_well_it_is_said_what_is_known(
    providers: Providers, expo: Expo, status: int, state: MessageState
) -> None:
    providers.expo.status = status
    assert (await expo.push("phone", NOTE)).state is state


async def test_a_provider_that_is_away_has_certainly_got_nothing() -> None:
    async with providing() as providers:
        there = providers.apns
        clients: list[Provider] = [
            Apns(there.url, there.key, there.key_id, there.team_id, there.topic, 5, SystemClock()),
            Fcm(providers.fcm.url, json.loads(providers.fcm.account), 5, SystemClock()),
            Expo(providers.expo.url, None, 5),
        ]
    for client in clients:
        assert (await client.push("phone", NOTE)).state is MessageState.WAITING
        await client.close()


PHONE, TABLET = Device(PushProvider.APNS, "phone"), Device(PushProvider.FCM, "tablet")
DEAD = Pushed(MessageState.REFUSED, "Unregistered", is_dead=True)


@pytest.mark.parametrize(
    ("phone", "tablet", "state"),
    [
        (DEAD, SENT, MessageState.SENT),
        (Pushed(MessageState.WAITING), Pushed(MessageState.UNKNOWN), MessageState.UNKNOWN),
        (DEAD, Pushed(MessageState.WAITING), MessageState.WAITING),
        (DEAD, DEAD, MessageState.REFUSED),
    ],
)
def test_a_message_has_gone_out_where_any_device_can_have_it(
    phone: Pushed, tablet: Pushed, state: MessageState
) -> None:
    carried = outcome([(PHONE, phone), (TABLET, tablet)])
    assert carried.state is state
    assert carried.dead == tuple(
        device for device, pushed in ((PHONE, phone), (TABLET, tablet)) if pushed.is_dead
    )


@pytest.mark.parametrize("text", ["short", "é" * 3_000, "x" * 3_000])
def test_a_device_shows_no_more_of_a_text_than_a_provider_takes(text: str) -> None:
    shown = shortened(f"\n{text}\n")
    assert len(shown.encode()) <= MOST_BODY_BYTES + 3
    assert text.startswith(shown.removesuffix("…"))
