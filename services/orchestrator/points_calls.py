"""What the operations have in common by which points are given, spent, passed on and held by call (RULES 5.7)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from google.protobuf.message import Message
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import AnyOperation, Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch

DEFAULT_HOLD_SECONDS: Final = 900

Gift = pb.GrantPointsRequest | pb.SpendPointsRequest | pb.TransferPointsRequest
Held = pb.HoldPointsRequest | pb.CapturePointsRequest | pb.ReleasePointsRequest
Reply = (
    pb.GrantPointsResponse
    | pb.SpendPointsResponse
    | pb.TransferPointsResponse
    | pb.HoldPointsResponse
    | pb.CapturePointsResponse
    | pb.ReleasePointsResponse
)


def gift_call(
    name: str, method: str, request_type: type[Gift], reply_type: type[Reply], *, gives: bool
) -> AnyOperation:
    """The operation of a call that gives the user points, or else takes them."""

    def incoming(request: Gift, asked: Asked) -> Incoming:
        return convert.incoming_gift(name, request, asked)

    def tell(entry: entry_pb2.Entry, request: bytes) -> None:
        asked = request_type.FromString(request)
        gift = getattr(entry, name).gift
        gift.points_system = asked.points_system
        gift.amount = asked.amount if gives else -asked.amount

    return _call(name, method, request_type, reply_type, incoming, tell)


def held_call(
    name: str, method: str, request_type: type[Held], reply_type: type[Reply], *, takes: bool = False
) -> AnyOperation:
    """The operation of a call about points that are held. Where it takes them, boards follow, and it can be voided."""

    def incoming(request: Held, asked: Asked) -> Incoming:
        return convert.incoming_hold(name, request, asked)

    def tell(entry: entry_pb2.Entry, request: bytes) -> None:
        match request_type.FromString(request):
            case pb.HoldPointsRequest() as asked:
                seconds = asked.hold_seconds or DEFAULT_HOLD_SECONDS
                hold = entry.points_hold
                hold.points_system, hold.amount = asked.points_system, asked.amount
                hold.expire_time.FromDatetime(entry.now.ToDatetime() + timedelta(seconds=seconds))
            case pb.CapturePointsRequest() as asked:
                capture = entry.points_capture
                capture.hold_entry_id, capture.amount = asked.hold_entry_id, asked.amount
            case pb.ReleasePointsRequest() as asked:
                entry.points_release.hold_entry_id = asked.hold_entry_id

    steps = (Step.POINTS, Step.LEADERBOARD) if takes else (Step.POINTS,)
    return _call(name, method, request_type, reply_type, incoming, tell, steps, voidable=takes)


def _call(
    name: str,
    method: str,
    request_type: type[Message],
    reply_type: type[Reply],
    incoming: Callable[..., Incoming],
    tell: Callable[[entry_pb2.Entry, bytes], None],
    steps: tuple[Step, ...] = (Step.POINTS, Step.LEADERBOARD),
    *,
    voidable: bool = True,
) -> AnyOperation:
    def reply(entry: entry_pb2.Entry) -> Reply:
        return reply_type(entry_id=entry.entry_id)

    def patch(request: Gift | Held) -> UserPatch:
        return UserPatch(request.user_id)

    return Operation(
        name=name,
        request_type=request_type,
        steps=steps,
        reply=reply,
        reply_type=reply_type,
        method=method,
        incoming=incoming,
        patch=patch,
        tell=tell,
        voidable=voidable,
        counted=True,
    )
