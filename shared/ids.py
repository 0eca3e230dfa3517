"""Derived identifiers and digests: they name the same thing whenever the same parts come again. Pure.

Identifiers that are drawn are in `shared.random_ids`.
"""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_VARIANT = 0b10 << 62
_VERSION_8 = 8 << 76
_LOW_62_BITS = (1 << 62) - 1
_LOW_12_BITS = (1 << 12) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_VARIANT_DIGITS = {f"{digit:x}": f"{digit & 0b11 | 0b1000:x}" for digit in range(16)}
"""What the variant makes of a digit."""


def derived_id(*parts: str) -> uuid.UUID:
    """The UUIDv8 that these parts name, always the same one."""
    number = int.from_bytes(digest(*parts)[:16])
    return _version_8(number >> 80, number)


def derived_id_at(instant: datetime, *parts: str) -> uuid.UUID:
    """The UUIDv8 that these parts name at an instant. It begins with the milliseconds since 1970, like a UUIDv7.

    So ids lie in the order of time, and those of one instant in an order that only their names decide.
    """
    milliseconds = max(0, (instant - _EPOCH) // _MILLISECOND)
    return _version_8(milliseconds, int.from_bytes(digest(*parts)[:16]))


def derived_id_beside(origin: uuid.UUID, *parts: str) -> uuid.UUID:
    """The UUIDv8 that these parts name, in the millisecond of `origin`: what belongs together lies together."""
    return _version_8(origin.int >> 80, int.from_bytes(digest(str(origin), *parts)[:16]))


class DerivedIds:
    """Many ids whose parts begin alike: those of `derived_id`."""

    def __init__(self, *parts: str) -> None:
        self._begun = hashlib.sha256(b"".join([_with_length(part.encode()) for part in parts]))

    def id(self, *parts: str) -> uuid.UUID:
        """The id that the first parts and these name."""
        number = int.from_bytes(_gone_on(self._begun, parts).digest()[:16])
        return _version_8(number >> 80, number)


class NamesBeside:
    """Writes the texts of many ids beside one origin: those of `derived_id_beside`, for who puts them into messages.

    `origin` is the text of a UUID as `str` writes it.
    """

    def __init__(self, origin: str) -> None:
        self._begun = hashlib.sha256(_with_length(origin.encode()))
        self._beginning = f"{origin[:13]}-8"

    def text(self, *parts: str) -> str:
        """The id that these parts name."""
        name = _gone_on(self._begun, parts).hexdigest()
        variant = _VARIANT_DIGITS[name[16]]
        return f"{self._beginning}{name[13:16]}-{variant}{name[17:20]}-{name[20:32]}"


def _version_8(milliseconds: int, number: int) -> uuid.UUID:
    """The UUID that begins with these 48 bits and goes on with the last 74 of a number."""
    low = (number >> 64 & _LOW_12_BITS) << 64 | number & _LOW_62_BITS
    return uuid.UUID(int=milliseconds << 80 | _VERSION_8 | _VARIANT | low)


def _gone_on(begun: "hashlib._Hash", parts: Sequence[str]) -> "hashlib._Hash":
    """What has been begun to be hashed, with these parts."""
    sha = begun.copy()
    sha.update(b"".join([_with_length(part.encode()) for part in parts]))
    return sha


def digest(*parts: str | bytes) -> bytes:
    """SHA-256 (32 bytes) over the parts, each preceded by its length, so that ("ab", "c") differs from ("a",
    "bc").
    """
    told = [_with_length(part.encode() if isinstance(part, str) else part) for part in parts]
    return hashlib.sha256(b"".join(told)).digest()


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(8) + data


def sha256(content: bytes) -> bytes:
    """SHA-256 (32 bytes) of stored bytes, by which the same content is known again."""
    return hashlib.sha256(content).digest()
