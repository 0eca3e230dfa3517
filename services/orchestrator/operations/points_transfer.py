"""TransferPoints: points pass from one user to another by call, all of them or none (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import gift_call
from services.orchestrator.convert import check_user
from shared.entries import EntryKind
from shared.errors import Violations


def _check(request: pb.TransferPointsRequest, violations: Violations) -> None:
    check_user(request.to_user_id, "to_user_id", violations)
    if request.to_user_id == request.user_id:
        violations.add("to_user_id", "must be another user")


def _others(request: pb.TransferPointsRequest) -> tuple[str, ...]:
    return (request.to_user_id,)


OPERATION = gift_call(
    EntryKind.POINTS_TRANSFER,
    "TransferPoints",
    pb.TransferPointsRequest,
    pb.TransferPointsResponse,
    gives=False,
    check=_check,
    others=_others,
)
