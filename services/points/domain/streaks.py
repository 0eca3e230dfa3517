"""How often a streak trigger is due (RULES 2.5, 5.2).

It is due for every qualified period after which the streak's length is a multiple of L (or L itself, for a trigger
that fires once in a run); the award belongs to the event with which the period qualified. As with metrics, what was
granted stays on its date when a late event moves the lengths, and only where more is due than was granted is the
difference granted, for the latest periods that have none.

A correction says what the streak is without the entry that it corrects. So there an award for a period that is not
due any more is taken back, and one for a period that is due instead is given, as part of the fact of the event whose
arrival would have brought it: as though it had been given when that came. Where nothing came late, that is the event
that it belongs to.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import date
from functools import partial
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.counting import HistoryNeeded
from services.points.domain.definitions import Catalogue, ConfiguredTrigger, StreakCause, TriggerKey
from services.points.domain.facts import Arrival, Due, Instant, PeriodChange, StreakChange
from services.points.domain.state import Owed, Passing, StreakCount, UserState

Gives = Callable[[Instant], bool]
"""Whether a trigger gives to its user for what belongs to an entry."""

KEPT_PASSINGS: Final = 8
"""Of a trigger and a user: voids of one user that are under way together are few."""


class Granted(Struct, frozen=True):
    """What a trigger grants by the lengths after each arrival, and how far it has counted then."""

    owners: Mapping[date, Instant]
    """By period: the event that the award belongs to."""
    causes: Mapping[date, UUID | None]
    """By period: the event whose arrival brought it, where that is told."""
    count: StreakCount

    def brought(self, owed: Owed) -> UUID | None:
        """The event whose arrival brought the award for a period to the event that it belongs to."""
        is_owner = self.owners.get(owed.start_date) == owed.reach
        return self.causes.get(owed.start_date) if is_owner else None


Arrivals = tuple[Arrival, ...]
"""Oldest first."""


class Retold(Struct, frozen=True):
    """All arrivals of a stretch, with the event that is corrected and without it."""

    before: Arrivals
    after: Arrivals

    @property
    def periods(self) -> frozenset[date]:
        """Those that are told of."""
        arrivals = (*self.before, *self.after)
        return frozenset(period.start_date for each in arrivals for period in each.period_changes)


class Shift(Struct, frozen=True):
    """What a change of a streak means to one trigger."""

    configured: ConfiguredTrigger
    lost: tuple[PeriodChange, ...]
    """Periods for which it is not due any more."""
    gained: tuple[PeriodChange, ...]
    """Periods for which it is due now, in order."""
    kept: tuple[PeriodChange, ...]
    """Periods for which it is still due, perhaps with another event."""
    others: tuple[PeriodChange, ...]
    """Periods that have qualified and for which it is not due; it may have been granted for them nevertheless."""
    vanished: tuple[PeriodChange, ...]
    """Periods that have not qualified any more, and for which it was not due before."""
    version: int = 0
    """Of the streak, by the change."""
    retold: Retold | None = None
    """Of a correction, where what is granted takes more than the periods as they are now."""


class LivePeriod(Struct, frozen=True):
    """A period for which a streak trigger has awarded."""

    position: int
    due: Due
    cause_entry_id: UUID


class Settlement(Struct, frozen=True):
    """What a correction does to one trigger."""

    count: StreakCount
    taken: tuple[LivePeriod, ...]
    given: tuple[Owed, ...]
    causes: Mapping[date, UUID | None] = {}
    """By period that is given: the event whose arrival would have brought it. None or missing: nothing came late, or it
    is not told; then it is the one that it belongs to.
    """


def shifts(catalogue: Catalogue, changes: Iterable[StreakChange]) -> Iterator[Shift]:
    """What the changes mean to each trigger to which they mean something."""
    periods: dict[str, dict[date, PeriodChange]] = {}
    newest: dict[str, StreakChange] = {}
    for change in changes:
        # Of two changes of a streak the second tells all that there is to tell of arrivals, or nobody does.
        newest[change.streak] = change
        known = periods.setdefault(change.streak, {})
        for period in change.period_changes:
            known[period.start_date] = _after_one_another(known.get(period.start_date), period)
    for streak, those in periods.items():
        for trigger in catalogue.by_streak.get(streak, ()):
            cause = trigger.trigger.cause
            if isinstance(cause, StreakCause):
                shift = _shift(trigger, cause, [those[day] for day in sorted(those)])
                of = newest[streak]
                is_retold = of.arrivals_before or of.arrivals_after
                retold = Retold(of.arrivals_before, of.arrivals_after) if is_retold else None
                if retold or shift != Shift(trigger, (), (), (), (), ()):
                    yield replace(shift, version=of.version, retold=retold)


def as_they_came(trigger: ConfiguredTrigger, arrivals: Arrivals, gives: Gives) -> Granted:
    """What a trigger grants by all of these arrivals."""
    cause = trigger.trigger.cause
    assert isinstance(cause, StreakCause)
    owners: dict[date, Instant] = {}
    causes: dict[date, UUID | None] = {}
    count = StreakCount()
    for arrival in arrivals:
        count = _moved(_shift(trigger, cause, arrival.period_changes), count, frozenset(owners), gives)
        granted = _grantable(count)
        owners |= {owed.start_date: owed.reach for owed in granted}
        causes |= dict.fromkeys((owed.start_date for owed in granted), arrival.entry_id)
        count = _granted(count, granted)
    return Granted(owners, causes, count)


def arrived(
    catalogue: Catalogue,
    state: UserState,
    changes: Iterable[StreakChange],
    gives: Callable[[ConfiguredTrigger, Instant], bool],
) -> tuple[dict[TriggerKey, StreakCount], list[Due]]:
    """How far the triggers have counted after an entry that corrects nothing, and what is due with it.

    Raises `HistoryNeeded` where the awards so far decide for which period it is.
    """
    counts: dict[TriggerKey, StreakCount] = {}
    dues: list[Due] = []
    for shift in shifts(catalogue, changes):
        trigger = shift.configured
        before = state.streaks.get(trigger.key, StreakCount())
        if not shift.lost and not shift.gained and not (shift.kept and before.owed):
            continue
        rewarded: frozenset[date] = frozenset()
        if shift.lost:
            if state.rewarded_periods is None:
                raise HistoryNeeded
            rewarded = state.rewarded_periods.get(trigger.key, frozenset())
        after = _moved(shift, before, rewarded, partial(gives, trigger))
        granted = _grantable(after) if trigger.system.active else []
        dues.extend(due_for(trigger, one) for one in granted)
        counts[trigger.key] = _granted(after, granted)
    return counts, dues


def corrected(
    shift: Shift,
    before: StreakCount,
    live: Sequence[LivePeriod],
    corrected_entry_id: UUID | None,
    gives: Gives,
) -> Settlement:
    """What a correction takes back and gives. `live` are the trigger's awards."""
    active = shift.configured.system.active
    if active and shift.retold is not None:
        settlement = _by_arrivals(shift, shift.retold, before, live, gives)
        if settlement is not None:
            return settlement
    by_period = {period.due.period: period for period in live}
    rewarded = frozenset(day for day in by_period if day is not None)
    after = _moved(shift, before, rewarded, gives)
    lost = _lost_awards(shift, before, by_period)
    elsewhere = _elsewhere(shift, before, after, by_period, lost, corrected_entry_id)
    taken = [*lost, *elsewhere]
    left = [period for period in live if period not in taken]
    gone = {period.due.period for period in taken}
    passings = _passings(shift, before.passings, by_period, corrected_entry_id)
    passing = [one for one in _passed_on(passings, left) if one.start_date not in gone]
    given = [*(one for one in passing if gives(one.reach)), *_now_for(shift, before, by_period, gives)]
    # By what has come so far it is due for these: what says otherwise is still to come.
    early = [one.start_date for one in shift.vanished if one.start_date not in before.idle]
    early += [day for period in elsewhere if (day := period.due.period) and day not in after.idle]
    still = [Owed(day, by_period[day].due.owner) for day in early if day in rewarded]
    idle_left, withdrawn = _left(after.idle, live, taken)
    after = replace(
        after,
        granted_count=after.granted_count - len(taken) - len(passing) + len(given),
        owed=tuple(sorted((*after.owed, *still), key=lambda one: one.start_date)),
        idle=tuple(sorted(idle_left)),
        withdrawn=tuple(sorted((*after.withdrawn, *withdrawn))),
        passings=_newest(before.passings, passings),
    )
    granted = _grantable(after, {period.due.period for period in left}) if active else []
    now = as_they_came(shift.configured, shift.retold.after, gives) if shift.retold and active else None
    new = sorted((*granted, *given), key=lambda one: one.start_date)
    return Settlement(
        count=_granted(after, granted),
        taken=(*taken, *(by_period[one.start_date] for one in passing)),
        given=tuple(new),
        causes={one.start_date: now.brought(one) for one in new} if now else {},
    )


