"""PauseStreak: a streak is paused, by its user or by an administrator (RULES 3.12)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import EVERYWHERE, call
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.STREAK_PAUSE, "PauseStreak", pb.PauseStreakRequest, pb.PauseStreakResponse, EVERYWHERE
)
