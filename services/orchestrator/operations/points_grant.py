"""GrantPoints: points are given by call (RULES 5.7)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch

NAME = "points_grant"


def incoming(request: pb.GrantPointsRequest, asked: Asked) -> Incoming:
    """The entry of a call. Raises `InvalidArgument`."""
    return convert.incoming_gift(NAME, request, asked)


def reply(entry: entry_pb2.Entry) -> pb.GrantPointsResponse:
    """Which entry it became."""
    return pb.GrantPointsResponse(entry_id=entry.entry_id)


def _patch(request: pb.GrantPointsRequest) -> UserPatch:
    return UserPatch(request.user_id)


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    asked = pb.GrantPointsRequest.FromString(request)
    entry.points_grant.gift.points_system = asked.points_system
    entry.points_grant.gift.amount = asked.amount


OPERATION = Operation(
    name=NAME,
    request_type=pb.GrantPointsRequest,
    steps=(Step.POINTS, Step.LEADERBOARD),
    reply=reply,
    reply_type=pb.GrantPointsResponse,
    method="GrantPoints",
    incoming=incoming,
    patch=_patch,
    tell=_tell,
    voidable=True,
    counted=True,
)
