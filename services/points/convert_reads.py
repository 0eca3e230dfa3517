"""Between the messages of reads and what is read, with all syntactic validation."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Final

from laurel.points.v1 import points_service_pb2 as pb

from services.points.config import MAX_EXPIRY_DAYS
from services.points.convert import DOMAIN, effects, refusal
from services.points.definitions import Configuration
from services.points.domain.definitions import EXPIRED, POINTS_LIMIT, BoostKey
from services.points.domain.facts import Command
from services.points.domain.ledger import Change
from services.points.domain.limits import Refusal
from services.points.level_days import LevelDay
from services.points.reads import Audited, PeriodSum
from services.points.store import AwardFilter
from shared.calendar import local_date
from shared.decimals import InvalidValue, to_micros
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot
from shared.errors import Violations
from shared.random_ids import new_id
from shared.rpc.convert import (
    check_attributes,
    check_key,
    check_user_id,
    check_zone,
    date_from_proto,
    date_to_proto,
    instant_field,
    optional_uuid_field,
)
from shared.rpc.error_messages import error_message

MAX_BOUNDS: Final = 100
MAX_PERIODS: Final = 400
MAX_COUNTED_USERS: Final = 1_000
"""That are named."""
MAX_AUDITED_USERS: Final = 100
"""On a page."""
MAX_ATTRIBUTES: Final = 100

_UNITS: Final = {
    pb.SUMMARY_UNIT_UNSPECIFIED: ("day", 1),
    pb.SUMMARY_UNIT_DAY: ("day", 1),
    pb.SUMMARY_UNIT_WEEK: ("week", 7),
    pb.SUMMARY_UNIT_MONTH: ("month", 31),
}
"""The unit's name, and how many days it has at most."""


def summary_range(request: pb.SummarizePointsRequest) -> tuple[str, date, date]:
    """The unit, and the dates. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    check_key(request.points_system, "points_system", violations)
    first = date_from_proto(request.first_date, "first_date", violations)
    last = date_from_proto(request.last_date, "last_date", violations)
    unit, days = _UNITS.get(request.unit, ("", 0))
    if not unit:
        violations.add("unit", "must be DAY, WEEK or MONTH")
    if first is not None and last is not None:
        if last < first:
            violations.add("last_date", "must not be before first_date")
        elif unit and (last - first).days >= days * MAX_PERIODS:
            violations.add("last_date", f"must be within {MAX_PERIODS} {unit}s of first_date")
    violations.raise_if_any()
    assert first is not None
    assert last is not None
    return unit, first, last


def summary_to_proto(sums: Sequence[PeriodSum]) -> pb.SummarizePointsResponse:
    """A user's points by period."""
    response = pb.SummarizePointsResponse()
    for period in sums:
        summary = response.periods.add(earned=period.earned, spent=period.spent, balance=period.balance)
        summary.start_date.CopyFrom(date_to_proto(period.first_day))
        for each in period.triggers:
            summary.triggers.add(
                trigger=each.trigger, times=each.times, base_amount=each.base_amount, amount=each.amount
            )
    return response


def level_day_range(request: pb.ListLevelDaysRequest) -> tuple[date, date]:
    """The dates. Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.points_system, "points_system", violations)
    first = date_from_proto(request.first_date, "first_date", violations)
    last = date_from_proto(request.last_date, "last_date", violations)
    if first is not None and last is not None:
        if last < first:
            violations.add("last_date", "must not be before first_date")
        elif (last - first).days >= MAX_PERIODS:
            violations.add("last_date", f"must be within {MAX_PERIODS} days of first_date")
    violations.raise_if_any()
    assert first is not None
    assert last is not None
    return first, last


def level_days_to_proto(days: Sequence[LevelDay]) -> pb.ListLevelDaysResponse:
    """Users by level and date."""
    response = pb.ListLevelDaysResponse()
    for each in days:
        day = response.days.add(date=date_to_proto(each.day))
        day.levels.add(user_count=each.user_counts[0])
        for level, threshold, count in zip(each.levels, each.thresholds, each.user_counts[1:], strict=True):
            day.levels.add(level=level, threshold=threshold, user_count=count)
    return response


def check_distribution(request: pb.GetPointsDistributionRequest) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.points_system, "points_system", violations)
    bounds = list(request.bounds)
    if not 1 <= len(bounds) <= MAX_BOUNDS:
        violations.add("bounds", f"must be 1 to {MAX_BOUNDS} bounds")
    elif any(abs(bound) > POINTS_LIMIT for bound in bounds):
        violations.add("bounds", f"must have a magnitude of at most {POINTS_LIMIT}")
    elif any(after <= before for before, after in pairwise(bounds)):
        violations.add("bounds", "must be ascending")
    if len(request.only.user_ids) > MAX_COUNTED_USERS:
        violations.add("only.user_ids", f"must have at most {MAX_COUNTED_USERS:,} users")
    for index, user_id in enumerate(request.only.user_ids[:MAX_COUNTED_USERS]):
        check_user_id(user_id, f"only.user_ids[{index}]", violations)
    violations.raise_if_any()


def distribution_to_proto(bounds: Sequence[int], counts: Sequence[int]) -> pb.GetPointsDistributionResponse:
    """Users by range."""
    response = pb.GetPointsDistributionResponse()
    response.ranges.add(user_count=counts[0])
    for bound, count in zip(bounds, counts[1:], strict=True):
        response.ranges.add(first=bound, user_count=count)
    return response


def moment(request: pb.ListUserBoostsRequest, now: datetime) -> date:
    """The user's local date. Raises `InvalidArgument`."""
    violations = Violations()
    _check_user(request.user_id, request.attributes, request.time_zone, violations)
    violations.raise_if_any()
    return local_date(now, request.time_zone or "UTC")


