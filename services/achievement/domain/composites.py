"""Composites: achievements that are earned by holding others (RULES 4.3).

A composite is a fold of the completions of its prerequisites in the order in which these were granted: it is met
as soon as enough are held, and belongs to the completion, in the order of their times, with which they became
enough. With user filters or a window, to the first from there on whose user could earn it, as of then.

Composites are looked at last, lower levels before higher ones, so one look at each is enough. An entry that arrives
only ever completes them; where something was undone they are folded again without it.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

from msgspec.structs import replace

from services.achievement.domain.completions import completed, made, passed_on
from services.achievement.domain.definitions import Achievement, Catalogue, CompositeTrigger, Status
from services.achievement.domain.fold import Grant
from services.achievement.domain.past import Past, WantedFacts
from services.achievement.domain.state import (
    Change,
    Completion,
    Fact,
    Reach,
    UserState,
    changed,
    threshold,
)

Held = Mapping[str, Completion]
"""Live completions by achievement."""


def composites_followed(
    catalogue: Catalogue,
    before: UserState,
    state: UserState,
    fact: Fact,
    past: Past,
    *,
    cause: str,
    undoes: bool,
    left: Collection[str] = (),
) -> tuple[UserState, tuple[Change, ...]]:
    """The composites brought up to date with what became of other completions since `before`. Raises `WantedFacts`.

    `fact`: of the entry in hand, and `cause` tells its completions from others of the same event. `undoes`: what others
    had made possible may be gone. `left`: composites that are left as they are.
    """
    moved = _moved(before.completions, state.completions)
    if not moved:
        return state, ()
    found: list[Change] = []
    for composite in catalogue.hanging_on(moved):
        assert isinstance(composite.trigger, CompositeTrigger)
        if composite.key in left or moved.isdisjoint(composite.trigger.achievements):
            continue
        after, changes = _followed(composite, before, state, fact, past, cause=cause, undoes=undoes)
        if after.completions.get(composite.key) != state.completions.get(composite.key):
            moved.add(composite.key)
        state = after
        found += changes
    return state, tuple(found)


def _moved(before: Held, after: Held) -> set[str]:
    if before is after:
        return set()
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _followed(
    composite: Achievement,
    before: UserState,
    state: UserState,
    fact: Fact,
    past: Past,
    *,
    cause: str,
    undoes: bool,
) -> tuple[UserState, tuple[Change, ...]]:
    live = state.completions.get(composite.key)
    target = threshold(composite, live)
    if live is None:
        grant = _granted(composite, target, state.completions, fact, past)
        if composite.status is not Status.ACTIVE or grant is None or composite.key in state.withheld:
            return state, ()
        if composite.key in state.awaited and _granted(composite, target, before.completions, fact, past):
            return state, ()  # it was met before: the backfill gives it
        earned = (made(state.user_id, cause, composite, target, grant),)
        return completed(state, earned), earned
    # What the prerequisites of today had not given, they do not take away: the definition was another one then.
    if not undoes or _granted(composite, target, before.completions, fact, past) is None:
        return state, ()
    grant = _granted(composite, target, state.completions, fact, past)
    changes = passed_on(state.user_id, cause, composite, live, target, grant)
    completions = changed(state.completions, changes)
    if not changes and grant is not None:
        completions = {**completions, composite.key: replace(live, cause=grant.cause)}
    return replace(state, completions=completions), changes


def granted_composite(composite: Achievement, state: UserState, past: Past) -> Grant | None:
    """Where enough prerequisites came to be held, all of which were granted before now. Raises `WantedFacts`."""
    assert isinstance(composite.trigger, CompositeTrigger)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    nobody = Fact(UUID(int=0), 0, epoch, epoch.date())
    return _granted(composite, composite.trigger.target, state.completions, nobody, past)


def _granted(composite: Achievement, target: int, held: Held, fact: Fact, past: Past) -> Grant | None:
    """Where enough prerequisites are held, granted by one arrival after the other."""
    assert isinstance(composite.trigger, CompositeTrigger)
    arrivals = sorted(
        (held[key] for key in composite.trigger.achievements if key in held),
        key=lambda one: one.cause.position,
    )
    arrived: list[Reach] = []
    for _, together in groupby(arrivals, key=lambda arrival: arrival.cause.position):
        granted = list(together)
        arrived += [completion.reach for completion in granted]
        owner = _owner(composite, target, arrived, fact, past)
        if owner is not None:
            return Grant(owner, granted[0].cause)
    return None


def _owner(
    composite: Achievement, target: int, arrived: Iterable[Reach], fact: Fact, past: Past
) -> Reach | None:
    enough = sorted(arrived, key=lambda reach: reach.key)[target - 1 :]
    return next((reach for reach in enough if _can_earn(composite, reach, fact, past)), None)


def _can_earn(composite: Achievement, reach: Reach, fact: Fact, past: Past) -> bool:
    """Whether the user of that event could. Raises `WantedFacts`."""
    if not composite.user_filters:
        return composite.is_open_at(reach.occur_time)
    if reach.entry_id == fact.entry_id:
        return fact.can_earn(composite)
    if reach.entry_id not in past.facts:
        raise WantedFacts(frozenset({reach.entry_id}))
    known = past.facts[reach.entry_id]
    return known is not None and known.can_earn(composite)
