"""GrantPoints: points are given by call (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import gift_call
from shared.entries import EntryKind

OPERATION = gift_call(
    EntryKind.POINTS_GRANT, "GrantPoints", pb.GrantPointsRequest, pb.GrantPointsResponse, gives=True
)
