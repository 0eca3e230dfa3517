"""HoldPoints: points are kept from being spent, until an outside answer comes or the hold ends (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.points_calls import held_call

OPERATION = held_call("points_hold", "HoldPoints", pb.HoldPointsRequest, pb.HoldPointsResponse)
