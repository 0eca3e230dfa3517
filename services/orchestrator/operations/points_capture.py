"""CapturePoints: points that were held are taken (RULES 5.7)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import call
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.POINTS_CAPTURE,
    "CapturePoints",
    pb.CapturePointsRequest,
    pb.CapturePointsResponse,
    (Step.POINTS, Step.LEADERBOARD),
)
