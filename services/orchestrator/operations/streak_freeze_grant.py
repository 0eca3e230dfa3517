"""GrantFreezes: freezes of a streak are given by hand (RULES 3.5)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.errors import Violations
from shared.rpc.convert import MAX_FREEZE_GRANT

NAME = "streak_freeze_grant"


def incoming(request: pb.GrantFreezesRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    violations = Violations()
    if not 1 <= request.count <= MAX_FREEZE_GRANT:
        violations.add("count", f"must be 1 to {MAX_FREEZE_GRANT:,}")
    return convert.incoming_streak_call(NAME, request, asked, violations)


def reply(entry: entry_pb2.Entry) -> pb.GrantFreezesResponse:
    """Which entry it became."""
    return pb.GrantFreezesResponse(entry_id=entry.entry_id)


def _patch(request: pb.GrantFreezesRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    call = pb.GrantFreezesRequest.FromString(request)
    entry.streak_freeze_grant.streak = call.streak
    entry.streak_freeze_grant.count = call.count


OPERATION = Operation(
    name=NAME,
    request_type=pb.GrantFreezesRequest,
    steps=(Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.GrantFreezesResponse,
    method="GrantFreezes",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
