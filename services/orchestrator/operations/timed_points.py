"""Points that came due by time: found by the points service, followed by the leaderboard (RULES 5.2, 5.6)."""

from laurel.ledger.v1 import effects_pb2, entry_pb2

from services.orchestrator.found import finding
from services.orchestrator.saga import Step
from shared.entries import EntryKind


def _effects_before(entry: entry_pb2.Entry) -> effects_pb2.Effects:
    return effects_pb2.Effects(points=entry.timed_points.changes)


OPERATION = finding(EntryKind.TIMED_POINTS, (Step.LEADERBOARD,), effects_before=_effects_before)
