"""Protobuf messages as YAML that `yaml_messages` reads back to the same messages."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, cast

import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1.date_pb2 import LocalDate

from services.cli.yaml_messages import enum_prefix, is_list_in_disguise
from shared.definitions import OUTPUT_ONLY

_WIDTH: Final = 110
_LARGEST_WHOLE: Final = 1e15
"""Doubles below it that are whole are written without a fraction; every one of them is exact."""


class _Dumper(yaml.SafeDumper):
    """As the safe one, but text with line breaks of any kind is escaped: other styles fold them."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if value.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(content: Mapping[str, Sequence[Message]]) -> str:
    """A document with a list of messages under each name. What a message does not say is left out."""
    sections = [
        yaml.dump(
            {name: [_message(message) for message in messages]},
            Dumper=_Dumper,
            default_flow_style=None,
            sort_keys=False,
            allow_unicode=True,
            width=_WIDTH,
        )
        for name, messages in content.items()
    ]
    return "\n".join(sections)


def _message(message: Message) -> Any:
    if isinstance(message, LocalDate):
        return date(message.year, message.month, message.day)
    if isinstance(message, Timestamp):
        return message.ToJsonString()
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    if is_list_in_disguise(descriptor):
        only = descriptor.fields[0]
        return [_value(only, item) for item in getattr(message, only.name)]
    return {
        field.name: [_value(field, item) for item in value] if field.is_repeated else _value(field, value)
        for field, value in cast(list[tuple[FieldDescriptor, Any]], message.ListFields())
        if field.name not in OUTPUT_ONLY
    }


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _message(value)
    if field.enum_type is not None:
        name: str = field.enum_type.values_by_number[value].name
        return name.removeprefix(enum_prefix(field.enum_type)).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        return int(value) or value  # there is a zero below zero
    return value
