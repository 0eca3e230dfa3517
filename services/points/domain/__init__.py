"""The rules of points (RULES 5), pure: no I/O, no clock, no randomness, no wire format.

* `definitions`: what an administrator configures: systems, triggers, levels.
* `state`: what is known of one user: balances, live awards, how far each trigger has counted.
* `triggers`: how often each trigger is due because of an entry, or no longer is.
* `ledger`: what a system's dues do to its ledger: limits, refusal, reversal, level.
* `decisions`: one entry applied or undone, from the above.
"""

from services.points.domain.decisions import (
    Applied,
    Command,
    Reversible,
    Undoing,
    apply,
    reversible,
    reversible_counts,
    undo,
    undone_counts,
    values_needed,
)
from services.points.domain.definitions import (
    POINTS_LIMIT,
    AchievementCause,
    Catalogue,
    Level,
    LevelBasis,
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
    TriggerKey,
    UserCreatedCause,
)
from services.points.domain.ledger import Change, InsufficientPoints
from services.points.domain.state import (
    NO_STANDING,
    Award,
    CauseKind,
    LiveAward,
    Standing,
    TriggerState,
    UserState,
)
from services.points.domain.triggers import (
    AchievementChange,
    Counted,
    CountedFact,
    RunChange,
    StreakChange,
)

__all__ = [
    "NO_STANDING",
    "POINTS_LIMIT",
    "AchievementCause",
    "AchievementChange",
    "Applied",
    "Award",
    "Catalogue",
    "CauseKind",
    "Change",
    "Command",
    "Counted",
    "CountedFact",
    "InsufficientPoints",
    "Level",
    "LevelBasis",
    "LiveAward",
    "MetricCause",
    "PointsSystem",
    "Reversible",
    "RunChange",
    "Standing",
    "StreakCause",
    "StreakChange",
    "Trigger",
    "TriggerKey",
    "TriggerState",
    "Undoing",
    "UserCreatedCause",
    "UserState",
    "apply",
    "reversible",
    "reversible_counts",
    "undo",
    "undone_counts",
    "values_needed",
]
