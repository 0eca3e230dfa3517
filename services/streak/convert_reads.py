"""Requests and responses of what is read of streaks and amnesties; convert.py has what entries say and change."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from laurel.streak.v1 import streak_pb2, streak_service_pb2

from services.streak.config import MAX_AMNESTY_STREAKS
from services.streak.convert import day_to_proto, tell_reach
from services.streak.definitions import check_window
from services.streak.domain import (
    Amnesty,
    Judged,
    LedgerLine,
    PeriodStatus,
    Previewed,
    Reach,
)
from services.streak.revisions import window_of
from services.streak.store_reads import Longest, Statistics
from shared.errors import Violations
from shared.rpc.convert import (
    check_key,
    check_user_id,
    check_zone,
    date_field,
    instant_field,
    to_timestamp,
)

MAX_USERS: Final = 100
"""Of whom a streak is read at once."""
MAX_HOURS_AT_RISK: Final = 168
MAX_ENDS: Final = 5_000
"""Users of a page of `ListStreakEnds`."""
MAX_CALENDAR_DAYS: Final = 731
MAX_STATISTICS_DAYS: Final = 92
MAX_REACHING_USERS: Final = 1_000
"""Of whom first reaches are read at once."""
MAX_REACHES: Final = 10_000
"""Of one user."""


def read_time_from_proto(request: streak_service_pb2.ListUserStreaksRequest) -> datetime | None:
    """The instant to look from, None for now, of a valid request. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    asked = request.HasField("read_time")
    read_time = instant_field(request, "read_time", "", violations) if asked else None
    violations.raise_if_any()
    return read_time


def batch_from_proto(request: streak_service_pb2.BatchGetUserStreaksRequest) -> datetime | None:
    """The instant to look from. Raises `InvalidArgument` for whatever is wrong with the request."""
    violations = Violations()
    check_key(request.streak, "streak", violations)
    if not 1 <= len(request.user_ids) <= MAX_USERS:
        violations.add("user_ids", f"must have 1 to {MAX_USERS} users")
    else:
        for index, user_id in enumerate(request.user_ids):
            check_user_id(user_id, f"user_ids[{index}]", violations)
    read_time = _read_time(request, violations)
    violations.raise_if_any()
    return read_time


def check_first_reaches(request: streak_service_pb2.ListFirstReachesRequest) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.streak, "streak", violations)
    if not 1 <= len(request.user_ids) <= MAX_REACHING_USERS:
        violations.add("user_ids", f"must have 1 to {MAX_REACHING_USERS:,} users")
    for index, user_id in enumerate(request.user_ids[:MAX_REACHING_USERS]):
        check_user_id(user_id, f"user_ids[{index}]", violations)
    if request.least_length < 1:
        violations.add("least_length", "must be at least 1")
    if not 1 <= request.most_count <= MAX_REACHES:
        violations.add("most_count", f"must be 1 to {MAX_REACHES:,}")
    violations.raise_if_any()


def first_reaches_to_proto(
    found: Sequence[tuple[str, int, int, Reach]],
) -> streak_service_pb2.ListFirstReachesResponse:
    """By user."""
    response = streak_service_pb2.ListFirstReachesResponse()
    for user_id, version, length, reach in found:
        if not response.users or response.users[-1].user_id != user_id:
            response.users.add(user_id=user_id, version=version)
        tell_reach(response.users[-1].first_reaches.add(length=length).reach, reach)
    return response


def at_risk_from_proto(
    request: streak_service_pb2.ListStreaksAtRiskRequest,
) -> tuple[timedelta, datetime | None]:
    """Within what time, and the instant to look from. Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.streak, "streak", violations)
    if not 1 <= request.within_hours <= MAX_HOURS_AT_RISK:
        violations.add("within_hours", f"must be 1 to {MAX_HOURS_AT_RISK}")
    if request.time_zone:
        check_zone(request.time_zone, "time_zone", violations)
    read_time = _read_time(request, violations)
    violations.raise_if_any()
    return timedelta(hours=request.within_hours), read_time


def ends_from_proto(request: streak_service_pb2.ListStreakEndsRequest) -> tuple[datetime, datetime]:
    """Between which instants streaks end. Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.streak, "streak", violations)
    begin = instant_field(request, "begin_time", "", violations)
    end = instant_field(request, "end_time", "", violations)
    if begin and end and not begin < end <= begin + timedelta(hours=MAX_HOURS_AT_RISK):
        violations.add("end_time", f"must be at most {MAX_HOURS_AT_RISK} hours after begin_time")
    violations.raise_if_any()
    assert begin is not None
    assert end is not None
    return begin, end


def ends_to_proto(
    ends: Mapping[tuple[datetime, str], Sequence[str]], next_page_token: str
) -> streak_service_pb2.ListStreakEndsResponse:
    """By when they end, and the zone."""
    return streak_service_pb2.ListStreakEndsResponse(
        ends=[
            streak_service_pb2.StreakEnd(end_time=to_timestamp(end), time_zone=zone, user_ids=user_ids)
            for (end, zone), user_ids in ends.items()
        ],
        next_page_token=next_page_token,
    )


