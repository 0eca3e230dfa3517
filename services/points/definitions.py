"""Definitions of points systems: what is wrong with a message, what it mentions, and what it means to the domain."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from laurel.points.v1 import points_pb2
from msgspec import Struct

from services.points.config import (
    MAX_BADGE_URL_CHARS,
    MAX_BOOSTS,
    MAX_COOLDOWN_SECONDS,
    MAX_DAYS,
    MAX_EXPIRY_DAYS,
    MAX_HOURS,
    MAX_LEVELS,
    MAX_MULTIPLIER,
    MAX_STREAK_LENGTH,
    MAX_TRIGGER_AMOUNT,
    MAX_TRIGGERS,
)
from services.points.domain.definitions import (
    ONE,
    POINTS_LIMIT,
    AchievementCause,
    Boost,
    Catalogue,
    DateWindow,
    Expiry,
    Level,
    LevelBasis,
    MetricCause,
    PointsSystem,
    Rounding,
    Stacking,
    StreakCause,
    TimeCause,
    TimeWindow,
    Trigger,
    UserCreatedCause,
)
from shared.decimals import InvalidValue, to_micros
from shared.definition_plan import StoredDefinitions
from shared.definitions import DefinitionKind, Name, Reference
from shared.errors import Violations
from shared.rpc.convert import check_key, check_text, check_user_id, date_from_proto, instant_field
from shared.rpc.filters import filters_from_proto

_STATUSES: Final = frozenset(points_pb2.PointsSystemStatus.values())
_BASES: Final[Mapping[int, LevelBasis]] = {
    points_pb2.LEVEL_BASIS_UNSPECIFIED: LevelBasis.BALANCE,
    points_pb2.LEVEL_BASIS_BALANCE: LevelBasis.BALANCE,
    points_pb2.LEVEL_BASIS_LIFETIME: LevelBasis.LIFETIME,
}
_ROUNDINGS: Final[Mapping[int, Rounding]] = {
    points_pb2.BOOST_ROUNDING_UNSPECIFIED: Rounding.FLOOR,
    points_pb2.BOOST_ROUNDING_FLOOR: Rounding.FLOOR,
    points_pb2.BOOST_ROUNDING_CEIL: Rounding.CEIL,
    points_pb2.BOOST_ROUNDING_NEAREST: Rounding.NEAREST,
}
_STACKINGS: Final[Mapping[int, Stacking]] = {
    points_pb2.BOOST_STACKING_UNSPECIFIED: Stacking.MULTIPLY,
    points_pb2.BOOST_STACKING_MULTIPLY: Stacking.MULTIPLY,
    points_pb2.BOOST_STACKING_HIGHEST: Stacking.HIGHEST,
}


class Configuration(Struct, frozen=True):
    """All systems, as decisions see them and as they are shown."""

    catalogue: Catalogue
    messages: Mapping[str, points_pb2.PointsSystem]


# Validation


def check_system(message: points_pb2.PointsSystem, path: str, violations: Violations) -> None:
    """Everything that is wrong with a definition, besides its key."""
    check_text(message.name, f"{path}.name", violations, min_chars=0)
    check_text(message.unit, f"{path}.unit", violations, min_chars=0)
    if message.level_basis not in _BASES:
        violations.add(f"{path}.level_basis", "is not something that levels look at")
    if message.status not in _STATUSES:
        violations.add(f"{path}.status", "is not a status of a points system")
    _check_bounds(message, path, violations)
    _check_levels(message.levels, f"{path}.levels", violations)
    _check_triggers(message.triggers, f"{path}.triggers", violations)
    if message.boost_stacking not in _STACKINGS:
        violations.add(f"{path}.boost_stacking", "is not something that boosts do together")
    _check_boosts(message, f"{path}.boosts", violations)
    if message.HasField("expiry"):
        _check_expiry(message.expiry, f"{path}.expiry", violations)


def normalised(message: points_pb2.PointsSystem) -> points_pb2.PointsSystem:
    """With its defaults made explicit and its levels in order."""
    if not message.HasField("max_balance"):
        message.max_balance = POINTS_LIMIT
    if message.level_basis == points_pb2.LEVEL_BASIS_UNSPECIFIED:
        message.level_basis = points_pb2.LEVEL_BASIS_BALANCE
    if message.status == points_pb2.POINTS_SYSTEM_STATUS_UNSPECIFIED:
        message.status = points_pb2.POINTS_SYSTEM_STATUS_ACTIVE
    message.levels.sort(key=lambda level: level.threshold)
    if message.boosts and message.boost_stacking == points_pb2.BOOST_STACKING_UNSPECIFIED:
        message.boost_stacking = points_pb2.BOOST_STACKING_MULTIPLY
    for boost in message.boosts:
        if boost.rounding == points_pb2.BOOST_ROUNDING_UNSPECIFIED:
            boost.rounding = points_pb2.BOOST_ROUNDING_FLOOR
    return message


def _check_bounds(message: points_pb2.PointsSystem, path: str, violations: Violations) -> None:
    highest = message.max_balance if message.HasField("max_balance") else POINTS_LIMIT
    _check_points(highest, f"{path}.max_balance", violations)
    _check_points(message.min_balance, f"{path}.min_balance", violations)
    if message.HasField("daily_cap"):
        _check_limit(message.daily_cap, f"{path}.daily_cap", violations)
    if message.min_balance > highest:
        violations.add(f"{path}.min_balance", "must not be above max_balance")


def _check_expiry(expiry: points_pb2.PointsExpiry, path: str, violations: Violations) -> None:
    if not 0 <= expiry.after_days <= MAX_EXPIRY_DAYS:
        violations.add(f"{path}.after_days", f"must be 0 to {MAX_EXPIRY_DAYS:,}")
    if expiry.yearly_date and _month_and_day(expiry.yearly_date) is None:
        violations.add(f"{path}.yearly_date", "must be a month and a day, such as 01-01")
    if expiry.HasField("on_date"):
        date_from_proto(expiry.on_date, f"{path}.on_date", violations)
        if expiry.after_days or expiry.yearly_date:
            violations.add(f"{path}.on_date", "goes with neither after_days nor yearly_date")
    elif not expiry.after_days and not expiry.yearly_date:
        violations.add(path, "must have one of after_days, yearly_date, on_date")


def _month_and_day(text: str) -> tuple[int, int] | None:
    """Also 29 February."""
    try:
        day = date.fromisoformat(f"2000-{text}")
    except ValueError:
        return None
    return (day.month, day.day) if len(text) == len("01-01") else None


def _check_points(value: int, path: str, violations: Violations) -> None:
    if abs(value) > POINTS_LIMIT:
        violations.add(path, f"must have a magnitude of at most {POINTS_LIMIT}")


def _check_levels(levels: Sequence[points_pb2.Level], path: str, violations: Violations) -> None:
    if len(levels) > MAX_LEVELS:
        violations.add(path, f"must have at most {MAX_LEVELS} levels")
        return
    for index, level in enumerate(levels):
        where = f"{path}[{index}]"
        check_key(level.key, f"{where}.key", violations)
        check_text(level.name, f"{where}.name", violations, min_chars=0)
        check_text(
            level.badge_url, f"{where}.badge_url", violations, min_chars=0, max_chars=MAX_BADGE_URL_CHARS
        )
        _check_points(level.threshold, f"{where}.threshold", violations)
        if level.multiplier:
            _check_multiplier(level.multiplier, f"{where}.multiplier", violations)
    _check_distinct([level.key for level in levels], path, "key", violations)
    _check_distinct([level.threshold for level in levels], path, "threshold", violations)


def _check_triggers(triggers: Sequence[points_pb2.PointsTrigger], path: str, violations: Violations) -> None:
    if len(triggers) > MAX_TRIGGERS:
        violations.add(path, f"must have at most {MAX_TRIGGERS} triggers")
        return
    for index, trigger in enumerate(triggers):
        where = f"{path}[{index}]"
        check_key(trigger.key, f"{where}.key", violations)
        if not 1 <= abs(trigger.amount) <= MAX_TRIGGER_AMOUNT:
            violations.add(f"{where}.amount", f"must be 1 to {MAX_TRIGGER_AMOUNT}, or the negative of that")
        if trigger.block and trigger.amount > 0:
            violations.add(f"{where}.block", "is only for deductions")
        _check_day_limits(trigger, where, violations)
        filters_from_proto(trigger.user_filters, f"{where}.user_filters", violations)
        _check_cause(trigger, where, violations)
    _check_distinct([trigger.key for trigger in triggers], path, "key", violations)


def _check_cause(trigger: points_pb2.PointsTrigger, path: str, violations: Violations) -> None:
    match trigger.WhichOneof("cause"):
        case "metric":
            check_key(trigger.metric.metric, f"{path}.metric.metric", violations)
            _check_every(trigger.metric.every, f"{path}.metric.every", violations)
            filters_from_proto(trigger.metric.event_filters, f"{path}.metric.event_filters", violations)
        case "streak":
            check_key(trigger.streak.streak, f"{path}.streak.streak", violations)
            if not 1 <= trigger.streak.length <= MAX_STREAK_LENGTH:
                violations.add(f"{path}.streak.length", f"must be 1 to {MAX_STREAK_LENGTH}")
        case "achievement":
            if trigger.achievement.achievement:
                check_key(trigger.achievement.achievement, f"{path}.achievement.achievement", violations)
        case "user_created":
            pass
        case "time":
            _check_time(trigger.time, f"{path}.time", violations)
        case None:
            violations.add(path, "must have one of metric, streak, achievement, user_created, time")


def _check_time(time: points_pb2.TimePointsTrigger, path: str, violations: Violations) -> None:
    match time.WhichOneof("schedule"):
        case "every_hours":
            if not 1 <= time.every_hours <= MAX_HOURS:
                violations.add(f"{path}.every_hours", f"must be 1 to {MAX_HOURS}")
        case "every_days":
            if not 1 <= time.every_days <= MAX_DAYS:
                violations.add(f"{path}.every_days", f"must be 1 to {MAX_DAYS}")
        case "yearly_attribute":
            check_text(time.yearly_attribute, f"{path}.yearly_attribute", violations, max_chars=64)
        case None:
            violations.add(path, "must have one of every_hours, every_days, yearly_attribute")


def _check_day_limits(trigger: points_pb2.PointsTrigger, path: str, violations: Violations) -> None:
    if trigger.HasField("daily_limit"):
        _check_limit(trigger.daily_limit, f"{path}.daily_limit", violations)
        if trigger.amount < 0:
            violations.add(f"{path}.daily_limit", "is only for earnings")
        elif trigger.HasField("time"):
            violations.add(f"{path}.daily_limit", "is not for what comes by time")
    if not 0 <= trigger.cooldown_seconds <= MAX_COOLDOWN_SECONDS:
        violations.add(f"{path}.cooldown_seconds", f"must be 0 to {MAX_COOLDOWN_SECONDS}")
    elif trigger.cooldown_seconds and trigger.amount < 0:
        violations.add(f"{path}.cooldown_seconds", "is only for earnings")
    elif trigger.cooldown_seconds and trigger.HasField("time"):
        violations.add(f"{path}.cooldown_seconds", "is not for what comes by time")
    if trigger.block and trigger.HasField("time"):
        violations.add(f"{path}.block", "is not for what comes by time: nobody could be refused")


def _check_limit(limit: int, path: str, violations: Violations) -> None:
    if not 0 <= limit <= POINTS_LIMIT:
        violations.add(path, f"must be 0 to {POINTS_LIMIT}")


def _check_boosts(message: points_pb2.PointsSystem, path: str, violations: Violations) -> None:
    if len(message.boosts) > MAX_BOOSTS:
        violations.add(path, f"must have at most {MAX_BOOSTS} boosts")
        return
    triggers = {trigger.key for trigger in message.triggers}
    for index, boost in enumerate(message.boosts):
        where = f"{path}[{index}]"
        check_key(boost.key, f"{where}.key", violations)
        check_text(boost.name, f"{where}.name", violations, min_chars=0)
        _check_multiplier(boost.multiplier, f"{where}.multiplier", violations)
        _check_window(boost, where, violations)
        for number, trigger in enumerate(boost.triggers):
            if trigger not in triggers:
                violations.add(f"{where}.triggers[{number}]", f"the system has no trigger {trigger!r}")
        filters_from_proto(boost.user_filters, f"{where}.user_filters", violations)
        if boost.user_id:
            check_user_id(boost.user_id, f"{where}.user_id", violations)
        if boost.rounding not in _ROUNDINGS:
            violations.add(f"{where}.rounding", "is not a rounding")
    _check_distinct([boost.key for boost in message.boosts], path, "key", violations)


def _check_multiplier(multiplier: float, path: str, violations: Violations) -> None:
    if not 0 < multiplier < MAX_MULTIPLIER:
        violations.add(path, f"must be above 0 and below {MAX_MULTIPLIER}")
        return
    try:
        to_micros(multiplier)
    except InvalidValue as error:
        violations.add(path, str(error))


def _check_window(boost: points_pb2.PointsBoost, path: str, violations: Violations) -> None:
    before = len(violations)
    start_time, end_time, start_date, end_date = _ends(boost, path, violations)
    if len(violations) > before:
        return
    if (start_time is None) == (start_date is None):
        violations.add(path, "must have one of start_time, start_date")
    elif start_time is not None and end_date is not None:
        violations.add(f"{path}.end_date", "goes with start_date")
    elif start_date is not None and end_time is not None:
        violations.add(f"{path}.end_time", "goes with start_time")
    elif start_time is not None and end_time is not None and end_time <= start_time:
        violations.add(f"{path}.end_time", "must be after start_time")
    elif start_date is not None and end_date is not None and end_date < start_date:
        violations.add(f"{path}.end_date", "must not be before start_date")


class _Ends(NamedTuple):
    """Both ends of a window, as far as they are set."""

    start_time: datetime | None
    end_time: datetime | None
    start_date: date | None
    end_date: date | None


def _ends(boost: points_pb2.PointsBoost, path: str, violations: Violations) -> _Ends:
    return _Ends(
        instant_field(boost, "start_time", path, violations) if boost.HasField("start_time") else None,
        instant_field(boost, "end_time", path, violations) if boost.HasField("end_time") else None,
        date_from_proto(boost.start_date, f"{path}.start_date", violations)
        if boost.HasField("start_date")
        else None,
        date_from_proto(boost.end_date, f"{path}.end_date", violations)
        if boost.HasField("end_date")
        else None,
    )


def _check_every(every: float, path: str, violations: Violations) -> None:
    if math.isfinite(every) and every <= 0:
        violations.add(path, "must be above zero")
        return
    try:
        to_micros(every)
    except InvalidValue as error:
        violations.add(path, str(error))


def _check_distinct(values: Sequence[object], path: str, field: str, violations: Violations) -> None:
    first: dict[object, int] = {}
    for index, value in enumerate(values):
        earlier = first.setdefault(value, index)
        if earlier != index:
            violations.add(f"{path}[{index}].{field}", f"is also the {field} of {path}[{earlier}]")


# Relations


def references(message: points_pb2.PointsSystem) -> Iterator[Reference]:
    """What causes its triggers; one by any achievement mentions none."""
    for index, trigger in enumerate(message.triggers):
        path = f"triggers[{index}]"
        match trigger.WhichOneof("cause"):
            case "metric":
                yield Reference(f"{path}.metric.metric", Name("metric", trigger.metric.metric))
            case "streak":
                yield Reference(f"{path}.streak.streak", Name("streak", trigger.streak.streak))
            case "achievement" if trigger.achievement.achievement:
                name = Name("achievement", trigger.achievement.achievement)
                yield Reference(f"{path}.achievement.achievement", name)


def check_change(
    before: points_pb2.PointsSystem, after: points_pb2.PointsSystem, path: str, violations: Violations
) -> None:
    """The kind of a trigger's cause never changes: what one kind has counted means nothing to another."""
    kinds = {trigger.key: trigger.WhichOneof("cause") for trigger in before.triggers}
    for index, trigger in enumerate(after.triggers):
        kind = trigger.WhichOneof("cause")
        if kinds.get(trigger.key, kind) != kind:
            violations.add(
                f"{path}.triggers[{index}].{kind}", "the kind of a trigger's cause cannot be changed"
            )


