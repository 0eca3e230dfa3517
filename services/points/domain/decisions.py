"""One entry applied or undone (RULES 5.2, 5.4, 7.3).

Undoing has two owners, so that nothing is undone twice. `undo` takes back what the entry itself caused: its
metric value, and the creation of its user. What others derived from it (streaks, achievements) comes back in
the correction that follows, and is applied like any entry, whether or not the undone entry was ever applied
here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.definitions import Catalogue, TriggerKey
from services.points.domain.ledger import Change, InsufficientPoints, Source, post
from services.points.domain.state import CauseKind, UserState
from services.points.domain.triggers import (
    AchievementChange,
    Counted,
    CountedFact,
    Due,
    StreakChange,
    count_completions,
    count_metric,
    count_streaks,
    count_user_created,
    needs_refold,
    streak_deltas,
    uncount_metric,
    uncount_user_created,
)
from shared.calendar import local_date
from shared.entries import Entry, EntryKind


class Command(Struct, frozen=True):
    """An entry, and what it changed in the services before this one."""

    entry: Entry
    streak_changes: tuple[StreakChange, ...] = ()
    achievement_changes: tuple[AchievementChange, ...] = ()


class Applied(Struct, frozen=True):
    """An entry's effect."""

    state: UserState
    changes: tuple[Change, ...]
    """By key of the system."""
    metric_triggers: tuple[TriggerKey, ...] = ()
    """The triggers that the entry's value counts for: a fact, kept with the entry."""
    position: int | None = None
    """The entry's place in the order of application; None for one that follows from others: no fact of the user."""


class Undoing(Struct, frozen=True):
    """An applied entry that is to be undone."""

    entry_id: UUID
    occur_time: datetime
    local_date: date
    fact: CountedFact | None
    """None where it carried no value."""
    is_last: bool
    """No other live entry of the user is left."""


class Reversible(Struct, frozen=True):
    """The awards that a decision may have to take back: it needs the newest of them."""

    times: Mapping[TriggerKey, int]
    """Of each of these triggers, live awards for so many times."""
    completion_ids: frozenset[UUID]
    """Every live award for these completions."""
    entry_ids: frozenset[UUID] = frozenset()
    """Every live award of these entries: what an undone entry was given itself goes first."""


def reversible(catalogue: Catalogue, commands: Iterable[Command]) -> Reversible:
    """What these commands of one user may take back; known before any state is."""
    times: dict[TriggerKey, int] = {}
    completion_ids: set[UUID] = set()
    entry_ids: set[UUID] = set()
    for command in commands:
        for one, delta in streak_deltas(catalogue, command.streak_changes):
            if delta < 0:
                times[one.key] = times.get(one.key, 0) - delta
        completion_ids.update(
            change.completion_id for change in command.achievement_changes if not change.completed
        )
        if command.entry.corrected_entry_id is not None:
            entry_ids.add(command.entry.corrected_entry_id)
    return Reversible(times, frozenset(completion_ids), frozenset(entry_ids))


def apply(catalogue: Catalogue, state: UserState, command: Command) -> Applied | InsufficientPoints:
    """What the entry does to the user's points; or why it is refused, which changes nothing (RULES 5.4)."""
    entry = command.entry
    counted = (
        *count_user_created(catalogue, state, entry),
        *count_metric(catalogue, state, entry),
        *count_streaks(catalogue, state, entry, command.streak_changes),
    )
    completions, rewards = count_completions(catalogue, state, entry, command.achievement_changes)
    moved = replace(
        _with_counts(state, counted),
        entry_count=state.entry_count + (not entry.kind.follows),
        first_entry_id=state.first_entry_id or (None if entry.kind.follows else entry.entry_id),
        completions={**state.completions, **completions},
    )
    day = local_date(entry.occur_time, entry.time_zone)
    source = Source(
        entry.entry_id,
        entry.occur_time,
        day,
        refusable=not entry.kind.follows,
        exact=entry.kind is EntryKind.CORRECTION,
        undone_entry_id=entry.corrected_entry_id,
    )
    posted = _post(catalogue, moved, (*_dues(counted), *rewards), source)
    if isinstance(posted, InsufficientPoints):
        return posted
    return Applied(
        state=posted[0],
        changes=posted[1],
        metric_triggers=tuple(one.key for one in counted if one.state.kind is CauseKind.METRIC),
        position=None if entry.kind.follows else moved.entry_count,
    )


def values_needed(state: UserState, undoing: Undoing) -> tuple[TriggerKey, ...]:
    """The triggers for which `undone_counts` needs the values of all other live events."""
    return needs_refold(state, undoing.fact) if undoing.fact else ()


def undone_counts(
    catalogue: Catalogue, state: UserState, undoing: Undoing, remaining: Mapping[TriggerKey, Sequence[int]]
) -> tuple[Counted, ...]:
    """How far the triggers have counted once the entry is undone; `remaining` as in `uncount_metric`."""
    metric = uncount_metric(catalogue, state, undoing.fact, remaining) if undoing.fact else ()
    return (*metric, *(uncount_user_created(state) if undoing.is_last else ()))


def reversible_counts(undoing: Undoing, counted: Iterable[Counted]) -> Reversible:
    """The awards that undoing the entry with these counts takes back."""
    times = {one.key: -one.times for one in counted if one.times < 0}
    return Reversible(times, frozenset(), frozenset({undoing.entry_id}))


def undo(catalogue: Catalogue, state: UserState, undoing: Undoing, counted: Sequence[Counted]) -> Applied:
    """The user's points as though the entry had never been; later entries keep their effect.

    A reversal may take the balance below the minimum: what was spent meanwhile stays spent.
    """
    moved = replace(
        _with_counts(state, counted),
        first_entry_id=None if undoing.is_last else state.first_entry_id,
    )
    source = Source(
        undoing.entry_id,
        undoing.occur_time,
        undoing.local_date,
        exact=True,
        undoing=True,
        undone_entry_id=undoing.entry_id,
    )
    posted = _post(catalogue, moved, tuple(_dues(counted)), source)
    if isinstance(posted, InsufficientPoints):
        raise AssertionError("an exact entry is never refused")
    return Applied(*posted)


def _with_counts(state: UserState, counted: Iterable[Counted]) -> UserState:
    return replace(state, triggers={**state.triggers, **{one.key: one.state for one in counted}})


def _dues(counted: Iterable[Counted]) -> Iterator[Due]:
    return (Due(one.key, one.times) for one in counted if one.times)


def _post(
    catalogue: Catalogue, state: UserState, dues: Sequence[Due], source: Source
) -> tuple[UserState, tuple[Change, ...]] | InsufficientPoints:
    """Every system's dues, system by system; one refusal refuses all."""
    changes = []
    for key in sorted({due.key.points_system for due in dues}):
        posted = post(
            catalogue.system(key), state, [due for due in dues if due.key.points_system == key], source
        )
        if isinstance(posted, InsufficientPoints):
            return posted
        state, change = posted
        changes.append(change)
    return state, tuple(changes)
