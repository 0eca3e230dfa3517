"""Messages as JSON, faster than `json_format.MessageToDict`: what a type needs is found once, from its descriptor.

For those who turn every event of a feed into JSON. The values are those of
`MessageToDict(message, always_print_fields_with_no_presence=True)`, to which types and fields are left that no contract
of ours has; their order within an object is another one.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONG: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_STRANGE: Final = (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_GROUP)
"""Kinds of fields that no event has."""

_Convert = Callable[[Any], Any]
_CONVERTERS: Final[dict[Descriptor, _Convert]] = {}
"""By type, made when it is first met."""


def json_of(message: Message) -> Any:
    """The message as values that JSON has: an object, but for types with a JSON of their own."""
    kind: Any = message.DESCRIPTOR
    return _converter(kind)(message)


def time_text(timestamp: Timestamp) -> str:
    """The JSON of an instant: `ToJsonString` for timestamps known to be valid."""
    nanos = timestamp.nanos
    if not nanos:
        return f"{_seconds_text(timestamp.seconds)}Z"
    if nanos % 1_000_000 == 0:
        return f"{_seconds_text(timestamp.seconds)}.{nanos // 1_000_000:03d}Z"
    if nanos % 1_000 == 0:
        return f"{_seconds_text(timestamp.seconds)}.{nanos // 1_000:06d}Z"
    return f"{_seconds_text(timestamp.seconds)}.{nanos:09d}Z"


@lru_cache(maxsize=1_024)
def _seconds_text(seconds: int) -> str:
    """The events of a page have few different ones, above all midnights."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def _converter(descriptor: Descriptor) -> _Convert:
    found = _CONVERTERS.get(descriptor)
    if found is None:
        found = _made(descriptor)
    return found


def _made(descriptor: Descriptor) -> _Convert:
    if descriptor.full_name == Timestamp.DESCRIPTOR.full_name:
        return _CONVERTERS.setdefault(descriptor, time_text)
    if descriptor.file.package == Timestamp.DESCRIPTOR.file.package or not _is_known(descriptor):
        return _CONVERTERS.setdefault(descriptor, _by_the_library)
    fields: dict[FieldDescriptor, tuple[str, _Convert | None]] = {}
    said: dict[str, Any] = {}
    lists: list[str] = []
    maps: list[str] = []

    def convert(message: Message) -> dict[str, Any]:
        found = said.copy()
        for field, value in message.ListFields():
            name, inner = fields[field]
            found[name] = value if inner is None else inner(value)
        for name in lists:
            if name not in found:
                found[name] = []
        for name in maps:
            if name not in found:
                found[name] = {}
        return found

    # Known before its fields are: a type may hold its own.
    _CONVERTERS[descriptor] = convert
    for field in descriptor.fields:
        inner = _of_field(field)
        fields[field] = (field.json_name, inner)
        if _entry_of(field) is not None:
            maps.append(field.json_name)
        elif field.is_repeated:
            lists.append(field.json_name)
        elif not field.has_presence:
            value = field.default_value
            said[field.json_name] = value if inner is None else inner(value)
    return convert


def _by_the_library(message: Message) -> Any:
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def _is_known(descriptor: Descriptor) -> bool:
    """Whether all its fields are of kinds that are looked after here."""
    for field in descriptor.fields:
        entry = _entry_of(field)
        if field.type in _STRANGE or (
            entry is not None
            and (_key_of(entry).type != FieldDescriptor.TYPE_STRING or _value_of(entry).type in _STRANGE)
        ):
            return False
    return True


def _of_field(field: FieldDescriptor) -> _Convert | None:
    """What turns the value of a field into JSON; None: it is JSON."""
    entry = _entry_of(field)
    if entry is not None:
        of_value = _of_one(_value_of(entry))
        if of_value is None:
            return dict
        return lambda values: {key: of_value(values[key]) for key in values}
    of_one = _of_one(field)
    if not field.is_repeated:
        return of_one
    return list if of_one is None else lambda values: [of_one(value) for value in values]


def _of_one(field: FieldDescriptor) -> _Convert | None:
    if field.message_type is not None:
        return _converter(field.message_type)
    if field.enum_type is not None:
        names = {value.number: value.name for value in reversed(field.enum_type.values)}
        return lambda number: names.get(number, number)
    if field.cpp_type in _LONG:
        return str
    return _of_double if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else None


def _entry_of(field: FieldDescriptor) -> Descriptor | None:
    """Of a map: the type of its entries."""
    kind = field.message_type
    return kind if kind is not None and kind.GetOptions().map_entry else None


def _key_of(entry: Descriptor) -> FieldDescriptor:
    return entry.fields_by_name["key"]


def _value_of(entry: Descriptor) -> FieldDescriptor:
    return entry.fields_by_name["value"]


def _of_double(value: float) -> float | str:
    if value - value == 0:
        return value
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
