"""laurel.participant.v1.DefinitionService, the same for every service that owns definitions."""

from typing import Any

from laurel.participant.v1 import definition_service_pb2 as pb
from laurel.participant.v1 import definition_service_pb2_grpc

from shared.postgres.definitions import Definitions
from shared.rpc.server import Servicer


class DefinitionServicer(definition_service_pb2_grpc.DefinitionServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    async def GetDefinition(
        self, request: pb.GetDefinitionRequest, _context: Any
    ) -> pb.GetDefinitionResponse:
        """Gets a definition."""
        return await self._definitions.get_one(request)

    async def ListDefinitions(
        self, request: pb.ListDefinitionsRequest, _context: Any
    ) -> pb.ListDefinitionsResponse:
        """Lists definitions of one kind."""
        return await self._definitions.list_some(request)

    async def CheckDefinitions(
        self, request: pb.CheckDefinitionsRequest, _context: Any
    ) -> pb.CheckDefinitionsResponse:
        """Says what writes would do."""
        return await self._definitions.check(request)

    async def WriteDefinitions(
        self, request: pb.WriteDefinitionsRequest, _context: Any
    ) -> pb.WriteDefinitionsResponse:
        """Writes what has been checked."""
        return await self._definitions.write(request)


def definition_service(definitions: Definitions) -> Servicer:
    """The service as a process registers it."""
    return Servicer(
        definition_service_pb2_grpc.add_DefinitionServiceServicer_to_server,
        DefinitionServicer(definitions),
        pb.DESCRIPTOR.services_by_name["DefinitionService"].full_name,
    )
