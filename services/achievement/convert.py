"""Between the messages of laurel.achievement.v1 and the domain, with all syntactic validation."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask
from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1.effects_pb2 import Effects

from services.achievement.config import (
    MAX_BADGE_URL_CHARS,
    MAX_DESCRIPTION_CHARS,
    MAX_STREAK_LENGTH,
    MAX_TIER,
)
from services.achievement.domain import (
    Achievement,
    ApiTrigger,
    Catalogue,
    Change,
    Command,
    MetricTrigger,
    Progress,
    Refusal,
    Status,
    StreakChange,
    StreakTrigger,
)
from shared.decimals import InvalidValue, from_micros, to_micros
from shared.entries import Entry
from shared.errors import FailedPrecondition, LaurelError, NotFound, Violations
from shared.rpc.convert import (
    check_key,
    check_text,
    check_user_id,
    to_timestamp,
)
from shared.rpc.filters import filters_from_proto

DOMAIN: Final = "achievement.laurel"
"""In whose name errors are."""

_STATUSES: Final[Mapping[int, Status]] = {
    achievement_pb2.ACHIEVEMENT_STATUS_UNSPECIFIED: Status.ACTIVE,
    achievement_pb2.ACHIEVEMENT_STATUS_INACTIVE: Status.INACTIVE,
    achievement_pb2.ACHIEVEMENT_STATUS_ACTIVE: Status.ACTIVE,
    achievement_pb2.ACHIEVEMENT_STATUS_LOCKED: Status.LOCKED,
    achievement_pb2.ACHIEVEMENT_STATUS_ARCHIVED: Status.ARCHIVED,
}
_TRIGGER_FIELDS: Final[Mapping[type[MetricTrigger | StreakTrigger | ApiTrigger], str]] = {
    MetricTrigger: "metric",
    StreakTrigger: "streak",
    ApiTrigger: "api",
}
_REFUSALS: Final[Mapping[Refusal, tuple[type[LaurelError], str]]] = {
    Refusal.NOT_FOUND: (NotFound, "there is no such achievement"),
    Refusal.NOT_ACTIVE: (FailedPrecondition, "the achievement is not active"),
    Refusal.TRIGGER_NOT_API: (FailedPrecondition, "the achievement is not earned by call"),
    Refusal.USER_NOT_ELIGIBLE: (FailedPrecondition, "the user does not match the achievement's filters"),
}


# Definitions


def check_achievement(message: achievement_pb2.Achievement, path: str, violations: Violations) -> None:
    """Everything that is wrong with a definition, besides its key."""
    check_text(message.name, f"{path}.name", violations, min_chars=0)
    check_text(
        message.description, f"{path}.description", violations, min_chars=0, max_chars=MAX_DESCRIPTION_CHARS
    )
    check_text(message.badge_url, f"{path}.badge_url", violations, min_chars=0, max_chars=MAX_BADGE_URL_CHARS)
    filters_from_proto(message.user_filters, f"{path}.user_filters", violations)
    if message.status not in _STATUSES:
        violations.add(f"{path}.status", "is not a status of an achievement")
    if message.tier_group:
        check_key(message.tier_group, f"{path}.tier_group", violations)
    if not 0 <= message.tier <= MAX_TIER:
        violations.add(f"{path}.tier", f"must be 0 to {MAX_TIER}")
    _check_trigger(message, path, violations)


def _check_trigger(message: achievement_pb2.Achievement, path: str, violations: Violations) -> None:
    match message.WhichOneof("trigger"):
        case "metric":
            check_key(message.metric.metric, f"{path}.metric.metric", violations)
            _check_threshold(message.metric.threshold, f"{path}.metric.threshold", violations)
            filters_from_proto(message.metric.event_filters, f"{path}.metric.event_filters", violations)
        case "streak":
            check_key(message.streak.streak, f"{path}.streak.streak", violations)
            if not 1 <= message.streak.length <= MAX_STREAK_LENGTH:
                violations.add(f"{path}.streak.length", f"must be 1 to {MAX_STREAK_LENGTH}")
        case "api":
            pass
        case None:
            violations.add(path, "must have one of metric, streak, api")


def _check_threshold(threshold: float, path: str, violations: Violations) -> None:
    if math.isfinite(threshold) and threshold <= 0:
        violations.add(path, "must be above zero")
        return
    try:
        to_micros(threshold)
    except InvalidValue as error:
        violations.add(path, str(error))


def normalised(message: achievement_pb2.Achievement) -> achievement_pb2.Achievement:
    """With its default status made explicit."""
    if message.status == achievement_pb2.ACHIEVEMENT_STATUS_UNSPECIFIED:
        message.status = achievement_pb2.ACHIEVEMENT_STATUS_ACTIVE
    return message


def catalogue_from_messages(messages: Sequence[achievement_pb2.Achievement]) -> Catalogue:
    """All definitions as the domain sees them."""
    return Catalogue(_achievement(message) for message in messages)


def _achievement(message: achievement_pb2.Achievement) -> Achievement:
    unchecked = Violations()  # what is stored was checked when it came
    return Achievement(
        key=message.key,
        name=message.name,
        trigger=_trigger(message, unchecked),
        user_filters=filters_from_proto(message.user_filters, "user_filters", unchecked),
        status=_STATUSES[message.status],
        tier_group=message.tier_group,
        tier=message.tier,
        hidden=message.hidden,
        badge_url=message.badge_url,
    )


def _trigger(
    message: achievement_pb2.Achievement, unchecked: Violations
) -> MetricTrigger | StreakTrigger | ApiTrigger:
    match message.WhichOneof("trigger"):
        case "metric":
            filters = filters_from_proto(message.metric.event_filters, "event_filters", unchecked)
            return MetricTrigger(message.metric.metric, to_micros(message.metric.threshold), filters)
        case "streak":
            return StreakTrigger(message.streak.streak, message.streak.length)
        case _:
            return ApiTrigger()


def check_trigger_kind(
    stored: Achievement | None,
    wanted: achievement_pb2.Achievement,
    path: str,
    violations: Violations,
    mask: FieldMask | None = None,
) -> None:
    """The kind of a trigger never changes: what was completed by one kind means nothing to another."""
    named = wanted.WhichOneof("trigger")
    if stored is None or named is None or named == _TRIGGER_FIELDS[type(stored.trigger)]:
        return
    if mask is None or not mask.paths or any(item.partition(".")[0] in (named, "*") for item in mask.paths):
        violations.add(f"{path}.{named}", "the kind of an achievement's trigger cannot be changed")


# The saga


def command(entry: Entry, effects: Effects, path: str, violations: Violations) -> Command:
    """The domain's command: what streaks changed, and for a call the achievement to complete."""
    return Command(entry, _streak_changes(effects, f"{path}.streaks", violations), entry.achievement)


