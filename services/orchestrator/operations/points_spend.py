"""SpendPoints: points are spent by call, all of them or none (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import gift_call
from shared.entries import EntryKind

OPERATION = gift_call(
    EntryKind.POINTS_SPEND, "SpendPoints", pb.SpendPointsRequest, pb.SpendPointsResponse, gives=False
)
