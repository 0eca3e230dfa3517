"""One entry applied (RULES 5.2, 5.4).

Undoing has two owners, so that nothing is undone twice. A void takes back what the entry itself is: its contribution,
and that it may have been the user's first (`Edit.taken_out`). What others derived from it (streaks, achievements)
comes back in the correction that follows (`amendments`), whether or not the entry was ever applied here.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.amendments import Amendment, completed
from services.points.domain.counting import Timeline, is_whole, placed
from services.points.domain.days import Days, reach
from services.points.domain.definitions import GIFT, Catalogue, MetricCause, TriggerKey
from services.points.domain.edits import Terms
from services.points.domain.facts import Command, Due, Fact, Instant
from services.points.domain.fold import mark_of, step
from services.points.domain.holds import Holding, decide, held
from services.points.domain.ledger import Change, Draft, write
from services.points.domain.limits import InsufficientPoints, NoRoom, NotGiven, Refusal
from services.points.domain.multipliers import boosts_at
from services.points.domain.owners import Owners
from services.points.domain.state import UserState
from services.points.domain.streaks import arrived
from services.points.domain.timing import sooner
from shared.calendar import local_date
from shared.entries import Entry, EntryKind, PointsTransfer
from shared.filters import matches


class Applied(Struct, frozen=True):
    """An entry's effect."""

    state: UserState
    changes: tuple[Change, ...]
    """By key of the system."""
    fact: Fact
    written: tuple[Change, ...] = ()
    """Those of `changes` whose rows are in the ledger already."""


class CountedFact(Struct, frozen=True):
    """A fact among others in the order of the events' times."""

    fact: Fact
    granted: dict[TriggerKey, int]
    """How often each trigger has awarded for it."""


def apply(
    catalogue: Catalogue,
    state: UserState,
    command: Command,
    amended: Amendment | None = None,
    owners: Owners | None = None,
) -> Applied | Refusal:
    """What the entry does to the user's points; or why it is refused, which changes nothing (RULES 5.4).

    `amended`: what it changed of earlier facts is in the state already. `owners`: where the facts of the entries that
    it names are known. Raises `HistoryNeeded`.
    """
    entry = command.entry
    owners = owners or Owners(entry)
    if amended is None:
        completions, given, _ = completed(catalogue, state, command, owners)
    else:
        completions, given = dict(amended.completions), list(amended.given)
    streaks_after = dict(amended.streaks) if amended else {}
    holding = decide(catalogue, state.holds, state.points.accounts, entry)
    if not isinstance(holding, Holding):
        return holding
    for gift in holding.gifts:
        system = catalogue.systems.get(gift.points_system)
        if system is None or not system.active:
            return NotGiven(gift.points_system, archived=system is not None)
    if command.streak_changes and entry.kind is not EntryKind.CORRECTION:
        streaks_after, dues = arrived(catalogue, state, command.streak_changes, owners.gives)
        given = [*dues, *given]
    own = Instant(entry.entry_id, entry.occur_time, local_date(entry.occur_time, entry.time_zone))
    given = [owners.boosted(catalogue, due) for due in given]
    giver = own if command.half_of is None else replace(own, entry_id=command.half_of)
    given.extend(Due(TriggerKey(gift.points_system, GIFT), giver, 1, gift.amount) for gift in holding.gifts)
    fact = Fact(
        position=state.entry_count + 1,
        instant=own,
        terms=catalogue.version,
        follows=entry.kind.follows,
        contribution_micros=entry.metric.contribution_micros if entry.metric else 0,
        triggers=tuple(_matching(catalogue, entry)),
        boosts=boosts_at(catalogue, entry.user.user_id, entry.user.attributes, own),
        given=tuple(given),
    )
    stepped = step(state.points, fact, catalogue, refusable=not fact.follows, held=held(holding.holds))
    if isinstance(stepped, InsufficientPoints):
        return stepped
    state = replace(
        state,
        entry_count=fact.position,
        first_position=_first(state, fact),
        streaks={**state.streaks, **streaks_after} if streaks_after else state.streaks,
        completions={**state.completions, **completions} if completions else state.completions,
        points=replace(stepped.points, accounts=state.points.accounts),
        holds=holding.holds,
    )
    if not stepped.grants:
        return Applied(state, (), fact)
    drafts = [Draft.of(fact.position, grant) for grant in stepped.grants]
    state, changes = write(catalogue, state, drafts, command.half_of or entry.entry_id)
    clocks = sooner(state.clocks, changes, entry.user.time_zone)
    if clocks:
        state = replace(state, clocks={**state.clocks, **clocks})
    return Applied(state, changes, fact)


def other_half(command: Command) -> Command | None:
    """What a transfer is for who gets the points (RULES 5.7); None for any other entry."""
    entry = command.entry
    transfer = entry.content
    if not isinstance(transfer, PointsTransfer):
        return None
    given = replace(transfer, gift=replace(transfer.gift, amount=-transfer.gift.amount))
    return Command(entry.half_of(entry.other_users[0], given), half_of=entry.entry_id)


