"""Page sizes and page tokens of every list (DESIGN 6).

A token is the keyset of the last row shown: opaque to the client, bound to the query it was made for, and
checked against the types of the keyset before it comes near SQL. It is not secret and grants nothing.
"""

import base64
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from msgspec import Struct

from shared.errors import Violations
from shared.ids import digest
from shared.tenants import CURRENT_TENANT, SEPARATOR

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1_000
_MAX_TOKEN_CHARS: Final = 4_096
_INT64: Final = range(-(2**63), 2**63)

Key = str | int | datetime | date | uuid.UUID
"""A value that a list can be ordered by."""


class Page(Struct, frozen=True):
    """The part of a list that is asked for: `size` rows after the keyset `after` (None: from the start)."""

    size: int
    after: tuple[Any, ...] | None
    _tag: str

    def next_token(self, *last: Key) -> str:
        """The token for what follows the row with this keyset."""
        values = [value if isinstance(value, str | int) else _text(value) for value in last]
        if tenant := CURRENT_TENANT.get():
            values = [_relative(tenant, value) for value in values]
        packed = json.dumps([self._tag, *values], separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")


def read_page(
    page_size: int,
    page_token: str,
    *,
    keyset: Sequence[type[Key]],
    query: Sequence[str] = (),
    most: int = MAX_PAGE_SIZE,
) -> Page:
    """The page that a request asks for.

    `keyset` gives the types of the columns in the ORDER BY, `query` what else of the request selects rows:
    the method and every filter. Raises `InvalidArgument` that names `page_size` or `page_token`.
    """
    violations = Violations()
    if page_size < 0:
        violations.add("page_size", "must not be negative")
    tag = digest(*query, *(kind.__name__ for kind in keyset)).hex()[:16]
    after = None
    if page_token:
        try:
            after = _read_token(page_token, tag, keyset)
        except ValueError:
            violations.add("page_token", "is not a token that this list gave for the same query")
    violations.raise_if_any()
    return Page(min(page_size or DEFAULT_PAGE_SIZE, most), after, tag)


def _read_token(token: str, tag: str, keyset: Sequence[type[Key]]) -> tuple[Any, ...]:
    """The keyset in the token. Every way in which it can be wrong is a `ValueError`."""
    if len(token) > _MAX_TOKEN_CHARS or not token.isascii():
        raise ValueError("not a token")
    packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    try:
        values = json.loads(packed)
    except RecursionError as error:
        raise ValueError("not a token") from error
    if not isinstance(values, list) or values[:1] != [tag] or len(values) != len(keyset) + 1:
        raise ValueError("of another query")
    after = tuple(_PARSERS[kind](value) for kind, value in zip(keyset, values[1:], strict=True))
    tenant = CURRENT_TENANT.get()
    return tuple(_absolute(tenant, value) for value in after) if tenant else after


def _relative(tenant: str, value: str | int) -> str | int:
    """Without the tenant, which the caller knows nothing of and must not be able to choose."""
    own = tenant + SEPARATOR
    return SEPARATOR + value.removeprefix(own) if isinstance(value, str) and value.startswith(own) else value


def _absolute(tenant: str, value: Any) -> Any:
    if not isinstance(value, str) or SEPARATOR not in value:
        return value
    if not value.startswith(SEPARATOR):
        raise ValueError("of another tenant")
    return tenant + value


def _text(value: datetime | date | uuid.UUID) -> str:
    return str(value) if isinstance(value, uuid.UUID) else value.isoformat()


def _string(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError("not text")
    value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
        raise ValueError("not a 64-bit integer")
    return value


def _instant(value: object) -> datetime:
    instant = datetime.fromisoformat(_string(value))
    if instant.tzinfo is None:
        raise ValueError("not an instant")
    return instant


_PARSERS: Final[Mapping[type, Callable[[object], Any]]] = {
    str: _string,
    int: _integer,
    datetime: _instant,
    date: lambda value: date.fromisoformat(_string(value)),
    uuid.UUID: lambda value: uuid.UUID(_string(value)),
}