def _now_for(
    shift: Shift, before: StreakCount, by_period: Mapping[date | None, LivePeriod], gives: Gives
) -> Iterator[Owed]:
    """The periods for which it was due and not given, by its filters, and with another event it is."""
    if not shift.configured.trigger.user_filters or not shift.configured.system.active:
        return
    owed = {one.start_date for one in before.owed}
    for change in shift.kept:
        owner = change.granted_after or change.reach
        if owner and change.start_date not in by_period and change.start_date not in owed and gives(owner):
            yield Owed(change.start_date, owner)


def _by_arrivals(
    shift: Shift, retold: Retold, before: StreakCount, live: Sequence[LivePeriod], gives: Gives
) -> Settlement | None:
    """The difference of what is granted by all arrivals with the event and without it. None where something else was
    granted with it: not all has come of what belongs to it, or the trigger was another one then.
    """
    periods = retold.periods
    there = [period for period in live if period.due.period in periods]
    was = as_they_came(shift.configured, retold.before, gives)
    now = as_they_came(shift.configured, retold.after, gives)
    owned = Counter((period.due.period, period.due.owner.entry_id) for period in there)
    if owned != Counter((day, owner.entry_id) for day, owner in was.owners.items()) or before.withdrawn:
        return None
    owed = [one for one in before.owed if one.start_date not in periods]
    idle = [day for day in before.idle if day not in periods]
    counted = len(owed) + len(was.count.owed), len(idle) + len(was.count.idle)
    if counted != (len(before.owed), len(before.idle)):
        return None
    same = {
        day
        for day, owner in was.owners.items()
        if now.owners.get(day) == owner and now.causes[day] == was.causes[day]
    }
    given = [Owed(day, owner) for day, owner in sorted(now.owners.items()) if day not in same]
    taken = [period for period in there if period.due.period not in same]
    return Settlement(
        count=replace(
            before,
            due_count=before.due_count + len(shift.gained) - len(shift.lost),
            granted_count=before.granted_count + len(given) - len(taken),
            owed=tuple(sorted((*owed, *now.count.owed), key=lambda one: one.start_date)),
            idle=tuple(sorted((*idle, *now.count.idle))),
        ),
        taken=tuple(taken),
        given=tuple(given),
        causes={one.start_date: now.causes[one.start_date] for one in given},
    )


