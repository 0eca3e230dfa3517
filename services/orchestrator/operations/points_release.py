"""ReleasePoints: points that were held can be spent again (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.points_calls import held_call

OPERATION = held_call("points_release", "ReleasePoints", pb.ReleasePointsRequest, pb.ReleasePointsResponse)
