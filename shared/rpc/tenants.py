"""What a tenant's callers send and get: their own users by their own names, of all others nothing (RULES 9.3).

The boundary passes each request and each reply of such a caller through here, by the contract's descriptors; no
servicer knows of it. Fields that name users are known by their names, which a test holds against all contracts.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared import tenants
from shared.errors import FieldViolation, LaurelError, PermissionDenied, Violations

USER_FIELD: Final = re.compile(r"(?:^|_)user_ids?$")
"""The names of fields that hold ids of users."""
_NAMESPACED: Final = re.compile(rf"{USER_FIELD.pattern}|^request_id$")
"""What a tenant's callers choose by themselves, and another tenant's may choose too."""


class _OfOthers(Exception):
    """What is told is about somebody else's user."""


def taken_in(request: Message, tenant: str) -> None:
    """Put the tenant in front of what names users in a request. Raises `InvalidArgument` for who does so by itself."""
    violations = Violations()
    _take_in(request, tenant, "", violations)
    violations.raise_if_any()


def given_out(reply: Message, tenant: str) -> None:
    """Take the tenant off again. Raises `PermissionDenied` for a reply that is about others: a last line, behind what
    each method sees to by itself. In a list, what is about others is left out.
    """
    try:
        _give_out(reply, tenant)
    except _OfOthers:
        raise not_yours() from None


def reply_of(method: str, response: Any, tenant: str) -> Any:
    """A response as a tenant's caller gets it; one that was stored as bytes is parsed for it."""
    if isinstance(response, bytes):
        service, _, name = method.removeprefix("/").rpartition("/")
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        response = message_factory.GetMessageClass(found.output_type).FromString(response)
    given_out(response, tenant)
    return response


def error_for(error: LaurelError, tenant: str) -> LaurelError:
    """An error as a tenant's caller may read it; others may be told of the same one."""
    return type(error)(
        tenants.own_text(tenant, error.message),
        reason=error.reason,
        metadata={name: tenants.own_text(tenant, value) for name, value in error.metadata.items()},
        violations=tuple(
            FieldViolation(found.field, tenants.own_text(tenant, found.description), found.reason)
            for found in error.violations
        ),
        retry_after_seconds=error.retry_after_seconds,
        domain=error.domain,
    )


def not_yours() -> PermissionDenied:
    """The answer to a call that is about what is not the tenant's."""
    return PermissionDenied("this is not of the tenant of this key", reason="OTHER_TENANT")


def _take_in(message: Message, tenant: str, path: str, violations: Violations) -> None:
    for field, value in message.ListFields():
        where = f"{path}{field.name}"
        if _is_map(field):
            for name, text in value.items():
                if any(isinstance(part, str) and tenants.SEPARATOR in part for part in (name, text)):
                    violations.add(where, "must not contain the character U+001F")
        elif field.type == FieldDescriptor.TYPE_STRING:
            values = value if field.is_repeated else [value]
            if any(tenants.SEPARATOR in text for text in values):
                violations.add(where, "must not contain the character U+001F")
            elif _NAMESPACED.search(field.name):
                _set(message, field, [tenants.stored(tenant, text) if text else text for text in values])
        elif field.message_type is not None:
            for index, inner in enumerate(value if field.is_repeated else [value]):
                _take_in(
                    inner, tenant, f"{where}[{index}]." if field.is_repeated else f"{where}.", violations
                )


def _give_out(message: Message, tenant: str) -> None:
    if isinstance(message, AnyMessage):
        _give_out_any(message, tenant)
        return
    for field, value in message.ListFields():
        if _is_map(field):
            _give_out_map(field, value, tenant)
        elif field.type == FieldDescriptor.TYPE_STRING:
            values = value if field.is_repeated else [value]
            shown = list(_shown(field, values, tenant))
            if shown != list(values):
                _set(message, field, shown)
        elif field.message_type is None:
            continue
        elif field.is_repeated:
            for index in reversed(range(len(value))):
                try:
                    _give_out(value[index], tenant)
                except _OfOthers:
                    del value[index]
        else:
            _give_out(value, tenant)


def _shown(field: FieldDescriptor, values: Any, tenant: str) -> Iterator[str]:
    """The texts of a field. A list that names users is left with the tenant's own."""
    names_users = _names_users(field.name)
    own = tenant + tenants.SEPARATOR
    for text in values:
        if not names_users:
            yield tenants.own_text(tenant, text)
        elif text.startswith(own):
            yield text.removeprefix(own)
        elif not text:
            yield text
        elif not field.is_repeated:
            raise _OfOthers


@cache
def _names_users(name: str) -> bool:
    return USER_FIELD.search(name) is not None


def _give_out_any(message: AnyMessage, tenant: str) -> None:
    try:
        kind = descriptor_pool.Default().FindMessageTypeByName(message.TypeName())
    except KeyError:
        message.Clear()
        return
    inner = message_factory.GetMessageClass(kind).FromString(message.value)
    _give_out(inner, tenant)
    message.value = inner.SerializeToString(deterministic=True)


def _give_out_map(field: FieldDescriptor, values: Any, tenant: str) -> None:
    assert field.message_type is not None  # it is a map
    of_values = field.message_type.fields_by_name["value"]
    if of_values.message_type is not None:
        for inner in values.values():
            _give_out(inner, tenant)
        return
    for name, text in list(values.items()):
        shown_name = tenants.own_text(tenant, name) if isinstance(name, str) else name
        shown_text = tenants.own_text(tenant, text) if isinstance(text, str) else text
        if (shown_name, shown_text) != (name, text):
            del values[name]
            values[shown_name] = shown_text


def _set(message: Message, field: FieldDescriptor, values: list[str]) -> None:
    if field.is_repeated:
        del getattr(message, field.name)[:]
        getattr(message, field.name).extend(values)
    else:
        setattr(message, field.name, values[0])


@cache
def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
