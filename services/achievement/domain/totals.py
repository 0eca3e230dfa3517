"""Achievements by a metric: what an event, or the correction that follows an undoing, comes to (RULES 2.2, 2.5,
4.1).

An event adds what it contributes to the sums. The newest event of the metric can only meet a condition itself:
its own sum tells. Of a late one the sums after it tell, and so the facts from its time on are looked at, but
only where a sum has come to a threshold.

Of a metric whose total is the value of one event, an event meets a condition with its own value, or not at all:
when it is undone, only what it owns passes on.

When an entry is undone, its contribution goes from the sums with it (`revert`); the correction that follows
looks at what depended on it. What was granted before the entry came, had nothing to do with it. What was
granted later is folded again without it: from its own grant on, where all that happened is that there is less;
else from the undone entry's arrival on.

Who can earn an achievement with user filters is kept with each event, as of then (RULES 4.2): also when a
completion passes on, only such an event can own it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from services.achievement.domain.completions import completed, granted, passed_on
from services.achievement.domain.definitions import Achievement, Catalogue, SourceKey, SourceKind, Status
from services.achievement.domain.fold import Grant, base_of, refold, replay, search, told_until
from services.achievement.domain.past import Past, Span, Start, Wanted
from services.achievement.domain.state import (
    Accumulator,
    Cause,
    Change,
    Completion,
    Fact,
    Revision,
    Total,
    UserState,
    changed,
    threshold,
)
from shared.entries import Entry, MetricFact

_NOTHING: Final = Accumulator()


class Outcome(Struct, frozen=True):
    """What the metric part of an entry comes to."""

    state: UserState
    changes: tuple[Change, ...] = ()
    revised: tuple[Fact, ...] = ()
    kept: tuple[Revision, ...] = ()


class Found(NamedTuple):
    """The event with which a condition is met, if any, and what the sum's peak is known to be."""

    owner: Fact | None
    peak_micros: int


def contribution(entry: Entry, metric: MetricFact, past: Past) -> tuple[int, int]:
    """What the event contributes, and as of which version of the total: as it says, or as was said of it since."""
    if not metric.revisable:
        return metric.value_micros, 0
    newer = past.revisions.get(entry.entry_id)
    if newer is not None and newer.version > metric.total_version:
        return newer.contribution_micros, newer.version
    return metric.contribution_micros, metric.total_version


def is_late(state: UserState, metric: str, occur_time: datetime) -> bool:
    """Whether an event of the metric that is no older has arrived before."""
    total = state.totals.get(metric)
    return total is not None and total.newest is not None and occur_time <= total.newest


# Sums


def added(state: UserState, fact: Fact) -> UserState:
    """With one more event."""
    total = state.totals.get(fact.metric, Total())
    newest = total.newest if fact.late else fact.occur_time
    state = replace(
        state,
        totals={
            **state.totals,
            fact.metric: Total(total.sums.add(fact.value_micros, late=fact.late), newest),
        },
    )
    if not fact.counted:
        return state
    sums = {
        key: state.accumulators.get(key, Accumulator()).add(fact.value_micros, late=fact.late)
        for key in fact.counted
    }
    return replace(state, accumulators={**state.accumulators, **sums})


def without(state: UserState, fact: Fact) -> UserState:
    """Without an event."""
    return _revised(state, fact, 0)


def _revised(state: UserState, fact: Fact, value_micros: int) -> UserState:
    """With an event that contributes this from now on."""
    total = state.totals.get(fact.metric, Total())
    sums = {
        key: state.accumulators.get(key, Accumulator()).revised(fact.value_micros, value_micros)
        for key in fact.counted
    }
    return replace(
        state,
        totals={
            **state.totals,
            fact.metric: Total(total.sums.revised(fact.value_micros, value_micros), total.newest),
        },
        accumulators={**state.accumulators, **sums},
    )


def _with_peak(state: UserState, achievement: Achievement, metric: str, peak_micros: int) -> UserState:
    """With a peak that is known better."""
    if achievement.event_filters:
        known = replace(state.accumulators[achievement.key], peak_micros=peak_micros)
        return replace(state, accumulators={**state.accumulators, achievement.key: known})
    total = state.totals[metric]
    known = replace(total.sums, peak_micros=peak_micros)
    return replace(state, totals={**state.totals, metric: replace(total, sums=known)})


