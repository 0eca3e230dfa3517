"""What a kind of definition is, and what can be said of a definition whatever its kind. Messages in, messages out.

A definition is a message with the fields `key`, `name`, `create_time` and `update_time`; the last two are output only.
On the wire it travels as a `laurel.orchestrator.v1.Definition`, whose one field that is set names the kind.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.orchestrator.v1 import definition_pb2, orchestrator_service_pb2
from msgspec import Struct

from shared.errors import AlreadyExists, FailedPrecondition, NotFound, Violations
from shared.rpc.convert import check_key

M = TypeVar("M", bound=Message)

KEY: Final = "key"
OUTPUT_ONLY: Final = ("create_time", "update_time")


def list_of(kind: str) -> str:
    """The field of a configuration that lists the definitions of a kind: `points_systems`."""
    return f"{kind}s"


_LISTED: Final = orchestrator_service_pb2.ApplyConfigurationRequest.DESCRIPTOR.fields_by_name

KINDS: Final = tuple(
    field.name for field in definition_pb2.Definition.DESCRIPTOR.fields if list_of(field.name) in _LISTED
)
"""The names of all kinds that a configuration has, in its order. Others have operations of their own."""


class Name(NamedTuple):
    """Names a definition among those of all services."""

    kind: str
    key: str

    def __str__(self) -> str:
        return f"{words(self.kind)} {self.key!r}"


class Reference(NamedTuple):
    """A definition's mention of another, at a path inside it."""

    path: str
    name: Name


def _mentions_nothing(_message: Message) -> Iterable[Reference]:
    return ()


def _go_together(_messages: Mapping[str, tuple[str, Any]], _violations: Violations) -> None:
    pass


def _may_become_anything(_before: Message, _after: Message, _path: str, _violations: Violations) -> None:
    pass


class DefinitionKind(Struct, Generic[M], frozen=True):
    """What a service says about one kind of its definitions."""

    name: str
    """The field of `Definition`: `points_system`."""
    message_type: type[M]
    validate: Callable[[M, str, Violations], None]
    """Adds what is wrong with the message at a path (`streaks[3]`), except for its key, which is checked here."""
    normalise: Callable[[M], M]
    """The message with its defaults made explicit; it gets a valid copy, which it may change."""
    not_found: str
    """Reason of the error for an unknown key."""
    exists: str
    """Reason of the error for a key that is taken."""
    in_use: str
    """Reason of the error for deleting what users hold something of."""
    immutable_fields: tuple[str, ...] = ()
    """Top-level fields that never change, besides `key`."""
    references: Callable[[M], Iterable[Reference]] = _mentions_nothing
    """Every mention of another definition, in a valid message."""
    check_change: Callable[[M, M, str, Violations], None] = _may_become_anything
    """Adds what may not become of a stored message, besides its immutable fields: (before, after, path). Both
    are normalised.
    """
    check_all: Callable[[Mapping[str, tuple[str, M]], Violations], None] = _go_together
    """Adds what is wrong with all definitions of the kind together: by key, each with the path of the write that it
    comes from, empty where it was there before.
    """

    def check(self, message: M, path: str, violations: Violations) -> None:
        """Adds everything that is wrong with a message by itself."""
        check_key(key_of(message), f"{path}.{KEY}", violations)
        self.validate(message, path, violations)

    def normalised(self, message: M) -> M:
        """A copy with explicit defaults and without the output-only fields: what is stored and compared."""
        copy = self.message_type()
        copy.CopyFrom(message)
        for field in OUTPUT_ONLY:
            copy.ClearField(field)
        named = cast(_Fields, copy)
        named.name = named.name or named.key
        return self.normalise(copy)

    def check_update(self, before: M, after: M, path: str, violations: Violations) -> None:
        """Adds everything that may not become of a stored message. Both are normalised."""
        old, new = _fields(before), _fields(after)
        for field in self.immutable_fields:
            if old.get(field) != new.get(field):
                violations.add(f"{path}.{field}", "cannot be changed")
        self.check_change(before, after, path, violations)

    def unknown(self, key: str) -> NotFound:
        """There is none with this key."""
        return NotFound(
            f"there is no {Name(self.name, key)}",
            reason=self.not_found,
            metadata={"kind": self.name, KEY: key},
        )

    def taken(self, key: str) -> AlreadyExists:
        """There is one with this key."""
        return AlreadyExists(
            f"the {Name(self.name, key)} exists", reason=self.exists, metadata={"kind": self.name, KEY: key}
        )

    def used(self, key: str) -> FailedPrecondition:
        """Users hold something of the one with this key."""
        return FailedPrecondition(
            self.used_text(key), reason=self.in_use, metadata={"kind": self.name, KEY: key}
        )

    def used_text(self, key: str) -> str:
        """That users hold something of it, in words."""
        return f"users hold something of the {Name(self.name, key)}"


class _Fields(Protocol):
    """The fields that every definition message has."""

    key: str
    name: str

    @property
    def create_time(self) -> Timestamp:
        """When it was created; output only."""
        ...

    @property
    def update_time(self) -> Timestamp:
        """When it was changed last; output only."""
        ...


def words(kind: str) -> str:
    """A kind in words: `points system`."""
    return kind.replace("_", " ")


def key_of(message: Message) -> str:
    """The definition's key."""
    return cast(_Fields, message).key


def kind_of(definition: definition_pb2.Definition) -> str | None:
    """The kind of a definition; None where it is none."""
    return definition.WhichOneof("definition")


def message_of(definition: definition_pb2.Definition) -> Any:
    """The kind's message in a definition that is one."""
    kind = kind_of(definition)
    assert kind is not None
    return getattr(definition, kind)


def name_of(definition: definition_pb2.Definition) -> Name:
    """The name of a definition that is one."""
    return Name(kind_of(definition) or "", key_of(message_of(definition)))


def definition_of(kind: str, message: Message) -> definition_pb2.Definition:
    """The kind's message as a definition."""
    result = definition_pb2.Definition()
    getattr(result, kind).CopyFrom(message)
    return result


def stamped(message: M, create_time: Timestamp, update_time: Timestamp) -> M:
    """The same message with its output-only fields set."""
    fields = cast(_Fields, message)
    fields.create_time.CopyFrom(create_time)
    fields.update_time.CopyFrom(update_time)
    return message


def same_content(before: Message, after: Message) -> bool:
    """Whether two normalised messages of one kind say the same; times are not content."""
    return _fields(before) == _fields(after)


def check_distinct(paths: Sequence[tuple[str, Name]], violations: Violations) -> None:
    """Adds each name that was given before, with the path where that was."""
    first: dict[Name, str] = {}
    for path, name in paths:
        earlier = first.setdefault(name, path)
        if earlier != path:
            violations.add(f"{path}.{KEY}", f"is also the key of {earlier}")


def dangling(
    references: Iterable[tuple[str, Reference]], known: Container[Name]
) -> Iterator[tuple[str, Name]]:
    """Mentions of what is not known: the whole path of each, and the name. References come with the path of
    the definition that has them.
    """
    for path, reference in references:
        if reference.name not in known:
            yield f"{path}.{reference.path}", reference.name


def _fields(message: Message) -> dict[str, Any]:
    """The fields that are set, by name, without the output-only ones."""
    return {field.name: value for field, value in message.ListFields() if field.name not in OUTPUT_ONLY}
