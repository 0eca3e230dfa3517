"""GrantPoints: points are given by call (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.points_calls import gift_call

OPERATION = gift_call(
    "points_grant", "GrantPoints", pb.GrantPointsRequest, pb.GrantPointsResponse, gives=True
)
