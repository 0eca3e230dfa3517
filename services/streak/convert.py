"""Between the messages of laurel.streak.v1 and the domain, with all syntactic validation."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

from laurel.common.v1 import entry_pb2
from laurel.streak.v1 import streak_pb2, streak_service_pb2
from msgspec import Struct

from services.streak.config import DEFAULT_CHANGES, MAX_CHANGES, MAX_COMMANDS
from services.streak.domain import (
    Current,
    Evaluation,
    LedgerLine,
    Period,
    StreakChange,
    StreakDefinition,
)
from services.streak.store_reads import FeedRow, Longest
from shared.decimals import from_micros
from shared.entries import Entry
from shared.errors import InvalidArgument, LaurelError, Violations
from shared.participant import ReversalWork, Work
from shared.rpc.convert import (
    check_hold_seconds,
    check_key,
    check_user_id,
    digest_of,
    entry_from_proto,
    error_message,
    instant_field,
    reversal_from_proto,
    to_timestamp,
)

DOMAIN: Final = "streak.laurel"
"""In whose name errors are."""


class Effect(Struct, frozen=True):
    """What an evaluation of one streak came to."""

    definition: StreakDefinition
    evaluation: Evaluation


# Commands


def commands_from_proto(
    request: streak_service_pb2.ApplyEventsRequest,
) -> list[Work[Entry] | InvalidArgument]:
    """Each command, or what is wrong with it: a malformed one never fails its neighbours.

    Raises `InvalidArgument` for a batch that is empty or over the limit.
    """
    _check_batch(len(request.commands), "commands")
    return [_command(message, f"commands[{index}]") for index, message in enumerate(request.commands)]


def _command(message: streak_service_pb2.ApplyEventsCommand, path: str) -> Work[Entry] | InvalidArgument:
    violations = Violations()
    entry = entry_from_proto(message.entry, f"{path}.entry", violations)
    if message.entry.kind != entry_pb2.ENTRY_KIND_METRIC_EVENT and not len(violations):
        violations.add(f"{path}.entry.kind", "only metric events visit the streak service")
    try:
        violations.raise_if_any()
    except InvalidArgument as error:
        return error
    assert entry is not None  # no violations, so there is an entry
    return Work(entry, entry.entry_id, entry.user.user_id, digest_of(message))


def reversals_from_proto(request: streak_service_pb2.RevertEventsRequest) -> list[ReversalWork]:
    """The reversals. Raises `InvalidArgument` with every violation of the batch."""
    _check_batch(len(request.reversals), "reversals")
    violations = Violations()
    found = [
        reversal_from_proto(message, f"reversals[{index}]", violations)
        for index, message in enumerate(request.reversals)
    ]
    violations.raise_if_any()
    return [ReversalWork(one.entry_id, one.user_id, one.now) for one in found if one is not None]


def _check_batch(size: int, path: str) -> None:
    violations = Violations()
    if not 1 <= size <= MAX_COMMANDS:
        violations.add(path, f"must have 1 to {MAX_COMMANDS} items")
    violations.raise_if_any()


# Other requests


def maintenance_from_proto(
    request: streak_service_pb2.RunMaintenanceRequest,
) -> tuple[datetime, int | None]:
    """The instant to work at, and how long to keep wall-clock maintenance off (None: as it is)."""
    violations = Violations()
    now = instant_field(request, "now", "", violations)
    check_hold_seconds(request.hold_seconds, "hold_seconds", violations)
    violations.raise_if_any()
    assert now is not None  # no violations, so there is an instant
    return now, request.hold_seconds if request.HasField("hold_seconds") else None


def cursor_from_proto(request: streak_service_pb2.ListChangesRequest) -> tuple[int, int]:
    """After which sequence, and how many. Raises `InvalidArgument`."""
    violations = Violations()
    if request.after_sequence < 0:
        violations.add("after_sequence", "must not be negative")
    if not 0 <= request.page_size <= MAX_CHANGES:
        violations.add("page_size", f"must be 0 to {MAX_CHANGES}")
    violations.raise_if_any()
    return request.after_sequence, request.page_size or DEFAULT_CHANGES


def read_time_from_proto(request: streak_service_pb2.ListUserStreaksRequest) -> datetime | None:
    """The instant to look from, None for now, of a valid request. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    asked = request.HasField("read_time")
    read_time = instant_field(request, "read_time", "", violations) if asked else None
    violations.raise_if_any()
    return read_time


def check_user_streak(user_id: str, streak: str) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(user_id, "user_id", violations)
    check_key(streak, "streak", violations)
    violations.raise_if_any()


def check_streak(streak: str) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_key(streak, "streak", violations)
    violations.raise_if_any()


# Outcomes


