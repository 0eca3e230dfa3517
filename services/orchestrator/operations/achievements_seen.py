"""MarkSeen: a user has been shown what was completed (RULES 4.7)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.convert import MAX_SEEN, check_key, check_request_id, check_user_id

NAME = "achievements_seen"


def incoming(request: pb.MarkSeenRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    if len(request.achievements) > MAX_SEEN:
        violations.add("achievements", f"must have at most {MAX_SEEN:,} keys")
    for index, key in enumerate(request.achievements[:MAX_SEEN]):
        check_key(key, f"achievements[{index}]", violations)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    return convert.incoming_call(NAME, UserPatch(request.user_id), request, request.request_id, asked)


def reply(entry: entry_pb2.Entry) -> pb.MarkSeenResponse:
    """Which entry it became."""
    return pb.MarkSeenResponse(entry_id=entry.entry_id)


def _patch(request: pb.MarkSeenRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.MarkSeenRequest.FromString(request)
    entry.achievements_seen.achievements.extend(call.achievements)


OPERATION = Operation(
    name=NAME,
    request_type=pb.MarkSeenRequest,
    steps=(Step.ACHIEVEMENT,),
    reply=reply,
    reply_type=pb.MarkSeenResponse,
    method="MarkSeen",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    counted=True,
)