def _lost_awards(
    shift: Shift, before: StreakCount, by_period: Mapping[date | None, LivePeriod]
) -> list[LivePeriod]:
    """The awards of the periods for which it is not due any more."""
    # Without the entry nobody would have had anything for them.
    owed = {one.start_date for one in before.owed}
    lost = [one for one in shift.lost if one.start_date not in owed]
    return [by_period[one.start_date] for one in (*lost, *shift.vanished) if one.start_date in by_period]


def _elsewhere(
    shift: Shift,
    before: StreakCount,
    after: StreakCount,
    by_period: Mapping[date | None, LivePeriod],
    lost: Sequence[LivePeriod],
    corrected_entry_id: UUID | None,
) -> list[LivePeriod]:
    """The awards to take back of other periods, where what was lost has its award there: first what the corrected entry
    brought about, then the newest.
    """
    gone = {period.due.period for period in lost}
    idle = [by_period[day] for day in set(after.idle) if day in by_period and day not in gone]
    others = [
        period for day, period in by_period.items() if day and day not in gone and day not in after.idle
    ]
    for periods in (idle, others):
        periods.sort(key=lambda period: (period.cause_entry_id != corrected_entry_id, -period.position))
    surplus = (
        before.granted_count - len(lost) - after.due_count - max(0, before.granted_count - before.due_count)
    )
    return [*idle, *others][: max(0, min(surplus, len(shift.lost)))]


def _passings(
    shift: Shift,
    before: Sequence[Passing],
    by_period: Mapping[date | None, LivePeriod],
    corrected_entry_id: UUID | None,
) -> list[Passing]:
    """What the correction means to the awards of periods that are still due, and what newer ones mean after it: they
    came before it, and are told again as though it had been there.
    """
    found = []
    for change in (*shift.kept, *shift.others):
        live = by_period.get(change.start_date)
        if live is None or change.reach is None:
            continue
        owner = live.due.owner
        newer = [one for one in before if one.start_date == change.start_date and one.version > shift.version]
        # Else something else has moved the award since.
        if newer and newer[-1].next_owner.entry_id == owner.entry_id:
            owner = newer[0].owner
        else:
            newer = []
        said = Passing(
            start_date=change.start_date,
            version=shift.version,
            owner=owner,
            corrected_entry_id=corrected_entry_id,
            reach=change.reach,
            granted_before=change.granted_before,
            granted_after=change.granted_after,
        )
        for one in (said, *newer):
            found.append(replace(one, owner=owner))
            owner = found[-1].next_owner
    return found


