"""Between the messages of laurel.streak.v1 and the domain, with all syntactic validation."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Final

from laurel.common.v1 import date_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.streak.v1 import streak_pb2
from msgspec import Struct

from services.streak.domain import (
    Arrival,
    Current,
    DateRange,
    Evaluation,
    HistoryChange,
    Overridable,
    Override,
    Period,
    PeriodChange,
    PeriodStatus,
    Reach,
    StreakChange,
    StreakDefinition,
)
from shared.decimals import from_micros
from shared.entries import Entry, EntryKind, StreakCall
from shared.errors import FailedPrecondition, NotFound, Violations
from shared.rpc.convert import (
    date_to_proto,
    set_date,
    set_timestamp,
)

DOMAIN: Final = "streak.laurel"
"""In whose name errors are."""


_PLAIN_VISITORS: Final = (EntryKind.METRIC_EVENT, EntryKind.USER_UPDATE, EntryKind.CORRECTION)
_VISITORS: Final = frozenset(
    kind
    for kind in EntryKind
    if kind in _PLAIN_VISITORS or (kind.content is not None and issubclass(kind.content, StreakCall))
)


class Effect(Struct, frozen=True):
    """What an evaluation of one streak came to."""

    definition: StreakDefinition
    evaluation: Evaluation


# The saga


def command(entry: Entry, _effects: Effects, path: str, violations: Violations) -> Entry:
    """The domain's command: what events, changes of users and corrections say. Others do not visit this service."""
    if entry.kind not in _VISITORS:
        violations.add(
            path.replace("effects", "entry.operation"),
            "must be a metric event, a change of a user, something done to a streak, or a correction",
        )
    return entry


def effects(user_id: str, evaluated: Sequence[Effect]) -> Effects:
    """What an entry, or its undoing, did to a user's streaks. Written in place: a message that is put into another one
    is copied.
    """
    message = Effects()
    for effect in evaluated:
        _tell_effect(message.streaks.add(), user_id, effect)
    return message


def _tell_effect(message: streak_pb2.StreakEffect, user_id: str, effect: Effect) -> None:
    definition, evaluation = effect.definition, effect.evaluation
    rows = evaluation.rows
    message.user_id = user_id
    _tell_state(message.state, definition, evaluation.current)
    message.extended = evaluation.extended
    if evaluation.change:
        _tell_change(message.change, definition.key, evaluation.change)
    for row in rows.periods:
        _tell_period(message.periods.add(), row)
    message.refunded_freeze_count = rows.refunded_freezes
    message.earned_freeze_count = rows.earned_freezes
    message.given_freeze_count = rows.given_freezes
    held = evaluation.current.freeze_count if evaluation.current else 0
    message.freeze_count_before = held - rows.freezes_more


def closing(user_id: str, effect: Effect) -> entry_pb2.StreakClosing | None:
    """What closing periods came to, for everybody else; None where there is nothing to tell."""
    if not is_to_tell(effect.evaluation):
        return None
    message = entry_pb2.StreakClosing()
    _tell_effect(message.effect, user_id, effect)
    return message


def is_to_tell(evaluation: Evaluation) -> bool:
    """Whether others have to know of something that no event of theirs did."""
    rows = evaluation.rows
    frozen = any(row.status is PeriodStatus.FROZEN for row in rows.periods)
    return evaluation.change is not None or frozen or bool(rows.earned_freezes or rows.refunded_freezes)


def _tell_change(message: streak_pb2.StreakChange, streak: str, change: StreakChange) -> None:
    """A change for the services that follow."""
    message.streak = streak
    message.version = change.version
    message.length_before = change.length_before
    message.length = change.length
    message.longest = change.longest
    set_timestamp(message.reach_time, change.reach_time)
    _tell_history(message, change.history)
    for arrival in change.arrivals.before:
        _tell_arrival(message.arrivals_before.add(), arrival)
    for arrival in change.arrivals.after:
        _tell_arrival(message.arrivals_after.add(), arrival)


def _tell_arrival(message: streak_pb2.Arrival, arrival: Arrival) -> None:
    message.entry_id = str(arrival.entry_id)
    _tell_history(message, arrival.change)


def _tell_history(message: streak_pb2.StreakChange | streak_pb2.Arrival, change: HistoryChange) -> None:
    for period in change.periods:
        _tell_period_change(message.period_changes.add(), period)
    for first in change.first_reaches:
        known = message.first_reaches.add(length=first.length)
        if first.reach:
            tell_reach(known.reach, first.reach)


def _tell_period_change(message: streak_pb2.PeriodChange, change: PeriodChange) -> None:
    set_date(message.start_date, change.start_date)
    set_date(message.end_date, change.end_date)
    message.length_before = change.length_before
    message.length_after = change.length_after
    message.qualified_before = change.qualified_before
    message.qualified_after = change.qualified_after
    message.recorded_after = change.recorded_after
    if change.reach:
        tell_reach(message.reach, change.reach)
    if change.granted_before:
        tell_reach(message.granted_before, change.granted_before)
    if change.granted_after:
        tell_reach(message.granted_after, change.granted_after)


def tell_reach(message: streak_pb2.Reach, reach: Reach) -> None:
    """Writes it into a message."""
    message.entry_id = str(reach.entry_id)
    set_timestamp(message.occur_time, reach.occur_time)
    set_date(message.local_date, reach.local_date)


@lru_cache(maxsize=4_096)
def day_to_proto(day: date) -> date_pb2.LocalDate:
    """To be put into other messages, which copy it: most events are about a few dates."""
    return date_to_proto(day)


# Refusals


