"""ResetStreak: a streak is set back to nothing (RULES 3.9)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations

NAME = "streak_reset"


def incoming(request: pb.ResetStreakRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    return convert.incoming_streak_call(NAME, request, asked, violations)


def reply(entry: entry_pb2.Entry) -> pb.ResetStreakResponse:
    """Which entry it became."""
    return pb.ResetStreakResponse(entry_id=entry.entry_id)


def _patch(request: pb.ResetStreakRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.ResetStreakRequest.FromString(request)
    entry.streak_reset.streak = call.streak


OPERATION = Operation(
    name=NAME,
    request_type=pb.ResetStreakRequest,
    steps=(Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.ResetStreakResponse,
    method="ResetStreak",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