def boosts_to_proto(configuration: Configuration, keys: Sequence[BoostKey]) -> pb.ListUserBoostsResponse:
    """The boosts as they are defined."""
    response = pb.ListUserBoostsResponse()
    for key in keys:
        defined = configuration.messages[key.points_system].boosts
        boost = next(boost for boost in defined if boost.key == key.boost)
        response.boosts.add(points_system=key.points_system, boost=boost)
    return response


def previewed(request: pb.PreviewAwardRequest, now: datetime) -> Command:
    """The event as it would come. Raises `InvalidArgument`."""
    violations = Violations()
    _check_user(request.user_id, request.attributes, request.time_zone, violations)
    check_key(request.metric, "metric", violations)
    _check_attributes(request.event_attributes, "event_attributes", violations)
    value_micros = 0
    try:
        value_micros = to_micros(request.value)
    except InvalidValue as error:
        violations.add("value", str(error))
    violations.raise_if_any()
    zone = request.time_zone or "UTC"
    fact = MetricFact(request.metric, value_micros, 0, 0, 0, 0, dict(request.event_attributes))
    user = UserSnapshot(request.user_id, zone, dict(request.attributes), now, 0, "")
    return Command(Entry(new_id(), EntryKind.METRIC_EVENT, user, now, now, zone, fact, None))


def preview_to_proto(user_id: str, decided: Refusal | Sequence[Change]) -> pb.PreviewAwardResponse:
    """What the event would give, or why it would be refused."""
    if isinstance(decided, Sequence):
        return pb.PreviewAwardResponse(points=effects(user_id, decided).points)
    return pb.PreviewAwardResponse(refusal=error_message(refusal(decided), DOMAIN))


def award_filter(request: pb.ListAwardsRequest) -> AwardFilter:
    """Which awards are asked for. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    if request.points_system:
        check_key(request.points_system, "points_system", violations)
    if request.trigger and request.trigger != EXPIRED:
        check_key(request.trigger, "trigger", violations)
    if request.trigger and not request.points_system:
        violations.add("points_system", "is required with trigger")
    entry_id = optional_uuid_field(request.entry_id, "entry_id", violations)
    start, end = (
        instant_field(request, field, "", violations) if request.HasField(field) else None
        for field in ("start_time", "end_time")
    )
    if start is not None and end is not None and end <= start:
        violations.add("end_time", "must be after start_time")
    violations.raise_if_any()
    return AwardFilter(request.points_system, request.trigger, entry_id, start, end)


def check_expiring(request: pb.ListExpiringPointsRequest) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    check_key(request.points_system, "points_system", violations)
    if not 0 <= request.within_days <= MAX_EXPIRY_DAYS:
        violations.add("within_days", f"must be 0 to {MAX_EXPIRY_DAYS:,}")
    violations.raise_if_any()


def expiring_to_proto(found: Sequence[tuple[date, int]]) -> pb.ListExpiringPointsResponse:
    """What expires."""
    response = pb.ListExpiringPointsResponse(amount=sum(amount for _, amount in found))
    for day, amount in found:
        response.points.add(expire_date=date_to_proto(day), amount=amount)
    return response


def check_audit(request: pb.AuditPointsRequest) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    if request.user_id:
        check_user_id(request.user_id, "user_id", violations)
    if request.page_size > MAX_AUDITED_USERS:
        violations.add("page_size", f"must be at most {MAX_AUDITED_USERS}")
    violations.raise_if_any()


def audit_to_proto(audited: Audited, token: str) -> pb.AuditPointsResponse:
    """What was found."""
    response = pb.AuditPointsResponse(
        user_count=audited.user_count, award_count=audited.award_count, next_page_token=token
    )
    for each in audited.differences:
        response.differences.add(
            user_id=each.user_id,
            points_system=each.points_system,
            what=each.what,
            stored=each.stored,
            expected=each.expected,
        )
    return response


def _check_user(user_id: str, attributes: Mapping[str, str], time_zone: str, violations: Violations) -> None:
    check_user_id(user_id, "user_id", violations)
    _check_attributes(attributes, "attributes", violations)
    if time_zone:
        check_zone(time_zone, "time_zone", violations)


def _check_attributes(attributes: Mapping[str, str], path: str, violations: Violations) -> None:
    if len(attributes) > MAX_ATTRIBUTES:
        violations.add(path, f"must have at most {MAX_ATTRIBUTES} attributes")
    check_attributes(attributes, path, violations)
