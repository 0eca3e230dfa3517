"""Who does something by hand, and what was done: the same for every service that keeps it (RULES 9.4)."""

from typing import Any, Final

from laurel.common.v1 import configuration_pb2
from laurel.orchestrator.v1 import access_service_pb2
from laurel.participant.v1 import audit_service_pb2 as pb
from laurel.participant.v1 import audit_service_pb2_grpc

from shared.errors import Violations
from shared.pages import read_page
from shared.postgres import admin
from shared.postgres.admin import AdminOperation, Asking
from shared.postgres.pool import Pool
from shared.rpc.access import ACTOR_HEADER, REASON_HEADER, actor, header, peer
from shared.rpc.convert import check_text, to_timestamp
from shared.rpc.server import Servicer

MAX_REASON_CHARS: Final = 1_000
_BEHIND_ALL: Final = 2**63 - 1


def asking(reason: str = "") -> Asking:
    """Who asks for something that is done by hand, from where, and why. Raises `InvalidArgument`."""
    violations = Violations()
    why, said = reason or header(REASON_HEADER), header(ACTOR_HEADER)
    check_text(said, ACTOR_HEADER, violations, min_chars=0)
    check_text(why, REASON_HEADER, violations, min_chars=0, max_chars=MAX_REASON_CHARS)
    violations.raise_if_any()
    return Asking(actor(said), peer(), why)


async def operations(
    pool: Pool, service: str, page_size: int, page_token: str, subject: str
) -> tuple[list[access_service_pb2.AdminOperation], str]:
    """A page of what was done by hand, newest first, and the token of the next one. Raises `InvalidArgument`."""
    violations = Violations()
    check_text(subject, "subject", violations, min_chars=0)
    violations.raise_if_any()
    page = read_page(page_size, page_token, keyset=[int], query=["list_admin_operations", subject])
    before = page.after[0] if page.after else _BEHIND_ALL
    found = await admin.list_newest(pool, before, page.size + 1, subject)
    kept = found[: page.size]
    token = page.next_token(kept[-1].sequence) if len(found) > page.size else ""
    return [_shown(operation, service) for operation in kept], token


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """laurel.participant.v1.AuditService. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(self, pool: Pool, service: str) -> None:
        self._pool = pool
        self._service = service

    async def ListServiceOperations(
        self, request: pb.ListServiceOperationsRequest, _context: Any
    ) -> pb.ListServiceOperationsResponse:
        """Lists what was done by hand."""
        found, token = await operations(
            self._pool, self._service, request.page_size, request.page_token, request.subject
        )
        return pb.ListServiceOperationsResponse(operations=found, next_page_token=token)


def registered(pool: Pool, service: str) -> Servicer:
    """The service as a process registers it."""
    return Servicer(
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
        AuditServicer(pool, service),
        pb.DESCRIPTOR.services_by_name["AuditService"].full_name,
    )


def _shown(operation: AdminOperation, service: str) -> access_service_pb2.AdminOperation:
    return access_service_pb2.AdminOperation(
        sequence=operation.sequence,
        create_time=to_timestamp(operation.create_time),
        method=operation.method,
        subject=operation.subject,
        actor=operation.actor,
        peer=operation.peer,
        reason=operation.reason,
        fields=[configuration_pb2.FieldChange.FromString(field) for field in operation.fields],
        service=service,
    )
