"""A prize at the end of a run: found by the leaderboard, given as points and an achievement, once (RULES 6.10).

It is refused for a points system that is archived.
"""

from services.orchestrator.found import finding
from services.orchestrator.saga import Step
from shared.entries import EntryKind

OPERATION = finding(
    EntryKind.BOARD_PRIZE, (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD), refusable=True, voidable=True
)