def applied_outcome(entry_id: UUID, effects: Sequence[Effect]) -> bytes:
    """What an entry did, as it is stored and answered for ever."""
    return streak_service_pb2.ApplyEventsOutcome(
        entry_id=str(entry_id), effects=[_effect(effect) for effect in effects]
    ).SerializeToString(deterministic=True)


def refused_outcome(entry_id: UUID | str, error: LaurelError) -> bytes:
    """Why an entry was refused."""
    return streak_service_pb2.ApplyEventsOutcome(
        entry_id=str(entry_id), error=error_message(error, DOMAIN)
    ).SerializeToString(deterministic=True)


def reverted_outcome(entry_id: UUID, effects: Sequence[Effect]) -> bytes:
    """What undoing an entry changed."""
    return streak_service_pb2.RevertEventsOutcome(
        entry_id=str(entry_id), reverted=True, effects=[_effect(effect) for effect in effects]
    ).SerializeToString(deterministic=True)


def nothing_reverted(entry_id: UUID) -> bytes:
    """There was nothing to undo; the entry is refused from now on."""
    return streak_service_pb2.RevertEventsOutcome(entry_id=str(entry_id)).SerializeToString(
        deterministic=True
    )


def _effect(effect: Effect) -> streak_service_pb2.StreakEffect:
    definition, evaluation = effect.definition, effect.evaluation
    return streak_service_pb2.StreakEffect(
        state=state_to_proto(definition, evaluation.current),
        extended=evaluation.extended,
        change=change_to_proto(definition.key, evaluation.change) if evaluation.change else None,
        periods=[period_to_proto(row) for row in evaluation.rows.periods],
        refunded_freeze_count=evaluation.rows.refunded_freezes,
    )


def change_to_proto(streak: str, change: StreakChange) -> streak_pb2.StreakChange:
    """A change for the services that follow."""
    return streak_pb2.StreakChange(
        streak=streak,
        version=change.version,
        length_before=change.length_before,
        length=change.length,
        longest=change.longest,
        run_changes=[
            streak_pb2.RunChange(length_before=run.length_before, length_after=run.length_after)
            for run in change.runs
        ],
        reach_time=to_timestamp(change.reach_time),
    )


# States and rows


def state_to_proto(definition: StreakDefinition, current: Current | None) -> streak_pb2.StreakState:
    """A user's streak; without facts, one that has not begun."""
    message = streak_pb2.StreakState(
        streak=definition.key, frequency=streak_pb2.Frequency.ValueType(definition.frequency)
    )
    if current is None:
        return message
    message.length = current.length
    message.longest = current.longest
    message.period_qualified = current.period_qualified
    message.freeze_count = current.freeze_count
    message.period_start_date.CopyFrom(_date(current.period_start_date))
    message.period_end_date.CopyFrom(_date(current.period_end_date))
    if current.run:
        message.start_date.CopyFrom(_date(current.run.start_date))
    if current.expire_time:
        message.expire_time.CopyFrom(to_timestamp(current.expire_time))
    message.progress.extend(
        streak_pb2.MetricProgress(
            metric=wanted.metric,
            current=from_micros(total),
            threshold=from_micros(wanted.threshold_micros),
        )
        for wanted, total in zip(definition.metrics, current.sums_micros, strict=True)
    )
    return message


def period_to_proto(row: Period) -> streak_pb2.Period:
    """A recorded period."""
    return streak_pb2.Period(
        start_date=_date(row.start_date),
        end_date=_date(row.end_date),
        status=streak_pb2.PeriodStatus.ValueType(row.status),
        length=row.length,
        settle_time=to_timestamp(row.settle_time),
    )


def ledger_line_to_proto(line: LedgerLine) -> streak_pb2.FreezeLedgerEntry:
    """A line of the freeze ledger."""
    return streak_pb2.FreezeLedgerEntry(
        effective_date=_date(line.effective_date),
        amount=line.amount,
        reason=streak_pb2.FreezeReason.ValueType(line.reason),
    )


def feed_row_to_proto(row: FeedRow) -> streak_service_pb2.Change:
    """A change that maintenance found by itself."""
    return streak_service_pb2.Change(
        sequence=row.sequence,
        entry_id=str(row.entry_id),
        user_id=row.user_id,
        time_zone=row.time_zone,
        occur_time=to_timestamp(row.occur_time),
        change=streak_pb2.StreakChange.FromString(row.change),
    )


def longest_to_proto(one: Longest) -> streak_service_pb2.LongestStreak:
    """A user's longest run."""
    return streak_service_pb2.LongestStreak(user_id=one.user_id, longest=one.longest, length=one.length)


def _date(day: date) -> streak_pb2.LocalDate:
    return streak_pb2.LocalDate(year=day.year, month=day.month, day=day.day)
