"""Drawn identifiers, ordered by time so that index pages fill from one side. Not for domain code."""

import secrets
import time
from uuid import UUID

from asyncpg.pgproto import pgproto

_VARIANT = 0b10 << 62
_VERSION_7 = 7 << 76


def new_id() -> UUID:
    """A fresh UUIDv7: milliseconds, then the fraction of the millisecond, then 62 random bits (RFC 9562,
    6.2).
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    number = milliseconds << 80 | _VERSION_7 | fraction << 64 | _VARIANT | secrets.randbits(62)
    drawn: UUID = pgproto.UUID(number.to_bytes(16))
    return drawn
