"""Applying an entry: what it completes, and for a correction what it revokes or passes on."""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.achievement.domain.anniversaries import (
    Came,
    advanced,
    backdated_before,
    heard,
    is_due,
    lost,
    waiting,
)
from services.achievement.domain.completions import completed, granted, moved
from services.achievement.domain.composites import composites_followed
from services.achievement.domain.definitions import (
    MAX_COMPLETIONS,
    Achievement,
    ApiTrigger,
    Catalogue,
    SourceKey,
    Status,
)
from services.achievement.domain.fold import Grant
from services.achievement.domain.past import Past
from services.achievement.domain.reaches import streaks_changed
from services.achievement.domain.state import (
    Command,
    Decision,
    Fact,
    Refusal,
    Source,
    UserState,
    sources_of,
)
from services.achievement.domain.totals import Outcome, arrived, contribution, corrected, is_late
from services.achievement.domain.withholding import withhold
from shared.calendar import local_date
from shared.entries import AchievementsSeen, Entry, EntryKind
from shared.filters import matches

_UNKNOWN = Past()
MOST_AT_ONCE: Final = 1_000
"""Completions of repeatable achievements by one event; whoever follows takes no more."""


class InTime(Struct, frozen=True):
    """An entry, with what time had brought before it, and what is due by what it says."""

    before: tuple[Came, ...]
    decision: Decision
    after: tuple[Came, ...]
    state: UserState
    """After all of it."""


def decide_in_time(catalogue: Catalogue, state: UserState, command: Command, past: Past = _UNKNOWN) -> InTime:
    """What the entry comes to, and the anniversaries around it. Raises `Wanted`, `WantedFacts`."""
    now = command.entry.now
    state, before = advanced(catalogue, state, now, past)
    if before:
        past = _with_facts(past, before)
    decision = decide(catalogue, state, command, past)
    if not is_due(decision.state, now):
        return InTime(before, decision, (), decision.state)
    since = backdated_before(state.sign_up, decision.state.sign_up, now)
    known = replace(past, facts={**past.facts, decision.fact.entry_id: decision.fact})
    after_all, after = advanced(catalogue, decision.state, now, known, since=since)
    return InTime(before, decision, after, after_all)


def _with_facts(past: Past, came: Iterable[Came]) -> Past:
    return replace(past, facts={**past.facts, **{each.fact.entry_id: each.fact for each in came}})


def decide(catalogue: Catalogue, state: UserState, command: Command, past: Past = _UNKNOWN) -> Decision:
    """What the entry comes to, given the user's state (RULES 4). Raises `Wanted` for more of the past."""
    entry = command.entry
    state = replace(state, entry_count=state.entry_count + 1)
    if isinstance(entry.content, AchievementsSeen):
        return Decision(state, _plain_fact(state, entry), seen=entry.content.achievements)
    if entry.kind is EntryKind.ACHIEVEMENT_REVOCATION:
        decision = withhold(catalogue.get(command.achievement), state, _plain_fact(state, entry))
    elif entry.kind is EntryKind.ACHIEVEMENT_CALL or _is_earned_at_the_end(catalogue, state, command):
        decision = _decide_call(catalogue, state, command)
    else:
        decision = _decide_other(catalogue, state, command, past)
    if catalogue.anniversaries:
        decision = _heard(catalogue, state, decision, entry)
    after, changes = composites_followed(
        catalogue,
        state,
        decision.state,
        decision.fact,
        past,
        cause=str(entry.entry_id),
        undoes=entry.kind in (EntryKind.CORRECTION, EntryKind.ACHIEVEMENT_REVOCATION),
    )
    if after is not decision.state:
        decision = replace(decision, state=after, changes=(*decision.changes, *changes))
    if entry.kind is EntryKind.CORRECTION:
        return replace(decision, moved=moved(state, after))
    return decision


def _heard(catalogue: Catalogue, before: UserState, decision: Decision, entry: Entry) -> Decision:
    """With what the entry says of when its user signed up."""
    state = heard(catalogue, decision.state, entry.user)
    changes = lost(catalogue, before, state, entry)
    if changes:
        state = waiting(catalogue, completed(state, changes))
    return replace(decision, state=state, changes=(*decision.changes, *changes))


def _is_earned_at_the_end(catalogue: Catalogue, state: UserState, command: Command) -> bool:
    """With a prize, or a promotion. One that cannot be earned now is left out: everything else that comes with it is
    given all the same (RULES 6.10).
    """
    is_end = command.entry.kind in (EntryKind.BOARD_PRIZE, EntryKind.LEAGUE_MOVE) and bool(
        command.achievement
    )
    return is_end and _refusal(catalogue.get(command.achievement), state, command.entry) is None


