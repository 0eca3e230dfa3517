"""How often a streak trigger is due (RULES 2.5, 5.2).

It is due for every qualified period after which the streak's length is a multiple of L (or L itself, for a trigger
that fires once in a run); the award belongs to the event with which the period qualified. As with metrics, what was
granted stays on its date when a late event moves the lengths, and only where more is due than was granted is the
difference granted.

A correction says what the streak is without the entry that it corrects. So there an award for a period that is not
due any more is taken back, and one for a period that is due instead is given, as part of the fact of the event that
it belongs to: as though it had been given when that event came.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.counting import HistoryNeeded
from services.points.domain.definitions import Catalogue, ConfiguredTrigger, StreakCause, TriggerKey
from services.points.domain.facts import Due, PeriodChange, StreakChange
from services.points.domain.state import StreakCount, UserState
from shared.filters import matches


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


class LivePeriod(Struct, frozen=True):
    """A period for which a streak trigger has awarded."""

    position: int
    due: Due
    cause_entry_id: UUID


class Settlement(Struct, frozen=True):
    """What a correction does to one trigger."""

    count: StreakCount
    taken: tuple[LivePeriod, ...]
    given: tuple[PeriodChange, ...]


def shifts(catalogue: Catalogue, changes: Iterable[StreakChange]) -> Iterator[Shift]:
    """What the changes mean to each trigger to which they mean something."""
    periods: dict[str, dict[date, PeriodChange]] = {}
    for change in changes:
        known = periods.setdefault(change.streak, {})
        for period in change.period_changes:
            known[period.start_date] = _after_one_another(known.get(period.start_date), period)
    for streak, those in periods.items():
        for trigger in catalogue.by_streak.get(streak, ()):
            cause = trigger.trigger.cause
            if isinstance(cause, StreakCause):
                shift = _shift(trigger, cause, [those[day] for day in sorted(those)])
                if shift != Shift(trigger, (), (), (), ()):
                    yield shift


def arrived(
    catalogue: Catalogue, state: UserState, attributes: Mapping[str, str], changes: Iterable[StreakChange]
) -> tuple[dict[TriggerKey, StreakCount], list[Due]]:
    """How far the triggers have counted after an entry that corrects nothing, and what is due with it.

    Raises `HistoryNeeded` where the awards so far decide for which period it is.
    """
    counts: dict[TriggerKey, StreakCount] = {}
    dues: list[Due] = []
    for shift in shifts(catalogue, changes):
        trigger = shift.configured
        if not shift.lost and not shift.gained:
            continue
        before = state.streaks.get(trigger.key, StreakCount())
        due_count = before.due_count + len(shift.gained) - len(shift.lost)
        times = 0
        if trigger.system.active and matches(trigger.trigger.user_filters, attributes):
            times = min(len(shift.gained), max(0, due_count - before.granted_count))
        reached = [change for change in shift.gained if change.reach is not None]
        if times and (shift.lost or before.granted_count > before.due_count):
            if state.rewarded_periods is None:
                raise HistoryNeeded
            rewarded = state.rewarded_periods.get(trigger.key, frozenset())
            reached = [change for change in reached if change.start_date not in rewarded]
        granted = reached[-times:] if times else []
        dues.extend(due_for(trigger, change) for change in granted)
        counts[trigger.key] = StreakCount(due_count, before.granted_count + len(granted))
    return counts, dues


def corrected(
    shift: Shift,
    before: StreakCount,
    live: Sequence[LivePeriod],
    corrected_entry_id: UUID | None,
    *,
    gives: bool,
) -> Settlement:
    """What a correction takes back and gives. `live` are the trigger's awards; `gives`: it can award to the user."""
    by_period = {period.due.period: period for period in live}
    due_count = before.due_count + len(shift.gained) - len(shift.lost)
    taken = [by_period[change.start_date] for change in shift.lost if change.start_date in by_period]
    given = [change for change in shift.gained if change.start_date not in by_period] if gives else []
    stay = (*shift.kept, *shift.others)
    moved = [change for change in stay if _moves(by_period, change, corrected_entry_id)]
    taken += [by_period[change.start_date] for change in moved]
    given = sorted((*given, *moved), key=lambda change: change.start_date)
    # What was lost but has its award on another date is taken back there: first what the corrected entry brought
    # about, then the newest. Never more than that leaves as many as are due.
    surplus = before.granted_count - len(taken) + len(given) - due_count
    excess = min(surplus - max(0, before.granted_count - before.due_count), len(shift.lost))
    due_now = {change.start_date for change in (*shift.gained, *shift.kept)}
    others = [period for period in live if period not in taken and period.due.period not in due_now]
    others.sort(key=lambda period: (period.cause_entry_id != corrected_entry_id, -period.position))
    taken += others[: max(0, excess)]
    # Of two corrections the later one may come first and say that a period is lost that the other one gains.
    room = max(0, due_count - before.granted_count + len(taken) - len(moved))
    gained = [change for change in given if change not in moved]
    dropped = gained[: max(0, len(gained) - room)]
    given = [change for change in given if change.reach is not None and change not in dropped]
    return Settlement(
        count=StreakCount(due_count, before.granted_count - len(taken) + len(given)),
        taken=tuple(taken),
        given=tuple(given),
    )


def due_for(trigger: ConfiguredTrigger, change: PeriodChange) -> Due:
    """The trigger's due for a period."""
    assert change.reach is not None
    return Due(trigger.key, change.reach, 1, trigger.trigger.amount, period=change.start_date)


def _shift(trigger: ConfiguredTrigger, cause: StreakCause, changes: Sequence[PeriodChange]) -> Shift:
    lost, gained, kept, others = [], [], [], []
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
    return Shift(trigger, tuple(lost), tuple(gained), tuple(kept), tuple(others))


def _after_one_another(first: PeriodChange | None, second: PeriodChange) -> PeriodChange:
    """Two changes of one period as one: a correction may say what points have not seen, and that it is gone."""
    if first is None:
        return second
    return replace(second, length_before=first.length_before, qualified_before=first.qualified_before)


def _moves(
    by_period: Mapping[date | None, LivePeriod], change: PeriodChange, corrected_entry_id: UUID | None
) -> bool:
    """The period still qualifies, but its award belongs to the entry that is corrected, or to one with which it did not
    qualify yet: it did so with the help of that entry.
    """
    live = by_period.get(change.start_date)
    if live is None or change.reach is None:
        return False
    owner = live.due.owner
    if owner.entry_id == corrected_entry_id:
        return corrected_entry_id != change.reach.entry_id
    return owner.order < change.reach.order
