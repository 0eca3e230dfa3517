"""DeleteUser: every trace of a user goes (RULES 2.7). What is done is in `erasing.py`."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.admin import MAX_REASON_CHARS
from shared.rpc.convert import check_request_id, check_text, check_user_id
from shared.tenants import stored, tenant_of

NAME = "user_erasure"


def incoming(request: pb.DeleteUserRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    check_text(request.reason, "reason", violations, min_chars=0, max_chars=MAX_REASON_CHARS)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    return convert.incoming_call(NAME, _patch(request), request, request.request_id, asked, request.reason)


def pseudonym_of(entry_id: str) -> str:
    """Nothing in it comes from the user: an entry's id is of its instant and of what cannot be turned round."""
    return f"erased-{entry_id}"


def reply(entry: entry_pb2.Entry) -> pb.DeleteUserResponse:
    """What stands in the user's place."""
    return pb.DeleteUserResponse(entry_id=entry.entry_id, pseudonym=entry.user_erasure.pseudonym)


def _patch(request: pb.DeleteUserRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, _request: bytes) -> None:
    """Followers have to learn who is gone, and nothing else of whoever that was."""
    # Who was of a tenant stays of it: archives and ledgers are its own.
    tenant = tenant_of(entry.user.user_id)
    entry.user_erasure.pseudonym = stored(tenant, pseudonym_of(entry.entry_id))
    for field in ("name", "attributes", "has_newest_attributes", "newest_attributes", "changed"):
        entry.user.ClearField(field)


OPERATION = Operation(
    name=NAME,
    request_type=pb.DeleteUserRequest,
    steps=(),
    reply=reply,
    reply_type=pb.DeleteUserResponse,
    method="DeleteUser",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    refusable=False,
    counted=True,
    erases=True,
)
