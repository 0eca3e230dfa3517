"""Backfill: who had qualified for an achievement before it could be earned (RULES 4.6).

A user's facts are folded as though the achievement had always been there. So what is granted belongs to the event that
it would have belonged to, and a later undoing finds it as it finds any other. What was met before the achievement could
be earned is backdated.

Facts that came while it could not be earned do not say whether they count for it, or whether their users could earn it:
they are judged now, by what the ledger has of them, and remember it. Of a streak it is not known who first reached
lengths that mattered to nobody: the streak service says so.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from services.achievement.domain.anniversaries import Came, advanced, heard, waiting
from services.achievement.domain.completions import completed, dated, made
from services.achievement.domain.composites import composites_followed, granted_composite
from services.achievement.domain.definitions import (
    MAX_COMPLETIONS,
    Achievement,
    AnniversaryTrigger,
    Catalogue,
    CompositeTrigger,
    MetricTrigger,
    SourceKey,
    SourceKind,
    Status,
    StreakTrigger,
)
from services.achievement.domain.fold import Grant, granted_in_turn
from services.achievement.domain.past import Past, Span, Start, Wanted, WantedFacts
from services.achievement.domain.state import (
    Accumulator,
    Cause,
    Change,
    Fact,
    FirstReach,
    Reach,
    UserState,
)
from shared.entries import UserSnapshot
from shared.filters import matches


class Attributes(Struct, frozen=True):
    """What filters look at of an entry."""

    event: Mapping[str, str]
    user: Mapping[str, str]
    known: bool = True
    """The ledger has the entry. An anniversary that is backdated is none of its entries."""


class Evidence(Struct, frozen=True):
    """What other services say of a user."""

    attributes: Mapping[UUID, Attributes] = field(default_factory=dict)
    """By entry, as the ledger has it."""
    reaches: tuple[tuple[int, Reach], ...] = ()
    """With which event each length of the streak was first reached, by length."""
    reaches_version: int = 0
    """Of the streak that they are of."""
    users: Mapping[str, UserSnapshot | None] = field(default_factory=dict)
    """What holds of users now; None: the orchestrator does not know the user."""


class WantedAttributes(Exception):
    """The ledger has to be asked about entries: no error, the same is asked again with more evidence."""

    def __init__(self, entry_ids: frozenset[UUID]) -> None:
        super().__init__(entry_ids)
        self.entry_ids = entry_ids


class WantedReaches(Exception):
    """The streak service has to be asked about the user, or asked anew."""


class WantedUser(Exception):
    """The orchestrator has to be asked what holds of the user."""


class Backfilled(Struct, frozen=True):
    """What a backfill comes to for one user."""

    state: UserState
    changes: tuple[Change, ...] = ()
    judged: tuple[Fact, ...] = ()
    """Facts that count for something else, or are grounds for something else, from now on."""
    came: tuple[Came, ...] = ()
    """Instants at which something was due."""


def first_span(metric: str) -> Start:
    """All facts of a metric."""
    return Start(metric, 0, None)


def cause_of(backfill_id: UUID) -> str:
    """What tells its completions from others of the same event."""
    return f"backfill {backfill_id}"


def given_at_once(catalogue: Catalogue, achievement: Achievement) -> bool:
    """Whether users whose past is plain can be given it by the database: nothing else follows from it, nobody has to be
    told, and every event counts.
    """
    return (
        isinstance(achievement.trigger, MetricTrigger)
        and not achievement.is_selective
        and not achievement.event_filters
        and not achievement.award_backdated
        and not catalogue.hanging_on([achievement.key])
    )


def backfill(
    catalogue: Catalogue,
    achievement: Achievement,
    state: UserState,
    past: Past,
    evidence: Evidence,
    backfill_id: UUID,
    active_since: datetime,
    now: datetime,
) -> Backfilled:
    """What the user's past earns.

    Raises `Wanted`, `WantedFacts`, `WantedAttributes`, `WantedReaches`, `WantedUser` for more of it.
    """
    if achievement.status is not Status.ACTIVE:
        return Backfilled(state)
    user = _User(catalogue, achievement, state, past, evidence, cause_of(backfill_id), active_since)
    match achievement.trigger:
        case MetricTrigger():
            found = _by_metric(user, achievement.trigger)
        case StreakTrigger():
            found = _by_streak(user, achievement.trigger)
        case CompositeTrigger():
            found = _by_composite(user)
        case AnniversaryTrigger():
            return _by_anniversary(user, now)
        case _:
            return Backfilled(state)
    return _with_composites(user, found)


class _User(Struct, frozen=True):
    catalogue: Catalogue
    achievement: Achievement
    state: UserState
    past: Past
    evidence: Evidence
    cause: str
    active_since: datetime

    def completion(self, achievement: Achievement, grant: Grant) -> Change:
        """A completion that is found now."""
        change = made(self.state.user_id, self.cause, achievement, achievement.trigger.target, grant)
        return dated(change, self.active_since)

    def attributes(self, facts: Iterable[Fact]) -> Mapping[UUID, Attributes]:
        """Those of all these facts. Raises `WantedAttributes`."""
        ids = [fact.entry_id for fact in facts]
        missing = frozenset(ids) - self.evidence.attributes.keys()
        if missing:
            raise WantedAttributes(missing)
        return self.evidence.attributes


def _judged(fact: Fact, definitions: Iterable[Achievement], said: Attributes) -> Fact:
    """For what the fact counts, and what it can earn, by today's definitions of these achievements."""
    if not said.known:
        return fact
    counted, grounds = set(fact.counted), set(fact.grounds)
    for definition in definitions:
        if definition.event_filters:
            _put(counted, definition.key, present=matches(definition.event_filters, said.event))
        if definition.user_filters:
            _put(grounds, definition.key, present=matches(definition.user_filters, said.user))
    if counted == set(fact.counted) and grounds == set(fact.grounds):
        return fact
    return replace(fact, counted=tuple(sorted(counted)), grounds=tuple(sorted(grounds)))