POINTS_SYSTEM: Final = DefinitionKind(
    name="points_system",
    message_type=points_pb2.PointsSystem,
    validate=check_system,
    normalise=normalised,
    references=references,
    check_change=check_change,
    not_found="POINTS_SYSTEM_NOT_FOUND",
    exists="POINTS_SYSTEM_EXISTS",
    in_use="POINTS_SYSTEM_IN_USE",
)

KINDS: Final = (POINTS_SYSTEM,)
"""What this service owns."""


# Domain


def catalogue_of(stored: StoredDefinitions) -> Configuration:
    """All definitions as decisions see them and as they are shown."""
    messages = stored.of(POINTS_SYSTEM)
    catalogue = catalogue_from(messages, stored.version)
    return Configuration(catalogue, {message.key: message for message in messages})


def catalogue_from(messages: Iterable[points_pb2.PointsSystem], version: int) -> Catalogue:
    """The systems of a version of the configuration."""
    return Catalogue.of(map(_system, messages), version)


def _system(message: points_pb2.PointsSystem) -> PointsSystem:
    return PointsSystem(
        key=message.key,
        triggers=tuple(map(_trigger, message.triggers)),
        levels=tuple(map(_level, message.levels)),
        level_basis=_BASES[message.level_basis],
        min_balance=message.min_balance,
        max_balance=message.max_balance,
        active=message.status != points_pb2.POINTS_SYSTEM_STATUS_ARCHIVED,
        daily_cap=message.daily_cap if message.HasField("daily_cap") else None,
        boosts=tuple(boost_of(boost) for boost in message.boosts if not boost.cancelled),
        stacking=_STACKINGS[message.boost_stacking],
        expiry=_expiry(message.expiry) if message.HasField("expiry") else None,
    )


