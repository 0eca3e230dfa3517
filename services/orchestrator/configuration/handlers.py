"""What each call about definitions does."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.message import Message
from laurel.orchestrator.v1 import definition_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.participant.v1 import definition_service_pb2 as internal

from services.orchestrator.configuration.configurator import Configurator, Mutation
from services.orchestrator.configuration.owners import OWNERS, Owner
from services.orchestrator.configuration.plan import Change
from shared.definitions import KINDS, definition_of, kind_of, list_of, name_of
from shared.errors import Violations
from shared.pages import read_page
from shared.postgres.admin import Asking
from shared.rpc.convert import check_key, check_request_id, digest_of

MAX_DEFINITIONS_PER_LIST: Final = 1_000


class DefinitionHandlers:
    """The use cases. They raise what `Configurator.write` raises, and `InvalidArgument` for a malformed request."""

    def __init__(self, configurator: Configurator, owners: dict[str, Owner]) -> None:
        self._configurator = configurator
        self._owners = owners

    async def create(
        self, request: pb.CreateDefinitionRequest, asking: Asking
    ) -> pb.CreateDefinitionResponse:
        """Creates a definition."""
        kind = _check(request.definition, request.request_id, validate_only=request.validate_only)

        def answer(changes: Sequence[Change], now: datetime) -> pb.CreateDefinitionResponse:
            return pb.CreateDefinitionResponse(definition=changes[0].stored(now))

        write = internal.DefinitionWrite(path=f"definition.{kind}", create=request.definition)
        if request.validate_only:
            return answer(*await self._configurator.check([write]))
        mutation = Mutation("create_definition", request.request_id, digest_of(request))
        body = await self._configurator.write([write], answer, asking, mutation=mutation)
        return pb.CreateDefinitionResponse.FromString(body)

    async def update(
        self, request: pb.UpdateDefinitionRequest, asking: Asking
    ) -> pb.UpdateDefinitionResponse:
        """Changes a definition."""
        kind = _check(request.definition, request.request_id, validate_only=request.validate_only)

        def answer(changes: Sequence[Change], now: datetime) -> pb.UpdateDefinitionResponse:
            change = changes[0]
            return pb.UpdateDefinitionResponse(definition=change.stored(now), change=change.message())

        update = internal.DefinitionUpdate(definition=request.definition, update_mask=request.update_mask)
        write = internal.DefinitionWrite(path=f"definition.{kind}", update=update)
        if request.validate_only:
            return answer(*await self._configurator.check([write]))
        mutation = Mutation("update_definition", request.request_id, digest_of(request))
        body = await self._configurator.write([write], answer, asking, mutation=mutation)
        return pb.UpdateDefinitionResponse.FromString(body)

    async def delete(
        self, request: pb.DeleteDefinitionRequest, asking: Asking
    ) -> pb.DeleteDefinitionResponse:
        """Deletes a definition."""
        violations = Violations()
        if not request.validate_only:
            check_request_id(request.request_id, "request_id", violations)
        _check_name(request.kind, request.key, violations)
        violations.raise_if_any()
        name = definition_pb2.DefinitionName(kind=request.kind, key=request.key)
        write = internal.DefinitionWrite(path=request.kind, delete=name)
        if request.validate_only:
            await self._configurator.check([write])
        else:
            mutation = Mutation("delete_definition", request.request_id, digest_of(request))
            await self._configurator.write([write], _nothing, asking, mutation=mutation)
        return pb.DeleteDefinitionResponse()

    async def apply(
        self, request: pb.ApplyConfigurationRequest, asking: Asking
    ) -> pb.ApplyConfigurationResponse:
        """Makes a configuration so. Idempotent by content: applied again, everything is kept."""
        violations = Violations()
        for kind in KINDS:
            if len(getattr(request, list_of(kind))) > MAX_DEFINITIONS_PER_LIST:
                violations.add(list_of(kind), f"must have at most {MAX_DEFINITIONS_PER_LIST} definitions")
        violations.raise_if_any()
        writes = list(_puts(request))
        if request.validate_only:
            return _told(*await self._configurator.check(writes, prune=request.prune))
        body = await self._configurator.write(writes, _told, asking, prune=request.prune)
        return pb.ApplyConfigurationResponse.FromString(body)

    async def get(self, request: pb.GetDefinitionRequest) -> pb.GetDefinitionResponse:
        """Gets a definition from the service that owns it."""
        violations = Violations()
        _check_name(request.kind, request.key, violations)
        violations.raise_if_any()
        name = definition_pb2.DefinitionName(kind=request.kind, key=request.key)
        owner = self._owners[OWNERS[request.kind]]
        found = await owner.get_one(internal.GetDefinitionRequest(name=name))
        return pb.GetDefinitionResponse(definition=found.definition)

    async def list(self, request: pb.ListDefinitionsRequest) -> pb.ListDefinitionsResponse:
        """Lists definitions of one kind or of all, from the services that own them."""
        if request.kind:
            violations = Violations()
            _check_kind(request.kind, violations)
            violations.raise_if_any()
        page = read_page(
            request.page_size,
            request.page_token,
            keyset=[str, str],
            query=["list_definitions", request.kind],
        )
        kinds = [request.kind] if request.kind else list(KINDS)
        first, after_key = page.after or (kinds[0], "")
        found: list[definition_pb2.Definition] = []
        for kind in kinds[kinds.index(first) :] if first in kinds else []:
            if len(found) <= page.size:
                found += await self._some(
                    kind, after_key if kind == first else "", page.size + 1 - len(found)
                )
        shown = found[: page.size]
        token = page.next_token(*name_of(shown[-1])) if len(found) > page.size else ""
        return pb.ListDefinitionsResponse(definitions=shown, next_page_token=token)

    async def _some(self, kind: str, after_key: str, limit: int) -> Sequence[definition_pb2.Definition]:
        request = internal.ListDefinitionsRequest(kind=kind, after_key=after_key, limit=limit)
        return (await self._owners[OWNERS[kind]].list_some(request)).definitions


def _check(definition: definition_pb2.Definition, request_id: str, *, validate_only: bool) -> str:
    """The kind of what is to be written. Raises `InvalidArgument`."""
    violations = Violations()
    kind = kind_of(definition)
    if kind not in KINDS:
        violations.add("definition", f"must have one of {', '.join(KINDS)}")
    if not validate_only:
        check_request_id(request_id, "request_id", violations)
    violations.raise_if_any()
    assert kind is not None
    return kind


def _check_name(kind: str, key: str, violations: Violations) -> None:
    _check_kind(kind, violations)
    check_key(key, "key", violations)


def _check_kind(kind: str, violations: Violations) -> None:
    if kind not in KINDS:
        violations.add("kind", f"must be one of {', '.join(KINDS)}")


def _puts(request: pb.ApplyConfigurationRequest) -> Iterator[internal.DefinitionWrite]:
    """Every definition of a configuration, with its path."""
    for kind in KINDS:
        section = list_of(kind)
        for index, message in enumerate(getattr(request, section)):
            yield internal.DefinitionWrite(path=f"{section}[{index}]", put=definition_of(kind, message))


def _told(changes: Sequence[Change], _now: datetime) -> pb.ApplyConfigurationResponse:
    return pb.ApplyConfigurationResponse(changes=[change.message() for change in changes])


def _nothing(_changes: Sequence[Change], _now: datetime) -> Message:
    return pb.DeleteDefinitionResponse()
