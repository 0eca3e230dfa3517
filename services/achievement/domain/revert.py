"""Undoing an entry: its fact goes (RULES 4.1).

What a call alone gave passes on to the next call, in the order of arrival, or goes, and composites follow. What
follows from events is seen to by the correction that comes next: only then is known what the others contribute
without this one, and how long streaks are.
"""

from collections.abc import Iterator, Mapping

from services.achievement.domain.completions import completed, passed_on
from services.achievement.domain.composites import composites_followed
from services.achievement.domain.definitions import MAX_COMPLETIONS, Achievement, ApiTrigger, Catalogue
from services.achievement.domain.fold import Grant
from services.achievement.domain.past import Past
from services.achievement.domain.state import Change, Fact, UserState
from services.achievement.domain.totals import without


def revert(
    catalogue: Catalogue, state: UserState, fact: Fact, next_calls: Mapping[str, Fact], past: Past
) -> tuple[UserState, tuple[Change, ...]]:
    """The state without this entry, and what changed. `next_calls`: by achievement, the first live call
    that came after those which gave it.
    Raises `WantedFacts`.
    """
    if fact.metric:
        return without(state, fact), ()
    changes: tuple[Change, ...] = ()
    cause = f"undone {fact.entry_id}"
    for key in called(catalogue, fact):
        achievement = catalogue.get(key)
        assert achievement is not None
        changes += tuple(_without_call(achievement, state, fact, next_calls.get(key), cause))
    after, more = composites_followed(
        catalogue, state, completed(state, changes), fact, past, cause=cause, undoes=True
    )
    return after, (*changes, *more)


def _without_call(
    achievement: Achievement, state: UserState, fact: Fact, next_call: Fact | None, cause: str
) -> Iterator[Change]:
    """The calls that came later each move up by one, and the first that had given nothing follows."""
    held = [state.completions[each.place] for each in _held(achievement, state)]
    first = next((at for at, live in enumerate(held) if live.entry_id == fact.entry_id), len(held))
    owners: list[Grant | None] = [Grant(live.reach, live.cause) for live in held[first + 1 :]]
    owners.append(Grant(next_call.reach, next_call.cause) if next_call else None)
    for live, owner in zip(held[first:], owners, strict=False):
        numbered = achievement.numbered(live.number)
        yield from passed_on(state.user_id, cause, numbered, live, live.target, owner)


def _held(achievement: Achievement, state: UserState) -> Iterator[Achievement]:
    for number in range(1, MAX_COMPLETIONS + 1):
        numbered = achievement.numbered(number)
        if numbered.place not in state.completions:
            return
        yield numbered


def called(catalogue: Catalogue, fact: Fact) -> list[str]:
    """The achievements that a call was for. What else it is ground for is composites above them."""
    found = [(key, catalogue.get(key)) for key in fact.grounds]
    return [key for key, achievement in found if achievement and isinstance(achievement.trigger, ApiTrigger)]