def revise(state: UserState, metric: MetricFact, past: Past) -> Outcome:
    """Take in what the entry says of other events: newer than what is known of them, and not of undone ones."""
    if not metric.revisions:
        return Outcome(state)
    revised, kept = [], []
    for revision in metric.revisions:
        known = past.facts.get(revision.entry_id)
        if known is None:
            held = past.revisions.get(revision.entry_id)
            if held is None or held.version < metric.total_version:
                kept.append(Revision(revision.entry_id, metric.total_version, revision.contribution_micros))
        elif known.live and known.version < metric.total_version:
            state = _revised(state, known, revision.contribution_micros)
            revised.append(
                replace(known, value_micros=revision.contribution_micros, version=metric.total_version)
            )
    return Outcome(state, (), tuple(revised), tuple(kept))


# An event


class _Arrival(Struct, frozen=True):
    """An event with which an achievement that the user does not hold may be earned: the sum's peak is high enough."""

    achievement: Achievement
    before: Accumulator
    after: Accumulator
    fact: Fact
    revised: tuple[Fact, ...]
    past: Past


def arrived(
    catalogue: Catalogue, before: UserState, entry: Entry, metric: MetricFact, fact: Fact, past: Past
) -> Outcome:
    """The event is added, and earns what is reached with it, or with a later one thanks to it. Raises `Wanted`."""
    outcome = revise(added(before, fact), metric, past)
    state, changes = outcome.state, []
    total = state.totals[metric.metric].sums
    for achievement in catalogue.following((SourceKey(SourceKind.METRIC, metric.metric),)):
        sums = state.accumulators.get(achievement.key, _NOTHING) if achievement.event_filters else total
        if sums.peak_micros < achievement.target or achievement.status is not Status.ACTIVE:
            continue
        if not achievement.repeatable and achievement.key in state.completions:
            continue
        was = before.sums(achievement, metric.metric)
        if achievement.key in before.withheld:
            continue
        if achievement.key in before.awaited and _is_left(achievement, was, before, metric.metric):
            continue
        for each in achievement.times(sums.peak_micros, after=state.count(achievement)):
            if each.place in state.completions:
                continue
            found = _met(_Arrival(each, was, sums, fact, outcome.revised, past))
            if found.owner is not None:
                grant = Grant(found.owner.reach, fact.cause)
                changes.append(granted(entry, each, each.trigger.target, grant))
                continue
            if found.peak_micros < sums.peak_micros:
                state = _with_peak(state, achievement, metric.metric, found.peak_micros)
            break  # nor is there more than that
    return replace(outcome, state=completed(state, changes), changes=tuple(changes))


def _is_left(achievement: Achievement, was: Accumulator, before: UserState, metric: str) -> bool:
    """Whether it is for the backfill to say when it was met: it was before this event; or nobody knows yet, since
    the sum is that of the events since the achievement is there.
    """
    if achievement.event_filters:
        total = before.totals.get(metric)
        return total is not None and total.newest is not None
    return was.peak_micros >= achievement.trigger.target


def _met(arrival: _Arrival) -> Found:
    achievement, fact, sums = arrival.achievement, arrival.fact, arrival.after
    if fact.late or arrival.revised:
        counts = fact.counts_for(achievement) or any(each.counts_for(achievement) for each in arrival.revised)
        return _met_from_its_time_on(arrival) if counts else Found(None, sums.peak_micros)
    if not fact.counts_for(achievement) or not fact.can_earn(achievement):
        return Found(None, sums.peak_micros)
    if sums.sum_micros >= achievement.trigger.target:
        return Found(fact, sums.peak_micros)
    # Once it may have been high enough, when nobody who could earn it was there: now somebody is.
    return _met_in_all(arrival) if achievement.is_selective else Found(None, sums.peak_micros)


def _met_from_its_time_on(arrival: _Arrival) -> Found:
    """The sums before a late event are what they were, and with them nothing was met."""
    achievement, before, after = arrival.achievement, arrival.before, arrival.after
    first = min([arrival.fact.key, *(each.key for each in arrival.revised)])
    span = _span(arrival, Start(arrival.fact.metric, arrival.fact.position, first))
    found = search(achievement, base_of(achievement, after.sum_micros, span), span.facts)
    if found.owner is None and not span.complete:
        raise Wanted(Start(arrival.fact.metric, arrival.fact.position, first))
    if found.owner is not None or not after.negative_count:
        return Found(found.owner, after.peak_micros)
    if (
        achievement.is_selective
        and before.peak_micros >= achievement.trigger.target
        and _can_earn(achievement, span.facts)
    ):
        return _met_in_all(arrival)
    return Found(None, min(after.peak_micros, max(before.peak_micros, found.highest)))


