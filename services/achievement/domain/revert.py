"""Undoing an entry: its fact goes, and with it the completions that nothing supports any more (RULES 4.1)."""

from collections.abc import Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from services.achievement.domain.definitions import Achievement, Catalogue
from services.achievement.domain.standing import (
    Accumulator,
    Change,
    ChangeKind,
    Completion,
    Fact,
    Standing,
    changed,
)


class Remaining(Struct, frozen=True):
    """What the user's other live facts say, where it is needed to undo one."""

    values: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Per achievement whose sum holds negative events: the values it counted, in order of application."""
    grounds: frozenset[str] = frozenset()
    """The achievements that another live entry would have completed."""


def revert(
    catalogue: Catalogue, standing: Standing, fact: Fact, remaining: Remaining
) -> tuple[Standing, tuple[Change, ...]]:
    """The standing without this entry, and the revocations.

    A completion that follows a metric's total or a streak stays until the correction that comes next says how
    far the user has come without the entry; the fact itself does not know.
    """
    accumulators = {
        key: _without(standing.accumulators.get(key, Accumulator()), fact, remaining.values.get(key, ()))
        for key in fact.counted
    }
    derived = replace(standing, accumulators={**standing.accumulators, **accumulators})
    changes = tuple(
        Change(ChangeKind.REVOKED, live)
        for key, live in sorted(standing.completions.items())
        if _lost_its_ground(live, fact, remaining) or _fell_short(catalogue.get(key), live, fact, derived)
    )
    return replace(derived, completions=changed(derived.completions, changes)), changes


def _without(accumulator: Accumulator, fact: Fact, remaining: Sequence[int]) -> Accumulator:
    """Subtract where nothing is negative; else the peak has to be found again."""
    if not accumulator.negative_count:
        total = accumulator.sum_micros - fact.value_micros
        return Accumulator(total, total)
    refolded = Accumulator()
    for value in remaining:
        refolded = refolded.add(value)
    return refolded


def _lost_its_ground(live: Completion, fact: Fact, remaining: Remaining) -> bool:
    """Whether the undone entry alone gave this completion to this user."""
    key = live.achievement
    return live.entry_id == fact.entry_id and key in fact.grounds and key not in remaining.grounds


def _fell_short(achievement: Achievement | None, live: Completion, fact: Fact, standing: Standing) -> bool:
    """Whether the achievement's own sum no longer reaches the target."""
    return (
        achievement is not None
        and achievement.key in fact.counted
        and bool(achievement.event_filters)
        and not standing.still_holds(achievement, live)
    )
