"""The key of a stack's user."""

import uuid

import grpc
from laurel.common.v1 import access_pb2
from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.orchestrator.v1.access_service_pb2_grpc import AccessServiceStub

from shared.rpc.outgoing import AUTHORIZATION, BEARER

TIMEOUT_SECONDS = 10.0


def create_key(address: str, service_token: str) -> str:
    """A new key with every scope; what callers show. Raises `grpc.RpcError`."""
    scopes = [
        access_pb2.SCOPE_INGEST,
        access_pb2.SCOPE_READ,
        access_pb2.SCOPE_CONFIGURE,
        access_pb2.SCOPE_OPERATE,
    ]
    request = pb.CreateKeyRequest(
        key=pb.Key(name="local", scopes=scopes), request_id=str(uuid.uuid4()), reason="the local stack"
    )
    with grpc.insecure_channel(address) as channel:
        response = AccessServiceStub(channel).CreateKey(
            request, timeout=TIMEOUT_SECONDS, metadata=((AUTHORIZATION, BEARER + service_token),)
        )
    return response.credential