def _met_in_all(arrival: _Arrival) -> Found:
    """Only all sums tell how high they were where negative contributions came between."""
    achievement, start = arrival.achievement, Start(arrival.fact.metric, arrival.fact.position, None)
    span = _span(arrival, start)
    found = search(achievement, base_of(achievement, arrival.after.sum_micros, span), span.facts)
    if found.owner is None and not span.complete:
        raise Wanted(start)
    return Found(found.owner, arrival.after.peak_micros if found.owner else found.highest)


def _can_earn(achievement: Achievement, facts: Iterable[Fact]) -> bool:
    return any(fact.counts_for(achievement) and fact.can_earn(achievement) for fact in facts)


def _span(arrival: _Arrival, start: Start) -> Span:
    """The span as it is with the arriving event, which is not stored yet."""
    span = _up_to_date(arrival.past, start, arrival.revised)
    if span is None:
        raise Wanted(start)
    if not span.complete and (not span.facts or span.facts[-1].key < arrival.fact.key):
        return replace(span, rest=_more(span.rest, arrival.fact, arrival.fact.value_micros))
    return replace(span, facts=tuple(sorted([*span.facts, arrival.fact], key=lambda fact: fact.key)))


def _up_to_date(past: Past, start: Start, revised: Iterable[Fact]) -> Span | None:
    """The span with what was revised just now; also what contributes something only since then."""
    span = past.spans.get(start)
    if span is None:
        return None
    newest = {fact.entry_id: fact for fact in revised}
    facts = tuple(newest.pop(fact.entry_id, fact) for fact in span.facts)
    if start.changing:
        more = [fact for fact in newest.values() if span.complete or fact.key < facts[-1].key]
        facts = tuple(sorted([*facts, *more], key=lambda fact: fact.key))
        newest = {fact.entry_id: fact for fact in newest.values() if fact not in more}
    rest = span.rest
    for left in newest.values():
        was = past.facts[left.entry_id]
        assert was is not None  # only what is known is revised
        rest = _more(rest, left, left.value_micros - was.value_micros)
    return Span(facts, span.complete, rest)


def _more(rest: Mapping[str, int], fact: Fact, value_micros: int) -> Mapping[str, int]:
    return {**rest, **{key: rest.get(key, 0) + value_micros for key in ("", *fact.counted)}}


# A correction


class _Undone(Struct, frozen=True):
    """An event that was undone, as the correction tells of it."""

    entry: Entry
    metric: MetricFact
    fact: Fact
    revised: tuple[Fact, ...]
    past: Past
    is_old: bool
    """It came before facts said of which metric they are. Its contribution is in the sums until now, as are those of
    others of then, of which no more is known.
    """
    is_next: bool
    """Nothing came between the undoing and this. What comes between contributes by what the ledger says, in which the
    undone event may still be, or may have gone; only now all fits again.
    """

    @property
    def only_less(self) -> bool:
        """All that it did is that there is less: nothing can be met now that was not before."""
        return not self.metric.revisable and self.fact.value_micros >= 0

    @property
    def since(self) -> Cause:
        """The first place in both orders at which something is different now."""
        touched = (self.fact, *self.revised)
        return Cause(min(fact.position for fact in touched), min(fact.key for fact in touched))

    def decides_alone(self, achievement: Achievement) -> bool:
        """Whether an event reaches the threshold with its own value or not at all: then nothing hangs on this one but
        what it owns.
        """
        return (
            self.metric.one_value
            and self.is_next
            and not achievement.event_filters
            and not achievement.is_selective
        )

    def bears_on_sum(self, achievement: Achievement) -> bool:
        """Whether what counts for it is, or was, different."""
        touched = (self.fact, *self.revised)
        return bool(self.metric.arrivals) or any(each.counts_for(achievement) for each in touched)

    def bears_on(self, live: Completion, target: int, sum_micros: int) -> bool:
        """Whether a completion hangs on it: not if granted before it arrived. Where it is not told what events
        contributed as they came, what is revised may have been there; but contributions hang on events before them in
        time, and so do completions.
        """
        if self.metric.revisable and not self.metric.arrivals:
            return self.since.key <= live.reach.key
        if self.is_old and self.fact.entry_id != live.entry_id and sum_micros >= target:
            return False
        return self.fact.position <= live.cause.position


