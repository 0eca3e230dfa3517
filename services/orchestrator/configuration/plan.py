"""A write of definitions, put together from what each owner says of its part. Pure: messages in, messages out."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from laurel.common.v1 import configuration_pb2
from laurel.orchestrator.v1 import definition_pb2
from laurel.participant.v1 import definition_service_pb2 as pb
from msgspec import Struct

from services.orchestrator.configuration.owners import OWNERS
from shared.definition_changes import field_changes
from shared.definitions import Name, kind_of, message_of, name_of, same_content, stamped
from shared.errors import FailedPrecondition, Violations
from shared.rpc.convert import to_timestamp

_KEEP: Final = configuration_pb2.CONFIGURATION_ACTION_KEEP


class Change(Struct, frozen=True):
    """What becomes of one definition; `before` has its times, `after` has none."""

    before: definition_pb2.Definition | None
    after: definition_pb2.Definition | None

    @property
    def name(self) -> Name:
        """Whose change it is."""
        either = self.after or self.before
        assert either is not None
        return name_of(either)

    @property
    def action(self) -> configuration_pb2.ConfigurationAction.ValueType:
        """What happens."""
        if self.after is None:
            return configuration_pb2.CONFIGURATION_ACTION_DELETE
        if self.before is None:
            return configuration_pb2.CONFIGURATION_ACTION_CREATE
        if same_content(message_of(self.before), message_of(self.after)):
            return _KEEP
        return configuration_pb2.CONFIGURATION_ACTION_UPDATE

    def fields(self) -> list[configuration_pb2.FieldChange]:
        """Every field that differs; of a definition that is new or goes, all."""
        known = message_of(self.after or self.before or definition_pb2.Definition())
        nothing = type(known)()
        before = nothing if self.before is None else message_of(self.before)
        return field_changes(before, nothing if self.after is None else message_of(self.after))

    def message(self) -> configuration_pb2.ConfigurationChange:
        """The change as it is told, with every field of an update."""
        change = configuration_pb2.ConfigurationChange(
            kind=self.name.kind, key=self.name.key, action=self.action
        )
        if self.before is not None and self.after is not None:
            change.fields.extend(field_changes(message_of(self.before), message_of(self.after)))
        return change

    def stored(self, now: datetime) -> definition_pb2.Definition:
        """What is there after it, with its times."""
        assert self.after is not None
        if self.before is not None and self.action == _KEEP:
            return self.before
        time = to_timestamp(now)
        result = definition_pb2.Definition()
        result.CopyFrom(self.after)
        created = message_of(self.before).create_time if self.before is not None else time
        stamped(message_of(result), created, time)
        return result


def check_requests(
    writes: Sequence[pb.DefinitionWrite], *, prune: bool
) -> dict[str, pb.CheckDefinitionsRequest]:
    """What every owner is asked, by its name: also one that nothing is wanted of, for what it has."""
    requests = {owner: pb.CheckDefinitionsRequest(prune=prune) for owner in OWNERS.values()}
    for write in writes:
        requests[_owner_of(write)].writes.append(write)
    return requests


def changes_of(
    writes: Sequence[pb.DefinitionWrite], answers: Mapping[str, pb.CheckDefinitionsResponse]
) -> list[Change]:
    """What the writes change, in their order, and then what is pruned.

    Raises `InvalidArgument` with everything that is wrong, anywhere, and `FailedPrecondition` where something
    that stays mentions what is to go.
    """
    violations = Violations()
    for answer in answers.values():
        for violation in answer.violations:
            violations.add(violation.field, violation.description, violation.reason)
    staying = _check_references(answers, violations)
    violations.raise_if_any()
    _refuse_mentioned(staying)
    checked = {owner: iter(answer.writes) for owner, answer in answers.items()}
    changes = [_change(next(checked[_owner_of(write)])) for write in writes]
    changes += [_change(pruned) for rest in checked.values() for pruned in rest]
    return changes


def write_requests(
    changes: Sequence[Change], write_id: UUID, now: datetime
) -> dict[str, pb.WriteDefinitionsRequest]:
    """What each owner has to write, by its name, in the order in which they are told; only those that have to."""
    requests: dict[str, pb.WriteDefinitionsRequest] = {}
    for owner in OWNERS.values():
        request = pb.WriteDefinitionsRequest(write_id=str(write_id), write_time=to_timestamp(now))
        for change in changes:
            if OWNERS[change.name.kind] != owner or change.action == _KEEP:
                continue
            if change.after is None:
                request.deletes.add(kind=change.name.kind, key=change.name.key)
            else:
                request.puts.append(change.after)
        if request.puts or request.deletes:
            requests[owner] = request
    return requests


_Mention = tuple[Name, str, Name]
"""Who mentions, at which path, whom."""


def _check_references(
    answers: Mapping[str, pb.CheckDefinitionsResponse], violations: Violations
) -> list[_Mention]:
    """Adds what is mentioned by what is written, and would not be there. Returns what is mentioned by what stays
    as it is, and goes with this write; what had been missing before is no fault of this one.
    """
    expected = [definition for answer in answers.values() for definition in answer.definitions]
    known = {_name(definition.name) for definition in expected}
    going = {
        _change(write).name
        for answer in answers.values()
        for write in answer.writes
        if not write.HasField("after")
    }
    staying = []
    for definition in expected:
        for reference in definition.references:
            mentioned = _name(reference.name)
            if mentioned in known:
                continue
            if definition.path:
                path = f"{definition.path}.{reference.path}"
                violations.add(path, f"there is no {mentioned}", "REFERENCE_NOT_FOUND")
            elif mentioned in going:
                staying.append((_name(definition.name), reference.path, mentioned))
    return staying


def _refuse_mentioned(mentions: Sequence[_Mention]) -> None:
    if not mentions:
        return
    owner, path, mentioned = mentions[0]
    more = f", and {len(mentions) - 1} more" if len(mentions) > 1 else ""
    raise FailedPrecondition(
        f"the {mentioned} is mentioned by the {owner} ({path}){more}",
        reason="DEFINITION_MENTIONED",
        metadata={
            "kind": mentioned.kind,
            "key": mentioned.key,
            "by_kind": owner.kind,
            "by_key": owner.key,
            "path": path,
        },
    )


def _owner_of(write: pb.DefinitionWrite) -> str:
    match write.WhichOneof("write"):
        case "create":
            kind = kind_of(write.create)
        case "update":
            kind = kind_of(write.update.definition)
        case "put":
            kind = kind_of(write.put)
        case _:
            kind = write.delete.kind
    assert kind is not None  # what is written is a definition
    return OWNERS[kind]


def _change(checked: pb.CheckedWrite) -> Change:
    return Change(
        checked.before if checked.HasField("before") else None,
        checked.after if checked.HasField("after") else None,
    )


def _name(message: definition_pb2.DefinitionName) -> Name:
    return Name(message.kind, message.key)
