"""Between the messages of laurel.points.v1 and the domain, with all syntactic validation."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from laurel.achievement.v1 import achievement_pb2
from laurel.points.v1 import points_pb2
from laurel.points.v1 import points_service_pb2 as pb
from laurel.streak.v1 import streak_pb2

from services.points.config import MAX_CHANGES, MAX_COMMANDS
from services.points.definitions import Configuration
from services.points.domain import (
    AchievementChange,
    Award,
    Change,
    Command,
    InsufficientPoints,
    PointsSystem,
    RunChange,
    Standing,
    StreakChange,
)
from shared.decimals import MAX_MAGNITUDE, MICROS_PER_UNIT
from shared.entries import Entry
from shared.errors import FailedPrecondition, InvalidArgument, LaurelError, Violations
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
    uuid_field,
)

DOMAIN: Final = "points.laurel"
"""In whose name errors are."""

_MAX_VALUE_MICROS: Final = int(MAX_MAGNITUDE) * MICROS_PER_UNIT
_KINDS: Final = (
    achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED,
    achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED,
)


# Commands


def commands_from_proto(request: pb.ApplyEventsRequest) -> list[Work[Command] | InvalidArgument]:
    """Each command, or what is wrong with it: a malformed one never fails its neighbours.

    Raises `InvalidArgument` for a batch that is empty or over the limit.
    """
    _check_batch(len(request.commands), "commands")
    return [_command(message, f"commands[{index}]") for index, message in enumerate(request.commands)]


def reversals_from_proto(request: pb.RevertEventsRequest) -> list[ReversalWork]:
    """The reversals. Raises `InvalidArgument` with every violation of the batch."""
    _check_batch(len(request.reversals), "reversals")
    violations = Violations()
    found = [
        reversal_from_proto(message, f"reversals[{index}]", violations)
        for index, message in enumerate(request.reversals)
    ]
    violations.raise_if_any()
    return [ReversalWork(one.entry_id, one.user_id, one.now) for one in found if one is not None]


def check_maintenance(request: pb.RunMaintenanceRequest) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    instant_field(request, "now", "", violations)
    check_hold_seconds(request.hold_seconds, "hold_seconds", violations)
    violations.raise_if_any()


def check_read(*, user_id: str | None = None, points_system: str | None = None) -> None:
    """Whose points of which system are asked for, as far as the request says so. Raises `InvalidArgument`."""
    violations = Violations()
    if user_id is not None:
        check_user_id(user_id, "user_id", violations)
    if points_system is not None:
        check_key(points_system, "points_system", violations)
    violations.raise_if_any()


def _check_batch(size: int, path: str) -> None:
    violations = Violations()
    if not 1 <= size <= MAX_COMMANDS:
        violations.add(path, f"must have 1 to {MAX_COMMANDS} items")
    violations.raise_if_any()


def _command(message: pb.ApplyEventsCommand, path: str) -> Work[Command] | InvalidArgument:
    violations = Violations()
    entry = _entry(message, f"{path}.entry", violations)
    streak_changes = _streak_changes(message.streak_changes, f"{path}.streak_changes", violations)
    achievement_changes = _achievement_changes(
        message.achievement_changes, f"{path}.achievement_changes", violations
    )
    try:
        violations.raise_if_any()
    except InvalidArgument as error:
        return error
    assert entry is not None  # no violations, so there is an entry
    command = Command(entry, streak_changes, achievement_changes)
    return Work(command, entry.entry_id, entry.user.user_id, digest_of(message))


def _entry(message: pb.ApplyEventsCommand, path: str, violations: Violations) -> Entry | None:
    if abs(message.entry.metric.value_micros) > _MAX_VALUE_MICROS:
        violations.add(f"{path}.metric.value_micros", f"must have a magnitude of at most {_MAX_VALUE_MICROS}")
    return entry_from_proto(message.entry, path, violations)


def _streak_changes(
    messages: Sequence[streak_pb2.StreakChange], path: str, violations: Violations
) -> tuple[StreakChange, ...]:
    if len(messages) > MAX_CHANGES:
        violations.add(path, f"must have at most {MAX_CHANGES} changes")
        return ()
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        check_key(message.streak, f"{where}.streak", violations)
        if len(message.run_changes) > MAX_CHANGES:
            violations.add(f"{where}.run_changes", f"must have at most {MAX_CHANGES} changes")
        elif any(min(run.length_before, run.length_after) < 0 for run in message.run_changes):
            violations.add(f"{where}.run_changes", "must not have a negative length")
    return tuple(
        StreakChange(
            message.streak,
            tuple(RunChange(run.length_before, run.length_after) for run in message.run_changes),
        )
        for message in messages
    )


def _achievement_changes(
    messages: Sequence[achievement_pb2.AchievementChange], path: str, violations: Violations
) -> tuple[AchievementChange, ...]:
    if len(messages) > MAX_CHANGES:
        violations.add(path, f"must have at most {MAX_CHANGES} changes")
        return ()
    changes = []
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        check_key(message.achievement, f"{where}.achievement", violations)
        if message.kind not in _KINDS:
            violations.add(f"{where}.kind", "must be COMPLETED or REVOKED")
        completion_id = uuid_field(message.completion_id, f"{where}.completion_id", violations)
        if completion_id is not None:
            completed = message.kind == achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED
            changes.append(AchievementChange(message.achievement, completion_id, completed))
    return tuple(changes)


# Outcomes


def applied_outcome(entry_id: UUID, changes: Sequence[Change]) -> bytes:
    """What an entry did, as it is stored and answered for ever."""
    return pb.ApplyEventsOutcome(entry_id=str(entry_id), changes=map(_change, changes)).SerializeToString(
        deterministic=True
    )


def refused_outcome(entry_id: UUID | str, error: LaurelError) -> bytes:
    """Why an entry was refused."""
    return pb.ApplyEventsOutcome(
        entry_id=str(entry_id), error=error_message(error, DOMAIN)
    ).SerializeToString(deterministic=True)


def reverted_outcome(entry_id: UUID, changes: Sequence[Change]) -> bytes:
    """What undoing an entry changed."""
    return pb.RevertEventsOutcome(
        entry_id=str(entry_id), reverted=True, changes=map(_change, changes)
    ).SerializeToString(deterministic=True)


def nothing_reverted(entry_id: UUID) -> bytes:
    """There was nothing to undo; the entry is refused from now on."""
    return pb.RevertEventsOutcome(entry_id=str(entry_id)).SerializeToString(deterministic=True)


def insufficient_points(refusal: InsufficientPoints) -> LaurelError:
    """The error of an entry whose blocking deduction is not covered (RULES 5.4)."""
    return FailedPrecondition(
        "the balance does not cover the deduction",
        reason="INSUFFICIENT_POINTS",
        metadata={
            "points_system": refusal.points_system,
            "trigger": refusal.trigger,
            "balance": str(refusal.balance),
            "required": str(refusal.required),
            "min_balance": str(refusal.min_balance),
        },
        domain=DOMAIN,
    )


def _change(change: Change) -> points_pb2.PointsChange:
    message = points_pb2.PointsChange(
        points_system=change.points_system,
        version=change.after.version,
        added=change.added,
        balance_before=change.before.balance,
        balance=change.after.balance,
        lifetime=change.after.lifetime,
        level_before=change.before.level,
        level=change.after.level,
        awards=map(award_to_proto, change.awards),
    )
    if change.after.reach_time is not None:
        message.reach_time.CopyFrom(to_timestamp(change.after.reach_time))
    return message


# Reads


def award_to_proto(award: Award) -> points_pb2.Award:
    """A row of the ledger."""
    return points_pb2.Award(
        award_id=str(award.award_id),
        points_system=award.key.points_system,
        amount=award.amount,
        base_amount=award.base_amount,
        clipped_amount=award.clipped_amount,
        trigger=award.key.trigger,
        entry_id=str(award.entry_id),
        occur_time=to_timestamp(award.occur_time),
        reversed_award_id=str(award.reversed_award_id) if award.reversed_award_id else "",
        local_date=streak_pb2.LocalDate(
            year=award.local_date.year, month=award.local_date.month, day=award.local_date.day
        ),
    )


def user_points_to_proto(configuration: Configuration, key: str, standing: Standing) -> points_pb2.UserPoints:
    """A user's points in one system, with the levels as they are defined now."""
    system = configuration.catalogue.system(key)
    message = points_pb2.UserPoints(points_system=key, balance=standing.balance, lifetime=standing.lifetime)
    levels = _levels(configuration, key)
    if level := system.level_at(standing.balance, standing.lifetime):
        message.level.CopyFrom(levels[level.key])
    if level := system.level_after(standing.balance, standing.lifetime):
        message.next_level.CopyFrom(levels[level.key])
    return message


def distribution_to_proto(
    configuration: Configuration, system: PointsSystem, user_counts: Sequence[int]
) -> pb.GetLevelDistributionResponse:
    """Users by level; the first count is of those below the first level."""
    levels = _levels(configuration, system.key)
    response = pb.GetLevelDistributionResponse()
    response.levels.add(user_count=user_counts[0])
    for level, user_count in zip(system.levels, user_counts[1:], strict=True):
        response.levels.add(level=levels[level.key], user_count=user_count)
    return response


def _levels(configuration: Configuration, key: str) -> dict[str, points_pb2.Level]:
    message = configuration.messages.get(key)
    return {level.key: level for level in message.levels} if message else {}
