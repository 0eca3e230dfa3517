"""RevokeAchievement: an achievement is taken from a user by hand (RULES 4.1)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import call
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.ACHIEVEMENT_REVOCATION,
    "RevokeAchievement",
    pb.RevokeAchievementRequest,
    pb.RevokeAchievementResponse,
    (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
)
