"""HoldPoints: points are kept from being spent, until an outside answer comes or the hold ends (RULES 5.7).

It is not voided: what is held is released.
"""

from datetime import timedelta
from typing import Final

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import call
from services.orchestrator.saga import Step
from shared.entries import EntryKind
from shared.errors import Violations
from shared.limits import Within
from shared.rpc.convert import check_limit

DEFAULT_HOLD_SECONDS: Final = 900
MAX_POINTS_HOLD_SECONDS: Final = 31 * 86_400


def _check(request: pb.HoldPointsRequest, violations: Violations) -> None:
    check_limit(Within(0, MAX_POINTS_HOLD_SECONDS), request.hold_seconds, "hold_seconds", violations)


def _tell(entry: entry_pb2.Entry, request: pb.HoldPointsRequest) -> None:
    ends = entry.now.ToDatetime() + timedelta(seconds=request.hold_seconds or DEFAULT_HOLD_SECONDS)
    entry.points_hold.expire_time.FromDatetime(ends)


OPERATION = call(
    EntryKind.POINTS_HOLD,
    "HoldPoints",
    pb.HoldPointsRequest,
    pb.HoldPointsResponse,
    (Step.POINTS,),
    check=_check,
    tell=_tell,
    voidable=False,
)
