"""What is done to a user's streak by hand, decided: the change of its facts, or why not (RULES 3.5, 3.9, 3.12)."""

from datetime import date
from typing import assert_never

from msgspec import Struct

from services.streak import convert
from services.streak.config import MAX_BY_HAND
from services.streak.domain import (
    ByHand,
    Catalogue,
    DateRange,
    Done,
    FreezeGrant,
    MetricMode,
    Overridable,
    Override,
    Reset,
    Resume,
    StreakDefinition,
    lost_dates,
    paused_days,
    with_grant,
    with_override,
    with_pause,
    with_reset,
    with_restore,
    with_resume,
)
from services.streak.open_streaks import OpenStreaks
from shared.decimals import to_micros
from shared.entries import (
    Entry,
    StreakCall,
    StreakFreezeGrant,
    StreakOverride,
    StreakOverrideCall,
    StreakPause,
    StreakReset,
    StreakRestore,
    StreakResume,
)
from shared.errors import LaurelError
from shared.limits import MONDAY


class Change(Struct, frozen=True):
    """A streak, and what is done to it with all that was done before."""

    definition: StreakDefinition
    by_hand: ByHand
    done: Done


def decided(
    catalogue: Catalogue, open_streaks: OpenStreaks, entry: Entry, call: StreakCall
) -> Change | LaurelError | None:
    """What a call changes, or its refusal; None where something is missing to tell."""
    definition = catalogue.get(call.streak)
    if definition is None:
        return convert.unknown_streak(call.streak)
    by_hand = open_streaks.by_hand(entry.user.user_id, definition.key)
    if len(by_hand) >= MAX_BY_HAND:
        return convert.too_much_by_hand(definition, MAX_BY_HAND)
    match call:
        case StreakFreezeGrant():
            return _granted(definition, by_hand, entry, call)
        case StreakPause():
            return _paused(definition, by_hand, entry, call)
        case StreakReset():
            reset = Reset(entry.entry_id, entry.occur_time, _today(definition, entry))
            return Change(definition, with_reset(by_hand, reset), reset)
        case StreakOverrideCall():
            return _overridden(definition, by_hand, entry, call.override)
        case StreakResume():
            return _resumed(definition, by_hand, entry)
        case StreakRestore():
            return _restored(open_streaks, definition, by_hand, entry, call)
    assert_never(call)


def _granted(
    definition: StreakDefinition, by_hand: ByHand, entry: Entry, call: StreakFreezeGrant
) -> Change | LaurelError:
    if definition.freezes.max_count == 0:
        return convert.without_freezes(definition)
    grant = FreezeGrant(entry.entry_id, _today(definition, entry), call.count)
    return Change(definition, with_grant(by_hand, grant), grant)


def _paused(
    definition: StreakDefinition, by_hand: ByHand, entry: Entry, call: StreakPause
) -> Change | LaurelError:
    pause = DateRange(entry.entry_id, call.start_date, call.end_date, call.by_user)
    if pause.by_user:
        if pause.first < _today(definition, entry):
            return convert.pause_begins_late(definition, _today(definition, entry))
        for year, days in paused_days(by_hand.held_pauses(), pause).items():
            if days > definition.pause_days_per_year:
                return convert.pause_too_long(definition, year, days)
    return Change(definition, with_pause(by_hand, pause), pause)


def _overridden(
    definition: StreakDefinition, by_hand: ByHand, entry: Entry, wanted: StreakOverride
) -> Change | LaurelError:
    metrics = tuple(
        (each.metric, to_micros(each.threshold) if each.threshold else 0) for each in wanted.metrics
    )
    days_off = tuple(sorted(day - MONDAY for day in wanted.days_off)) if wanted.has_days_off else None
    thresholds = any(threshold for _, threshold in metrics)
    known = {each.metric for each in definition.metrics}
    for metric, _ in metrics:
        if metric not in known:
            return convert.not_of_the_streak(definition, metric)
    asked = {
        Overridable.MODE: bool(wanted.mode),
        Overridable.METRICS: bool(metrics) and {metric for metric, _ in metrics} != known,
        Overridable.THRESHOLDS: thresholds,
        Overridable.DAYS_OFF: days_off is not None,
        Overridable.SWITCHED_OFF: wanted.switched_off,
    }
    for what, is_asked in asked.items():
        if is_asked and what not in definition.overridable:
            return convert.not_overridable(definition, what)
    override = Override(
        entry.entry_id,
        entry.occur_time,
        _today(definition, entry),
        MetricMode(wanted.mode) if wanted.mode else None,
        metrics,
        days_off,
        wanted.switched_off,
    )
    return Change(definition, with_override(by_hand, override), override)


def _resumed(definition: StreakDefinition, by_hand: ByHand, entry: Entry) -> Change | LaurelError:
    today = _today(definition, entry)
    held = tuple(pause.entry_id for pause in by_hand.held_pauses() if pause.touches(today, today))
    if not held:
        return convert.nothing_to_resume(definition, today)
    resume = Resume(entry.entry_id, today, held)
    return Change(definition, with_resume(by_hand, resume), resume)


def _restored(
    open_streaks: OpenStreaks,
    definition: StreakDefinition,
    by_hand: ByHand,
    entry: Entry,
    call: StreakRestore,
) -> Change | LaurelError | None:
    user_id = entry.user.user_id
    if not open_streaks.has_facts(user_id, definition.key):
        return convert.nothing_to_restore(definition)
    folded = open_streaks.whole(user_id, definition, entry.now)
    if folded is None:
        return None
    lost = lost_dates(folded.rows.periods, entry.entry_id, call.loss_date, folded.current.period_start_date)
    if lost is None:
        return convert.nothing_to_restore(definition)
    return Change(definition, with_restore(by_hand, lost), lost)


def _today(definition: StreakDefinition, entry: Entry) -> date:
    """The day of the call, in the user's zone."""
    return definition.day_of(entry.occur_time, entry.time_zone)
