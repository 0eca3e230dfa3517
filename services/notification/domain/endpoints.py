"""An endpoint of a webhook."""

from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from msgspec import Struct

from services.notification.domain.events import Wish


class SwitchOff(IntEnum):
    """Why an endpoint gets nothing; stored."""

    ON = 0
    OPERATOR = 1
    GONE = 2
    FAILING = 3


class Outcome(IntEnum):
    """What became of an attempt; stored."""

    DELIVERED = 1
    FAILED = 2
    GIVEN_UP = 3


class Secret(Struct, frozen=True):
    """What signs."""

    secret_id: UUID
    secret: str
    create_time: datetime
    expire_time: datetime | None = None

    def __repr__(self) -> str:
        """Without the secret: it is in no log."""
        return f"Secret({self.secret_id})"


class Endpoint(Struct, frozen=True):
    """Where events go, as deciders and workers know it."""

    endpoint_id: UUID
    key: str
    url: str
    wish: Wish
    ordered: bool
    interval: timedelta
    switch_off: SwitchOff
    cursor: str | None
    """Where it reads the feed for itself; None: it hears what all hear."""
    failing_since: datetime | None
    secrets: tuple[Secret, ...]
    """Newest first."""

    def live_secrets(self, now: datetime) -> list[str]:
        """Those that sign now, newest first."""
        return [
            secret.secret for secret in self.secrets if secret.expire_time is None or now < secret.expire_time
        ]

    def lane(self, user_id: str, message_id: int) -> str:
        """What goes one after the other: of an endpoint without order, nothing."""
        return user_id if self.ordered else f"{message_id}"
