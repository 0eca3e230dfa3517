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
from services.achievement.domain.standing import (
    Change,
    ChangeKind,
    Completion,
    Decision,
    Fact,
    Refusal,
    Standing,
)


def withhold(achievement: Achievement | None, standing: Standing, fact: Fact) -> Decision:
    """What the user loses; composites are seen to by whoever asks."""
    if achievement is None:
        return Decision(standing, fact, refusal=Refusal.NOT_FOUND)
    places = [achievement.numbered(number).place for number in range(1, MAX_COMPLETIONS + 1)]
    taken = tuple(standing.completions[place] for place in places if place in standing.completions)
    if not taken:
        return Decision(standing, fact, refusal=Refusal.NOT_HELD)
    changes = tuple(Change(ChangeKind.REVOKED, live) for live in taken)
    after = replace(completed(standing, changes), withheld=standing.withheld | {achievement.key})
    return Decision(after, fact, changes, taken=taken)


def give_back(
    catalogue: Catalogue,
    standing: Standing,
    fact: Fact,
    taken: Sequence[Completion],
    owners: Mapping[UUID, Fact | None],
    past: Past,
) -> tuple[Standing, tuple[Change, ...]]:
    """The standing without the revocation, and what comes back: under other ids, since these are revoked for ever.

    `owners`: of what was taken, those entries that are known. Raises `WantedFacts`.
    """
    key, cause = taken[0].achievement, f"undone {fact.entry_id}"
    standing = replace(standing, withheld=standing.withheld - {key})
    achievement = catalogue.get(key)
    if achievement is None:
        return standing, ()
    left = [live for live in taken if _is_there(owners.get(live.entry_id))]
    changes = []
    for number, live in enumerate(left, start=1):
        numbered = achievement.numbered(number)
        change = made(standing.user_id, cause, numbered, live.target, Grant(live.reach, live.cause))
        changes.append(replace(change, completion=replace(change.completion, backdated=live.backdated)))
    after, more = composites_followed(
        catalogue, standing, completed(standing, changes), fact, past, cause=cause, undoes=False
    )
    return after, (*changes, *more)


def _is_there(owner: Fact | None) -> bool:
    """What never came here, such as the closing of a period, was not undone."""
    return owner is None or owner.live
