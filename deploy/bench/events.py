"""Requests of the load, serialized at next to no cost.

Everything but the idempotency key comes out of a pool of serialized messages. The key is appended: in the wire format
the fields of a message may stand in any order, and a concatenation of parts is the message of all their fields.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from laurel.orchestrator.v1 import event_pb2

METRICS: Final = ("commits", "lines_changed")
REGIONS: Final = ("africa", "americas", "asia", "europe", "oceania")
ZONES: Final = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "Pacific/Auckland", "Africa/Lagos", "UTC")
AREAS: Final = ("code", "docs", "tests", "build")
_REPLAYED_FROM: Final = range(512, 4_096)
"""How many requests ago a replayed one was sent first: far enough to be done, near enough to be in memory."""

_APART_MS: Final = 100

_KEY: Final = b"\x2a"  # IngestEventRequest.idempotency_key
_EVENTS: Final = b"\x0a"  # IngestEventsRequest.events
_SEQUENCE: Final = b"\x08"  # StreamEventsRequest.sequence
_EVENT: Final = b"\x12"  # StreamEventsRequest.event


@dataclass(frozen=True, slots=True)
class Mix:
    """What the events of a load are about."""

    users: int = 10_000
    first_user: int = 0
    key_prefix: str = ""
    """Makes the keys of this load its own."""
    replayed_share: float = 0.0
    """The share of the requests that are sent a second time, key and all."""
    every_user_once: bool = False
    """Each user's first event of each metric, in order, and then no more."""
    first_occurred_ms: int = 0
    """When the first of these occurred, in milliseconds since 1970; each next one a tenth of a second later.
    0: when they are received."""
    seed: int = 1


def requests(mix: Mix) -> Iterator[bytes]:
    """Serialized IngestEventRequests, without end (or until every user had each metric)."""
    rng = random.Random(mix.seed)
    bodies = _bodies(mix.first_user, mix.users)
    if mix.every_user_once:
        for number, body in enumerate(bodies):
            occurred = _occurred(mix.first_occurred_ms + number * _APART_MS) if mix.first_occurred_ms else b""
            yield body + _key(f"{mix.key_prefix}{number}") + occurred
        return
    sent: list[bytes] = []
    number = 0
    while True:
        if mix.replayed_share and len(sent) > _REPLAYED_FROM.start and rng.random() < mix.replayed_share:
            yield sent[-rng.randrange(_REPLAYED_FROM.start, len(sent))]
            continue
        request = bodies[rng.randrange(len(bodies))] + _key(f"{mix.key_prefix}{number}")
        number += 1
        if mix.replayed_share:
            sent.append(request)
            if len(sent) > 2 * _REPLAYED_FROM.stop:
                del sent[: _REPLAYED_FROM.stop]
        yield request


def batch(items: list[bytes]) -> bytes:
    """A serialized IngestEventsRequest of serialized events."""
    return b"".join(_EVENTS + varint(len(item)) + item for item in items)


def streamed(sequence: int, item: bytes) -> bytes:
    """A serialized StreamEventsRequest of a serialized event."""
    return _SEQUENCE + varint(sequence) + _EVENT + varint(len(item)) + item


def sequence_of(response: bytes) -> int:
    """The sequence of a serialized StreamEventsResponse; 0 where the field is left out."""
    if not response.startswith(_SEQUENCE):
        return 0
    value = shift = 0
    for byte in response[1:]:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value


def varint(value: int) -> bytes:
    """A number in the wire format."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _key(text: str) -> bytes:
    encoded = text.encode()
    return _KEY + varint(len(encoded)) + encoded


def _occurred(milliseconds: int) -> bytes:
    request = event_pb2.IngestEventRequest()
    request.occur_time.FromMilliseconds(milliseconds)
    return request.SerializeToString()


@lru_cache(maxsize=8)
def _bodies(first_user: int, users: int) -> list[bytes]:
    """An event of each user and metric, without its key; what differs by user is the same in every load."""
    bodies = []
    for number in range(first_user, first_user + users):
        for metric in METRICS:
            request = event_pb2.IngestEventRequest(
                metric=metric, value=1 if metric == "commits" else 1 + number * 37 % 400
            )
            request.user.user_id = f"user-{number:07}"
            request.user.time_zone = ZONES[number % len(ZONES)]
            request.user.attributes["region"] = REGIONS[number % len(REGIONS)]
            request.attributes["area"] = AREAS[number // 7 % len(AREAS)]
            bodies.append(request.SerializeToString())
    return bodies
