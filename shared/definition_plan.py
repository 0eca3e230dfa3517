"""Writes of definitions, held against those that a service has: what they would do, and what is wrong with them.

Pure: messages in, messages out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from google.protobuf.message import Message
from laurel.orchestrator.v1 import definition_pb2
from laurel.participant.v1 import definition_service_pb2 as pb
from msgspec import Struct

from shared.definitions import (
    KEY,
    KINDS,
    OUTPUT_ONLY,
    DefinitionKind,
    Name,
    check_distinct,
    definition_of,
    key_of,
    kind_of,
    message_of,
    stamped,
)
from shared.errors import InvalidArgument, Violations
from shared.masks import updated
from shared.rpc.convert import check_key
from shared.rpc.error_messages import violation_messages

M = TypeVar("M", bound=Message)

Kinds = Mapping[str, DefinitionKind[Any]]
"""The kinds that a service owns, by name."""


class PastDefinition(Struct, frozen=True):
    """What a definition was from an instant on."""

    number: int
    """Grows with every change of any definition."""
    name: Name
    message: Message | None
    """None where there was none any more."""
    change_time: datetime


class StoredDefinitions:
    """Every definition in a service's database, as of one version. Times are set."""

    def __init__(
        self,
        version: int,
        messages: Mapping[Name, Message],
        history: Sequence[PastDefinition] = (),
        tenants: Collection[str] = (),
    ) -> None:
        self.version = version
        self.tenants = frozenset(tenants)
        """Those that a service has heard of, where it keeps something for each."""
        self.history = history
        """How they came to be so, in order, where a service keeps that."""
        self._messages = messages

    def __contains__(self, name: object) -> bool:
        return name in self._messages

    def __iter__(self) -> Iterator[Name]:
        """The names, by kind and key."""
        return iter(self._messages)

    def get(self, name: Name) -> Any:
        """The message of this name; None where there is none."""
        return self._messages.get(name)

    def of(self, kind: DefinitionKind[M]) -> list[M]:
        """The definitions of one kind, in order of key."""
        return [cast(M, message) for name, message in self._messages.items() if name.kind == kind.name]


