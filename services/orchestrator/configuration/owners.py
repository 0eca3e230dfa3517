"""Who owns which kind of definition. The orchestrator's own database answers as a service does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

import grpc.aio
from laurel.participant.v1 import definition_service_pb2 as pb
from laurel.participant.v1.definition_service_pb2_grpc import DefinitionServiceStub

from shared.rpc.channel import call

if TYPE_CHECKING:
    from laurel.participant.v1.definition_service_pb2_grpc import DefinitionServiceAsyncStub

_TIMEOUT_SECONDS: Final = 20.0

OWNERS: Final[Mapping[str, str]] = {
    "metric": "orchestrator",
    "streak": "streak",
    "achievement": "achievement",
    "points_system": "points",
    "leaderboard": "leaderboard",
    "amnesty": "streak",
}
"""The service that owns each kind, in the order in which services write."""


class Owner(Protocol):
    """One service's definitions; `shared.postgres.definitions.Definitions` is one. Methods raise `LaurelError`."""

    async def get_one(self, request: pb.GetDefinitionRequest) -> pb.GetDefinitionResponse:
        """One definition."""
        ...

    async def list_some(self, request: pb.ListDefinitionsRequest) -> pb.ListDefinitionsResponse:
        """Definitions of one kind."""
        ...

    async def check(self, request: pb.CheckDefinitionsRequest) -> pb.CheckDefinitionsResponse:
        """What writes would do."""
        ...

    async def write(self, request: pb.WriteDefinitionsRequest) -> pb.WriteDefinitionsResponse:
        """Writes what was checked, once for each write id."""
        ...


class RemoteOwner:
    """Another service's definitions."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: DefinitionServiceAsyncStub = DefinitionServiceStub(channel)

    async def get_one(self, request: pb.GetDefinitionRequest) -> pb.GetDefinitionResponse:
        """One definition."""
        return await call(self._stub.GetDefinition, request, timeout_seconds=_TIMEOUT_SECONDS)

    async def list_some(self, request: pb.ListDefinitionsRequest) -> pb.ListDefinitionsResponse:
        """Definitions of one kind."""
        return await call(self._stub.ListDefinitions, request, timeout_seconds=_TIMEOUT_SECONDS)

    async def check(self, request: pb.CheckDefinitionsRequest) -> pb.CheckDefinitionsResponse:
        """What writes would do."""
        return await call(self._stub.CheckDefinitions, request, timeout_seconds=_TIMEOUT_SECONDS)

    async def write(self, request: pb.WriteDefinitionsRequest) -> pb.WriteDefinitionsResponse:
        """Writes what was checked, once for each write id."""
        return await call(self._stub.WriteDefinitions, request, timeout_seconds=_TIMEOUT_SECONDS)
