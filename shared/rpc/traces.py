"""laurel.participant.v1.TraceService, the same for every service that keeps anything of users (RULES 2.7)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from laurel.common.v1 import trace_pb2
from laurel.participant.v1 import trace_service_pb2 as pb
from laurel.participant.v1 import trace_service_pb2_grpc
from msgspec import Struct

from shared.errors import Violations
from shared.postgres.pool import Pool
from shared.postgres.traces import Found, TraceStore
from shared.rpc.convert import check_user_id, uuid_field
from shared.rpc.server import Servicer
from shared.traces import Traces

MAX_ENTRIES: Final = 1_000
MAX_PART_BYTES: Final = 1_000_000
"""A part of an export ends with the row that comes to so much: a message has to arrive."""


async def _nothing_erased(_user_id: str) -> int:
    return 0


async def _nowhere(_user_id: str) -> Sequence[Found]:
    return ()


class Beside(Struct, frozen=True):
    """What a service keeps of users outside its tables, or has to set right before rows go."""

    erase: Callable[[str], Awaitable[int]] = _nothing_erased
    """Erases it; how many things."""
    search: Callable[[str], Awaitable[Sequence[Found]]] = _nowhere
    """Looks for it."""


class TraceServicer(trace_service_pb2_grpc.TraceServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(self, store: TraceStore, service: str, beside: Beside) -> None:
        self._store = store
        self._service = service
        self._beside = beside

    async def ExportTraces(
        self, request: pb.ExportTracesRequest, _context: Any
    ) -> AsyncIterator[pb.ExportTracesResponse]:
        """Shows a user's rows."""
        entry_ids = _checked(request.user_id, request.entry_ids)
        async for part in parts(self._service, self._store.rows(request.user_id, entry_ids)):
            yield pb.ExportTracesResponse(rows=part)

    async def EraseTraces(self, request: pb.EraseTracesRequest, _context: Any) -> pb.EraseTracesResponse:
        """Erases a part of a user's rows."""
        violations = Violations()
        check_user_id(request.pseudonym, "pseudonym", violations)
        entry_ids = _checked(request.user_id, request.entry_ids, violations)
        erased = 0 if entry_ids else await self._beside.erase(request.user_id)
        rows, more = await self._store.erase(request.user_id, request.pseudonym, entry_ids)
        return pb.EraseTracesResponse(row_count=erased + rows, more=more)

    async def FindTraces(
        self, request: pb.FindTracesRequest, _context: Any
    ) -> AsyncIterator[pb.FindTracesResponse]:
        """Searches every table."""
        _checked(request.user_id, ())
        async for found in self._store.search(request.user_id):
            yield pb.FindTracesResponse(table=searched(self._service, found))
        for found in await self._beside.search(request.user_id):
            yield pb.FindTracesResponse(table=searched(self._service, found))


def registered(traces: Traces, pool: Pool, beside: Beside | None = None) -> Servicer:
    """The service as a process registers it."""
    servicer = TraceServicer(TraceStore(pool, traces), traces.service, beside or Beside())
    return Servicer(
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
        servicer,
        pb.DESCRIPTOR.services_by_name["TraceService"].full_name,
    )


async def parts(
    service: str, rows: AsyncIterator[tuple[str, str]]
) -> AsyncIterator[list[trace_pb2.TraceRow]]:
    """Rows as messages, so many together as a response may hold."""
    part: list[trace_pb2.TraceRow] = []
    size = 0
    async for table, text in rows:
        part.append(trace_pb2.TraceRow(service=service, table=table, json=text))
        size += len(text)
        if size >= MAX_PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def searched(service: str, found: Found) -> trace_pb2.SearchedTable:
    """What was found in a table."""
    return trace_pb2.SearchedTable(
        service=service,
        table=found.table,
        row_count=found.rows,
        columns=found.columns,
        notice_count=found.notices,
    )


def _checked(user_id: str, entry_ids: Iterable[str], violations: Violations | None = None) -> list[UUID]:
    """The ids of entries. Raises `InvalidArgument` with everything that is wrong."""
    violations = Violations() if violations is None else violations
    check_user_id(user_id, "user_id", violations)
    given = list(entry_ids)
    if len(given) > MAX_ENTRIES:
        violations.add("entry_ids", f"must have at most {MAX_ENTRIES:,} items")
        given = []
    found = [uuid_field(value, f"entry_ids[{index}]", violations) for index, value in enumerate(given)]
    violations.raise_if_any()
    return [entry_id for entry_id in found if entry_id is not None]