class Plan:
    """Writes on their way to an answer: what is there now, and what would be there."""

    def __init__(self, kinds: Kinds, stored: StoredDefinitions) -> None:
        self._kinds = kinds
        self._stored = stored
        self._paths: list[tuple[str, Name]] = []
        self._writes: list[pb.CheckedWrite] = []
        self._wanted: dict[Name, tuple[str, Any]] = {}
        """By name: the path of the write, and what it leaves; None where that is wrong."""
        self.deletes: dict[Name, str] = {}
        """What is to go, with the path of the write; "" where none names it."""
        self.violations = Violations()

    def add(self, write: pb.DefinitionWrite) -> None:
        """One write. Raises `InvalidArgument`, `AlreadyExists` or `NotFound` where it wants a certain state."""
        match write.WhichOneof("write"):
            case "create":
                self._create(write.create, write.path)
            case "update":
                self._update(write.update, write.path)
            case "put":
                self._put(self._kind(kind_of(write.put)), message_of(write.put), write.path)
            case "delete":
                kind = self._kind(write.delete.kind)
                name = Name(kind.name, write.delete.key)
                if name not in self._stored:
                    raise kind.unknown(name.key)
                self._delete(name, write.path)
            case None:
                raise InvalidArgument("a write says nothing", reason="INVALID_FIELDS")

    def prune(self) -> None:
        """Everything that a configuration has and no write names goes."""
        for name in self._stored:
            if name.kind in KINDS and name not in self._wanted:
                self._delete(name, "")

    def response(self) -> pb.CheckDefinitionsResponse:
        """The answer."""
        check_distinct(self._paths, self.violations)
        for kind in self._kinds.values():
            kind.check_all(self._whole(kind.name), self.violations)
        expected = [self._expected(name, path, message) for name, (path, message) in self._wanted.items()]
        expected += [
            self._expected(name, "", self._stored.get(name))
            for name in self._stored
            if name not in self._wanted and name not in self.deletes
        ]
        return pb.CheckDefinitionsResponse(
            violations=violation_messages(self.violations),
            writes=[] if len(self.violations) else self._writes,
            definitions=expected,
        )

    def _create(self, definition: definition_pb2.Definition, path: str) -> None:
        kind, message = self._kind(kind_of(definition)), message_of(definition)
        wrong = Violations()
        kind.check(message, path, wrong)
        wrong.raise_if_any()
        if Name(kind.name, key_of(message)) in self._stored:
            raise kind.taken(key_of(message))
        self._put(kind, message, path)

    def _update(self, update: pb.DefinitionUpdate, path: str) -> None:
        kind, message = self._kind(kind_of(update.definition)), message_of(update.definition)
        wrong = Violations()
        check_key(key_of(message), f"{path}.{KEY}", wrong)
        wrong.raise_if_any()
        stored = self._stored.get(Name(kind.name, key_of(message)))
        if stored is None:
            raise kind.unknown(key_of(message))
        immutable = (KEY, *kind.immutable_fields)
        merged = updated(stored, message, update.update_mask, immutable=immutable, output_only=OUTPUT_ONLY)
        self._put(kind, merged, path)

    def _put(self, kind: DefinitionKind[Any], message: Any, path: str) -> None:
        """A whole message; where it is right by itself, it is held against the stored one."""
        name = Name(kind.name, key_of(message))
        self._paths.append((path, name))
        self._wanted[name] = (path, None)
        wrong = Violations()
        kind.check(message, path, wrong)
        if not len(wrong):
            stored, after = self._stored.get(name), kind.normalised(message)
            if stored is not None:
                kind.check_update(kind.normalised(stored), after, path, wrong)
            self._wanted[name] = (path, after)
            self._writes.append(_checked(kind, stored, after))
        self.violations.extend(wrong)

    def _delete(self, name: Name, path: str) -> None:
        self.deletes[name] = path
        self._writes.append(_checked(self._kinds[name.kind], self._stored.get(name), None))

    def _whole(self, kind: str) -> dict[str, tuple[str, Any]]:
        """All definitions of a kind that would be there, but for those that are wrong by themselves."""
        stored = {
            name: ("", self._stored.get(name))
            for name in self._stored
            if name not in self._wanted and name not in self.deletes
        }
        return {
            name.key: (path, message)
            for name, (path, message) in {**stored, **self._wanted}.items()
            if name.kind == kind and message is not None
        }

    def _expected(self, name: Name, path: str, message: Any) -> pb.ExpectedDefinition:
        references = () if message is None else self._kinds[name.kind].references(message)
        return pb.ExpectedDefinition(
            name=_name_message(name),
            path=path,
            references=[
                pb.DefinitionReference(path=reference.path, name=_name_message(reference.name))
                for reference in references
            ],
        )

    def _kind(self, name: str | None) -> DefinitionKind[Any]:
        return kind_in(self._kinds, name)


def kind_in(kinds: Kinds, name: str | None) -> DefinitionKind[Any]:
    """The kind of this name. Raises `InvalidArgument`: the orchestrator knows who owns what."""
    kind = kinds.get(name or "")
    if kind is None:
        raise InvalidArgument(f"no definitions of the kind {name!r} are kept here", reason="INVALID_FIELDS")
    return kind


def _checked(kind: DefinitionKind[Any], stored: Any, after: Any) -> pb.CheckedWrite:
    """What becomes of what; the stored one with its times, and with the defaults that it would have now."""
    result = pb.CheckedWrite()
    if stored is not None:
        before = stamped(kind.normalised(stored), stored.create_time, stored.update_time)
        result.before.CopyFrom(definition_of(kind.name, before))
    if after is not None:
        result.after.CopyFrom(definition_of(kind.name, after))
    return result


def _name_message(name: Name) -> definition_pb2.DefinitionName:
    return definition_pb2.DefinitionName(kind=name.kind, key=name.key)
