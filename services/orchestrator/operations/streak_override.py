"""OverrideStreak: a user has a streak otherwise than it is defined (RULES 3.11)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import EVERYWHERE, call
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.STREAK_OVERRIDE,
    "OverrideStreak",
    pb.OverrideStreakRequest,
    pb.OverrideStreakResponse,
    EVERYWHERE,
)
