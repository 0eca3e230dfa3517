"""Everything that any service keeps of a user: shown, and looked for (RULES 2.7)."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import grpc.aio
from google.protobuf.json_format import MessageToJson
from laurel.common.v1 import trace_pb2
from laurel.participant.v1 import trace_service_pb2 as pb
from laurel.participant.v1 import trace_service_pb2_grpc

from services.orchestrator import replies
from services.orchestrator.domain import WantedEntries
from services.orchestrator.erasing import ids_of_mentions
from services.orchestrator.store.erasure import ErasureStore, Mention
from services.orchestrator.store.reads import HIGHEST_ID, LOWEST_ID, ReadStore
from services.orchestrator.traces import ENTRIES, TRACES
from shared.errors import from_rpc_error
from shared.postgres.traces import TraceStore
from shared.rpc.traces import MAX_ENTRIES, parts, searched

_FAR_FUTURE: Final = datetime.max.replace(tzinfo=UTC)
_TIMEOUT_SECONDS: Final = 600.0
"""How long one service may take over a part of it, in seconds."""


class Exporter:
    """Asks every service, one after the other, so that no more of it is in memory than a message holds."""

    def __init__(
        self,
        reads: ReadStore,
        store: ErasureStore,
        traces: TraceStore,
        channels: Mapping[str, grpc.aio.Channel],
    ) -> None:
        """`channels` lead to the other services, by their names."""
        self._reads = reads
        self._store = store
        self._traces = traces
        self._stubs = {
            name: trace_service_pb2_grpc.TraceServiceStub(channel) for name, channel in channels.items()
        }

    async def export(self, user_id: str) -> AsyncIterator[list[trace_pb2.TraceRow]]:
        """Every row of a user and of who was merged into this one, a part at a time; entries of the ledger as they are
        audited. Raises `LaurelError`.
        """
        for each in await self._store.with_merged(user_id):
            async for part in self._export(each):
                yield part

    async def _export(self, user_id: str) -> AsyncIterator[list[trace_pb2.TraceRow]]:
        async for part in parts(TRACES.service, self._own(user_id)):
            yield part
        async for entry_ids in self._entries(user_id):
            for name in self._stubs:
                async for part in self._of(name, user_id, entry_ids):
                    yield part
        for name in self._stubs:
            async for part in self._of(name, user_id, []):
                yield part

    async def search(self, user_id: str) -> AsyncIterator[trace_pb2.SearchedTable]:
        """Every table of every service, with how many rows of it name a user. Raises `LaurelError`."""
        async for found in self._traces.search(user_id):
            yield searched(TRACES.service, found)
        for stub in self._stubs.values():
            request = pb.FindTracesRequest(user_id=user_id)
            try:
                async for response in stub.FindTraces(request, timeout=_TIMEOUT_SECONDS):
                    yield response.table
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

    async def _own(self, user_id: str) -> AsyncIterator[tuple[str, str]]:
        before = (_FAR_FUTURE, HIGHEST_ID)
        while audits := await self._reads.user_entries(WantedEntries(user_id), before, MAX_ENTRIES):
            for audit in audits:
                message = replies.audit_message(audit)
                yield ENTRIES, MessageToJson(message, preserving_proto_field_name=True, indent=None)
            before = (audits[-1].receive_time, audits[-1].entry_id)
        async for mentions in self._mentions(user_id):
            for mention in mentions:
                found = await self._reads.entry(mention.entry_id)
                if found is not None:
                    message = replies.audit_message(found)
                    yield ENTRIES, MessageToJson(message, preserving_proto_field_name=True, indent=None)
        async for row in self._traces.rows(user_id, []):
            yield row

    async def _entries(self, user_id: str) -> AsyncIterator[list[UUID]]:
        before = (_FAR_FUTURE, HIGHEST_ID)
        while audits := await self._reads.user_entries(WantedEntries(user_id), before, MAX_ENTRIES):
            yield [audit.entry_id for audit in audits]
            before = (audits[-1].receive_time, audits[-1].entry_id)
        async for mentions in self._mentions(user_id):
            yield ids_of_mentions(mentions, user_id)

    async def _mentions(self, user_id: str) -> AsyncIterator[list[Mention]]:
        after = LOWEST_ID
        while mentions := await self._store.mentions(user_id, after, MAX_ENTRIES // 2):
            yield mentions
            after = mentions[-1].entry_id

    async def _of(
        self, name: str, user_id: str, entry_ids: list[UUID]
    ) -> AsyncIterator[list[trace_pb2.TraceRow]]:
        request = pb.ExportTracesRequest(user_id=user_id, entry_ids=map(str, entry_ids))
        try:
            async for response in self._stubs[name].ExportTraces(request, timeout=_TIMEOUT_SECONDS):
                yield list(response.rows)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
