"""YAML nodes as protobuf messages: every mistake is found, each with its place in the file.

`json_format.ParseDict` does the conversion; what stands here is what it cannot do: go on after the first
mistake, and say where each one is.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from typing import Any, Final, cast

import yaml
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1.date_pb2 import LocalDate

_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_NUMBER: Final = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_TAG_PREFIX: Final = "tag:yaml.org,2002:"
_KINDS: Final = {
    "bool": "a truth value",
    "float": "a number",
    "int": "a number",
    "map": "a mapping",
    "null": "nothing",
    "seq": "a list",
    "str": "text",
    "timestamp": "a date",
}
_BOUNDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
}
_SET_BY_SERVER: Final = frozenset(
    {"create_time", "update_time", "health", "secrets", "switch_off_reason", "switch_off_time"}
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in the file. Both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong. `path` is empty for the file as a whole."""

    place: Place
    path: str
    what: str


class Invalid(Exception):
    """A value cannot be used; the message says why."""


@dataclass
class NodeReader:
    """Turns nodes into dictionaries for `json_format.ParseDict`, collecting mistakes and places."""

    mistakes: list[Mistake] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)

    def report(self, node: yaml.Node, path: str, what: str) -> None:
        """Record a mistake at this node."""
        self.mistakes.append(Mistake(place_of(node), path, what))

    def message(self, node: yaml.Node, descriptor: Descriptor, path: str) -> dict[str, Any]:
        """The message at this node, as far as it can be read."""
        self.places[path] = place_of(node)
        if _is_date(descriptor, node):
            return self._date(node, path)
        if isinstance(node, yaml.SequenceNode) and is_list_in_disguise(descriptor):
            only = descriptor.fields[0]
            return {only.name: self._repeated(node, only, f"{path}.{only.name}")}
        if _is_null(node) and not descriptor.fields:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.report(node, path, f"must be a mapping, not {kind_of(node)}")
            return {}
        return self._fields(node, descriptor, path)

    def entries(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Keys and values of a mapping, each key once; others are mistakes."""
        seen: dict[str, Place] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.report(key, path, f"a name is wanted here, not {kind_of(key)}")
                continue
            name = snake_case(key.value)
            if name in seen:
                self.report(key, join(path, name), f"given twice; first in line {seen[name].line}")
                continue
            seen[name] = place_of(key)
            yield key, value

    def _fields(self, node: yaml.MappingNode, descriptor: Descriptor, path: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        for key, value in self.entries(node, path):
            name = snake_case(key.value)
            found = descriptor.fields_by_name.get(name)
            if found is None:
                names = [each.name for each in descriptor.fields if each.name not in _SET_BY_SERVER]
                self.report(key, join(path, key.value), unknown("field", name, names))
                continue
            if name in _SET_BY_SERVER:
                self.report(key, join(path, name), "is set by the server; leave it out")
                continue
            group = found.containing_oneof
            if group is not None and (other := chosen.setdefault(group.name, name)) != name:
                self.report(key, join(path, name), f"cannot stand beside {other}: only one {group.name}")
                continue
            result[name] = self._field(value, found, join(path, name))
        return result

    def _field(self, node: yaml.Node, found: FieldDescriptor, path: str) -> Any:
        self.places[path] = place_of(node)
        return self._repeated(node, found, path) if found.is_repeated else self._single(node, found, path)

    def _repeated(self, node: yaml.Node, found: FieldDescriptor, path: str) -> list[Any]:
        self.places[path] = place_of(node)
        if not isinstance(node, yaml.SequenceNode):
            self.report(node, path, f"must be a list, not {kind_of(node)}")
            return []
        result = []
        for index, item in enumerate(node.value):
            self.places[f"{path}[{index}]"] = place_of(item)
            result.append(self._single(item, found, f"{path}[{index}]"))
        return result

    def _single(self, node: yaml.Node, found: FieldDescriptor, path: str) -> Any:
        if found.message_type is Timestamp.DESCRIPTOR and isinstance(node, yaml.ScalarNode):
            return self._instant(node, path)
        if found.message_type is not None:
            return self.message(node, found.message_type, path)
        try:
            return _scalar(node, found)
        except Invalid as error:
            self.report(node, path, str(error))
            return None

    def _date(self, node: yaml.Node, path: str) -> dict[str, int]:
        text = cast(yaml.ScalarNode, node).value
        try:
            value = date.fromisoformat(text)
        except ValueError:
            self.report(node, path, f"{text!r} is not a date such as 2026-02-03")
            return {}
        return {"year": value.year, "month": value.month, "day": value.day}

    def _instant(self, node: yaml.ScalarNode, path: str) -> str:
        """An instant may be written `2026-02-03T08:15:00+09:00`, with or without quotes."""
        instant = Timestamp()
        try:
            instant.FromJsonString(node.value)
        except ValueError:
            self.report(node, path, f"{node.value!r} is not an instant such as 2026-02-03T08:15:00+09:00")
        return instant.ToJsonString()


def _scalar(node: yaml.Node, found: FieldDescriptor) -> Any:
    """The value of a scalar field. Raises `Invalid`."""
    if not isinstance(node, yaml.ScalarNode) or _is_null(node):
        raise Invalid(f"must be {_wanted(found)}, not {kind_of(node)}")
    plain = node.style is None
    if found.enum_type is not None:
        return _enum(node.value, found.enum_type)
    if found.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if node.tag != _TAG_PREFIX + "str":
            raise Invalid(f"must be text, not {kind_of(node)}: put {node.value} in quotes")
        return node.value
    if found.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not plain or node.value.lower() not in ("true", "false"):
            raise Invalid(f"must be true or false, not {node.value!r}")
        return node.value.lower() == "true"
    if found.cpp_type in _BOUNDS:
        return _integer(node.value, plain, *_BOUNDS[found.cpp_type])
    return _double(node.value, plain)


def _integer(text: str, plain: bool, lowest: int, highest: int) -> int:
    digits = text.replace("_", "")
    if not plain or not _INTEGER.match(digits):
        raise Invalid(f"must be a whole number, not {text!r}")
    # Longer than any allowed number: Python refuses to convert digits without end.
    if len(digits) > len(str(lowest)) or not lowest <= int(digits) <= highest:
        raise Invalid(f"must be between {lowest} and {highest}")
    return int(digits)


def _double(text: str, plain: bool) -> float:
    digits = text.replace("_", "")
    if not plain or not _NUMBER.match(digits):
        raise Invalid(f"must be a number, not {text!r}")
    value = float(digits)
    if not math.isfinite(value):
        raise Invalid(f"is too large: {text}")
    return value


def _enum(text: str, descriptor: EnumDescriptor) -> str:
    """The full name of a value that may be written short and in any case: `daily`."""
    prefix = enum_prefix(descriptor)
    short = {each.name.removeprefix(prefix): each.name for each in descriptor.values if each.number}
    wanted = text.upper().replace("-", "_").replace(" ", "_").removeprefix(prefix)
    if wanted not in short:
        raise Invalid(unknown("value", text.lower(), [name.lower() for name in short]))
    return short[wanted]


def enum_prefix(descriptor: EnumDescriptor) -> str:
    """What the names of all values begin with: `RUN_UNIT_`."""
    return descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")


def unknown(what: str, name: str, names: list[str]) -> str:
    """That a name is not known, with what may have been meant."""
    close = get_close_matches(name, names, n=1)
    meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(names))}"
    return f"unknown {what} {name!r}; {meant}"


def snake_case(name: str) -> str:
    """`userFilters` as `user_filters`."""
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: f"_{found.group().lower()}", name)


def join(path: str, name: str) -> str:
    """The path of a field inside the message at `path`."""
    return f"{path}.{name}" if path else name


def place_of(node: yaml.Node) -> Place:
    """Where the node begins."""
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def kind_of(node: yaml.Node) -> str:
    """What a node is, in words."""
    return _KINDS.get(str(node.tag).removeprefix(_TAG_PREFIX), str(node.tag))


def _wanted(found: FieldDescriptor) -> str:
    if found.enum_type is not None:
        prefix = enum_prefix(found.enum_type)
        names = [each.name.removeprefix(prefix).lower() for each in found.enum_type.values if each.number]
        return f"one of {', '.join(names)}"
    if found.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "text"
    return "true or false" if found.cpp_type == FieldDescriptor.CPPTYPE_BOOL else "a number"


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == _TAG_PREFIX + "null")


def _is_date(descriptor: Descriptor, node: yaml.Node) -> bool:
    """A date may be written `2026-02-03`, besides as year, month and day."""
    return descriptor is LocalDate.DESCRIPTOR and isinstance(node, yaml.ScalarNode) and not _is_null(node)


def is_list_in_disguise(descriptor: Descriptor) -> bool:
    """A message that only wraps a list (protobuf has no list in a oneof) may be written as the list."""
    return len(descriptor.fields) == 1 and descriptor.fields[0].is_repeated
