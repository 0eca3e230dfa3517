"""Transport of laurel.orchestrator.v1.AccessService."""

from typing import Any

from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.orchestrator.v1 import access_service_pb2_grpc

from services.orchestrator.keys import KeyHandlers


class AccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """laurel.orchestrator.v1.AccessService."""

    def __init__(self, keys: KeyHandlers) -> None:
        self._keys = keys

    async def CreateKey(self, request: pb.CreateKeyRequest, _context: Any) -> pb.CreateKeyResponse:
        return await self._keys.create(request)

    async def GetKey(self, request: pb.GetKeyRequest, _context: Any) -> pb.GetKeyResponse:
        return pb.GetKeyResponse(key=await self._keys.get(request.key_id))

    async def ListKeys(self, request: pb.ListKeysRequest, _context: Any) -> pb.ListKeysResponse:
        return await self._keys.list(request)

    async def RotateKey(self, request: pb.RotateKeyRequest, _context: Any) -> pb.RotateKeyResponse:
        return await self._keys.rotate(request)

    async def SetKeyRateLimit(
        self, request: pb.SetKeyRateLimitRequest, _context: Any
    ) -> pb.SetKeyRateLimitResponse:
        return await self._keys.set_rate_limit(request)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, _context: Any) -> pb.RevokeKeyResponse:
        return await self._keys.revoke(request)

    async def ResolveKey(self, request: pb.ResolveKeyRequest, _context: Any) -> pb.ResolveKeyResponse:
        return await self._keys.resolve_for(request)

    async def ListAdminOperations(
        self, request: pb.ListAdminOperationsRequest, _context: Any
    ) -> pb.ListAdminOperationsResponse:
        return await self._keys.operations(request)
