"""How two messages of one definition differ, field by field, for a person to read."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from laurel.common.v1.configuration_pb2 import FieldChange

from shared.definitions import KEY, OUTPUT_ONLY

_ABSENT: Final = ""


def field_changes(before: Message, after: Message) -> list[FieldChange]:
    """Every field that differs, in the order of the message's definition; times are passed over.

    Messages are compared field by field, and so are elements of a list that have the same key.
    """
    return list(_message(before, after, ""))


def _message(before: Message, after: Message, path: str) -> Iterator[FieldChange]:
    for field in cast(Sequence[FieldDescriptor], after.DESCRIPTOR.fields):
        if not path and field.name in OUTPUT_ONLY:
            continue
        where = f"{path}.{field.name}" if path else field.name
        old, new = getattr(before, field.name), getattr(after, field.name)
        if not field.is_repeated:
            yield from _singular(field, _has(before, field), old, _has(after, field), new, where)
        elif field.message_type is None:
            yield from _values(field, old, new, where)
        else:
            yield from _messages(field, old, new, where)


def _singular(
    field: FieldDescriptor, had: bool, old: Any, has: bool, new: Any, path: str
) -> Iterator[FieldChange]:
    if had and has and field.message_type is not None:
        yield from _message(old, new, path)
    elif had != has or (has and old != new):
        yield FieldChange(
            path=path,
            old_value=_text(field, old) if had else _ABSENT,
            new_value=_text(field, new) if has else _ABSENT,
            removed=had and not has,
        )


def _values(
    field: FieldDescriptor, old: Sequence[Any], new: Sequence[Any], path: str
) -> Iterator[FieldChange]:
    """A list of plain values, shown whole: something is removed when a value is in it no more."""
    if list(old) != list(new):
        yield FieldChange(
            path=path,
            old_value=_list(field, old),
            new_value=_list(field, new),
            removed=any(value not in new for value in old),
        )


def _messages(
    field: FieldDescriptor, old: Sequence[Message], new: Sequence[Message], path: str
) -> Iterator[FieldChange]:
    """A list of messages. Where each has a name of its own in both, those of one name are compared."""
    before, after = _by_name(field, old), _by_name(field, new)
    if before is None or after is None:
        yield from _values(field, old, new, path)
        return
    for name, element in before.items():
        where = f"{path}[{name}]"
        if name in after:
            yield from _message(element, after[name], where)
        else:
            yield FieldChange(path=where, old_value=_text(field, element), removed=True)
    for name, element in after.items():
        if name not in before:
            yield FieldChange(path=f"{path}[{name}]", new_value=_text(field, element))
    stay_before = [name for name in before if name in after]
    stay_after = [name for name in after if name in before]
    if stay_before != stay_after:
        yield FieldChange(path=path, old_value=_json(list(before)), new_value=_json(list(after)))


def _by_name(field: FieldDescriptor, elements: Sequence[Message]) -> dict[str, Message] | None:
    """The elements by their key, or by their first field where that is text; None where that is not unique."""
    descriptor = field.message_type
    assert descriptor is not None
    naming = descriptor.fields_by_name.get(KEY, descriptor.fields[0])
    if naming.is_repeated or naming.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        return None
    result = {getattr(element, naming.name): element for element in elements}
    return result if len(result) == len(elements) else None


def _has(message: Message, field: FieldDescriptor) -> bool:
    """Whether a field has a value. A number or truth value without presence always has one: that 0 is said
    nowhere does not make it go away.
    """
    if field.has_presence:
        return message.HasField(field.name)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING or field.enum_type is not None:
        return bool(getattr(message, field.name))
    return True


def _list(field: FieldDescriptor, values: Sequence[Any]) -> str:
    return _json([_plain(field, value) for value in values]) if values else _ABSENT


def _text(field: FieldDescriptor, value: Any) -> str:
    return _json(_plain(field, value))


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return {
            inner_field.name: [_plain(inner_field, item) for item in inner]
            if inner_field.is_repeated
            else _plain(inner_field, inner)
            for inner_field, inner in cast(list[tuple[FieldDescriptor, Any]], value.ListFields())
        }
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