def unknown_streak(streak: str) -> NotFound:
    """No streak has this key."""
    return NotFound(
        f"there is no streak {streak!r}", reason="STREAK_NOT_FOUND", metadata={"key": streak}, domain=DOMAIN
    )


def too_much_by_hand(definition: StreakDefinition, most: int) -> FailedPrecondition:
    """No more can be done by hand to a user's streak."""
    return _refusal(
        definition,
        "TOO_MUCH_BY_HAND",
        f"{most:,} grants, pauses, resets and restores of the streak {definition.key!r} are kept of this user",
    )


def without_freezes(definition: StreakDefinition) -> FailedPrecondition:
    """The streak has no freezes to give."""
    return _refusal(
        definition,
        "STREAK_WITHOUT_FREEZES",
        f"the streak {definition.key!r} has no freezes: set freezes.max_count",
    )


def pause_begins_late(definition: StreakDefinition, today: date) -> FailedPrecondition:
    """A user pauses from today on."""
    return _refusal(
        definition,
        "PAUSE_NOT_ALLOWED",
        f"a user's own pause begins on {today} or later",
        {"today": str(today)},
    )


def pause_too_long(definition: StreakDefinition, year: int, days: int) -> FailedPrecondition:
    """The streak allows less."""
    allowed = definition.pause_days_per_year
    return _refusal(
        definition,
        "PAUSE_NOT_ALLOWED",
        f"with this pause {days} days of {year} are paused, and the streak allows {allowed}",
        {"year": str(year), "days": str(days), "pause_days_per_year": str(allowed)},
    )


def not_of_the_streak(definition: StreakDefinition, metric: str) -> FailedPrecondition:
    """Users choose among a streak's own metrics."""
    return _refusal(
        definition,
        "OVERRIDE_NOT_ALLOWED",
        f"the streak does not count the metric {metric!r}",
        {"metric": metric},
    )


def not_overridable(definition: StreakDefinition, what: Overridable) -> FailedPrecondition:
    """The streak does not let its users have that otherwise."""
    return _refusal(
        definition,
        "OVERRIDE_NOT_ALLOWED",
        f"users cannot have {what.name.lower()} of this streak otherwise",
        {"overridable": what.name},
    )


def nothing_to_resume(definition: StreakDefinition, today: date) -> FailedPrecondition:
    """No pause holds today."""
    return _refusal(
        definition, "NOTHING_TO_RESUME", f"the user's streak is not paused on {today}", {"today": str(today)}
    )


def nothing_to_restore(definition: StreakDefinition) -> FailedPrecondition:
    """Nothing was lost, or not then."""
    return _refusal(
        definition, "NOTHING_TO_RESTORE", "no such period of the user's streak is recorded as broken"
    )


def _refusal(
    definition: StreakDefinition, reason: str, message: str, metadata: Mapping[str, str] | None = None
) -> FailedPrecondition:
    return FailedPrecondition(
        message, reason=reason, metadata={"streak": definition.key, **(metadata or {})}, domain=DOMAIN
    )


# States and rows


def state_to_proto(definition: StreakDefinition, current: Current | None) -> streak_pb2.StreakState:
    """A user's streak; without facts, one that has not begun."""
    message = streak_pb2.StreakState()
    _tell_state(message, definition, current)
    return message


def _tell_state(
    message: streak_pb2.StreakState, definition: StreakDefinition, current: Current | None
) -> None:
    message.streak = definition.key
    message.frequency = streak_pb2.Frequency.ValueType(definition.frequency)
    if current is None:
        return
    if current.pauses:
        message.pauses.extend(map(_pause, current.pauses))
    if current.override and not current.override.asks_nothing:
        message.override.CopyFrom(_override(current.override))
    message.length = current.length
    message.longest = current.longest
    message.period_qualified = current.period_qualified
    message.freeze_count = current.freeze_count
    set_date(message.period_start_date, current.period_start_date)
    set_date(message.period_end_date, current.period_end_date)
    if current.run:
        set_date(message.start_date, current.run.start_date)
    if current.expire_time:
        set_timestamp(message.expire_time, current.expire_time)
    for wanted, total in zip(current.metrics, current.sums_micros, strict=True):
        progress = message.progress.add()
        progress.metric = wanted.metric
        progress.current = from_micros(total)
        progress.threshold = from_micros(wanted.threshold_micros)


def _override(override: Override) -> streak_pb2.StreakOverride:
    return streak_pb2.StreakOverride(
        mode=streak_pb2.MetricMode.ValueType(override.mode or 0),
        metrics=[
            streak_pb2.MetricThreshold(metric=metric, threshold=from_micros(threshold))
            for metric, threshold in override.metrics
        ],
        has_days_off=override.days_off is not None,
        days_off=[
            streak_pb2.Weekday.ValueType(day + streak_pb2.WEEKDAY_MONDAY) for day in override.days_off or ()
        ],
        switched_off=override.switched_off,
    )


def _pause(pause: DateRange) -> streak_pb2.Pause:
    return streak_pb2.Pause(
        start_date=day_to_proto(pause.first),
        end_date=day_to_proto(pause.last),
        by_user=pause.by_user,
        entry_id=str(pause.entry_id),
    )


def period_to_proto(row: Period) -> streak_pb2.Period:
    """A recorded period."""
    message = streak_pb2.Period()
    _tell_period(message, row)
    return message


def _tell_period(message: streak_pb2.Period, row: Period) -> None:
    set_date(message.start_date, row.start_date)
    set_date(message.end_date, row.end_date)
    message.status = streak_pb2.PeriodStatus.ValueType(row.status)
    message.length = row.length
    set_timestamp(message.settle_time, row.settle_time)
