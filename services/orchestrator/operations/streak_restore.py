"""RestoreStreak: what was lost of a streak is given back (RULES 3.9)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.convert import date_field

NAME = "streak_restore"


def incoming(request: pb.RestoreStreakRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    if request.HasField("loss_date"):
        date_field(request, "loss_date", "", violations)
    return convert.incoming_streak_call(NAME, request, asked, violations)


def reply(entry: entry_pb2.Entry) -> pb.RestoreStreakResponse:
    """Which entry it became."""
    return pb.RestoreStreakResponse(entry_id=entry.entry_id)


def _patch(request: pb.RestoreStreakRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.RestoreStreakRequest.FromString(request)
    entry.streak_restore.streak = call.streak
    if call.HasField("loss_date"):
        entry.streak_restore.loss_date.CopyFrom(call.loss_date)


OPERATION = Operation(
    name=NAME,
    request_type=pb.RestoreStreakRequest,
    steps=(Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.RestoreStreakResponse,
    method="RestoreStreak",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
