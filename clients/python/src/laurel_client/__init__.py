"""A client of Laurel: channels for the generated stubs.

    from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

    with laurel_client.channel("127.0.0.1:7400") as channel:
        reply = OrchestratorServiceStub(channel).IngestEvent(request)

A call over such a channel has a deadline, is sent again while the service is unavailable, always with the same
idempotency key, and raises `LaurelError` when it fails. `aio_channel` is the same for asyncio.
"""

from laurel_client.channels import DEFAULT_TIMEOUT_SECONDS, MAX_ATTEMPTS, aio_channel, channel
from laurel_client.errors import FieldViolation, LaurelError
from laurel_client.keys import with_keys

__all__ = [
    "DEFAULT_TIMEOUT_SECONDS",
    "MAX_ATTEMPTS",
    "FieldViolation",
    "LaurelError",
    "aio_channel",
    "channel",
    "with_keys",
]