def _put(keys: set[str], key: str, *, present: bool) -> None:
    (keys.add if present else keys.discard)(key)


# By metric


def _by_metric(user: _User, trigger: MetricTrigger) -> Backfilled:
    achievement, state = user.achievement, user.state
    start = first_span(trigger.metric)
    span = user.past.spans.get(start)
    if span is None:
        raise Wanted(start)
    judged: tuple[Fact, ...] = ()
    if achievement.event_filters or achievement.user_filters:
        if not span.complete:
            raise Wanted(start)
        said = user.attributes(span.facts)
        facts = tuple(_judged(fact, [achievement], said[fact.entry_id]) for fact in span.facts)
        judged = tuple(new for old, new in zip(span.facts, facts, strict=True) if new != old)
        span = Span(facts, complete=True)
    if achievement.event_filters:
        counted = sorted((fact for fact in span.facts if fact.counts_for(achievement)), key=_position)
        sums = {**state.accumulators, achievement.key: _summed(counted)}
        state = replace(state, accumulators=sums)
    most = MAX_COMPLETIONS if achievement.repeatable else 1
    if state.count(achievement) == most or achievement.key in state.withheld:
        return Backfilled(state, (), judged)
    if state.sums(achievement, trigger.metric).peak_micros < trigger.target:
        return Backfilled(state, (), judged)
    changes = tuple(
        user.completion(each, grant)
        for each, grant in granted_in_turn(achievement, state.sums(achievement, trigger.metric), start, span)
        if each.place not in state.completions
    )
    return Backfilled(completed(state, changes), changes, judged)


def _summed(facts: Iterable[Fact]) -> Accumulator:
    """As though each had been added when it came."""
    sums = Accumulator()
    for fact in facts:
        sums = sums.add(fact.value_micros, late=fact.late)
    return sums


def _position(fact: Fact) -> int:
    return fact.position


# By a streak


def _by_streak(user: _User, trigger: StreakTrigger) -> Backfilled:
    achievement, state = user.achievement, user.state
    source = state.sources.get(SourceKey(SourceKind.STREAK, trigger.streak))
    if source is None or source.highest < trigger.length or achievement.key in state.withheld:
        return Backfilled(state)
    if user.evidence.reaches_version < source.version:
        raise WantedReaches
    state = _with_reaches(user, trigger.streak)
    facts, judged = _facts_of(user, [reach.entry_id for _, reach in user.evidence.reaches], [achievement])
    changes = []
    for each in achievement.times(source.highest):
        if each.place in state.completions:
            continue
        reach = _owner(each, state, facts)
        if reach is None:
            break
        changes.append(user.completion(each, Grant(reach, _cause(user, reach, facts))))
    return Backfilled(completed(state, changes), tuple(changes), judged)


def _with_reaches(user: _User, streak: str) -> UserState:
    """With what the streak service says, where nothing newer is known."""
    version, reaches = user.evidence.reaches_version, dict(user.state.reaches)
    for length, reach in user.evidence.reaches:
        known = reaches.get((streak, length))
        if user.catalogue.follows(streak, length) and (known is None or known.version < version):
            reaches[streak, length] = FirstReach(version, reach)
    return replace(user.state, reaches=reaches)


