"""Drawn identifiers, ordered by time so that index pages fill from one side. Not for domain code."""

import secrets
import time
import uuid

_VARIANT = 0b10 << 62
_VERSION_7 = 7 << 76


def new_id() -> uuid.UUID:
    """A fresh UUIDv7: milliseconds, then the fraction of the millisecond, then 62 random bits (RFC 9562,
    6.2).
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    return uuid.UUID(
        int=milliseconds << 80 | _VERSION_7 | fraction << 64 | _VARIANT | secrets.randbits(62),
    )
