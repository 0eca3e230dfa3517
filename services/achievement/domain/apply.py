"""Applying an entry: what it completes, and for a correction what it revokes."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from services.achievement.domain.definitions import Achievement, ApiTrigger, Catalogue, SourceKey, Status
from services.achievement.domain.standing import (
    Accumulator,
    Change,
    ChangeKind,
    Command,
    Completion,
    Decision,
    Fact,
    Refusal,
    Source,
    Standing,
    changed,
    sources_of,
)
from shared.entries import Entry, EntryKind
from shared.filters import matches
from shared.ids import derived_id


def decide(catalogue: Catalogue, standing: Standing, command: Command) -> Decision:
    """What the entry comes to, given the user's standing (RULES 4)."""
    if command.entry.kind is EntryKind.ACHIEVEMENT_CALL:
        return _decide_call(catalogue.get(command.achievement), standing, command.entry)
    return _decide_progress(catalogue, standing, command)


def _decide_call(achievement: Achievement | None, standing: Standing, entry: Entry) -> Decision:
    """Complete it, unless that is not possible; completing it again changes nothing."""
    refusal = _refusal(achievement, entry)
    if achievement is None or refusal is not None:
        return _applied(standing, entry, refusal=refusal)
    return _applied(
        standing, entry, _completions(standing, (achievement,), entry), grounds=(achievement.key,)
    )


def _refusal(achievement: Achievement | None, entry: Entry) -> Refusal | None:
    if achievement is None:
        return Refusal.NOT_FOUND
    if achievement.status is not Status.ACTIVE:
        return Refusal.NOT_ACTIVE
    if not isinstance(achievement.trigger, ApiTrigger):
        return Refusal.TRIGGER_NOT_API
    if not matches(achievement.user_filters, entry.user.attributes):
        return Refusal.USER_NOT_ELIGIBLE
    return None


def _decide_progress(catalogue: Catalogue, standing: Standing, command: Command) -> Decision:
    """Take in what the entry tells, then look at each achievement that it touches."""
    entry = command.entry
    told = sources_of(command)
    touched = catalogue.following(told)
    counted = tuple(one.key for one in touched if _counts(one, entry))
    advanced = replace(
        standing,
        sources=_newest(standing.sources, told),
        accumulators=_accumulated(standing.accumulators, counted, entry),
    )
    earned = [
        one
        for one in touched
        if one.status is Status.ACTIVE
        and _reached(one, advanced, command, told, counted) >= one.trigger.target
        and matches(one.user_filters, entry.user.attributes)
    ]
    changes = _completions(standing, earned, entry)
    if entry.kind is EntryKind.CORRECTION:
        changes = (*_revocations(touched, advanced), *changes)
    return _applied(advanced, entry, changes, counted, tuple(one.key for one in earned if one.user_filters))


def _counts(achievement: Achievement, entry: Entry) -> bool:
    """Whether the entry adds to the achievement's own sum. A correction brings no value of its own."""
    return (
        bool(achievement.event_filters)
        and achievement.status is Status.ACTIVE
        and entry.kind is EntryKind.METRIC_EVENT
        and entry.metric is not None
        and matches(achievement.event_filters, entry.metric.attributes)
    )


def _newest(held: Mapping[SourceKey, Source], told: Mapping[SourceKey, Source]) -> Mapping[SourceKey, Source]:
    """The sources held, replaced where something newer was told."""
    newer = {key: new for key, new in told.items() if key not in held or held[key].version < new.version}
    return {**held, **newer} if newer else held


def _accumulated(
    held: Mapping[str, Accumulator], counted: Sequence[str], entry: Entry
) -> Mapping[str, Accumulator]:
    if not counted or entry.metric is None:
        return held
    value = entry.metric.value_micros
    return {**held, **{key: held.get(key, Accumulator()).add(value) for key in counted}}


def _reached(
    achievement: Achievement,
    standing: Standing,
    command: Command,
    told: Mapping[SourceKey, Source],
    counted: Sequence[str],
) -> int:
    """How far the user had come with this entry.

    An entry that arrives late knows less than the newest source, and so earns no more than it would have
    earned in time; where an earlier event was undone meanwhile it knows too much, and the newest source
    decides.
    """
    highest = standing.highest(achievement)
    if achievement.event_filters:
        is_counted = achievement.key in counted or command.entry.kind is EntryKind.CORRECTION
        return highest if is_counted else 0
    source = achievement.trigger.source
    return min(highest, told[source].highest) if source is not None and source in told else 0


def _completions(standing: Standing, earned: Iterable[Achievement], entry: Entry) -> tuple[Change, ...]:
    """A completion of each that the user does not hold yet."""
    return tuple(
        Change(
            ChangeKind.COMPLETED,
            Completion(
                completion_id=derived_id("completion", entry.user.user_id, one.key, str(entry.entry_id)),
                achievement=one.key,
                entry_id=entry.entry_id,
                complete_time=entry.occur_time,
                target=one.trigger.target,
            ),
        )
        for one in earned
        if one.key not in standing.completions
    )


def _revocations(touched: Iterable[Achievement], standing: Standing) -> tuple[Change, ...]:
    """A revocation of each live completion whose condition no longer holds."""
    return tuple(
        Change(ChangeKind.REVOKED, live)
        for one in touched
        if (live := standing.completions.get(one.key)) and not standing.still_holds(one, live)
    )


def _applied(
    standing: Standing,
    entry: Entry,
    changes: tuple[Change, ...] = (),
    counted: tuple[str, ...] = (),
    grounds: tuple[str, ...] = (),
    refusal: Refusal | None = None,
) -> Decision:
    """The decision, with the standing after the changes."""
    position = standing.entry_count + 1
    value_micros = entry.metric.value_micros if entry.metric else 0
    after = replace(standing, entry_count=position, completions=changed(standing.completions, changes))
    return Decision(after, Fact(entry.entry_id, position, value_micros, counted, grounds), changes, refusal)
