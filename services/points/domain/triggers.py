"""How often triggers are due because of an entry (RULES 5.2).

Every count is a difference between two absolute counts, so the sum over all entries is the same in any order
(RULES 7.2), and what is undone cancels what was done.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.definitions import (
    Catalogue,
    ConfiguredTrigger,
    MetricCause,
    StreakCause,
    TriggerKey,
)
from services.points.domain.state import CauseKind, TriggerState, UserState
from shared.entries import Entry, EntryKind
from shared.filters import matches

_LARGEST: Final = 2**63 - 1


class RunChange(Struct, frozen=True):
    """How the length of one run of a streak changed; 0: it was not there, or is no more."""

    length_before: int
    length_after: int


class StreakChange(Struct, frozen=True):
    """How the runs of one streak changed."""

    streak: str
    run_changes: tuple[RunChange, ...]


class AchievementChange(Struct, frozen=True):
    """A completion, or its revocation."""

    achievement: str
    completion_id: UUID
    completed: bool


class Due(Struct, frozen=True):
    """How often a trigger is to award; negative: how often to take back, from the newest awards."""

    key: TriggerKey
    times: int
    completion_id: UUID | None = None


class Counted(Struct, frozen=True):
    """A counting trigger after an entry."""

    key: TriggerKey
    state: TriggerState
    times: int
    """How often it is due because of the entry; negative: no longer."""


class CountedFact(Struct, frozen=True):
    """A metric value that was applied, and the triggers that it counted for."""

    value_micros: int
    keys: tuple[TriggerKey, ...]


def count_metric(catalogue: Catalogue, state: UserState, entry: Entry) -> Iterator[Counted]:
    """Every metric trigger that the entry's value counts for: crossings of multiples of X by the high-water
    mark.

    A correction carries no value: the mark moves back when the origin is undone (`uncount_metric`).
    """
    fact = entry.metric
    if fact is None or entry.kind is EntryKind.CORRECTION:
        return
    for one in catalogue.by_metric.get(fact.metric, ()):
        cause = one.trigger.cause
        if (
            isinstance(cause, MetricCause)
            and matches(cause.event_filters, fact.attributes)
            and matches(one.trigger.user_filters, entry.user.attributes)
        ):
            before = _state_of(state, one.key, CauseKind.METRIC)
            yield _accumulate(one.key, before, fact.value_micros, cause.every_micros)


def uncount_metric(
    catalogue: Catalogue, state: UserState, fact: CountedFact, remaining: Mapping[TriggerKey, Sequence[int]]
) -> Iterator[Counted]:
    """Every metric trigger that an undone value had counted for, as though it never had.

    `remaining` has the values of the other live events in the order in which they were applied, for the
    triggers that `needs_refold` names. A crossing that they reach without the undone value stays, whichever
    event's award it is in; undoing a negative value can bring new ones.
    """
    value_micros = fact.value_micros
    for key in _metric_keys(state, fact):
        before = state.triggers[key]
        negative_count = max(0, before.negative_count - (value_micros < 0))
        if negative_count:
            accumulated, high = _fold(remaining[key])
        else:
            accumulated = high = max(0, _bounded(before.accumulated_micros - value_micros))
        times = high // before.every_micros - before.high_micros // before.every_micros
        times = max(times, -before.granted_count)  # fewer are left where X has changed meanwhile
        if catalogue.trigger(key) is None:
            times = min(times, 0)
        yield Counted(
            key,
            replace(
                before,
                granted_count=before.granted_count + times,
                accumulated_micros=accumulated,
                high_micros=high,
                negative_count=negative_count,
            ),
            times,
        )


def needs_refold(state: UserState, fact: CountedFact) -> tuple[TriggerKey, ...]:
    """The triggers whose high-water mark can't be known without the values of the remaining events."""
    return tuple(
        key
        for key in _metric_keys(state, fact)
        if state.triggers[key].negative_count > (fact.value_micros < 0)
    )


def count_streaks(
    catalogue: Catalogue, state: UserState, entry: Entry, changes: Iterable[StreakChange]
) -> Iterator[Counted]:
    """Every streak trigger that changed runs count for.

    It has awarded max(0, net count) times, whatever the order in which changes arrive; less what was due
    while the system was archived or the user's attributes did not match. That is consumed first when the
    count falls.
    """
    for one, delta in streak_deltas(catalogue, changes):
        before = _state_of(state, one.key, CauseKind.STREAK)
        net_count = before.net_count + delta
        owed = max(0, net_count) - before.granted_count
        times = min(owed, 0)
        if delta > 0 and one.system.active and matches(one.trigger.user_filters, entry.user.attributes):
            times = max(0, min(owed, delta))
        after = replace(before, net_count=net_count, granted_count=before.granted_count + times)
        yield Counted(one.key, after, times)


