"""Contacts as messages, with all syntactic validation."""

import re
from collections.abc import Sequence
from datetime import time
from typing import Any, Final

from laurel.notification.v1 import contact_pb2

from services.notification.config import MAX_EMAIL_CHARS, MAX_REFUSALS, MAX_TOKEN_CHARS
from services.notification.convert import set_time
from services.notification.domain.contacts import (
    Channel,
    Contact,
    Device,
    MessageType,
    PushProvider,
    QuietHours,
    Refusal,
)
from shared.errors import Violations
from shared.rpc.convert import check_text, check_user_id, time_of_day

OUTPUT_ONLY: Final = ("devices", "create_time", "update_time")

ContactMessage = contact_pb2.Contact

# No character that could end a header or begin another address.
_EMAIL: Final = re.compile(r"""[^\s\x00-\x1f\x7f@<>()\[\]\\,;:"]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+""")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")


def check_contact(message: ContactMessage, path: str, violations: Violations) -> None:
    """Everything that can be wrong with a contact."""
    found = violations.within(path)
    check_user_id(message.user_id, "user_id", found)
    if message.email and not (len(message.email) <= MAX_EMAIL_CHARS and _EMAIL.fullmatch(message.email)):
        found.add("email", "must be one e-mail address such as ada@example.com")
    check_language(message.language, "language", found)
    if message.HasField("quiet_hours"):
        start = time_of_day(message.quiet_hours.start, "quiet_hours.start", found)
        end = time_of_day(message.quiet_hours.end, "quiet_hours.end", found)
        if start is not None and start == end:
            found.add("quiet_hours.end", "must not be the start")
    if len(message.refusals) > MAX_REFUSALS:
        found.add("refusals", f"must be at most {MAX_REFUSALS}")
    for index, refusal in enumerate(message.refusals):
        if refusal.type not in contact_pb2.MessageType.values():
            found.add(f"refusals[{index}].type", "is not known here")
        if refusal.channel not in contact_pb2.MessageChannel.values():
            found.add(f"refusals[{index}].channel", "is not known here")


def check_language(language: str, path: str, violations: Violations) -> None:
    """A language tag (BCP 47), or none."""
    if language and not _LANGUAGE.fullmatch(language):
        violations.add(path, "must be a language tag such as de or pt-BR")


def check_device(message: contact_pb2.Device, path: str, violations: Violations) -> None:
    """Everything that can be wrong with a device."""
    found = violations.within(path)
    if not message.provider or message.provider not in contact_pb2.PushProvider.values():
        found.add("provider", "must be one that is known here")
    check_text(message.token, "token", found, max_chars=MAX_TOKEN_CHARS)


def stored(message: ContactMessage) -> bytes:
    """A contact as it is kept: without what is output, and without what has a column."""
    kept = ContactMessage()
    kept.CopyFrom(message)
    for name in (*OUTPUT_ONLY, "user_id"):
        kept.ClearField(name)
    return kept.SerializeToString(deterministic=True)


def shown(row: Any, devices: Sequence[Any]) -> ContactMessage:
    """A contact as it is read."""
    message = ContactMessage.FromString(row["body"])
    message.user_id = row["user_id"]
    for device in devices:
        listed = message.devices.add(provider=device["provider"], token=device["token"])
        set_time(listed, "create_time", device["create_time"])
    set_time(message, "create_time", row["create_time"])
    set_time(message, "update_time", row["update_time"])
    return message


def refusal_to_proto(type_: MessageType, channel: Channel) -> contact_pb2.MessageRefusal:
    """The message of a refusal."""
    return contact_pb2.MessageRefusal(
        type=contact_pb2.MessageType.ValueType(type_.value),
        channel=contact_pb2.MessageChannel.ValueType(channel.value),
    )


def contact_of(message: ContactMessage) -> Contact:
    """The value of a contact that has been checked."""
    quiet = message.quiet_hours
    return Contact(
        user_id=message.user_id,
        email=message.email,
        language=message.language,
        quiet_hours=QuietHours(time.fromisoformat(quiet.start), time.fromisoformat(quiet.end))
        if message.HasField("quiet_hours")
        else None,
        refusals=tuple(
            Refusal(
                MessageType(refusal.type) if refusal.type else None,
                Channel(refusal.channel) if refusal.channel else None,
            )
            for refusal in message.refusals
        ),
        devices=tuple(Device(PushProvider(device.provider), device.token) for device in message.devices),
    )
