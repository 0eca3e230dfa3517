"""CompleteAchievement: an achievement that is earned by call (RULES 4)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import call
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.ACHIEVEMENT_CALL,
    "CompleteAchievement",
    pb.CompleteAchievementRequest,
    pb.CompleteAchievementResponse,
    (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
)
