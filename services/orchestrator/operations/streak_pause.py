"""PauseStreak: a streak is paused, by its user or by an administrator (RULES 3.12)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.convert import pause_dates

NAME = "streak_pause"


def incoming(request: pb.PauseStreakRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    pause_dates(request, "", violations)
    return convert.incoming_streak_call(NAME, request, asked, violations)


def reply(entry: entry_pb2.Entry) -> pb.PauseStreakResponse:
    """Which entry it became."""
    return pb.PauseStreakResponse(entry_id=entry.entry_id)


def _patch(request: pb.PauseStreakRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.PauseStreakRequest.FromString(request)
    entry.streak_pause.streak = call.streak
    entry.streak_pause.start_date.CopyFrom(call.start_date)
    entry.streak_pause.end_date.CopyFrom(call.end_date)
    entry.streak_pause.by_user = call.by_user


OPERATION = Operation(
    name=NAME,
    request_type=pb.PauseStreakRequest,
    steps=(Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.PauseStreakResponse,
    method="PauseStreak",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
