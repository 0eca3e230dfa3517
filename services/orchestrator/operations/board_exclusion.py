"""SetBoardExclusion: a user is ranked nowhere, or is ranked again (RULES 6.13).

It is refused for an unknown board, and taken back by its opposite.
"""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import call
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.BOARD_EXCLUSION,
    "SetBoardExclusion",
    pb.SetBoardExclusionRequest,
    pb.SetBoardExclusionResponse,
    (Step.LEADERBOARD,),
    voidable=False,
)
