"""SetBoardExclusion: a user is ranked nowhere, or is ranked again (RULES 6.13)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.convert import check_key, check_request_id, check_text, check_user_id

NAME = "board_exclusion"


def incoming(request: pb.SetBoardExclusionRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    if request.leaderboard:
        check_key(request.leaderboard, "leaderboard", violations)
    check_request_id(request.request_id, "request_id", violations)
    check_text(request.reason, "reason", violations, min_chars=0)
    violations.raise_if_any()
    return convert.incoming_call(NAME, _patch(request), request, request.request_id, asked, request.reason)


def reply(entry: entry_pb2.Entry) -> pb.SetBoardExclusionResponse:
    """Which entry it became."""
    return pb.SetBoardExclusionResponse(entry_id=entry.entry_id)


def _patch(request: pb.SetBoardExclusionRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.SetBoardExclusionRequest.FromString(request)
    entry.board_exclusion.leaderboard = call.leaderboard
    entry.board_exclusion.excluded = call.excluded


OPERATION = Operation(
    name=NAME,
    request_type=pb.SetBoardExclusionRequest,
    steps=(Step.LEADERBOARD,),
    reply=reply,
    reply_type=pb.SetBoardExclusionResponse,
    method="SetBoardExclusion",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    counted=True,
)