def dates_from_proto(
    request: streak_service_pb2.GetCalendarRequest | streak_service_pb2.GetStreakStatisticsRequest,
    max_days: int,
) -> tuple[date, date]:
    """The range of dates that is asked for. Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.streak, "streak", violations)
    if isinstance(request, streak_service_pb2.GetCalendarRequest):
        check_user_id(request.user_id, "user_id", violations)
    first = date_field(request, "start_date", "", violations)
    last = date_field(request, "end_date", "", violations)
    if first and last and not 0 <= (last - first).days <= max_days:
        violations.add("end_date", f"must be 0 to {max_days} days after start_date")
    violations.raise_if_any()
    assert first is not None
    assert last is not None
    return first, last


def _read_time(
    request: streak_service_pb2.BatchGetUserStreaksRequest | streak_service_pb2.ListStreaksAtRiskRequest,
    violations: Violations,
) -> datetime | None:
    return instant_field(request, "read_time", "", violations) if request.HasField("read_time") else None


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


def ledger_line_to_proto(line: LedgerLine) -> streak_pb2.FreezeLedgerEntry:
    """A line of the freeze ledger."""
    return streak_pb2.FreezeLedgerEntry(
        effective_date=day_to_proto(line.effective_date),
        amount=line.amount,
        reason=streak_pb2.FreezeReason.ValueType(line.reason),
    )


def longest_to_proto(longest: Longest) -> streak_service_pb2.LongestStreak:
    """A user's longest run."""
    return streak_service_pb2.LongestStreak(
        user_id=longest.user_id, longest=longest.longest, length=longest.length
    )


def window_from_proto(request: streak_service_pb2.PreviewAmnestyRequest, now: datetime) -> Amnesty:
    """The window that is asked about, declared now. Raises `InvalidArgument`."""
    violations = Violations()
    check_window(request, "", violations)
    if len(request.streaks) > MAX_AMNESTY_STREAKS:
        violations.add("streaks", f"must be at most {MAX_AMNESTY_STREAKS}")
    for index, key in enumerate(request.streaks[:MAX_AMNESTY_STREAKS]):
        check_key(key, f"streaks[{index}]", violations)
    violations.raise_if_any()
    return window_of(request, now)


def preview_to_proto(found: Previewed) -> streak_service_pb2.AmnestyPreview:
    """What an amnesty would save of one streak."""
    return streak_service_pb2.AmnestyPreview(
        streak=found.streak,
        affected_user_count=found.affected_count,
        tried_user_count=found.tried_count,
        saved_user_count=found.saved_count,
        refunded_freeze_count=found.refunded_count,
    )


def declared_to_proto(message: streak_pb2.Amnesty, judged: Judged) -> streak_service_pb2.DeclaredAmnesty:
    """An amnesty, and what has come of it."""
    return streak_service_pb2.DeclaredAmnesty(
        amnesty=message,
        judged_count=judged.judged_count,
        saved_count=judged.saved_count,
        refunded_freeze_count=judged.refunded_count,
        finished=judged.finished,
    )


def statistics_to_proto(found: Statistics) -> streak_service_pb2.GetStreakStatisticsResponse:
    """Statistics of all users."""
    lost_count = sum(found.losses.values())
    saved_count = sum(found.saved.values())
    at_stake = lost_count + saved_count
    frozen_count = found.saved.get(PeriodStatus.FROZEN, 0)
    by_length: Counter[int] = Counter()
    by_weekday: Counter[int] = Counter()
    for (weekday, length), count in found.losses.items():
        by_length[length] += count
        by_weekday[weekday] += count
    return streak_service_pb2.GetStreakStatisticsResponse(
        lengths=_length_counts(found.lengths),
        lost_count=lost_count,
        losses=_length_counts(by_length),
        weekdays=[
            streak_service_pb2.WeekdayLossCount(weekday=streak_pb2.Weekday.ValueType(weekday), count=count)
            for weekday, count in sorted(by_weekday.items())
        ],
        frozen_count=frozen_count,
        frozen_share=frozen_count / at_stake if at_stake else 0.0,
        paused_count=found.saved.get(PeriodStatus.PAUSED, 0),
        restored_count=found.saved.get(PeriodStatus.RESTORED, 0),
        excused_count=found.saved.get(PeriodStatus.EXCUSED, 0),
        saved_share=saved_count / at_stake if at_stake else 0.0,
    )


def _length_counts(counts: Mapping[int, int]) -> list[streak_service_pb2.StreakLengthCount]:
    return [
        streak_service_pb2.StreakLengthCount(min_length=length, count=count)
        for length, count in sorted(counts.items())
    ]