def _streak_changes(effects: Effects, path: str, violations: Violations) -> tuple[StreakChange, ...]:
    seen: set[str] = set()
    changes = []
    for index, effect in enumerate(effects.streaks):
        if not effect.HasField("change"):
            continue
        change, where = effect.change, f"{path}[{index}].change"
        check_key(change.streak, f"{where}.streak", violations)
        if change.streak in seen:
            violations.add(f"{where}.streak", "is given twice")
        for name, value in (("length", change.length), ("longest", change.longest)):
            if value < 0:
                violations.add(f"{where}.{name}", "must not be negative")
        seen.add(change.streak)
        changes.append(StreakChange(change.streak, change.version, change.length, change.longest))
    return tuple(changes)


# Reads


def check_user(user_id: str) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(user_id, "user_id", violations)
    violations.raise_if_any()


# What changed


def effects(user_id: str, changes: Sequence[Change], catalogue: Catalogue) -> Effects:
    """What an entry, or its undoing, did to a user's achievements."""
    return Effects(achievements=[_change(user_id, change, catalogue) for change in changes])


def refusal_error(refusal: Refusal, achievement: str) -> LaurelError:
    """The error of a call that is refused."""
    error_type, message = _REFUSALS[refusal]
    return error_type(message, reason=refusal.value, metadata={"achievement": achievement}, domain=DOMAIN)


def _change(user_id: str, change: Change, catalogue: Catalogue) -> achievement_pb2.AchievementChange:
    completion = change.completion
    message = achievement_pb2.AchievementChange(
        user_id=user_id,
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
