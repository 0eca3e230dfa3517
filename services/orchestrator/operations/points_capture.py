"""CapturePoints: points that were held are taken (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.points_calls import held_call

OPERATION = held_call(
    "points_capture", "CapturePoints", pb.CapturePointsRequest, pb.CapturePointsResponse, takes=True
)
