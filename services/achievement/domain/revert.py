"""Undoing an entry: its fact goes (RULES 4.1).

What a call alone gave passes on to the next call, in the order of arrival, or goes, and composites follow. What
follows from events is seen to by the correction that comes next: only then is known what the others contribute
without this one, and how long streaks are.
"""

from collections.abc import Mapping

from services.achievement.domain.completions import completed, passed_on
from services.achievement.domain.composites import composites_followed
from services.achievement.domain.definitions import ApiTrigger, Catalogue
from services.achievement.domain.fold import Grant
from services.achievement.domain.past import Past
from services.achievement.domain.standing import Change, Fact, Standing
from services.achievement.domain.totals import without


def revert(
    catalogue: Catalogue, standing: Standing, fact: Fact, next_calls: Mapping[str, Fact], past: Past
) -> tuple[Standing, tuple[Change, ...]]:
    """The standing without this entry, and what changed. `next_calls`: by achievement, the first other live call.
    Raises `WantedFacts`.
    """
    if fact.metric:
        return without(standing, fact), ()
    changes: tuple[Change, ...] = ()
    cause = f"undone {fact.entry_id}"
    for key in called(catalogue, fact):
        live = standing.completions.get(key)
        if live is not None and live.entry_id == fact.entry_id:
            other = next_calls.get(key)
            grant = Grant(other.reach, other.cause) if other else None
            changes += passed_on(standing.user_id, cause, key, live, live.target, grant)
    after, more = composites_followed(
        catalogue, standing, completed(standing, changes), fact, past, cause=cause, undoes=True
    )
    return after, (*changes, *more)


def called(catalogue: Catalogue, fact: Fact) -> list[str]:
    """The achievements that a call was for. What else it is ground for is composites above them."""
    found = [(key, catalogue.get(key)) for key in fact.grounds]
    return [key for key, achievement in found if achievement and isinstance(achievement.trigger, ApiTrigger)]
