"""An admin takes an achievement from a user (RULES 4.1): each time that it is completed goes, and nothing earns it
again, until that is undone. Then what was taken comes back, but for what belongs to events that are gone themselves.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec.structs import replace

from services.achievement.domain.completions import completed, made
from services.achievement.domain.composites import composites_followed
from services.achievement.domain.definitions import MAX_COMPLETIONS, Achievement, Catalogue
from services.achievement.domain.fold import Grant
from services.achievement.domain.past import Past
from services.achievement.domain.state import (
    Change,
    ChangeKind,
    Completion,
    Decision,
    Fact,
    Refusal,
    UserState,
)


def withhold(achievement: Achievement | None, state: UserState, fact: Fact) -> Decision:
    """What the user loses; composites are seen to by whoever asks."""
    if achievement is None:
        return Decision(state, fact, refusal=Refusal.NOT_FOUND)
    places = [achievement.numbered(number).place for number in range(1, MAX_COMPLETIONS + 1)]
    taken = tuple(state.completions[place] for place in places if place in state.completions)
    if not taken:
        return Decision(state, fact, refusal=Refusal.NOT_HELD)
    changes = tuple(Change(ChangeKind.REVOKED, live) for live in taken)
    after = replace(completed(state, changes), withheld=state.withheld | {achievement.key})
    return Decision(after, fact, changes, taken=taken)


def give_back(
    catalogue: Catalogue,
    state: UserState,
    fact: Fact,
    taken: Sequence[Completion],
    owners: Mapping[UUID, Fact | None],
    past: Past,
) -> tuple[UserState, tuple[Change, ...]]:
    """The state without the revocation, and what comes back: under other ids, since these are revoked for ever.

    `owners`: of what was taken, those entries that are known. Raises `WantedFacts`.
    """
    key, cause = taken[0].achievement, f"undone {fact.entry_id}"
    state = replace(state, withheld=state.withheld - {key})
    achievement = catalogue.get(key)
    if achievement is None:
        return state, ()
    left = [live for live in taken if _is_there(owners.get(live.entry_id))]
    changes = []
    for number, live in enumerate(left, start=1):
        numbered = achievement.numbered(number)
        change = made(state.user_id, cause, numbered, live.target, Grant(live.reach, live.cause))
        changes.append(replace(change, completion=replace(change.completion, backdated=live.backdated)))
    after, more = composites_followed(
        catalogue, state, completed(state, changes), fact, past, cause=cause, undoes=False
    )
    return after, (*changes, *more)


def _is_there(owner: Fact | None) -> bool:
    """What never came here, such as the closing of a period, was not undone."""
    return owner is None or owner.live