def corrected(
    catalogue: Catalogue, state: UserState, entry: Entry, metric: MetricFact, past: Past
) -> Outcome:
    """What the other events alone give, where one was undone. Raises `Wanted`."""
    outcome = revise(state, metric, past)
    fact = past.facts.get(entry.corrected_entry_id) if entry.corrected_entry_id else None
    if fact is None:
        return outcome  # it never came here
    is_old = not fact.metric
    if is_old:
        if metric.revisable:
            return outcome
        fact = replace(fact, metric=metric.metric, occur_time=entry.occur_time)
        outcome = replace(outcome, state=without(outcome.state, fact))
    is_next = fact.undone_count == state.entry_count - 1
    undone = _Undone(entry, metric, fact, outcome.revised, past, is_old, is_next)
    for achievement in catalogue.following((SourceKey(SourceKind.METRIC, metric.metric),)):
        if undone.bears_on_sum(achievement):
            held = outcome.state.last_number(achievement)
            for each in achievement.times():
                found, changes = _without(each, outcome.state, undone)
                outcome = replace(outcome, state=found, changes=(*outcome.changes, *changes))
                if each.number >= held and each.place not in found.completions:
                    break  # nor is there more than that
    return outcome


def _without(
    achievement: Achievement, state: UserState, undone: _Undone
) -> tuple[UserState, tuple[Change, ...]]:
    live, sums = state.completions.get(achievement.place), state.sums(achievement, undone.metric.metric)
    target = threshold(achievement, live)
    if undone.decides_alone(achievement) and (live is None or live.entry_id != undone.fact.entry_id):
        return state, ()
    if live is None:
        # The peak does not tell: it is of all that has arrived, and some of that came too late to prevent anything.
        if undone.only_less or achievement.status is not Status.ACTIVE:
            return state, ()
        if achievement.key in state.awaited or achievement.key in state.withheld:
            return state, ()
    elif not undone.bears_on(live, target, sums.sum_micros):
        return state, ()
    grant = None
    if not (undone.decides_alone(achievement) and undone.metric.peak_micros < target):
        grant = _granted_without(achievement, live, target, sums, undone)
    entry = undone.entry
    changes = passed_on(entry.user.user_id, str(entry.entry_id), achievement, live, target, grant)
    completions = changed(state.completions, changes)
    if not changes and live is not None and grant is not None:
        completions = {**completions, achievement.place: replace(live, cause=grant.cause)}
    return replace(state, completions=completions), changes


def _granted_without(
    achievement: Achievement, live: Completion | None, target: int, sums: Accumulator, undone: _Undone
) -> Grant | None:
    if undone.metric.arrivals:
        return _granted_as_they_came(achievement, target, sums, undone)
    since = live.cause if live is not None and undone.only_less else undone.since
    start = _start_of(achievement, sums, undone, since)
    if undone.metric.revisable and not achievement.is_selective:
        # What contributes nothing changes no sum, and where anyone can earn it, it is not earned with that.
        start = start._replace(changing=True)
    span = _up_to_date(undone.past, start, undone.revised)
    return refold(achievement, target, sums.sum_micros, start, span, revisable=undone.metric.revisable)


def _granted_as_they_came(
    achievement: Achievement, target: int, sums: Accumulator, undone: _Undone
) -> Grant | None:
    """By what events contributed as they came, as far as that is told; from there on by what they do today."""
    arrivals, total = undone.metric.arrivals, sums.sum_micros
    start = _start_of(achievement, sums, undone, undone.fact.cause)
    span, after = _up_to_date(undone.past, start, undone.revised), -1
    if span is not None:
        grant = replay(achievement, target, total, start, span, arrivals)
        if grant is not None:
            return grant
        after = max(undone.fact.position, told_until(start, span, arrivals))
    return refold(achievement, target, total, start, span, revisable=True, after=after)


def _start_of(achievement: Achievement, sums: Accumulator, undone: _Undone, since: Cause) -> Start:
    """From where on facts are looked at: all, where the sum may once have been high enough before it."""
    in_all = achievement.is_selective and sums.negative_count > 0
    return Start(undone.metric.metric, since.position, None if in_all else since.key)
