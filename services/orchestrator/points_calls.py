"""What the operations have in common by which points are given, spent and passed on by call (RULES 5.7)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import AnyOperation, Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch

Request = pb.GrantPointsRequest | pb.SpendPointsRequest | pb.TransferPointsRequest
Reply = pb.GrantPointsResponse | pb.SpendPointsResponse | pb.TransferPointsResponse


def points_call(
    name: str, method: str, request_type: type[Request], reply_type: type[Reply], *, gives: bool
) -> AnyOperation:
    """The operation of a call that gives the user points, or else takes them."""

    def incoming(request: Request, asked: Asked) -> Incoming:
        return convert.incoming_gift(name, request, asked)

    def reply(entry: entry_pb2.Entry) -> Reply:
        return reply_type(entry_id=entry.entry_id)

    def patch(request: Request) -> UserPatch:
        return UserPatch(request.user_id)

    def tell(entry: entry_pb2.Entry, request: bytes) -> None:
        asked = request_type.FromString(request)
        gift = getattr(entry, name).gift
        gift.points_system = asked.points_system
        gift.amount = asked.amount if gives else -asked.amount

    return Operation(
        name=name,
        request_type=request_type,
        steps=(Step.POINTS, Step.LEADERBOARD),
        reply=reply,
        reply_type=reply_type,
        method=method,
        incoming=incoming,
        patch=patch,
        tell=tell,
        voidable=True,
        counted=True,
    )
