"""How a user can be reached, and what the user wants to hear (RULES 8.7)."""

from datetime import datetime, time, timedelta
from enum import IntEnum

from msgspec import Struct


class MessageType(IntEnum):
    """What a message is about; the numbers are the contract's."""

    ACHIEVEMENT = 1
    STREAK_REMINDER = 2
    RECAP = 3
    REACTIVATION = 4


class Channel(IntEnum):
    """By what a message comes; the numbers are the contract's."""

    EMAIL = 1
    PUSH = 2


class PushProvider(IntEnum):
    """Who brings a notification to a device; the numbers are the contract's."""

    APNS = 1
    FCM = 2
    EXPO = 3


class Device(Struct, frozen=True):
    """A device of a user."""

    provider: PushProvider
    token: str


class Ticket(Struct, frozen=True):
    """A provider has taken a message for a device, and says later whether it was brought."""

    ticket_id: str
    device: Device
    time: datetime
    """Of the message."""


class Refusal(Struct, frozen=True):
    """What a user does not want."""

    type: MessageType | None
    """None: messages of all types."""
    channel: Channel | None
    """None: by all channels."""

    def covers(self, type_: MessageType, channel: Channel) -> bool:
        """Whether this message by this channel is refused."""
        return self.type in (None, type_) and self.channel in (None, channel)


class QuietHours(Struct, frozen=True):
    """Hours of the user's day in which no message goes out. An end before the start lies on the next day."""

    start: time
    end: time

    def end_after(self, local: datetime) -> datetime | None:
        """When the quiet hours end that hold at this local time; None: none do."""
        now = local.time()
        end = local.replace(hour=self.end.hour, minute=self.end.minute, second=0, microsecond=0)
        if self.start <= self.end:
            return end if self.start <= now < self.end else None
        if now >= self.start:
            return end + timedelta(days=1)
        return end if now < self.end else None


class Contact(Struct, frozen=True):
    """How a user can be reached."""

    user_id: str
    email: str = ""
    language: str = ""
    quiet_hours: QuietHours | None = None
    refusals: tuple[Refusal, ...] = ()
    devices: tuple[Device, ...] = ()

    def wants(self, type_: MessageType, channel: Channel) -> bool:
        """Whether the user is there by this channel, and has not said no."""
        reachable = self.email if channel is Channel.EMAIL else self.devices
        return bool(reachable) and not self.refuses(type_, channel)

    def refuses(self, type_: MessageType, channel: Channel) -> bool:
        """Whether the user has said no to these messages by this channel."""
        return any(refusal.covers(type_, channel) for refusal in self.refusals)

    def refuses_all(self, type_: MessageType) -> bool:
        """Whether the user has said no to these messages altogether: then webhooks are not told either."""
        return all(self.refuses(type_, channel) for channel in Channel)
