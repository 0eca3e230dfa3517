"""The rules of achievements (RULES 4): who completes what, and when a completion is revoked. Pure functions.

What a user's standing consists of:

* *Sources*: how far each metric and each streak has come, as last told by who keeps them. Each carries a
  version; an older one never replaces a newer one, so the order of arrival does not matter (RULES 7.2).
* *Accumulators*: sums of an achievement's own, for metric achievements that count only the events which
  match their filters.
* *Completions*: the live ones, at most one per achievement.

Values of metrics are integers in micro-units; the target of a streak achievement is a number of periods.
"""

from services.achievement.domain.apply import decide
from services.achievement.domain.definitions import (
    Achievement,
    ApiTrigger,
    Catalogue,
    MetricTrigger,
    SourceKey,
    SourceKind,
    Status,
    StreakTrigger,
)
from services.achievement.domain.progress import Progress, list_progress
from services.achievement.domain.revert import Remaining, revert
from services.achievement.domain.standing import (
    Accumulator,
    Change,
    ChangeKind,
    Command,
    Completion,
    Decision,
    Fact,
    Refusal,
    Source,
    Standing,
    StreakChange,
    sources_of,
)

__all__ = [
    "Accumulator",
    "Achievement",
    "ApiTrigger",
    "Catalogue",
    "Change",
    "ChangeKind",
    "Command",
    "Completion",
    "Decision",
    "Fact",
    "MetricTrigger",
    "Progress",
    "Refusal",
    "Remaining",
    "Source",
    "SourceKey",
    "SourceKind",
    "Standing",
    "Status",
    "StreakChange",
    "StreakTrigger",
    "decide",
    "list_progress",
    "revert",
    "sources_of",
]
