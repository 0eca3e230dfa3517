"""Idempotency keys for requests whose caller gave none."""

from collections.abc import Iterator
from typing import Final, TypeVar
from uuid import uuid4

from google.protobuf.message import Message
from laurel.orchestrator.v1 import orchestrator_service_pb2

Request = TypeVar("Request", bound=Message)

# Events have the one, every other mutation has the other.
_KEYS: Final = ("idempotency_key", "request_id")


def with_keys(request: Request) -> Request:
    """A copy with a fresh key wherever one is missing; the request itself where none is.

    A copy, because a request object that is sent twice may well mean two events.
    """
    if next(_missing(request), None) is None:
        return request
    filled = type(request)()
    filled.CopyFrom(request)
    for message, name in _missing(filled):
        setattr(message, name, str(uuid4()))
    return filled


def _missing(request: Message) -> Iterator[tuple[Message, str]]:
    """The messages of a request that want a key and have none, with the name of its field."""
    messages: Iterator[Message] | tuple[Message, ...] = (request,)
    if isinstance(request, orchestrator_service_pb2.IngestEventsRequest):
        messages = iter(request.events)
    elif isinstance(request, orchestrator_service_pb2.PerformOperationsRequest):
        named = ((operation, operation.WhichOneof("operation")) for operation in request.operations)
        messages = (getattr(operation, name) for operation, name in named if name)
    elif isinstance(request, orchestrator_service_pb2.StreamEventsRequest):
        messages = (request.event,) if request.HasField("event") else ()
    # The events of an import are left alone: one without a key is known again by its content (RULES 1.4, 2.4), and a
    # drawn key would import a file twice.
    for message in messages:
        for name in _KEYS:
            if name in message.DESCRIPTOR.fields_by_name and not getattr(message, name):
                yield message, name