def _expiry(message: points_pb2.PointsExpiry) -> Expiry:
    unchecked = Violations()  # what is stored was checked when it came
    on_date = date_from_proto(message.on_date, "on_date", unchecked) if message.HasField("on_date") else None
    return Expiry(message.after_days, _month_and_day(message.yearly_date), on_date)


def _level(message: points_pb2.Level) -> Level:
    return Level(message.key, message.threshold, to_micros(message.multiplier) if message.multiplier else ONE)


def boost_of(message: points_pb2.PointsBoost) -> Boost:
    """A boost as decisions see it."""
    unchecked = Violations()  # what is stored was checked when it came
    return Boost(
        key=message.key,
        multiplier_micros=to_micros(message.multiplier),
        window=_window(message, unchecked),
        triggers=frozenset(message.triggers),
        user_filters=filters_from_proto(message.user_filters, "user_filters", unchecked),
        user_id=message.user_id,
        rounding=_ROUNDINGS[message.rounding],
    )


def _window(message: points_pb2.PointsBoost, unchecked: Violations) -> TimeWindow | DateWindow:
    ends = _ends(message, "", unchecked)
    if ends.start_time is not None:
        return TimeWindow(ends.start_time, ends.end_time)
    assert ends.start_date is not None
    return DateWindow(ends.start_date, ends.end_date)


def _trigger(message: points_pb2.PointsTrigger) -> Trigger:
    unchecked = Violations()  # what is stored was checked when it came
    return Trigger(
        key=message.key,
        amount=message.amount,
        cause=_cause(message, unchecked),
        user_filters=filters_from_proto(message.user_filters, "user_filters", unchecked),
        block=message.block,
        daily_limit=message.daily_limit if message.HasField("daily_limit") else None,
        cooldown=timedelta(seconds=message.cooldown_seconds),
    )


def _cause(
    message: points_pb2.PointsTrigger, unchecked: Violations
) -> MetricCause | StreakCause | AchievementCause | UserCreatedCause | TimeCause:
    match message.WhichOneof("cause"):
        case "metric":
            filters = filters_from_proto(message.metric.event_filters, "event_filters", unchecked)
            return MetricCause(message.metric.metric, to_micros(message.metric.every), filters)
        case "streak":
            return StreakCause(message.streak.streak, message.streak.length, message.streak.once)
        case "achievement":
            return AchievementCause(message.achievement.achievement or None)
        case "time":
            return TimeCause(message.time.every_hours, message.time.every_days, message.time.yearly_attribute)
        case _:
            return UserCreatedCause()