def _passed_on(passings: Iterable[Passing], left: Sequence[LivePeriod]) -> list[Owed]:
    """The periods whose award belongs to another entry after these than it does."""
    owners = {one.start_date: one.next_owner for one in passings}
    # One fact gives once for a period.
    there = {(period.due.period, period.due.owner.entry_id) for period in left}
    return [Owed(day, owner) for day, owner in owners.items() if (day, owner.entry_id) not in there]


def _newest(before: Iterable[Passing], passings: Iterable[Passing]) -> tuple[Passing, ...]:
    """Those that are kept."""
    known = {(one.start_date, one.version): one for one in (*before, *passings)}
    return tuple(sorted(known.values(), key=lambda one: (one.version, one.start_date))[-KEPT_PASSINGS:])


def _left(
    idle: Sequence[date], live: Sequence[LivePeriod], taken: Sequence[LivePeriod]
) -> tuple[list[date], list[date]]:
    """Of the periods that are granted and not due, those that still have an award when these are taken; and those that
    have none, of which it is still to come that they are due again.
    """
    gone = [period.due.period for period in taken if period.due.period is not None]
    left, awards = Counter(idle), Counter(period.due.period for period in live)
    left.subtract(gone)
    awards.subtract(gone)
    with_award = {day: min(max(0, count), awards[day]) for day, count in left.items()}
    without = {day: max(0, count) - with_award[day] for day, count in left.items()}
    return list(Counter(with_award).elements()), list(Counter(without).elements())


def due_for(trigger: ConfiguredTrigger, owed: Owed) -> Due:
    """The trigger's due for a period."""
    return Due(trigger.key, owed.reach, 1, trigger.trigger.amount, period=owed.start_date)


def _moved(shift: Shift, before: StreakCount, rewarded: frozenset[date], gives: Gives) -> StreakCount:
    """The count after a change, before anything is granted or taken back for it.

    `rewarded`: the periods with an award, as far as it is asked for.
    """
    # One can be there twice: because what takes the first away, or gives it back, is still to come.
    owed, idle, withdrawn = list(before.owed), list(before.idle), list(before.withdrawn)
    for change in shift.lost:
        mine = [one for one in owed if one.start_date == change.start_date]
        if mine:
            owed.remove(mine[0])
            continue
        if change.start_date in rewarded:
            idle.append(change.start_date)
        elif not shift.configured.trigger.user_filters:
            # Nothing of it has come yet: of two changes the later one may come first.
            withdrawn.append(change.start_date)
    reaches = {change.start_date: change.reach for change in (*shift.gained, *shift.kept)}
    owed = [Owed(one.start_date, reaches.get(one.start_date) or one.reach) for one in owed]
    for change in shift.gained:
        if change.start_date in withdrawn:
            withdrawn.remove(change.start_date)
        elif change.start_date in idle:
            idle.remove(change.start_date)
        elif change.reach is not None and shift.configured.system.active and gives(change.reach):
            owed.append(Owed(change.start_date, change.reach))
    return StreakCount(
        due_count=before.due_count + len(shift.gained) - len(shift.lost),
        granted_count=before.granted_count,
        owed=tuple(sorted(owed, key=lambda one: one.start_date)),
        idle=tuple(sorted(idle)),
        withdrawn=tuple(sorted(withdrawn)),
    )


def _grantable(count: StreakCount, rewarded: Set[date | None] = frozenset()) -> list[Owed]:
    """What is due and missing: the latest periods without an award. Those of `rewarded` have one."""
    missing = min(len(count.owed) - len(count.idle), count.due_count - count.granted_count)
    without = [one for one in count.owed if one.start_date not in rewarded]
    return without[-missing:] if missing > 0 else []


def _granted(count: StreakCount, granted: Sequence[Owed]) -> StreakCount:
    owed = list(count.owed)
    for one in granted:
        owed.remove(one)
    return replace(count, granted_count=count.granted_count + len(granted), owed=tuple(owed))


def _shift(trigger: ConfiguredTrigger, cause: StreakCause, changes: Sequence[PeriodChange]) -> Shift:
    lost, gained, kept, others, vanished = [], [], [], [], []
    for change in changes:
        before = change.qualified_before and cause.is_due(change.length_before)
        after = change.qualified_after and cause.is_due(change.length_after)
        if before and after:
            kept.append(change)
        elif before:
            lost.append(change)
        elif after:
            gained.append(change)
        elif change.qualified_after:
            others.append(change)
        elif change.qualified_before:
            vanished.append(change)
    return Shift(trigger, tuple(lost), tuple(gained), tuple(kept), tuple(others), tuple(vanished))


def _after_one_another(first: PeriodChange | None, second: PeriodChange) -> PeriodChange:
    """Two changes of one period as one: a correction may say what points have not seen, and that it is gone."""
    if first is None:
        return second
    return replace(second, length_before=first.length_before, qualified_before=first.qualified_before)
