"""A command for each operation, made of its request: an option for each field, with what the contract says of it.

So a new operation has its command as soon as it is in `PerformOperations`. An option is named by the path of its field,
as violations name it: `--override.days-off`.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import click
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1.date_pb2 import LocalDate
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.cli import render
from services.cli.comments import COMMENTS
from services.cli.connect import Connections
from services.cli.options import INT32, INT64, KEY_HELP, Day, Instant, Pair, json_option, pairs
from services.cli.show_event import show_operation
from services.cli.yaml_messages import enum_prefix

_KEY: Final = "request_id"
_SHOWN: Final = frozenset(("entry_id", "effects", "idempotent_replayed"))
"""Of a reply, what every operation shows."""
_OF_MESSAGES: Final = {Timestamp.DESCRIPTOR: Instant(), LocalDate.DESCRIPTOR: Day()}
_OF_NUMBERS: Final = {
    FieldDescriptor.CPPTYPE_BOOL: click.BOOL,
    FieldDescriptor.CPPTYPE_DOUBLE: click.FLOAT,
    FieldDescriptor.CPPTYPE_INT32: INT32,
    FieldDescriptor.CPPTYPE_INT64: INT64,
}


def operation_names() -> list[str]:
    """The operations that can be asked for, as the command names them."""
    return sorted(field.name.replace("_", "-") for field in _operations())


def operation_command(name: str) -> click.Command | None:
    """The command of an operation; None where there is no such operation."""
    operation = _operation(name)
    if operation is None:
        return None
    request_type = _message_of(operation)

    @click.pass_obj
    def run(connections: Connections, /, as_json: bool, **given: Any) -> None:
        request = request_of(name, given)
        request.request_id = request.request_id or str(uuid.uuid4())
        call = getattr(connections.orchestrator, _method(request_type))
        reply = call(request, timeout=connections.timeout_seconds)
        render.print_json(reply) if as_json else _show(reply)

    said = COMMENTS.get(request_type.full_name, "")
    command = click.Command(
        operation.name.replace("_", "-"),
        callback=run,
        params=[each.option() for each in _asked(request_type, ())],
        help=said,
        short_help=said.partition(". ")[0].partition(" (RULES")[0].removesuffix(".") + ".",
    )
    return json_option(command)


def request_of(name: str, given: Mapping[str, Any]) -> Any:
    """The request of an operation, of what its options were given. Raises `click.UsageError`."""
    operation = _operation(name)
    assert operation is not None
    request = getattr(pb.OperationRequest(), operation.name)
    for each in _asked(_message_of(operation), ()):
        each.write(request, given.get(each.parameter))
    return request


@dataclass(frozen=True, slots=True)
class _Asked:
    """A field of a request, as an option."""

    field: FieldDescriptor
    above: tuple[str, ...]
    """The fields in which it stands, the outermost first."""

    @property
    def parameter(self) -> str:
        """The name by which its value comes."""
        return "__".join((*self.above, self.field.name))

    @property
    def _name(self) -> str:
        path = ".".join((*self.above, self.field.name))
        return "--key" if path == _KEY else f"--{path.replace('_', '-')}"

    @property
    def _is_json(self) -> bool:
        """Each of its items is a message that the command knows no shorter form of."""
        return self.field.is_repeated and self.field.message_type is not None and not _is_map(self.field)

    def option(self) -> click.Option:
        """What is said on the command line."""
        help_text = KEY_HELP if self.parameter == _KEY else COMMENTS.get(self.field.full_name, "")
        kind = _type_of(self.field)
        if self._is_json:
            help_text += (
                f" As JSON, with {', '.join(each.json_name for each in _message_of(self.field).fields)}."
            )
        return click.Option(
            [self._name, self.parameter],
            type=kind,
            is_flag=kind is click.BOOL and not self.field.is_repeated,
            multiple=_is_list(self.field),
            metavar="JSON" if self._is_json else None,
            help=f"{help_text} May be repeated." if _is_list(self.field) else help_text,
        )

    def write(self, request: Message, value: Any) -> None:
        """Writes what was given into the request. Raises `click.UsageError` for what is no JSON of its message."""
        if value is None or value is False or value == ():
            return
        message = reduce(getattr, self.above, request)
        field = self.field
        if _is_map(field):
            getattr(message, field.name).update(pairs(value, field.name))
        elif field.message_type is FieldMask.DESCRIPTOR:
            getattr(message, field.name).paths.extend(value)
        elif self._is_json:
            for text in value:
                self._parse(text, getattr(message, field.name).add())
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value)
        elif field.is_repeated:
            getattr(message, field.name).extend(_number(field, each) for each in value)
        else:
            setattr(message, field.name, _number(field, value))

    def _parse(self, text: str, empty: Message) -> None:
        try:
            json_format.Parse(text, empty)
        except json_format.ParseError as error:
            raise click.UsageError(f"{self._name}: {error}") from error


def _message_of(field: FieldDescriptor) -> Descriptor:
    """The type of a field that is known to hold a message."""
    assert field.message_type is not None
    return field.message_type


def _operation(name: str) -> FieldDescriptor | None:
    return next((field for field in _operations() if field.name == name.replace("-", "_")), None)


def _operations() -> list[FieldDescriptor]:
    return list(pb.OperationRequest.DESCRIPTOR.oneofs_by_name["operation"].fields)


def _method(request_type: Descriptor) -> str:
    """The RPC that takes such a request."""
    methods = pb.DESCRIPTOR.services_by_name["OrchestratorService"].methods
    return next(method.name for method in methods if method.input_type is request_type)


def _show(reply: Any) -> None:
    """Entry and effects, and what else there is in a reply; messages as JSON."""
    show_operation(reply)
    rest = [field for field in reply.DESCRIPTOR.fields if field.name not in _SHOWN and _is_told(field, reply)]
    render.facts([(field.name.replace("_", " "), _cell(getattr(reply, field.name))) for field in rest])


def _is_told(field: FieldDescriptor, reply: Any) -> bool:
    return not field.GetOptions().deprecated and (not field.has_presence or reply.HasField(field.name))


def _cell(value: Any) -> render.Cell:
    return render.json_line(value) if isinstance(value, Message) else value


def _asked(descriptor: Descriptor, above: tuple[str, ...]) -> Iterator[_Asked]:
    """The fields of a request and of the messages in it."""
    for field in descriptor.fields:
        within = field.message_type
        if field.GetOptions().deprecated:
            continue
        if within is None or _is_list(field) or within in _OF_MESSAGES:
            yield _Asked(field, above)
        else:
            yield from _asked(within, (*above, field.name))


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _is_list(field: FieldDescriptor) -> bool:
    """Its option may be repeated."""
    return field.is_repeated or field.message_type is FieldMask.DESCRIPTOR


def _type_of(field: FieldDescriptor) -> click.ParamType[Any]:
    if _is_map(field):
        return Pair()
    if field.enum_type is not None:
        prefix = enum_prefix(field.enum_type)
        return click.Choice(
            [each.name.removeprefix(prefix).lower() for each in field.enum_type.values if each.number]
        )
    if field.message_type is not None:
        return _OF_MESSAGES.get(field.message_type, click.STRING)
    return _OF_NUMBERS.get(field.cpp_type, click.STRING)


def _number(field: FieldDescriptor, value: Any) -> Any:
    """The number of an enum's value; any other value as it is."""
    if field.enum_type is None:
        return value
    return field.enum_type.values_by_name[f"{enum_prefix(field.enum_type)}{value.upper()}"].number
