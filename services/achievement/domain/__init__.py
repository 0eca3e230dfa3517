"""The rules of achievements (RULES 4): who completes what, and when a completion is revoked. Pure functions.

What a user's state consists of:

* *Sources*: how far each metric and each streak has come, as last told by who keeps them. Each carries a
  version; an older one never replaces a newer one, so the order of arrival does not matter (RULES 7.2).
* *Totals* and *accumulators*: what the events that have arrived here contribute, by metric, and by achievement
  with event filters.
* *Reaches*: with which event a streak first had a length.
* *Completions*: the live ones, at most one per achievement, of a repeatable one each time; composites are made of
  those of others (`composites`).

Completions are folded in the order of arrival and dated by the order of the events' times (`fold`): `totals` says
what that costs where, `reaches` what it means for streaks. What that takes of the facts stored is asked for (`past`).
Values of metrics are integers in micro-units; the target of a streak achievement is a number of periods.
"""

from services.achievement.domain.anniversaries import Came, advanced
from services.achievement.domain.apply import InTime, decide, decide_in_time
from services.achievement.domain.backfill import (
    Attributes,
    Backfilled,
    Evidence,
    WantedAttributes,
    WantedReaches,
    WantedUser,
    backfill,
    cause_of,
    first_span,
    given_at_once,
)
from services.achievement.domain.completions import moved
from services.achievement.domain.definitions import (
    MAX_COMPLETIONS,
    Achievement,
    AnniversaryTrigger,
    ApiTrigger,
    Catalogue,
    CompositeTrigger,
    MetricTrigger,
    SourceKey,
    SourceKind,
    Status,
    StreakTrigger,
    Trigger,
    place_of,
)
from services.achievement.domain.past import Past, Span, Start, Wanted, WantedFacts
from services.achievement.domain.prerequisites import in_circles, levels_of
from services.achievement.domain.progress import Progress, list_progress
from services.achievement.domain.revert import called, revert
from services.achievement.domain.state import (
    UNREAD,
    Accumulator,
    Cause,
    Change,
    ChangeKind,
    Command,
    Completion,
    Decision,
    Fact,
    FirstGrant,
    FirstReach,
    Key,
    Reach,
    Refusal,
    Revision,
    SignUp,
    Source,
    StreakChange,
    Total,
    UserState,
    sources_of,
)
from services.achievement.domain.withholding import give_back

__all__ = [
    "MAX_COMPLETIONS",
    "UNREAD",
    "Accumulator",
    "Achievement",
    "AnniversaryTrigger",
    "ApiTrigger",
    "Attributes",
    "Backfilled",
    "Came",
    "Catalogue",
    "Cause",
    "Change",
    "ChangeKind",
    "Command",
    "Completion",
    "CompositeTrigger",
    "Decision",
    "Evidence",
    "Fact",
    "FirstGrant",
    "FirstReach",
    "InTime",
    "Key",
    "MetricTrigger",
    "Past",
    "Progress",
    "Reach",
    "Refusal",
    "Revision",
    "SignUp",
    "Source",
    "SourceKey",
    "SourceKind",
    "Span",
    "Start",
    "Status",
    "StreakChange",
    "StreakTrigger",
    "Total",
    "Trigger",
    "UserState",
    "Wanted",
    "WantedAttributes",
    "WantedFacts",
    "WantedReaches",
    "WantedUser",
    "advanced",
    "backfill",
    "called",
    "cause_of",
    "decide",
    "decide_in_time",
    "first_span",
    "give_back",
    "given_at_once",
    "in_circles",
    "levels_of",
    "list_progress",
    "moved",
    "place_of",
    "revert",
    "sources_of",
]
