"""Definitions of achievements: what is wrong with a message, what it mentions, and what it means to the domain."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, Literal

from laurel.achievement.v1 import achievement_pb2

from services.achievement.config import (
    MAX_BADGE_URL_CHARS,
    MAX_COMPOSITE_LEVELS,
    MAX_DESCRIPTION_CHARS,
    MAX_PREREQUISITES,
    MAX_STREAK_LENGTH,
    MAX_TIER,
    MAX_YEARS,
)
from services.achievement.domain import (
    Achievement,
    AnniversaryTrigger,
    ApiTrigger,
    Catalogue,
    CompositeTrigger,
    MetricTrigger,
    Status,
    StreakTrigger,
    Trigger,
    in_circles,
    levels_of,
)
from shared.decimals import InvalidValue, to_micros
from shared.definition_plan import StoredDefinitions
from shared.definitions import DefinitionKind, Name, Reference
from shared.errors import Violations
from shared.rpc.convert import check_key, check_text, instant_field
from shared.rpc.filters import filters_from_proto

_STATUSES: Final[Mapping[int, Status]] = {
    achievement_pb2.ACHIEVEMENT_STATUS_UNSPECIFIED: Status.ACTIVE,
    achievement_pb2.ACHIEVEMENT_STATUS_INACTIVE: Status.INACTIVE,
    achievement_pb2.ACHIEVEMENT_STATUS_ACTIVE: Status.ACTIVE,
    achievement_pb2.ACHIEVEMENT_STATUS_LOCKED: Status.LOCKED,
    achievement_pb2.ACHIEVEMENT_STATUS_ARCHIVED: Status.ARCHIVED,
}


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
    if message.repeatable and message.HasField("composite"):
        violations.add(f"{path}.repeatable", "is not for a composite")
    earn_from = _instant(message, "earn_from", path, violations)
    earn_until = _instant(message, "earn_until", path, violations)
    if earn_from is not None and earn_until is not None and earn_until <= earn_from:
        violations.add(f"{path}.earn_until", "must be after earn_from")


def _instant(
    message: achievement_pb2.Achievement,
    field: Literal["earn_from", "earn_until"],
    path: str,
    violations: Violations,
) -> datetime | None:
    return instant_field(message, field, path, violations) if message.HasField(field) else None


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
        case "composite":
            _check_composite(message, f"{path}.composite", violations)
        case "anniversary":
            if not 1 <= message.anniversary.years <= MAX_YEARS:
                violations.add(f"{path}.anniversary.years", f"must be 1 to {MAX_YEARS}")
        case "api":
            pass
        case None:
            violations.add(path, "must have one of metric, streak, api, composite, anniversary")


def _check_composite(message: achievement_pb2.Achievement, path: str, violations: Violations) -> None:
    wanted = message.composite.achievements
    if not 1 <= len(wanted) <= MAX_PREREQUISITES:
        violations.add(f"{path}.achievements", f"must have 1 to {MAX_PREREQUISITES} achievements")
    for index, key in enumerate(wanted):
        check_key(key, f"{path}.achievements[{index}]", violations)
        if key in wanted[:index]:
            violations.add(f"{path}.achievements[{index}]", "is there twice")
    if not 0 <= message.composite.at_least <= len(wanted):
        violations.add(f"{path}.at_least", "must be 0 (all of them) to the number of achievements")


def check_composites(
    messages: Mapping[str, tuple[str, achievement_pb2.Achievement]], violations: Violations
) -> None:
    """Composites hang on one another in no circle, and not too deep (RULES 4.3). What is wrong is said of what is
    written.
    """
    composites = {
        key: message.composite.achievements
        for key, (_, message) in messages.items()
        if message.HasField("composite")
    }
    for key in sorted(in_circles(composites)):
        if path := messages[key][0]:
            violations.add(f"{path}.composite.achievements", "would make it a prerequisite of itself")
    deep = [key for key, level in levels_of(composites).items() if level > MAX_COMPOSITE_LEVELS]
    for key in deep:
        written = messages[key][0] or next((path for path, _ in messages.values() if path), "")
        violations.add(
            f"{written}.composite.achievements",
            f"would put {key!r} more than {MAX_COMPOSITE_LEVELS} levels of composites deep",
        )


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


def references(message: achievement_pb2.Achievement) -> Iterator[Reference]:
    """What has to be reached for it."""
    match message.WhichOneof("trigger"):
        case "metric":
            yield Reference("metric.metric", Name("metric", message.metric.metric))
        case "streak":
            yield Reference("streak.streak", Name("streak", message.streak.streak))
        case "composite":
            for index, key in enumerate(message.composite.achievements):
                yield Reference(f"composite.achievements[{index}]", Name("achievement", key))


def check_change(
    before: achievement_pb2.Achievement,
    after: achievement_pb2.Achievement,
    path: str,
    violations: Violations,
) -> None:
    """The kind of a trigger never changes: what was completed by one kind means nothing to another."""
    kind = after.WhichOneof("trigger")
    if kind != before.WhichOneof("trigger"):
        violations.add(f"{path}.{kind}", "the kind of an achievement's trigger cannot be changed")


ACHIEVEMENT: Final = DefinitionKind(
    name="achievement",
    message_type=achievement_pb2.Achievement,
    validate=check_achievement,
    normalise=normalised,
    references=references,
    check_change=check_change,
    check_all=check_composites,
    not_found="ACHIEVEMENT_NOT_FOUND",
    exists="ACHIEVEMENT_EXISTS",
    in_use="ACHIEVEMENT_IN_USE",
)

KINDS: Final = (ACHIEVEMENT,)
"""What this service owns."""


# Domain


def catalogue_of(stored: StoredDefinitions) -> Catalogue:
    """All definitions as the domain sees them."""
    return Catalogue(map(achievement_of, stored.of(ACHIEVEMENT)))


def achievement_of(message: achievement_pb2.Achievement) -> Achievement:
    """A checked definition as the domain sees it."""
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
        repeatable=message.repeatable,
        earn_from=_instant(message, "earn_from", "", unchecked),
        earn_until=_instant(message, "earn_until", "", unchecked),
        award_backdated=message.award_backdated,
    )


def _trigger(message: achievement_pb2.Achievement, unchecked: Violations) -> Trigger:
    match message.WhichOneof("trigger"):
        case "metric":
            filters = filters_from_proto(message.metric.event_filters, "event_filters", unchecked)
            return MetricTrigger(message.metric.metric, to_micros(message.metric.threshold), filters)
        case "streak":
            return StreakTrigger(message.streak.streak, message.streak.length)
        case "composite":
            wanted = tuple(message.composite.achievements)
            return CompositeTrigger(wanted, message.composite.at_least or len(wanted))
        case "anniversary":
            return AnniversaryTrigger(message.anniversary.years)
        case _:
            return ApiTrigger()
