"""TransferPoints: points pass from one user to another by call, all of them or none (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.points_calls import gift_call

OPERATION = gift_call(
    "points_transfer", "TransferPoints", pb.TransferPointsRequest, pb.TransferPointsResponse, gives=False
)
