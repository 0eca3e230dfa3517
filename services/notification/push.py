"""Notifications on devices: one message goes to all devices of a user, each by its provider."""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from services.notification.carriers import Carried, Letter
from services.notification.domain.contacts import Contact, Device, PushProvider, Ticket
from services.notification.domain.messages import MessageState

MOST_BODY_BYTES: Final = 2_000
"""Of a text: APNs takes 4,096 bytes for everything."""


class Note(Struct, frozen=True):
    """What a device shows."""

    message_id: str
    title: str
    body: str
    data: Mapping[str, str]


class Pushed(Struct, frozen=True):
    """What came of it at one device."""

    state: MessageState
    detail: str = ""
    """Why it did not go out; without the token."""
    is_dead: bool = False
    """The provider knows the token no more."""
    ticket_id: str = ""
    """By this the provider is asked later whether it was brought; empty: it has said so already."""


class Receipt(Struct, frozen=True):
    """What became of what a provider had taken."""

    failure: str = ""
    """Why it was not brought; without the token."""
    is_dead: bool = False
    """The provider knows the token no more."""


class Provider(Protocol):
    """Who brings notifications to devices of one kind."""

    async def push(self, token: str, note: Note) -> Pushed:
        """Bring it. `WAITING` only where it has certainly not gone out. Raises nothing."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Pusher:
    """The channel, over the providers that are set up."""

    def __init__(self, providers: Mapping[PushProvider, Provider]) -> None:
        self._providers = providers

    @property
    def is_set_up(self) -> bool:
        """Whether there is any provider."""
        return bool(self._providers)

    async def carry(self, contact: Contact, letter: Letter) -> Carried:
        """Send to every device: it has gone out where one of them has it."""
        devices = [device for device in contact.devices if device.provider in self._providers]
        if not devices:
            return Carried(MessageState.REFUSED, "no device's provider is set up")
        note = Note(
            str(letter.message_id),
            letter.written.subject,
            shortened(letter.written.push or letter.written.text),
            {"message_id": str(letter.message_id), "type": letter.type.name.lower()},
        )
        pushed = await asyncio.gather(
            *(self._providers[device.provider].push(device.token, note) for device in devices)
        )
        answers = list(zip(devices, pushed, strict=True))
        tickets = tuple(
            Ticket(each.ticket_id, device, letter.time) for device, each in answers if each.ticket_id
        )
        return replace(outcome(answers), tickets=tickets)

    async def close(self) -> None:
        """Close every connection."""
        for provider in self._providers.values():
            await provider.close()


def outcome(pushed: list[tuple[Device, Pushed]]) -> Carried:
    """What became of a message that went to these devices. It is tried again only where none can have it."""
    dead = tuple(device for device, each in pushed if each.is_dead)
    for state in (MessageState.SENT, MessageState.UNKNOWN, MessageState.WAITING):
        for device, each in pushed:
            if each.state is state:
                detail = f"{device.provider.name.lower()}: {each.detail}" if each.detail else ""
                return Carried(state, detail, dead)
    device, each = pushed[0]
    return Carried(MessageState.REFUSED, f"{device.provider.name.lower()}: {each.detail}", dead)


def shortened(text: str) -> str:
    """What a device shows of a text."""
    stripped = text.strip()
    data = stripped.encode()
    if len(data) <= MOST_BODY_BYTES:
        return stripped
    return data[:MOST_BODY_BYTES].decode(errors="ignore").rstrip() + "…"
