"""CompleteAchievement: an achievement that is earned by call (RULES 4)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.convert import check_key, check_request_id

NAME = "achievement_call"


def incoming(request: pb.CompleteAchievementRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    patch = convert.user_patch(request.user, violations)
    check_key(request.achievement, "achievement", violations)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    return convert.incoming_call(NAME, patch, request, request.request_id, asked)


def reply(entry: entry_pb2.Entry) -> pb.CompleteAchievementResponse:
    """Which entry it became."""
    return pb.CompleteAchievementResponse(entry_id=entry.entry_id)


def _patch(request: pb.CompleteAchievementRequest) -> UserPatch:
    return convert.patch_of_user(request.user)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.CompleteAchievementRequest.FromString(request)
    entry.achievement_call.achievement = call.achievement


OPERATION = Operation(
    name=NAME,
    request_type=pb.CompleteAchievementRequest,
    steps=(Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.CompleteAchievementResponse,
    method="CompleteAchievement",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
