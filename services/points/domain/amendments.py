"""What a command says about facts that came before it.

Three kinds of commands do. A revision says what another event contributes from now on (RULES 2.2). A revocation takes
a completion back. A correction says what streaks and achievements are without the entry that it corrects: what it
takes back goes from the fact that it was given with, and what it gives instead becomes part of the fact of the entry
whose arrival would have brought it, under the terms of that fact. So after a void all is as the other entries alone
would have made it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from uuid import UUID

from msgspec import Struct, field

from services.points.domain.definitions import Catalogue, ConfiguredTrigger, TriggerKey
from services.points.domain.edits import Edit, Terms
from services.points.domain.facts import AchievementChange, Command, Due, Fact
from services.points.domain.fold import once
from services.points.domain.owners import Owners
from services.points.domain.state import StreakCount, UserState
from services.points.domain.streaks import LivePeriod, corrected, due_for, shifts
from shared.entries import EntryKind


class Amendment(Struct, frozen=True):
    """What a command changes of facts that came before it, and what is left for its own."""

    edits: Mapping[int, Edit] = field(default_factory=dict)
    """By position."""
    given: tuple[Due, ...] = ()
    streaks: Mapping[TriggerKey, StreakCount] = field(default_factory=dict)
    completions: Mapping[UUID, int] = field(default_factory=dict)


def amends(command: Command) -> bool:
    """Whether the command says something about facts that came before it."""
    entry = command.entry
    said = command.streak_changes or command.achievement_changes or command.completion_causes
    if entry.kind is EntryKind.CORRECTION and said:
        return True
    if entry.metric is not None and entry.metric.revisions:
        return True
    changes = command.achievement_changes
    return bool(changes) and any(not change.completed for change in changes)


def entries_named(command: Command, state: UserState, triggers: Iterable[TriggerKey]) -> frozenset[UUID]:
    """The entries whose facts it may change. `triggers`: those of streaks to which it means something."""
    counts = [state.streaks[key] for key in triggers if key in state.streaks]
    named = {owed.reach.entry_id for count in counts for owed in count.owed}
    named |= {owner.entry_id for count in counts for one in count.passings for owner in one.owners}
    named |= {change.owner.entry_id for change in command.achievement_changes}
    named |= {change.cause_id for change in command.achievement_changes if change.cause_id is not None}
    named |= {known.cause_id for known in command.completion_causes}
    for streak in command.streak_changes:
        named.update(owner.entry_id for owner in streak.owners)
        named.update(streak.causes)
    if command.entry.metric is not None:
        named.update(revision.entry_id for revision in command.entry.metric.revisions)
    return frozenset(named) - {command.entry.entry_id}


def amendment(
    catalogue: Catalogue,
    state: UserState,
    command: Command,
    live: Sequence[LivePeriod],
    facts: Mapping[UUID, Fact],
    revised: Mapping[UUID, int],
    terms: Terms,
) -> Amendment:
    """What the command changes.

    `live` are the awards for its completions and of its streaks' triggers, `facts` those of the entries that it names,
    `revised` what some of these contribute from now on.
    """
    owners = Owners(command.entry, facts, terms)
    edits: dict[int, Edit] = {}
    own: list[Due] = []
    is_correction = command.entry.kind is EntryKind.CORRECTION

    def edit(position: int, change: Edit) -> None:
        edits[position] = edits.get(position, Edit()).joined(change)

    def give(due: Due, cause_id: UUID | None) -> None:
        fact = brought(due, cause_id) if is_correction else None
        if fact is None:
            own.append(due)
        else:
            edit(fact.position, Edit(added=(_under(terms(fact.terms), owners, due),)))

    def brought(due: Due, cause_id: UUID | None) -> Fact | None:
        fact = facts.get(cause_id) if cause_id is not None else None
        return fact or facts.get(due.owner.entry_id)

    for entry_id, contribution in revised.items():
        edit(facts[entry_id].position, Edit(contribution_micros=contribution))
    completions, rewards, revoked = completed(catalogue, state, command, owners)
    for period in live:
        if period.due.completion_id in revoked:
            edit(period.position, Edit(dropped=(period.due.identity,)))
    for due in rewards:
        give(due, _cause_of(command, due))
    for period, cause_id in _moved(command, live):
        fact = brought(period.due, cause_id)
        if fact is not None and fact.position != period.position:
            edit(period.position, Edit(dropped=(period.due.identity,)))
            give(period.due, cause_id)
    streaks: dict[TriggerKey, StreakCount] = {}
    if is_correction:
        for shift in shifts(catalogue, command.streak_changes):
            one_trigger = shift.configured
            settlement = corrected(
                shift,
                state.streaks.get(one_trigger.key, StreakCount()),
                [
                    period
                    for period in live
                    if period.due.key == one_trigger.key and period.due.period is not None
                ],
                command.entry.corrected_entry_id,
                partial(owners.gives, one_trigger),
            )
            streaks[one_trigger.key] = settlement.count
            for taken in settlement.taken:
                edit(taken.position, Edit(dropped=(taken.due.identity,)))
            for owed in settlement.given:
                give(due_for(one_trigger, owed), settlement.causes.get(owed.start_date))
    return Amendment(edits, tuple(own), streaks, completions)


def completed(
    catalogue: Catalogue, state: UserState, command: Command, owners: Owners
) -> tuple[dict[UUID, int], list[Due], frozenset[UUID]]:
    """The counts of the completions that changed, what is due for them, and those that are rewarded no more.

    A completion is rewarded while it has been completed and not revoked, in whichever order the two arrive. Raises
    `HistoryNeeded`.
    """
    if not command.achievement_changes:
        return {}, [], frozenset()
    deltas: Counter[UUID] = Counter()
    for change in command.achievement_changes:
        deltas[change.completion_id] += 1 if change.completed else -1
    changes = {change.completion_id: change for change in command.achievement_changes}
    counts: dict[UUID, int] = {}
    dues: list[Due] = []
    revoked: set[UUID] = set()
    for completion_id, delta in deltas.items():
        before = state.completions.get(completion_id, 0)
        counts[completion_id] = before + delta
        if before < 1 <= counts[completion_id]:
            for trigger in _rewards(catalogue, changes[completion_id], owners):
                due = once(trigger.key, trigger.trigger, changes[completion_id].owner)
                dues.append(_for_completion(due, completion_id))
        elif counts[completion_id] < 1 <= before:
            revoked.add(completion_id)
    return counts, dues, frozenset(revoked)


def _rewards(catalogue: Catalogue, change: AchievementChange, owners: Owners) -> Iterator[ConfiguredTrigger]:
    causes: Iterable[str | None] = (change.achievement, None)
    for cause in causes:
        for trigger in catalogue.by_achievement.get(cause, ()):
            if owners.gives(trigger, change.owner):
                yield trigger


def _for_completion(due: Due, completion_id: UUID) -> Due:
    return Due(due.key, due.owner, due.times, due.base_amount, completion_id)


def _cause_of(command: Command, due: Due) -> UUID | None:
    changes = command.achievement_changes
    return next(
        (one.cause_id for one in changes if one.completed and one.completion_id == due.completion_id), None
    )


def _moved(command: Command, live: Iterable[LivePeriod]) -> Iterator[tuple[LivePeriod, UUID]]:
    """The awards for completions that stay, and with whose arrival they would have come."""
    causes = {known.completion_id: known.cause_id for known in command.completion_causes}
    for period in live:
        if period.due.completion_id in causes:
            yield period, causes[period.due.completion_id]


def _under(terms: Catalogue, owners: Owners, due: Due) -> Due:
    """The same as these terms of the fact that it becomes part of say it, with the boosts of its owner."""
    trigger = terms.trigger(due.key)
    if trigger is None:
        return due
    bare = Due(due.key, due.owner, 1, trigger.amount, due.completion_id, due.period)
    return owners.boosted(terms, bare)
