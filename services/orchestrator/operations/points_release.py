"""ReleasePoints: points that were held can be spent again (RULES 5.7).

It is not voided: the points are held again by another call.
"""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import call
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.POINTS_RELEASE,
    "ReleasePoints",
    pb.ReleasePointsRequest,
    pb.ReleasePointsResponse,
    (Step.POINTS,),
    voidable=False,
)
