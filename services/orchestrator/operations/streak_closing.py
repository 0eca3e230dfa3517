"""A streak closed at local midnight: found by the streak service, followed by whoever depends on it (RULES 3.7)."""

from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.streak.v1 import streak_pb2

from services.orchestrator.found import finding
from services.orchestrator.saga import Step
from shared.entries import EntryKind


def _effects_before(entry: entry_pb2.Entry) -> effects_pb2.Effects:
    closing = entry.streak_closing
    if closing.HasField("effect"):
        return effects_pb2.Effects(streaks=[closing.effect])
    effect = streak_pb2.StreakEffect(user_id=entry.user.user_id, change=closing.change)
    return effects_pb2.Effects(streaks=[effect])


OPERATION = finding(
    EntryKind.STREAK_CLOSING,
    (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    effects_before=_effects_before,
)
