"""Between the messages of laurel.achievement.v1 and the domain, with all syntactic validation."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.common.v1 import entry_pb2

from services.achievement.config import (
    MAX_COMMANDS,
    MAX_STREAK_CHANGES,
)
from services.achievement.domain import (
    Catalogue,
    Change,
    Command,
    Fact,
    MetricTrigger,
    Progress,
    Refusal,
    StreakChange,
)
from shared.decimals import from_micros
from shared.errors import FailedPrecondition, InvalidArgument, LaurelError, NotFound, Violations
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

DOMAIN: Final = "achievement.laurel"
"""In whose name errors are."""

_REFUSALS: Final[Mapping[Refusal, tuple[type[LaurelError], str]]] = {
    Refusal.NOT_FOUND: (NotFound, "there is no such achievement"),
    Refusal.NOT_ACTIVE: (FailedPrecondition, "the achievement is not active"),
    Refusal.TRIGGER_NOT_API: (FailedPrecondition, "the achievement is not earned by call"),
    Refusal.USER_NOT_ELIGIBLE: (FailedPrecondition, "the user does not match the achievement's filters"),
}


# Commands


def commands_from_proto(
    request: achievement_service_pb2.ApplyEventsRequest,
) -> list[Work[Command] | InvalidArgument]:
    """Each command, or what is wrong with it: a malformed one never fails its neighbours.

    Raises `InvalidArgument` for a batch that is empty or over the limit.
    """
    _check_batch(len(request.commands), "commands")
    return [_command(message, f"commands[{index}]") for index, message in enumerate(request.commands)]


def _command(
    message: achievement_service_pb2.ApplyEventsCommand, path: str
) -> Work[Command] | InvalidArgument:
    violations = Violations()
    entry = entry_from_proto(message.entry, f"{path}.entry", violations)
    changes = _streak_changes(message, f"{path}.streak_changes", violations)
    if message.entry.kind == entry_pb2.ENTRY_KIND_ACHIEVEMENT_CALL:
        check_key(message.achievement, f"{path}.achievement", violations)
    elif message.achievement:
        violations.add(f"{path}.achievement", "is only for achievement calls")
    try:
        violations.raise_if_any()
    except InvalidArgument as error:
        return error
    assert entry is not None  # no violations, so there is an entry
    command = Command(entry, changes, message.achievement)
    return Work(command, entry.entry_id, entry.user.user_id, digest_of(message))


def _streak_changes(
    message: achievement_service_pb2.ApplyEventsCommand, path: str, violations: Violations
) -> tuple[StreakChange, ...]:
    if len(message.streak_changes) > MAX_STREAK_CHANGES:
        violations.add(path, f"must have at most {MAX_STREAK_CHANGES} changes")
        return ()
    seen: set[str] = set()
    for index, change in enumerate(message.streak_changes):
        where = f"{path}[{index}]"
        check_key(change.streak, f"{where}.streak", violations)
        if change.streak in seen:
            violations.add(f"{where}.streak", "is given twice")
        for name, value in (("length", change.length), ("longest", change.longest)):
            if value < 0:
                violations.add(f"{where}.{name}", "must not be negative")
        seen.add(change.streak)
    return tuple(
        StreakChange(change.streak, change.version, change.length, change.longest)
        for change in message.streak_changes
    )


def reversals_from_proto(
    request: achievement_service_pb2.RevertEventsRequest,
) -> list[ReversalWork]:
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


def check_maintenance(request: achievement_service_pb2.RunMaintenanceRequest) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    instant_field(request, "now", "", violations)
    check_hold_seconds(request.hold_seconds, "hold_seconds", violations)
    violations.raise_if_any()


def check_user(user_id: str) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(user_id, "user_id", violations)
    violations.raise_if_any()


# Outcomes


def applied_outcome(entry_id: UUID, changes: Sequence[Change], catalogue: Catalogue) -> bytes:
    """What an entry did, as it is stored and answered for ever."""
    return achievement_service_pb2.ApplyEventsOutcome(
        entry_id=str(entry_id), changes=[_change(change, catalogue) for change in changes]
    ).SerializeToString(deterministic=True)


def refused_outcome(entry_id: UUID | str, error: LaurelError) -> bytes:
    """Why an entry was refused."""
    return achievement_service_pb2.ApplyEventsOutcome(
        entry_id=str(entry_id), error=error_message(error, DOMAIN)
    ).SerializeToString(deterministic=True)


def reverted_outcome(fact: Fact, changes: Sequence[Change], catalogue: Catalogue) -> bytes:
    """What undoing an entry changed."""
    return achievement_service_pb2.RevertEventsOutcome(
        entry_id=str(fact.entry_id),
        reverted=True,
        changes=[_change(change, catalogue) for change in changes],
    ).SerializeToString(deterministic=True)


def nothing_reverted(entry_id: UUID) -> bytes:
    """There was nothing to undo; the entry is refused from now on."""
    return achievement_service_pb2.RevertEventsOutcome(entry_id=str(entry_id)).SerializeToString(
        deterministic=True
    )


def refusal_error(refusal: Refusal, achievement: str) -> LaurelError:
    """The error of a call that is refused."""
    error_type, message = _REFUSALS[refusal]
    return error_type(message, reason=refusal.value, metadata={"achievement": achievement}, domain=DOMAIN)


def _change(change: Change, catalogue: Catalogue) -> achievement_pb2.AchievementChange:
    completion = change.completion
    message = achievement_pb2.AchievementChange(
        achievement=completion.achievement,
        kind=achievement_pb2.AchievementChangeKind.ValueType(change.kind),
        completion_id=str(completion.completion_id),
        complete_time=to_timestamp(completion.complete_time),
    )
    if definition := catalogue.get(completion.achievement):
        message.name = definition.name
        message.tier_group = definition.tier_group
        message.tier = definition.tier
        message.badge_url = definition.badge_url
    return message


def progress_to_proto(progress: Progress) -> achievement_pb2.UserAchievement:
    """A user's standing with one achievement; amounts in units of its target."""
    definition = progress.achievement
    in_units = from_micros if isinstance(definition.trigger, MetricTrigger) else float
    message = achievement_pb2.UserAchievement(
        achievement=definition.key,
        name=definition.name,
        completed=progress.completion is not None,
        current=in_units(progress.current),
        target=in_units(definition.trigger.target),
        percent=progress.percent,
        tier_group=definition.tier_group,
        tier=definition.tier,
        badge_url=definition.badge_url,
    )
    if progress.completion is not None:
        message.complete_time.CopyFrom(to_timestamp(progress.completion.complete_time))
        message.entry_id = str(progress.completion.entry_id)
    return message
