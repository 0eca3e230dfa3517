"""A user of a league goes up or down at the end of a run: found by the leaderboard (RULES 6.12)."""

from services.orchestrator.found import finding
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = finding(EntryKind.LEAGUE_MOVE, (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD))
