"""A user had qualified for an achievement before it could be earned: found by a backfill (RULES 4.6)."""

from laurel.ledger.v1 import effects_pb2, entry_pb2

from services.orchestrator.found import finding
from services.orchestrator.saga import Step
from shared.entries import EntryKind


def _effects_before(entry: entry_pb2.Entry) -> effects_pb2.Effects:
    return effects_pb2.Effects(achievements=entry.achievement_backfill.changes)


OPERATION = finding(
    EntryKind.ACHIEVEMENT_BACKFILL, (Step.POINTS, Step.LEADERBOARD), effects_before=_effects_before
)
