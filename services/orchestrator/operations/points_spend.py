"""SpendPoints: points are spent by call, all of them or none (RULES 5.7)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch

NAME = "points_spend"


def incoming(request: pb.SpendPointsRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    return convert.incoming_gift(NAME, request, asked)


def reply(entry: entry_pb2.Entry) -> pb.SpendPointsResponse:
    """Which entry it became."""
    return pb.SpendPointsResponse(entry_id=entry.entry_id)


def _patch(request: pb.SpendPointsRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    asked = pb.SpendPointsRequest.FromString(request)
    entry.points_spend.gift.points_system = asked.points_system
    entry.points_spend.gift.amount = -asked.amount


OPERATION = Operation(
    name=NAME,
    request_type=pb.SpendPointsRequest,
    steps=(Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.SpendPointsResponse,
    method="SpendPoints",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
