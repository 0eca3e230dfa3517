"""Achievements by a streak: who first reached a length, as the streak service tells it (RULES 2.5, 4.1).

Kept is with which event each length that matters was first reached, as of the newest version of the streak that
said so: changes may arrive in any order. An achievement belongs to that event. A change takes nothing away and
moves nothing; a correction does, where the event is gone or is no longer the first. By a metric whose contributions
change, a length can become less than it was: what was granted for it stays, and goes only with what it came with.

With user filters or a window, the event has to be one whose user could earn the achievement, as of then. Where it
is not, the first of a greater length that is, owns it.
"""

from collections.abc import Iterator, Mapping
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.achievement.domain.completions import completed, granted, passed_on
from services.achievement.domain.definitions import Achievement, Catalogue, SourceKey, SourceKind, Status
from services.achievement.domain.fold import Grant
from services.achievement.domain.past import Past, WantedFacts
from services.achievement.domain.state import (
    Change,
    ChangeKind,
    Command,
    Completion,
    Fact,
    FirstGrant,
    FirstReach,
    Reach,
    Source,
    StreakChange,
    UserState,
    threshold,
)
from shared.entries import EntryKind

_NOTHING = Source(0, 0, 0)


class _Regranted(Struct, frozen=True):
    """To which event a completion belongs by all arrivals without an event that is undone; None: to none."""

    reach: Reach | None


class _News(Struct, frozen=True):
    """An entry, and where the user stood before it."""

    command: Command
    fact: Fact
    before: UserState
    past: Past

    @property
    def corrects(self) -> bool:
        """Something was undone."""
        return self.command.entry.kind is EntryKind.CORRECTION


def streaks_changed(
    catalogue: Catalogue, before: UserState, state: UserState, command: Command, fact: Fact, past: Past
) -> tuple[UserState, tuple[Change, ...]]:
    """What the entry tells of streaks, and what comes of it. `before`: the sources before the entry.

    Raises `WantedFacts`.
    """
    news = _News(command, fact, before, past)
    for change in command.streak_changes:
        state = _told(catalogue, state, news, change)
    if news.corrects:
        state = _without(state, command.entry.corrected_entry_id)
    found: list[Change] = []
    wanted: set[UUID] = set()
    for achievement in _touched(catalogue, state, news):
        live = state.completions.get(achievement.place)
        if live is None:
            changes = _earned(achievement, state, news)
        elif news.corrects:
            changes = _corrected(achievement, state, news)
        else:
            continue
        if news.corrects:
            changes = tuple(_as_it_came(achievement, change, news) for change in changes)
            came = {one.completion.entry_id for one in changes if one.kind is ChangeKind.COMPLETED}
            came |= {cause for owner in came if (cause := _cause_now(achievement, owner, news))}
            other = _other_cause(achievement, live, news) if live is not None and not changes else None
            if live is not None and other is not None:
                came.add(other)
                state = _with_cause(state, live, past.facts.get(other))
            wanted |= came - past.facts.keys() - {fact.entry_id}
        state = completed(state, changes)
        found += changes
    if wanted:
        raise WantedFacts(frozenset(wanted))
    return state, tuple(found)


def _as_it_came(achievement: Achievement, change: Change, news: _News) -> Change:
    """What a correction grants was granted when the event arrived that would have brought it, which is that to which it
    belongs where nothing came late: composites and points follow that order.
    """
    owner_id, facts = change.completion.entry_id, news.past.facts
    cause_id = _cause_now(achievement, owner_id, news)
    cause = (facts.get(cause_id) if cause_id else None) or facts.get(owner_id)
    if change.kind is not ChangeKind.COMPLETED or cause is None:
        return change
    return replace(change, completion=replace(change.completion, cause=cause.cause))


def _cause_now(achievement: Achievement, owner_id: UUID, news: _News) -> UUID | None:
    """With whose arrival a completion would have come to this event without the undone one, where that is told."""
    changes = _changes_of(achievement, news)
    return next((_cause(achievement, owner_id, change.granted_after) for change in changes), None)


def _other_cause(achievement: Achievement, live: Completion, news: _News) -> UUID | None:
    """With whose arrival a completion that stays would have come, where that is another one than it did."""
    for change in _changes_of(achievement, news):
        was = _cause(achievement, live.entry_id, change.granted_before)
        now = _cause(achievement, live.entry_id, change.granted_after)
        if was is not None and now is not None and was != now:
            return now
    return None


