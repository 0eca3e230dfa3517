"""A stream of events: what it carries, and in which order what it carries may be published."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from services.notification.domain.events import Event, Wish
from shared.tenants import shown

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/cloudevents+json"
DATA_TYPE: Final = "application/json"


class RedisStream(Struct, frozen=True):
    """A stream of Redis."""

    stream: str
    max_length: int


class NatsStream(Struct, frozen=True):
    """A stream of JetStream."""

    stream: str
    subject: str


class KafkaTopic(Struct, frozen=True):
    """A topic of Kafka."""

    topic: str


Sink = RedisStream | NatsStream | KafkaTopic


class Stream(Struct, frozen=True):
    """What is published where, as workers know it."""

    stream_id: UUID
    key: str
    revision: int
    """Moves with whatever an operator changes."""
    wish: Wish
    sink: Sink
    switched_off: bool
    cursor: str
    """Up to where the feed has been published."""
    is_failing: bool


def cloud_event(event: Event, source: str) -> Mapping[str, Any]:
    """An event in the structured mode of CloudEvents 1.0. Names of extensions have only small letters there."""
    tenant = event.envelope.get("tenant", "")
    about = {}
    if event.user_id:
        about = {"subject": shown(event.user_id), "partitionkey": partition_key(event)}
    if tenant:
        about["tenant"] = tenant
    return {
        "specversion": SPEC_VERSION,
        "id": str(event.event_id),
        "source": source,
        "type": event.type,
        "time": event.envelope["timestamp"],
        "datacontenttype": DATA_TYPE,
        **about,
        "usersequence": str(event.envelope["userSequence"]),
        "entryid": event.envelope["entryId"],
        "control": event.envelope["control"],
        "data": event.data,
    }


def partition_key(event: Event) -> str:
    """By which a broker keeps a user's events together: the user, of a tenant with its name; empty: about no user."""
    tenant, user = event.envelope.get("tenant", ""), shown(event.user_id)
    return f"{tenant}/{user}" if tenant and user else user


def waves(events: Sequence[Event]) -> list[list[Event]]:
    """What may be under way at once: no wave has two events of one user, and each user's come in order."""
    found: list[list[Event]] = []
    places: dict[str, int] = {}
    for event in events:
        place = places.get(event.user_id, 0)
        places[event.user_id] = place + 1
        if place == len(found):
            found.append([])
        found[place].append(event)
    return found


def pause_seconds(failures: int) -> float:
    """How long a broker that failed so many times in a row is left alone."""
    return float(min(0.5 * 2.0 ** min(failures - 1, 10), 30.0))
