"""The orchestrator's feed, as this service reads it."""

from collections.abc import Sequence

import grpc.aio
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1 import orchestrator_service_pb2_grpc

from shared.rpc.channel import call

NEWEST = "newest"


class FeedReader:
    """Reads the feed of domain events. Raises what the orchestrator answers, as `shared.rpc.channel.call` does."""

    def __init__(self, channel: grpc.aio.Channel, page_size: int, timeout_seconds: float) -> None:
        self._stub = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)
        self._page_size = page_size
        self._timeout_seconds = timeout_seconds

    async def after(self, cursor: str, types: Sequence[str], until: str = "") -> pb.ListDomainEventsResponse:
        """What comes after a cursor; no types: all."""
        request = pb.ListDomainEventsRequest(
            after_cursor=cursor, page_size=self._page_size, types=types, until_cursor=until
        )
        return await call(self._stub.ListDomainEvents, request, timeout_seconds=self._timeout_seconds)

    async def newest(self, types: Sequence[str] = ()) -> str:
        """The cursor behind all that is there. Types that nobody tells are refused."""
        request = pb.ListDomainEventsRequest(after_cursor=NEWEST, page_size=1, types=types)
        page = await call(self._stub.ListDomainEvents, request, timeout_seconds=self._timeout_seconds)
        return page.cursor
