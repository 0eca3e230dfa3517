"""Amnesties: declared and withdrawn by an operator, written as definitions are (RULES 3.12, docs/adr/0013)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from google.protobuf.message import Message
from laurel.orchestrator.v1 import definition_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.participant.v1 import definition_service_pb2 as internal

from services.orchestrator.configuration.configurator import Configurator, Mutation
from services.orchestrator.configuration.plan import Change
from shared.definitions import definition_of
from shared.errors import Violations
from shared.postgres.admin import Asking
from shared.rpc.convert import check_key, check_request_id, digest_of

_KIND: Final = "amnesty"


class AmnestyHandlers:
    """The use cases. They raise what `Configurator.write` raises, and `InvalidArgument` for a malformed request."""

    def __init__(self, configurator: Configurator) -> None:
        self._configurator = configurator

    async def declare(self, request: pb.DeclareAmnestyRequest, asking: Asking) -> pb.DeclareAmnestyResponse:
        """Declares a window in which the app was down."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()

        def answer(changes: Sequence[Change], now: datetime) -> Message:
            return pb.DeclareAmnestyResponse(amnesty=changes[0].stored(now).amnesty)

        create = definition_of(_KIND, request.amnesty)
        write = internal.DefinitionWrite(path=_KIND, create=create)
        mutation = Mutation("declare_amnesty", request.request_id, digest_of(request))
        body = await self._configurator.write([write], answer, asking, mutation=mutation)
        return pb.DeclareAmnestyResponse.FromString(body)

    async def withdraw(
        self, request: pb.WithdrawAmnestyRequest, asking: Asking
    ) -> pb.WithdrawAmnestyResponse:
        """Takes one back."""
        violations = Violations()
        check_key(request.key, "key", violations)
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()
        name = definition_pb2.DefinitionName(kind=_KIND, key=request.key)
        write = internal.DefinitionWrite(path=_KIND, delete=name)
        mutation = Mutation("withdraw_amnesty", request.request_id, digest_of(request))
        await self._configurator.write([write], _nothing, asking, mutation=mutation)
        return pb.WithdrawAmnestyResponse()


def _nothing(_changes: Sequence[Change], _now: datetime) -> Message:
    return pb.WithdrawAmnestyResponse()