def _decide_other(catalogue: Catalogue, state: UserState, command: Command, past: Past) -> Decision:
    entry = command.entry
    told = sources_of(command)
    fact = _fact(catalogue, state, command, told, past)
    if entry.kind is EntryKind.METRIC_EVENT and _at_once(catalogue, state, fact, told) > MOST_AT_ONCE:
        return Decision(state, _plain_fact(state, entry), refusal=Refusal.TOO_MANY_AT_ONCE)
    outcome = Outcome(replace(state, sources=_newest(state.sources, told)))
    if entry.metric is not None and entry.kind is EntryKind.METRIC_EVENT:
        outcome = arrived(catalogue, outcome.state, entry, entry.metric, fact, past)
    elif entry.metric is not None and entry.kind is EntryKind.CORRECTION:
        outcome = corrected(catalogue, outcome.state, entry, entry.metric, past)
    after, changes = outcome.state, outcome.changes
    if command.streak_changes or catalogue.judged or entry.kind is EntryKind.CORRECTION:
        after, more = streaks_changed(catalogue, state, after, command, fact, past)
        changes = (*changes, *more)
    return Decision(after, fact, changes, revised=outcome.revised, kept=outcome.kept)


def _at_once(catalogue: Catalogue, state: UserState, fact: Fact, told: Mapping[SourceKey, Source]) -> int:
    """How often an event may earn repeatable achievements, at most: known without earning them."""
    times = 0
    for achievement in catalogue.repeatable(told):
        target, had = achievement.trigger.target, state.count(achievement)
        source = achievement.trigger.source
        if achievement.event_filters or source is None:
            could = had + max(fact.value_micros, 0) // target + 1
        else:
            could = told[source].highest // target
        times += max(0, min(could, MAX_COMPLETIONS) - had)
    return times


# A call


def _decide_call(catalogue: Catalogue, state: UserState, command: Command) -> Decision:
    """Complete it, unless that is not possible; completing it again changes nothing, unless it is repeatable."""
    entry, achievement = command.entry, catalogue.get(command.achievement)
    fact = _plain_fact(state, entry)
    refusal = _refusal(achievement, state, entry)
    if achievement is None or refusal is not None:
        return Decision(state, fact, refusal=refusal)
    above = _earnable(catalogue.selective_above((achievement,)), entry)
    fact = replace(fact, grounds=(achievement.key, *above))
    count = state.count(achievement)
    if count == (MAX_COMPLETIONS if achievement.repeatable else 1):
        return Decision(state, fact)
    next_one = achievement.numbered(count + 1)
    change = granted(entry, next_one, next_one.trigger.target, Grant(fact.reach, fact.cause))
    return Decision(completed(state, (change,)), fact, (change,))


def _refusal(achievement: Achievement | None, state: UserState, entry: Entry) -> Refusal | None:
    if achievement is None:
        return Refusal.NOT_FOUND
    if achievement.status is not Status.ACTIVE:
        return Refusal.NOT_ACTIVE
    if not isinstance(achievement.trigger, ApiTrigger):
        return Refusal.TRIGGER_NOT_API
    if not achievement.is_open_at(entry.occur_time):
        return Refusal.NOT_OPEN
    if not matches(achievement.user_filters, entry.user.attributes):
        return Refusal.USER_NOT_ELIGIBLE
    if achievement.key in state.withheld:
        return Refusal.REVOKED
    return None


# What is remembered


def _plain_fact(state: UserState, entry: Entry) -> Fact:
    return Fact(
        entry.entry_id,
        state.entry_count,
        entry.occur_time,
        local_date(entry.occur_time, entry.time_zone),
    )


def _fact(
    catalogue: Catalogue, state: UserState, command: Command, told: Mapping[SourceKey, Source], past: Past
) -> Fact:
    """The fact of an entry, with the terms that hold as it comes: for what it counts, and what it can earn."""
    entry = command.entry
    metric = entry.metric
    if metric is None or entry.kind is not EntryKind.METRIC_EVENT:
        return _plain_fact(state, entry)
    counted, grounds = [], []
    for achievement in catalogue.filtered(told):
        if achievement.event_filters and matches(achievement.event_filters, metric.attributes):
            counted.append(achievement.key)
        if achievement.user_filters and matches(achievement.user_filters, entry.user.attributes):
            grounds.append(achievement.key)
    for achievement in catalogue.judged:
        is_untold = achievement.trigger.source not in told and achievement.status is Status.ACTIVE
        if is_untold and matches(achievement.user_filters, entry.user.attributes):
            grounds.append(achievement.key)
    if catalogue.has_selective_above:
        grounds += _earnable(catalogue.selective_above(catalogue.following(told)), entry)
    value_micros, version = contribution(entry, metric, past)
    return Fact(
        entry.entry_id,
        state.entry_count,
        entry.occur_time,
        local_date(entry.occur_time, entry.time_zone),
        metric.metric,
        value_micros,
        version,
        tuple(counted),
        tuple(grounds),
        is_late(state, metric.metric, entry.occur_time),
    )


def _earnable(composites: Iterable[Achievement], entry: Entry) -> list[str]:
    """Those that the user of the entry can earn, should it come to own them."""
    attributes = entry.user.attributes
    return [composite.key for composite in composites if matches(composite.user_filters, attributes)]


def _newest(held: Mapping[SourceKey, Source], told: Mapping[SourceKey, Source]) -> Mapping[SourceKey, Source]:
    """The sources held, replaced where something newer was told."""
    newer = {key: new for key, new in told.items() if key not in held or held[key].version < new.version}
    return {**held, **newer} if newer else held
