"""RestoreStreak: what was lost of a streak is given back (RULES 3.9)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import EVERYWHERE, call
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.STREAK_RESTORE, "RestoreStreak", pb.RestoreStreakRequest, pb.RestoreStreakResponse, EVERYWHERE
)