def received(catalogue: Catalogue, state: UserState, half: Command) -> Applied | Refusal:
    """What a transfer does to who gets the points: all of them, or it is refused."""
    decided = apply(catalogue, state, half)
    if isinstance(decided, Applied):
        for change in decided.changes:
            for award in change.awards:
                if award.key.trigger == GIFT and award.clipped_amount:
                    maximum = catalogue.system(change.points_system).max_balance
                    return NoRoom(change.points_system, change.before.balance, award.base_amount, maximum)
    return decided


def late(catalogue: Catalogue, state: UserState, command: Command) -> frozenset[TriggerKey]:
    """The triggers that count the entry though they have counted newer ones: it takes those to place it."""
    metric = command.entry.metric
    if metric is None or metric.metric not in catalogue.by_metric:
        return frozenset()
    newer = set()
    for trigger in catalogue.by_metric[metric.metric]:
        timeline = state.points.timelines.get(trigger.key)
        cause = trigger.trigger.cause
        if timeline is None or timeline.known_since is None or not isinstance(cause, MetricCause):
            continue
        if command.entry.occur_time < timeline.known_since and not is_whole(
            timeline, metric.contribution_micros, cause.every_micros
        ):
            newer.add(trigger.key)
    return frozenset(newer.intersection(_matching(catalogue, command.entry))) if newer else frozenset()


def days_asked(catalogue: Catalogue, state: UserState, command: Command) -> date | None:
    """From which local date on it has to be known what was given; None: nothing that it can touch asks for it."""
    if not catalogue.day_limited:
        return None
    systems = catalogue.day_limited.intersection(_touched(catalogue, state, command))
    if not systems:
        return None
    entry = command.entry
    dates = [local_date(entry.occur_time, entry.time_zone)]
    dates.extend(change.owner.local_date for change in command.achievement_changes)
    for streak in command.streak_changes:
        dates.extend(owner.local_date for owner in streak.owners)
    return min(dates) - max(reach(catalogue.systems[key]) for key in systems)


def with_days(state: UserState, days: Days) -> UserState:
    """The state that knows what was given on dates."""
    return replace(state, points=replace(state.points, days=days))


def since(state: UserState, keys: frozenset[TriggerKey], time: datetime) -> datetime | None:
    """From which instant on events are needed to place one of this time; None: from the first."""
    return None if any(state.points.timelines[key].irregular for key in keys) else time


def with_window(
    state: UserState,
    keys: frozenset[TriggerKey],
    window: Sequence[CountedFact],
    time: datetime | None,
    terms: Terms,
) -> UserState:
    """The state in which these triggers know all events since an instant one by one."""
    timelines = dict(state.points.timelines)
    for key in keys:
        timelines[key] = placed_among(timelines[key], key, window, time, terms)
    return replace(state, points=replace(state.points, timelines=timelines))


def placed_among(
    timeline: Timeline, key: TriggerKey, window: Sequence[CountedFact], time: datetime | None, terms: Terms
) -> Timeline:
    """The timeline of a trigger that knows all events since an instant one by one."""
    marks = []
    for fact in sorted(window, key=lambda each: each.fact.instant.order):
        trigger = terms(fact.fact.terms).trigger(key) if key in fact.fact.triggers else None
        if trigger is not None and isinstance(trigger.cause, MetricCause):
            mark = mark_of(fact.fact, key, trigger, trigger.cause, terms(fact.fact.terms))
            marks.append(replace(mark, granted=fact.granted.get(key, 0)))
    return placed(timeline, marks, time)


def _touched(catalogue: Catalogue, state: UserState, command: Command) -> Iterator[str]:
    """The systems of the triggers that may be due with the entry."""
    entry = command.entry
    if entry.metric is not None:
        yield from (each.key.points_system for each in catalogue.by_metric.get(entry.metric.metric, ()))
    for streak in command.streak_changes:
        yield from (each.key.points_system for each in catalogue.by_streak.get(streak.streak, ()))
    for change in command.achievement_changes:
        for cause in (change.achievement, None):
            yield from (each.key.points_system for each in catalogue.by_achievement.get(cause, ()))
    if state.first_position is None:
        yield from (each.key.points_system for each in catalogue.by_user_created)


def _matching(catalogue: Catalogue, entry: Entry) -> list[TriggerKey]:
    """The triggers that the entry matches, as far as facts keep them."""
    found = []
    if entry.metric is not None and entry.kind is not EntryKind.CORRECTION:
        for trigger in catalogue.by_metric.get(entry.metric.metric, ()):
            cause = trigger.trigger.cause
            if (
                isinstance(cause, MetricCause)
                and matches(cause.event_filters, entry.metric.attributes)
                and matches(trigger.trigger.user_filters, entry.user.attributes)
            ):
                found.append(trigger.key)
    if not entry.kind.follows:
        found.extend(
            trigger.key
            for trigger in catalogue.looking_at_users
            if matches(trigger.trigger.user_filters, entry.user.attributes)
        )
    return found


def _first(state: UserState, fact: Fact) -> int | None:
    if state.first_position is None and not fact.follows:
        return fact.position
    return state.first_position
