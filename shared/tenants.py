"""Tenants: namespaces of users that know nothing of one another (RULES 9.3).

A user of a tenant is stored with the tenant in front of the id: `acme`, U+001F, `alice`. What a tenant's callers send
may not have that character anywhere, so nobody can name a user of another tenant; users of no tenant are stored as they
are. Pure, but for the tenant of the current call.
"""

import re
from contextvars import ContextVar
from typing import Final

from msgspec import Struct

SEPARATOR: Final = "\x1f"
TENANT: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
TENANT_TEXT: Final = "must match ^[a-z][a-z0-9_-]{0,63}$"

_MARK: Final = r"(?:\x1f|\\+x1f|\\+u001f)"
"""The separator as it is, as Python shows it, and as JSON does, which has more backslashes in a text within a text."""
_ANY_USER: Final = re.compile(rf"[a-z][a-z0-9_-]{{0,63}}{_MARK}[^\s'\"]*")

CURRENT_TENANT: Final[ContextVar[str]] = ContextVar("tenant", default="")
"""Whose call is being served; empty: nobody's in particular."""


def stored(tenant: str, text: str) -> str:
    """A user's id, or another name that users give, as it is stored."""
    return f"{tenant}{SEPARATOR}{text}" if tenant else text


def tenant_of(text: str) -> str:
    """Whose user this stored id is; empty: of no tenant."""
    return text.partition(SEPARATOR)[0] if SEPARATOR in text else ""


def shown(text: str) -> str:
    """The id as the tenant's own callers know it."""
    return text.partition(SEPARATOR)[2] if SEPARATOR in text else text


def is_stored_form(text: str) -> bool:
    """Whether the separator stands in it where it may: nowhere, or once behind a tenant."""
    tenant, mark, rest = text.partition(SEPARATOR)
    return not mark or (TENANT.fullmatch(tenant) is not None and SEPARATOR not in rest)


def is_own(user_id: str) -> bool:
    """Whether the current call may know of this user: its tenant's, or any where it is nobody's in particular."""
    tenant = CURRENT_TENANT.get()
    return not tenant or user_id in UsersOf(tenant)


class UsersOf(Struct, frozen=True):
    """All users of a tenant, as a container of stored ids."""

    tenant: str

    def __contains__(self, user_id: object) -> bool:
        return isinstance(user_id, str) and user_id.startswith(self.tenant + SEPARATOR)


def id_range(tenant: str) -> tuple[str, str]:
    """Between these lie the stored ids of a tenant's users, in the order of code points, both left out."""
    return tenant + SEPARATOR, tenant + chr(ord(SEPARATOR) + 1)


Range = tuple[str, str] | tuple[()]
"""Between which stored ids lie, both left out; (): all."""


def own_range() -> Range:
    """Between which the ids lie that the current call may know of: those of its tenant's users, or all."""
    tenant = CURRENT_TENANT.get()
    return id_range(tenant) if tenant else ()


def own_text(tenant: str, text: str) -> str:
    """A text as a tenant may read it: its own users as it knows them, of others nothing."""
    if "\x1f" not in text and "\\x1f" not in text and "\\u001f" not in text:
        return text
    text = re.sub(rf"(?<![a-z0-9_-]){re.escape(tenant)}{_MARK}", "", text)
    return _ANY_USER.sub("(another's)", text)
