"""Definitions of streaks: what is wrong with a message, what it mentions, and what it means to the domain."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, timedelta
from typing import Final

from laurel.streak.v1 import streak_pb2, streak_service_pb2
from msgspec.structs import replace

from services.streak.config import (
    MAX_AMNESTIES,
    MAX_AMNESTY,
    MAX_AMNESTY_STREAKS,
    MAX_EARN_DAYS,
    MAX_FREEZES,
    MAX_PAUSE_DAYS_PER_YEAR,
)
from services.streak.domain import (
    Catalogue,
    FreezeSettings,
    Frequency,
    MetricMode,
    MetricThreshold,
    Overridable,
    StreakDefinition,
)
from services.streak.revisions import Revised, revised
from shared.decimals import to_micros
from shared.definition_plan import StoredDefinitions
from shared.definitions import DefinitionKind, Name, Reference
from shared.entries import MAX_DAYS_OFF, MAX_STREAK_METRICS
from shared.errors import Violations
from shared.limits import IsThreshold
from shared.rpc.convert import (
    check_key,
    check_limit,
    check_text,
    instant_field,
)
from shared.rpc.filters import filters_from_proto

_DEFAULT_THRESHOLD: Final = 1.0
_DAY_START: Final = re.compile(r"(0[0-9]|1[01]):[0-5][0-9]|12:00")


def check_streak(message: streak_pb2.Streak, path: str, violations: Violations) -> None:
    """Everything that is wrong with a definition, besides its key."""
    check_text(message.name, f"{path}.name", violations, min_chars=0)
    if message.frequency not in (
        streak_pb2.FREQUENCY_DAILY,
        streak_pb2.FREQUENCY_WEEKLY,
        streak_pb2.FREQUENCY_MONTHLY,
    ):
        violations.add(f"{path}.frequency", "must be DAILY, WEEKLY or MONTHLY")
    _check_metrics(message, path, violations)
    for field, kind in (("mode", streak_pb2.MetricMode), ("status", streak_pb2.StreakStatus)):
        if getattr(message, field) not in kind.values():
            violations.add(f"{path}.{field}", "is not one of its values")
    _check_days(message, path, violations)
    _check_freezes(message.freezes, f"{path}.freezes", violations)
    if not 0 <= message.pause_days_per_year <= MAX_PAUSE_DAYS_PER_YEAR:
        violations.add(f"{path}.pause_days_per_year", f"must be 0 to {MAX_PAUSE_DAYS_PER_YEAR}")
    filters_from_proto(message.user_filters, f"{path}.user_filters", violations)
    if message.day_start and not _DAY_START.fullmatch(message.day_start):
        violations.add(f"{path}.day_start", "must be a time from 00:00 to 12:00, such as 04:00")
    if message.backfill and message.user_filters:
        # Of history the attributes are not known here.
        violations.add(f"{path}.backfill", "is only for streaks without user_filters")
    for index, what in enumerate(message.overridable):
        if what not in streak_pb2.Overridable.values()[1:] or what in message.overridable[:index]:
            violations.add(f"{path}.overridable[{index}]", "must be one of its values, each once")
        elif what == streak_pb2.OVERRIDABLE_DAYS_OFF and message.frequency != streak_pb2.FREQUENCY_DAILY:
            violations.add(f"{path}.overridable[{index}]", "is only for daily streaks")


def normalised(message: streak_pb2.Streak) -> streak_pb2.Streak:
    """With its defaults made explicit."""
    for metric in message.metrics:
        metric.threshold = metric.threshold or _DEFAULT_THRESHOLD
    message.mode = message.mode or streak_pb2.METRIC_MODE_ANY
    message.status = message.status or streak_pb2.STREAK_STATUS_ACTIVE
    if message.frequency == streak_pb2.FREQUENCY_WEEKLY:
        message.week_start = message.week_start or streak_pb2.WEEKDAY_MONDAY
    if message.HasField("freezes") and message.freezes == streak_pb2.FreezeSettings():
        message.ClearField("freezes")
    if message.day_start == "00:00":
        message.day_start = ""
    overridable = sorted(message.overridable)
    del message.overridable[:]
    message.overridable.extend(overridable)
    days_off = sorted(message.days_off)
    del message.days_off[:]
    message.days_off.extend(days_off)
    return message


def check_amnesty(message: streak_pb2.Amnesty, path: str, violations: Violations) -> None:
    """Everything that is wrong with an amnesty, besides its key."""
    check_text(message.name, f"{path}.name", violations, min_chars=0)
    check_window(message, path, violations)
    if len(message.streaks) > MAX_AMNESTY_STREAKS:
        violations.add(f"{path}.streaks", f"must be at most {MAX_AMNESTY_STREAKS}")
    for index, key in enumerate(message.streaks[:MAX_AMNESTY_STREAKS]):
        check_key(key, f"{path}.streaks[{index}]", violations)


def check_window(
    message: streak_pb2.Amnesty | streak_service_pb2.PreviewAmnestyRequest, path: str, violations: Violations
) -> None:
    """From when to when something is excused: both are there, in order, and not far from one another."""
    start = instant_field(message, "start_time", path, violations)
    end = instant_field(message, "end_time", path, violations)
    if start and end and not start < end <= start + MAX_AMNESTY:
        where = f"{path}.end_time" if path else "end_time"
        violations.add(where, f"must be after start_time, by at most {MAX_AMNESTY.days} days")


def normalised_amnesty(message: streak_pb2.Amnesty) -> streak_pb2.Amnesty:
    """With its streaks in order, each once."""
    streaks = sorted(set(message.streaks))
    del message.streaks[:]
    message.streaks.extend(streaks)
    return message


def mentioned_streaks(message: streak_pb2.Amnesty) -> Iterator[Reference]:
    """The streaks that an amnesty is for."""
    for index, key in enumerate(message.streaks):
        yield Reference(f"streaks[{index}]", Name("streak", key))


def check_amnesties(messages: Mapping[str, tuple[str, streak_pb2.Amnesty]], violations: Violations) -> None:
    """That they are not too many: each is looked at wherever a period closes."""
    new = [path for path, _ in messages.values() if path]
    if new and len(messages) > MAX_AMNESTIES:
        violations.add(new[0], f"there are {MAX_AMNESTIES} amnesties already, and more are not kept")


def references(message: streak_pb2.Streak) -> Iterator[Reference]:
    """The metrics that count for it."""
    for index, metric in enumerate(message.metrics):
        yield Reference(f"metrics[{index}].metric", Name("metric", metric.metric))


STREAK: Final = DefinitionKind(
    name="streak",
    message_type=streak_pb2.Streak,
    validate=check_streak,
    normalise=normalised,
    references=references,
    immutable_fields=("frequency", "day_start", "backfill"),
    not_found="STREAK_NOT_FOUND",
    exists="STREAK_EXISTS",
    in_use="STREAK_IN_USE",
)

AMNESTY: Final = DefinitionKind(
    name="amnesty",
    message_type=streak_pb2.Amnesty,
    validate=check_amnesty,
    normalise=normalised_amnesty,
    references=mentioned_streaks,
    check_all=check_amnesties,
    not_found="AMNESTY_NOT_FOUND",
    exists="AMNESTY_EXISTS",
    in_use="STREAK_IN_USE",  # never: nobody holds anything of an amnesty
)

KINDS: Final = (STREAK, AMNESTY)
"""What this service owns."""


def catalogue_of(stored: StoredDefinitions) -> Catalogue:
    """All definitions as the domain sees them."""
    return Catalogue(_definition(message, revised(message, stored)) for message in stored.of(STREAK))


def _definition(message: streak_pb2.Streak, revised: Revised) -> StreakDefinition:
    """The definition with all that it was before. Whatever a period is judged by, the periods are the same."""
    periods = _with_weeks(message, revised)

    def in_these(asked: streak_pb2.Streak) -> StreakDefinition:
        return replace(_judging(asked), week_start=periods.week_start, weeks=periods.weeks)

    return replace(
        in_these(message),
        earlier=tuple((until, in_these(before)) for until, before in revised.earlier),
        amnesties=tuple(revised.amnesties),
        fingerprint=revised.fingerprint,
        past=revised.past,
    )


def _with_weeks(message: streak_pb2.Streak, revised: Revised) -> StreakDefinition:
    """A definition whose weeks begin as they ever did."""
    versions = [*(before for _, before in revised.earlier), message]
    found = _judging(versions[0])
    for (until, before), after in zip(revised.earlier, versions[1:], strict=True):
        if after.week_start != before.week_start:
            # Nobody's date is further ahead: no week that has ended anywhere gets longer.
            ahead = (until + timedelta(days=1)).date()
            found = replace(found, weeks=found.with_weeks_from(ahead, _judging(after).week_start))
    return found


def _judging(message: streak_pb2.Streak) -> StreakDefinition:
    unchecked = Violations()  # what is stored was checked when it came
    return StreakDefinition(
        key=message.key,
        frequency=Frequency(message.frequency),
        metrics=tuple(
            MetricThreshold(metric.metric, to_micros(metric.threshold)) for metric in message.metrics
        ),
        mode=MetricMode(message.mode),
        days_off=frozenset(day - streak_pb2.WEEKDAY_MONDAY for day in message.days_off),
        freezes=_freezes(message.freezes),
        week_start=max(0, message.week_start - streak_pb2.WEEKDAY_MONDAY),
        user_filters=filters_from_proto(message.user_filters, "user_filters", unchecked),
        pause_days_per_year=message.pause_days_per_year,
        active=message.status == streak_pb2.STREAK_STATUS_ACTIVE,
        day_start=_day_start(message.day_start),
        backfill_time=message.create_time.ToDatetime(tzinfo=UTC) if message.backfill else None,
        overridable=frozenset(map(Overridable, message.overridable)),
    )


def _day_start(text: str) -> timedelta:
    hours, _, minutes = text.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes)) if text else timedelta()


def _freezes(message: streak_pb2.FreezeSettings) -> FreezeSettings:
    earned = message.earn_count > 0
    return FreezeSettings(
        initial_count=message.initial_count,
        earn_count=message.earn_count,
        earn_every_days=message.earn_every_days,
        max_count=message.max_count or max(message.initial_count, 1 if earned else 0),
    )


def _check_metrics(message: streak_pb2.Streak, path: str, violations: Violations) -> None:
    if not 1 <= len(message.metrics) <= MAX_STREAK_METRICS:
        violations.add(f"{path}.metrics", f"must have 1 to {MAX_STREAK_METRICS} metrics")
    seen: set[str] = set()
    for index, metric in enumerate(message.metrics[:MAX_STREAK_METRICS]):
        where = f"{path}.metrics[{index}]"
        check_key(metric.metric, f"{where}.metric", violations)
        if metric.metric in seen:
            violations.add(f"{where}.metric", "is given twice")
        seen.add(metric.metric)
        check_limit(IsThreshold(), metric.threshold, f"{where}.threshold", violations)


def _check_days(message: streak_pb2.Streak, path: str, violations: Violations) -> None:
    weekdays = range(streak_pb2.WEEKDAY_MONDAY, streak_pb2.WEEKDAY_SUNDAY + 1)
    for index, day in enumerate(message.days_off):
        if day not in weekdays:
            violations.add(f"{path}.days_off[{index}]", "is not a day of the week")
    if len(message.days_off) > MAX_DAYS_OFF or len(set(message.days_off)) < len(message.days_off):
        violations.add(f"{path}.days_off", f"must be at most {MAX_DAYS_OFF} different days")
    if message.days_off and message.frequency != streak_pb2.FREQUENCY_DAILY:
        violations.add(f"{path}.days_off", "are only for daily streaks")
    if message.week_start:
        if message.week_start not in weekdays:
            violations.add(f"{path}.week_start", "is not a day of the week")
        if message.frequency != streak_pb2.FREQUENCY_WEEKLY:
            violations.add(f"{path}.week_start", "is only for weekly streaks")


def _check_freezes(message: streak_pb2.FreezeSettings, path: str, violations: Violations) -> None:
    for field, most in (
        ("initial_count", MAX_FREEZES),
        ("earn_count", MAX_FREEZES),
        ("earn_every_days", MAX_EARN_DAYS),
        ("max_count", MAX_FREEZES),
    ):
        if not 0 <= getattr(message, field) <= most:
            violations.add(f"{path}.{field}", f"must be 0 to {most}")
    if (message.earn_count > 0) != (message.earn_every_days > 0):
        missing = "earn_count" if message.earn_every_days > 0 else "earn_every_days"
        violations.add(f"{path}.{missing}", "must be set where freezes are earned")
    if 0 < message.max_count < message.initial_count:
        violations.add(f"{path}.max_count", "must not be less than initial_count")
