"""Who can be reached, when and by what (RULES 8.6, 8.7)."""

import base64
from datetime import datetime, time

import pytest

from services.notification.domain.contacts import (
    Channel,
    Contact,
    Device,
    MessageType,
    PushProvider,
    QuietHours,
    Refusal,
)
from services.notification.domain.links import link_claims, link_token

SECRET = b"secret of the deployment"
PHONE = Device(PushProvider.EXPO, "ExponentPushToken[1]")


def test_a_user_gets_what_was_not_refused_by_channels_that_are_there() -> None:
    ada = Contact("ada", email="ada@example.com")
    assert ada.wants(MessageType.RECAP, Channel.EMAIL)
    assert not ada.wants(MessageType.RECAP, Channel.PUSH)


@pytest.mark.parametrize(
    ("refusal", "refused"),
    [
        (Refusal(MessageType.RECAP, Channel.EMAIL), {(MessageType.RECAP, Channel.EMAIL)}),
        (
            Refusal(MessageType.RECAP, None),
            {(MessageType.RECAP, Channel.EMAIL), (MessageType.RECAP, Channel.PUSH)},
        ),
        (Refusal(None, Channel.PUSH), {(type_, Channel.PUSH) for type_ in MessageType}),
        (Refusal(None, None), {(type_, channel) for type_ in MessageType for channel in Channel}),
    ],
)
def test_a_refusal_covers_a_type_a_channel_or_all(
    refusal: Refusal, refused: set[tuple[MessageType, Channel]]
) -> None:
    ada = Contact("ada", email="ada@example.com", devices=(PHONE,), refusals=(refusal,))
    unwanted = {
        (type_, channel) for type_ in MessageType for channel in Channel if not ada.wants(type_, channel)
    }
    assert unwanted == refused


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2025-06-02T21:59", None),
        ("2025-06-02T22:00", "2025-06-03T08:00"),
        ("2025-06-03T00:30", "2025-06-03T08:00"),
        ("2025-06-03T07:59", "2025-06-03T08:00"),
        ("2025-06-03T08:00", None),
    ],
)
def test_quiet_hours_may_pass_midnight(now: str, end: str | None) -> None:
    quiet = QuietHours(time(22), time(8))
    assert quiet.end_after(datetime.fromisoformat(now)) == (end and datetime.fromisoformat(end))


@pytest.mark.parametrize(
    ("now", "end"),
    [("2025-06-02T12:59", None), ("2025-06-02T13:30", "2025-06-02T15:00"), ("2025-06-02T15:00", None)],
)
def test_quiet_hours_may_lie_within_a_day(now: str, end: str | None) -> None:
    quiet = QuietHours(time(13), time(15))
    assert quiet.end_after(datetime.fromisoformat(now)) == (end and datetime.fromisoformat(end))


def test_a_link_says_whose_messages_of_what_type_by_what_channel() -> None:
    token = link_token("ada", MessageType.RECAP, Channel.EMAIL, SECRET)
    assert link_claims(token, SECRET) == ("ada", MessageType.RECAP, Channel.EMAIL)


def test_a_link_that_was_changed_or_signed_by_another_says_nothing() -> None:
    token = link_token("ada", MessageType.RECAP, Channel.EMAIL, SECRET)
    signed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for place in range(len(signed)):
        changed = bytearray(signed)
        changed[place] ^= 1
        assert link_claims(base64.urlsafe_b64encode(changed).decode(), SECRET) is None
    assert link_claims(token, b"another secret") is None


@pytest.mark.parametrize("token", ["", "a", "!", "ü", "a" * 1_000])
def test_what_is_no_link_says_nothing(token: str) -> None:
    assert link_claims(token, SECRET) is None
