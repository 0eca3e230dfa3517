"""OverrideStreak: a user has a streak otherwise than it is defined (RULES 3.11)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.convert import check_override

NAME = "streak_override"


def incoming(request: pb.OverrideStreakRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    check_override(request.override, "override", violations)
    return convert.incoming_streak_call(NAME, request, asked, violations)


def reply(entry: entry_pb2.Entry) -> pb.OverrideStreakResponse:
    """Which entry it became."""
    return pb.OverrideStreakResponse(entry_id=entry.entry_id)


def _patch(request: pb.OverrideStreakRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.OverrideStreakRequest.FromString(request)
    entry.streak_override.streak = call.streak
    entry.streak_override.override.CopyFrom(call.override)


OPERATION = Operation(
    name=NAME,
    request_type=pb.OverrideStreakRequest,
    steps=(Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.OverrideStreakResponse,
    method="OverrideStreak",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
