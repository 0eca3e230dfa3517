"""What the leaderboard measures of itself (DESIGN 7): rank changes and rebuilds."""

from typing import Final

from services.leaderboard.handlers.entries import EntryHandlers
from services.leaderboard.handlers.rebuild import Rebuilder
from shared.telemetry import Telemetry
from shared.telemetry.metrics import Kind, Metric

RANK_CHANGES: Final = Metric(
    Kind.COUNTER,
    "laurel.leaderboard.rank_changes",
    "{change}",
    "Ranks that entries changed, of acting users.",
)
REBUILDS: Final = Metric(
    Kind.COUNTER, "laurel.leaderboard.rebuilds", "{rebuild}", "Times that sorted sets were filled anew."
)
METRICS: Final = (RANK_CHANGES, REBUILDS)
"""What the leaderboard measures."""


def instrument(telemetry: Telemetry, entries: EntryHandlers, rebuilder: Rebuilder) -> None:
    """Lets readers of metrics look at what these count."""
    RANK_CHANGES.counted(telemetry.meter, lambda: entries.rank_change_count)
    REBUILDS.counted(telemetry.meter, lambda: rebuilder.rebuild_count)
