"""MarkSeen: a user has been shown what was completed (RULES 4.7).

It says what was: nothing refuses it, and it is not voided.
"""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import call
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.ACHIEVEMENTS_SEEN,
    "MarkSeen",
    pb.MarkSeenRequest,
    pb.MarkSeenResponse,
    (Step.ACHIEVEMENT,),
    voidable=False,
)
