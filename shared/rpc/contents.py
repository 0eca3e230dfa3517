"""Reads what an operation says from its message, by the fields of its struct in `shared/entries.py` (docs/adr/0016).

Each field of the struct is read from the message's field of the same name, as its type says: text, numbers, truth
values, UUIDs, dates, instants, structs, and tuples of these. `X | None` is what need not be there. Every text and every
number has a limit (`shared/limits.py`); a number of an enum without one has to be a value of it. All that is wrong is
found at once, and told by its path.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from msgspec import Struct

from shared.entries import Checked
from shared.errors import Violations
from shared.limits import AtMost, Limit
from shared.rpc.convert import check_limit, date_field, instant_field, uuid_field

C = TypeVar("C", bound=Checked)

_Read = Callable[[Any, str, Violations], Any]
"""What is at a path, of a message or of one value; `_UNREADABLE`, with a violation, where there is no such thing."""
_Limits = tuple[Limit[Any], ...]
_UNREADABLE: Final = object()
_SCALARS: Final = (str, int, float, bool)


class _IsValueOf(Struct, frozen=True):
    """A number that an enum has."""

    numbers: frozenset[int]

    def wrong(self, value: int, /) -> str:
        return "" if value in self.numbers else "is not one of its values"


def read(struct: type[C], message: Message, path: str, violations: Violations) -> C | None:
    """What the message at `path` ("" for a request) says, with violations of its limits; None where it cannot be made.

    Raises `TypeError` where the message lacks a field of the struct, or has it otherwise.
    """
    return _made(struct, _all_fields(struct, message.DESCRIPTOR), message, path, violations)


def check(struct: type[C], message: Message, violations: Violations) -> None:
    """What is wrong with a request, of the fields that it has in common with what is made of it."""
    fields = _fields(struct, message.DESCRIPTOR)
    if len(fields) == len(struct.__struct_fields__):
        _made(struct, fields, message, "", violations)
    else:
        for name, field in fields.items():
            field(message, name, violations)


def copy_common(request: Message, message: Message) -> None:
    """Writes into the message what the request says in fields that both have."""
    asked = request.DESCRIPTOR.fields_by_name
    for field in message.DESCRIPTOR.fields:
        if field.name not in asked:
            continue
        value = getattr(request, field.name)
        if field.is_repeated:
            getattr(message, field.name).MergeFrom(value)
        elif field.message_type is None:
            setattr(message, field.name, value)
        elif request.HasField(field.name):
            getattr(message, field.name).CopyFrom(value)


def _made(
    struct: type[C], fields: Mapping[str, _Read], message: Message, path: str, violations: Violations
) -> C | None:
    inside = f"{path}." if path else ""
    values = {name: field(message, inside + name, violations) for name, field in fields.items()}
    if _UNREADABLE in values.values():
        return None
    made = struct(**values)
    for where, text in made.wrong():
        violations.add(inside + where, text)
    return made


@cache
def _all_fields(struct: type[Checked], descriptor: Descriptor) -> Mapping[str, _Read]:
    """How each field is read. Raises `TypeError` where the message lacks one."""
    fields = _fields(struct, descriptor)
    for name in struct.__struct_fields__:
        if name not in fields:
            raise TypeError(f"{struct.__name__}.{name}: {descriptor.full_name} has no such field")
    return fields


@cache
def _fields(struct: type[Checked], descriptor: Descriptor) -> Mapping[str, _Read]:
    """How each field is read that both have, in the order of the struct."""
    hints = get_type_hints(struct, include_extras=True)
    known = descriptor.fields_by_name
    return {
        name: _field(hints[name], known[name], f"{struct.__name__}.{name}")
        for name in struct.__struct_fields__
        if name in known
    }


def _field(hint: Any, field: FieldDescriptor, where: str) -> _Read:
    """How a field is read of the message that has it."""
    optional = isinstance(hint, UnionType) or type(None) in get_args(hint)
    if optional:
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    plain, limits = _split(hint)
    if field.is_repeated != (get_origin(plain) is tuple):
        raise TypeError(f"{where} and {field.full_name}: one of them is a list")
    if field.is_repeated:
        return _list(plain, limits, field, where)
    if field.message_type is not None and plain is datetime:
        read_one: _Read = _named(instant_field, field.name)
    elif field.message_type is not None and plain is date:
        read_one = _named(date_field, field.name)
    else:
        value = _value(plain, limits, field, where)

        def read_one(message: Message, path: str, violations: Violations) -> Any:
            return value(getattr(message, field.name), path, violations)

    if not optional:
        return read_one

    def read_if_there(message: Message, path: str, violations: Violations) -> Any:
        return read_one(message, path, violations) if message.HasField(field.name) else None

    return read_if_there


def _named(of_parent: Callable[[Message, str, str, Violations], Any], name: str) -> _Read:
    """A reader that is told the parent and finds the field itself."""

    def read_one(message: Message, path: str, violations: Violations) -> Any:
        found = of_parent(message, name, path.removesuffix(name).removesuffix("."), violations)
        return _UNREADABLE if found is None else found

    return read_one


def _list(hint: Any, limits: _Limits, field: FieldDescriptor, where: str) -> _Read:
    """How a list is read: of more items than there may be, the first."""
    plain, of_items = _split(get_args(hint)[0])
    item = _value(plain, of_items, field, where)
    most = min((limit.most for limit in limits if isinstance(limit, AtMost)), default=None)

    def read_list(message: Message, path: str, violations: Violations) -> Any:
        values = getattr(message, field.name)
        _keep_to(limits, values, path, violations)
        found = tuple(
            item(value, f"{path}[{index}]", violations) for index, value in enumerate(values[:most])
        )
        return _UNREADABLE if _UNREADABLE in found else found

    return read_list


def _value(plain: Any, limits: _Limits, field: FieldDescriptor, where: str) -> _Read:
    """How one value is read."""
    if plain is UUID:
        return _or_unreadable(uuid_field)
    if isinstance(plain, type) and issubclass(plain, Checked) and field.message_type is not None:
        return _or_unreadable(lambda value, path, violations: read(plain, value, path, violations))
    if plain not in _SCALARS or field.message_type is not None:
        raise TypeError(f"{where}: {plain} is not read from {field.full_name}")
    if not limits and field.enum_type is not None:
        limits = (_IsValueOf(frozenset(field.enum_type.values_by_number)),)
    if not limits and plain is not bool:
        raise TypeError(f"{where} has no limit")

    def read_value(value: Any, path: str, violations: Violations) -> Any:
        _keep_to(limits, value, path, violations)
        return value

    return read_value


def _or_unreadable(of_value: Callable[[Any, str, Violations], Any]) -> _Read:
    def read_value(value: Any, path: str, violations: Violations) -> Any:
        found = of_value(value, path, violations)
        return _UNREADABLE if found is None else found

    return read_value


def _keep_to(limits: _Limits, value: Any, path: str, violations: Violations) -> None:
    for limit in limits:
        check_limit(limit, value, path, violations)


def _split(hint: Any) -> tuple[Any, _Limits]:
    """A type and its limits."""
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