def streak_deltas(
    catalogue: Catalogue, changes: Iterable[StreakChange]
) -> Iterator[tuple[ConfiguredTrigger, int]]:
    """By how much each streak trigger's count changes, where it does; several changes of a streak add up."""
    runs: dict[str, tuple[RunChange, ...]] = {}
    for change in changes:
        runs[change.streak] = (*runs.get(change.streak, ()), *change.run_changes)
    for streak, run_changes in runs.items():
        for one in catalogue.by_streak.get(streak, ()):
            cause = one.trigger.cause
            if isinstance(cause, StreakCause):
                delta = sum(
                    cause.times(run.length_after) - cause.times(run.length_before) for run in run_changes
                )
                if delta:
                    yield one, delta


def count_user_created(catalogue: Catalogue, state: UserState, entry: Entry) -> Iterator[Counted]:
    """Every trigger for new users, where this is the user's first entry."""
    if state.first_entry_id is not None or entry.kind.follows:
        return
    for one in catalogue.by_user_created:
        before = _state_of(state, one.key, CauseKind.USER_CREATED)
        if not before.granted_count and matches(one.trigger.user_filters, entry.user.attributes):
            yield Counted(one.key, replace(before, granted_count=1), 1)


def uncount_user_created(state: UserState) -> Iterator[Counted]:
    """Every trigger for new users that has awarded, when no entry of the user is left."""
    for key, before in state.triggers.items():
        if before.kind is CauseKind.USER_CREATED and before.granted_count:
            yield Counted(key, replace(before, granted_count=0), -before.granted_count)


def count_completions(
    catalogue: Catalogue, state: UserState, entry: Entry, changes: Sequence[AchievementChange]
) -> tuple[Mapping[UUID, int], tuple[Due, ...]]:
    """The completions that changed, with their counts, and what is due for them.

    A completion is rewarded while it has been completed and not revoked, in whichever order the two arrive.
    """
    deltas: Counter[UUID] = Counter()
    for change in changes:
        deltas[change.completion_id] += 1 if change.completed else -1
    achievements = {change.completion_id: change.achievement for change in changes}
    counts = {}
    dues: list[Due] = []
    for completion_id, delta in deltas.items():
        before = state.completions.get(completion_id, 0)
        counts[completion_id] = before + delta
        if before < 1 <= counts[completion_id]:
            dues.extend(_rewards(catalogue, entry, achievements[completion_id], completion_id))
        elif counts[completion_id] < 1 <= before:
            dues.extend(_rewarded(state, completion_id))
    return counts, tuple(dues)


def _rewards(catalogue: Catalogue, entry: Entry, achievement: str, completion_id: UUID) -> Iterator[Due]:
    for cause in (achievement, None):
        for one in catalogue.by_achievement.get(cause, ()):
            if matches(one.trigger.user_filters, entry.user.attributes):
                yield Due(one.key, 1, completion_id)


def _rewarded(state: UserState, completion_id: UUID) -> Iterator[Due]:
    for live in state.live_awards:
        if live.award.completion_id == completion_id:
            yield Due(live.award.key, -live.live_times, completion_id)


def _state_of(state: UserState, key: TriggerKey, kind: CauseKind) -> TriggerState:
    """The trigger's state; a new one where the key once belonged to a trigger of another kind."""
    known = state.triggers.get(key)
    return known if known is not None and known.kind is kind else TriggerState(kind)


def _metric_keys(state: UserState, fact: CountedFact) -> tuple[TriggerKey, ...]:
    """The triggers that the value counts for and that still count a metric."""
    return tuple(
        key for key in fact.keys if key in state.triggers and state.triggers[key].kind is CauseKind.METRIC
    )


def _accumulate(key: TriggerKey, before: TriggerState, value_micros: int, every_micros: int) -> Counted:
    accumulated = _bounded(before.accumulated_micros + value_micros)
    high = max(before.high_micros, accumulated)
    times = high // every_micros - before.high_micros // every_micros
    after = replace(
        before,
        granted_count=before.granted_count + times,
        accumulated_micros=accumulated,
        high_micros=high,
        every_micros=every_micros,
        negative_count=before.negative_count + (value_micros < 0),
    )
    return Counted(key, after, times)


def _fold(values_micros: Sequence[int]) -> tuple[int, int]:
    """The sum and its high-water mark."""
    accumulated = high = 0
    for value in values_micros:
        accumulated = _bounded(accumulated + value)
        high = max(high, accumulated)
    return accumulated, high


def _bounded(micros: int) -> int:
    """The ledger of events keeps sums within 64 bits; what comes past it meets a wall, not an error."""
    return max(-_LARGEST, min(_LARGEST, micros))
