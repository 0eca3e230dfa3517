"""An event as it is told: what of it decides who wants it, and its payload."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.notification.domain.contacts import MessageType
from shared.filters import AttributeFilter, matches
from shared.tenants import shown

EVERY_TYPE: Final = "*"
SWITCHED_OFF: Final = "webhook.endpoint_switched_off"
"""Told to the other endpoints that name it."""
DUE: Final[Mapping[MessageType, str]] = {type_: f"message.{type_.name.lower()}_due" for type_ in MessageType}
"""Told when a message is due, also where Laurel sends none itself."""
TEST: Final = "webhook.test"
"""Sent when it is asked for, whatever types an endpoint names."""

Payload = Mapping[str, Any]
"""The data of an event as JSON."""


class Event(Struct, frozen=True):
    """What is told."""

    event_id: UUID
    type: str
    time: datetime
    user_id: str
    subject: str
    """The thing of the user that it is about: a metric, a streak, a board with run and segment, ..."""
    attributes: Mapping[str, str]
    """Of the user, as of the entry."""
    envelope: Payload
    """Everything but the data."""
    data: Payload


class Wish(Struct, frozen=True):
    """Which events somebody wants."""

    types: frozenset[str]
    """`*`: all."""
    filters: tuple[AttributeFilter, ...] = ()
    user_ids: frozenset[str] = frozenset()
    """Empty: about everyone."""
    tenant: str = ""
    """Empty: events of all tenants; else its own alone, and its users as it knows them."""

    def met_by(self, event: Event) -> bool:
        """Whether the event is wanted. One about no user is chosen by its type alone."""
        if event.type not in self.types and EVERY_TYPE not in self.types:
            return False
        if self.tenant and event.envelope.get("tenant") != self.tenant:
            return False
        user_id = shown(event.user_id) if self.tenant else event.user_id
        return not event.user_id or (
            (not self.user_ids or user_id in self.user_ids) and matches(self.filters, event.attributes)
        )


# Where the data says what was before: with what it has of the first event, the last one tells of both.
_BEFORE: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "metric": (("totalBefore",),),
    "streak": (("change", "lengthBefore"), ("freezeCountBefore",)),
    "points": (("balanceBefore",), ("levelBefore",)),
    "leaderboard": (("previousRank",),),
}
"""By the first word of a type."""


def coalesced(first: Event, last: Event, count: int) -> Event:
    """The one event that tells of several of one type about one thing: the first `before`, the last `after`.

    Everything else is the last one's, also the id.
    """
    data: dict[str, Any] = dict(last.data)
    for path in _BEFORE.get(last.type.partition(".")[0], ()):
        _carry(path, first.data, data)
    told = {"count": count, "firstId": str(first.event_id)}
    return replace(last, data=data, envelope={**last.envelope, "coalesced": told})


def _carry(path: tuple[str, ...], source: Payload, target: dict[str, Any]) -> None:
    name, rest = path[0], path[1:]
    if name not in source:
        return
    if not rest:
        target[name] = source[name]
    elif name in target:
        target[name] = dict(target[name])
        _carry(rest, source[name], target[name])
