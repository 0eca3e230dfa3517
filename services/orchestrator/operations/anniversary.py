"""A user has been there for so many years: found by the achievement service, followed by points (RULES 4)."""

from laurel.ledger.v1 import effects_pb2, entry_pb2

from services.orchestrator.found import finding
from services.orchestrator.saga import Step
from shared.entries import EntryKind


def _effects_before(entry: entry_pb2.Entry) -> effects_pb2.Effects:
    return effects_pb2.Effects(achievements=entry.anniversary.changes)


OPERATION = finding(EntryKind.ANNIVERSARY, (Step.POINTS, Step.LEADERBOARD), effects_before=_effects_before)
