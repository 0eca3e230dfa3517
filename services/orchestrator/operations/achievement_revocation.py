"""RevokeAchievement: an achievement is taken from a user by hand (RULES 4.1)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.admin import MAX_REASON_CHARS
from shared.rpc.convert import check_key, check_request_id, check_text, check_user_id

NAME = "achievement_revocation"


def incoming(request: pb.RevokeAchievementRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    check_key(request.achievement, "achievement", violations)
    check_text(request.reason, "reason", violations, min_chars=0, max_chars=MAX_REASON_CHARS)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    patch = UserPatch(request.user_id)
    return convert.incoming_call(NAME, patch, request, request.request_id, asked, request.reason)


def reply(entry: entry_pb2.Entry) -> pb.RevokeAchievementResponse:
    """Which entry it became."""
    return pb.RevokeAchievementResponse(entry_id=entry.entry_id)


def _patch(request: pb.RevokeAchievementRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.RevokeAchievementRequest.FromString(request)
    entry.achievement_revocation.achievement = call.achievement


OPERATION = Operation(
    name=NAME,
    request_type=pb.RevokeAchievementRequest,
    steps=(Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.RevokeAchievementResponse,
    method="RevokeAchievement",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