def _owner(achievement: Achievement, state: UserState, facts: Mapping[UUID, Fact | None]) -> Reach | None:
    assert isinstance(achievement.trigger, StreakTrigger)
    streak, target = achievement.trigger.streak, achievement.trigger.target
    lengths = [target]
    if achievement.is_selective:
        lengths = sorted(length for key, length in state.reaches if key == streak and length >= target)
    for length in lengths:
        known = state.reaches.get((streak, length))
        if known is None or known.reach is None:
            continue
        fact = facts.get(known.reach.entry_id)
        # The streak service may have told of an event before it came here.
        is_there = not achievement.is_selective if fact is None else fact.live and fact.can_earn(achievement)
        if is_there:
            return known.reach
    return None


def _facts_of(
    user: _User, entry_ids: Iterable[UUID], definitions: Iterable[Achievement]
) -> tuple[Mapping[UUID, Fact | None], tuple[Fact, ...]]:
    """These facts as these definitions have them, and those of them that are others than before."""
    missing = frozenset(entry_ids) - user.past.facts.keys()
    if missing:
        raise WantedFacts(missing)
    known = {entry_id: user.past.facts[entry_id] for entry_id in entry_ids}
    definitions = [each for each in definitions if each.user_filters]
    if not definitions:
        return known, ()
    there = [fact for fact in known.values() if fact is not None]
    said = user.attributes(there)
    judged = {fact.entry_id: _judged(fact, definitions, said[fact.entry_id]) for fact in there}
    return {**known, **judged}, tuple(
        judged[fact.entry_id] for fact in there if judged[fact.entry_id] != fact
    )


def _cause(user: _User, reach: Reach, facts: Mapping[UUID, Fact | None]) -> Cause:
    fact = facts.get(reach.entry_id)
    return Cause(user.state.entry_count if fact is None else fact.position, reach.key)


# Anniversaries


def _by_anniversary(user: _User, now: datetime) -> Backfilled:
    """Composites above are followed as they are when time goes on."""
    user_id = user.state.user_id
    if user_id not in user.evidence.users:
        raise WantedUser
    state = replace(user.state, awaited=user.state.awaited - {user.achievement.key})
    snapshot = user.evidence.users[user_id]
    state = waiting(user.catalogue, state) if snapshot is None else heard(user.catalogue, state, snapshot)
    state, came = advanced(
        user.catalogue, state, now, user.past, since=user.active_since, only=user.achievement
    )
    return Backfilled(state, tuple(change for each in came for change in each.changes), came=came)


# Composites


def _by_composite(user: _User) -> Backfilled:
    achievement, state = user.achievement, user.state
    if achievement.key in state.completions or achievement.key in state.withheld:
        return Backfilled(state)
    past, judged = _past_of(user, state, [achievement])
    grant = granted_composite(achievement, state, past)
    if grant is None:
        return Backfilled(state, (), judged)
    change = user.completion(achievement, grant)
    return Backfilled(completed(state, [change]), (change,), judged)


def _with_composites(user: _User, found: Backfilled) -> Backfilled:
    """The composites above what was found are found, too, but for those that have a backfill of their own to come."""
    if not found.changes:
        return found
    left = user.state.awaited
    above = [
        composite
        for composite in user.catalogue.hanging_on(
            {change.completion.achievement for change in found.changes}
        )
        if composite.status is Status.ACTIVE and composite.key not in left
    ]
    judged_before = {fact.entry_id: fact for fact in found.judged}
    facts = {**user.past.facts, **judged_before}
    known = replace(user, state=found.state, past=replace(user.past, facts=facts))
    past, judged = _past_of(known, found.state, above)
    before = replace(user.state, awaited=frozenset())
    nobody = Fact(UUID(int=0), 0, user.active_since, user.active_since.date())
    after, changes = composites_followed(
        user.catalogue,
        before,
        replace(found.state, awaited=frozenset()),
        nobody,
        past,
        cause=user.cause,
        undoes=False,
        left=left,
    )
    found_above = tuple(dated(change, user.active_since) for change in changes)
    newest = judged_before | {fact.entry_id: fact for fact in judged}
    return replace(
        found,
        state=completed(after, found_above),
        changes=(*found.changes, *found_above),
        judged=tuple(newest.values()),
    )


def _past_of(
    user: _User, state: UserState, composites: Iterable[Achievement]
) -> tuple[Past, tuple[Fact, ...]]:
    """The facts that own prerequisites, where only some users earn a composite."""
    selective = [composite for composite in composites if composite.user_filters]
    if not selective:
        return user.past, ()
    owners = {completion.entry_id for completion in state.completions.values()}
    facts, judged = _facts_of(user, owners, selective)
    return replace(user.past, facts={**user.past.facts, **facts}), judged
