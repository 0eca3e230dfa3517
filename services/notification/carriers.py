"""What brings a message to a user."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from services.notification.domain.contacts import Contact, Device, MessageType, Ticket
from services.notification.domain.messages import MessageState
from services.notification.rendering import Written


class Letter(Struct, frozen=True):
    """One message to one user."""

    message_id: UUID
    type: MessageType
    written: Written
    unsubscribe_url: str
    time: datetime


class Carried(Struct, frozen=True):
    """What came of it."""

    state: MessageState
    detail: str = ""
    """Why it did not go out; without any address."""
    dead: tuple[Device, ...] = ()
    """Devices that their provider knows no more."""
    tickets: tuple[Ticket, ...] = ()


class Carrier(Protocol):
    """A channel that is set up."""

    async def carry(self, contact: Contact, letter: Letter) -> Carried:
        """Bring it. `WAITING` only where it has certainly not gone out. Raises nothing."""
        ...
