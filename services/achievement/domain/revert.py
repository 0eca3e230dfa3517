"""Undoing an entry: its fact goes (RULES 4.1).

What a call alone gave passes on to the next call, in the order of arrival, or goes. What follows from events is
seen to by the correction that comes next: only then is known what the others contribute without this one, and
how long streaks are.
"""

from collections.abc import Mapping

from services.achievement.domain.completions import completed, passed_on
from services.achievement.domain.fold import Grant
from services.achievement.domain.standing import Change, Fact, Standing
from services.achievement.domain.totals import without


def revert(
    standing: Standing, fact: Fact, next_calls: Mapping[str, Fact]
) -> tuple[Standing, tuple[Change, ...]]:
    """The standing without this entry, and what changed. `next_calls`: by achievement, the first other live call."""
    if fact.metric:
        return without(standing, fact), ()
    changes: tuple[Change, ...] = ()
    for key in fact.grounds:
        live = standing.completions.get(key)
        if live is not None and live.entry_id == fact.entry_id:
            other = next_calls.get(key)
            grant = Grant(other.reach, other.cause) if other else None
            cause = f"undone {fact.entry_id}"
            changes += passed_on(standing.user_id, cause, key, live, live.target, grant)
    return completed(standing, changes), changes