def _cause(achievement: Achievement, owner_id: UUID, granted: Mapping[int, FirstGrant]) -> UUID | None:
    """With whose arrival an event came to be the first of the length, or of a greater one where not everyone can be."""
    target = achievement.trigger.target
    for length, first in sorted(granted.items()):
        fits = length >= target if achievement.is_selective else length == target
        if fits and first.reach.entry_id == owner_id:
            return first.cause_id
    return None


def _with_cause(state: UserState, live: Completion, cause: Fact | None) -> UserState:
    if cause is None:
        return state
    return replace(state, completions={**state.completions, live.place: replace(live, cause=cause.cause)})


def _told(catalogue: Catalogue, state: UserState, news: _News, change: StreakChange) -> UserState:
    """The first reaches, where they are newer than what is known."""
    reaches = dict(state.reaches)
    for length, reach in change.first_reaches:
        known = reaches.get((change.streak, length))
        if catalogue.follows(change.streak, length) and (known is None or known.version < change.version):
            reaches[change.streak, length] = FirstReach(change.version, reach)
    source = SourceKey(SourceKind.STREAK, change.streak)
    was = news.before.sources.get(source, _NOTHING)
    if was.version < change.version:
        for achievement in catalogue.following((source,)):
            for each in achievement.times(change.longest, after=was.highest // achievement.trigger.target):
                # It is reached, and another change that comes later says with which event.
                if was.highest < each.trigger.target <= change.longest:
                    reaches.setdefault((change.streak, each.trigger.target), FirstReach(0, None))
    return replace(state, reaches=reaches) if reaches != state.reaches else state


def _without(state: UserState, undone_id: UUID | None) -> UserState:
    """Nothing is reached with an event that is undone. Where the correction says nothing else of a length, the streak
    named another one before, and that is still to come.
    """
    reaches = {
        key: FirstReach(known.version, None) if known.reach and known.reach.entry_id == undone_id else known
        for key, known in state.reaches.items()
    }
    return replace(state, reaches=reaches) if reaches != state.reaches else state


def _touched(catalogue: Catalogue, state: UserState, news: _News) -> Iterator[Achievement]:
    """What the streaks can earn, each time that it can be earned; at a correction all that the undone one can have
    owned.
    """
    if news.corrects:
        for achievement in catalogue.by_streak:
            told = (length for change in _changes_of(achievement, news) for length in change.granted_after)
            yield from achievement.times(max(_highest(achievement, state, news.before), *told, 0))
        return
    for achievement in _named(catalogue, news):
        yield from achievement.times(_highest(achievement, state, state), after=state.count(achievement))


def _named(catalogue: Catalogue, news: _News) -> Iterator[Achievement]:
    """What the streaks can earn; and what the event itself can own, if it was told before as the first."""
    streaks = [SourceKey(SourceKind.STREAK, change.streak) for change in news.command.streak_changes]
    yield from catalogue.following(streaks)
    for achievement in catalogue.judged:
        if achievement.key in news.fact.grounds and achievement.trigger.source not in streaks:
            yield achievement


def _highest(achievement: Achievement, state: UserState, before: UserState) -> int:
    """The greatest length that may be earned or held: where a definition became harder, more may be held."""
    assert achievement.trigger.source is not None
    known = (held.sources.get(achievement.trigger.source, _NOTHING).highest for held in (state, before))
    return max(*known, state.count(achievement) * achievement.trigger.target)


def _earned(achievement: Achievement, state: UserState, news: _News) -> tuple[Change, ...]:
    assert achievement.trigger.source is not None
    source = state.sources.get(achievement.trigger.source, _NOTHING)
    if achievement.status is not Status.ACTIVE or achievement.key in state.withheld:
        return ()
    regranted = _regranted(achievement, None, news) if news.corrects else None
    again = regranted.reach if regranted is not None else None
    if source.highest < achievement.trigger.target:
        return _granted(achievement, again, news) if achievement.key not in state.awaited else ()
    known = state.reaches.get((achievement.trigger.source.key, achievement.trigger.target))
    reach = _next(achievement, source, news) if known is None else _owner(achievement, state, news)
    if known is not None:
        reach = again or reach
        if not known.version:
            return ()
    return _granted(achievement, reach, news)


def _granted(achievement: Achievement, reach: Reach | None, news: _News) -> tuple[Change, ...]:
    if reach is None:
        return ()
    grant = Grant(reach, news.fact.cause)
    return (granted(news.command.entry, achievement, achievement.trigger.target, grant),)


def _next(achievement: Achievement, source: Source, news: _News) -> Reach | None:
    """What was reached before the achievement was there is earned with the next event that the streak tells of."""
    assert achievement.trigger.source is not None
    if achievement.key in news.before.awaited:
        return None  # the backfill finds with which event it was
    was = news.before.sources.get(achievement.trigger.source, _NOTHING)
    is_next = source.version > was.version and was.highest >= achievement.trigger.target
    is_event = news.command.entry.kind is EntryKind.METRIC_EVENT
    return news.fact.reach if is_next and is_event and news.fact.can_earn(achievement) else None


def _owner(achievement: Achievement, state: UserState, news: _News) -> Reach | None:
    """The event with which it was reached, by one who could earn it."""
    assert achievement.trigger.source is not None
    streak = achievement.trigger.source.key
    if not achievement.is_selective:
        known = state.reaches.get((streak, achievement.trigger.target))
        return known.reach if known else None
    for (key, length), known in sorted(state.reaches.items(), key=lambda item: item[0]):
        if key == streak and length >= achievement.trigger.target and known.reach is not None:
            fact = news.fact if known.reach.entry_id == news.fact.entry_id else None
            fact = fact or news.past.facts.get(known.reach.entry_id)
            if fact is not None and fact.live and fact.can_earn(achievement):
                return known.reach
    return None


def _corrected(achievement: Achievement, state: UserState, news: _News) -> tuple[Change, ...]:
    """It passes on where its event is gone, or is not the first any more; it goes where nothing reaches it."""
    assert achievement.trigger.source is not None
    live, entry = state.completions[achievement.place], news.command.entry
    target = threshold(achievement, live)
    source = state.sources.get(achievement.trigger.source)
    reach = _owner(achievement, state, news)
    regranted = _regranted(achievement, live.entry_id, news) if target == achievement.trigger.target else None
    if regranted is not None and regranted.reach is not None:
        grant = Grant(regranted.reach, news.fact.cause)
    elif source is not None and source.highest < target:
        if regranted is None and not _bears_on(achievement, live, news):
            return ()
        grant = None
    elif reach is not None and reach.entry_id == live.entry_id:
        return ()
    elif entry.corrected_entry_id == live.entry_id or (
        _is_news(achievement, state, news) and (reach is None or _moves(achievement, live.reach, reach, news))
    ):
        grant = Grant(reach, news.fact.cause) if reach is not None else None
    else:
        return ()
    return passed_on(entry.user.user_id, str(entry.entry_id), achievement, live, target, grant)


def _regranted(achievement: Achievement, entry_id: UUID | None, news: _News) -> _Regranted | None:
    """What all arrivals say without the undone event, where with that a completion belongs to this one, or to none.
    None where arrivals were not told, or say something else of it.
    """
    target = achievement.trigger.target
    for change in _changes_of(achievement, news):
        if (change.granted_before or change.granted_after) and not achievement.is_selective:
            before = change.granted_before.get(target)
            if entry_id == (before.reach.entry_id if before else None):
                after = change.granted_after.get(target)
                return _Regranted(after.reach if after else None)
    return None


def _bears_on(achievement: Achievement, live: Completion, news: _News) -> bool:
    """Whether a completion may have come with the undone event: its length is reached no more since that is gone, and
    it was not granted before that arrived.
    """
    undone_id = news.command.entry.corrected_entry_id
    undone = news.past.facts.get(undone_id) if undone_id else None
    if live.entry_id == undone_id:
        return True
    told = (dict(change.first_reaches) for change in _changes_of(achievement, news))
    if all(reaches.get(live.target, live.reach) is not None for reaches in told):
        return False
    return undone is None or undone.position <= live.cause.position


def _changes_of(achievement: Achievement, news: _News) -> list[StreakChange]:
    source = achievement.trigger.source
    return [change for change in news.command.streak_changes if source and change.streak == source.key]


def _is_news(achievement: Achievement, state: UserState, news: _News) -> bool:
    """The correction says something else of who reached it."""
    assert achievement.trigger.source is not None
    return any(
        state.reaches[key] != news.before.reaches.get(key)
        for key in state.reaches
        if key[0] == achievement.trigger.source.key
        and (
            key[1] == achievement.trigger.target
            or (achievement.is_selective and key[1] > achievement.trigger.target)
        )
    )


def _moves(achievement: Achievement, owner: Reach, first: Reach, news: _News) -> bool:
    """What had been granted before an earlier event arrived keeps its date; else who is first owns it."""
    assert achievement.trigger.source is not None
    was = news.before.reaches.get((achievement.trigger.source.key, achievement.trigger.target))
    was_first = was is not None and was.reach is not None and was.reach.entry_id == owner.entry_id
    return was_first or first.key > owner.key
