"""The key of a stack's user."""

import uuid
from pathlib import Path

from laurel.common.v1 import access_pb2
from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.orchestrator.v1.access_service_pb2_grpc import AccessServiceStub

from deploy.local.certificates import channel_to
from shared.rpc.outgoing import AUTHORIZATION, BEARER

TIMEOUT_SECONDS = 10.0


def create_key(address: str, service_token: str, authority: Path | None) -> str:
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
    with channel_to(address, authority) as channel:
        response = AccessServiceStub(channel).CreateKey(
            request, timeout=TIMEOUT_SECONDS, metadata=((AUTHORIZATION, BEARER + service_token),)
        )
    return response.credential
