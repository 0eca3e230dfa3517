"""MergeUsers: what a user did is another user's (RULES 2.7). What is done is in `merging.py`."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from msgspec.structs import replace

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.admin import MAX_REASON_CHARS
from shared.rpc.convert import check_request_id, check_text
from shared.tenants import tenant_of

NAME = "user_merge"


def incoming(request: pb.MergeUsersRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    convert.check_user(request.user_id, "user_id", violations)
    convert.check_user(request.into_user_id, "into_user_id", violations)
    if request.into_user_id == request.user_id:
        violations.add("into_user_id", "must be another user, and not one who was merged into this one")
    if tenant_of(request.into_user_id) != tenant_of(request.user_id):
        violations.add("into_user_id", "must be a user of the same tenant")
    check_text(request.reason, "reason", violations, min_chars=0, max_chars=MAX_REASON_CHARS)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    patch = UserPatch(request.user_id)
    call = convert.incoming_call(NAME, patch, request, request.request_id, asked, request.reason)
    return replace(call, other_user_ids=(request.into_user_id,), counted=False, merges=True)


def reply(entry: entry_pb2.Entry) -> pb.MergeUsersResponse:
    """What has become of it."""
    merge = entry.user_merge
    return pb.MergeUsersResponse(
        entry_id=entry.entry_id,
        into_user_id=merge.into_user_id,
        moved_count=merge.moved_count,
        refused_count=merge.refused_count,
    )


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    entry.user_merge.into_user_id = pb.MergeUsersRequest.FromString(request).into_user_id


OPERATION = Operation(
    name=NAME,
    request_type=pb.MergeUsersRequest,
    steps=(),
    reply=reply,
    reply_type=pb.MergeUsersResponse,
    method="MergeUsers",
    incoming=incoming,
    tell=_tell,
    refusable=False,
    merges=True,
)
