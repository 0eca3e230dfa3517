"""ResumeStreak: the pauses of today are ended (RULES 3.12)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations

NAME = "streak_resume"


def incoming(request: pb.ResumeStreakRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    return convert.incoming_streak_call(NAME, request, asked, violations)


def reply(entry: entry_pb2.Entry) -> pb.ResumeStreakResponse:
    """Which entry it became."""
    return pb.ResumeStreakResponse(entry_id=entry.entry_id)


def _patch(request: pb.ResumeStreakRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.ResumeStreakRequest.FromString(request)
    entry.streak_resume.streak = call.streak


OPERATION = Operation(
    name=NAME,
    request_type=pb.ResumeStreakRequest,
    steps=(Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.ResumeStreakResponse,
    method="ResumeStreak",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
