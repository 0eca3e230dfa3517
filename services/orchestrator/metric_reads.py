"""What is read of metrics by local date: sums of one user and of all, and who contributed most."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.definitions import METRIC
from services.orchestrator.domain import Metric
from services.orchestrator.metric_days import NOTHING
from services.orchestrator.rollups import Rollups
from services.orchestrator.store.metric_days import DayTotal, MetricDayStore
from shared.decimals import from_micros
from shared.errors import Violations
from shared.pages import read_page
from shared.rpc.convert import check_key, check_user_id, date_field, date_to_proto

MAX_PERIODS: Final = 400

_PERIODS: Final = {
    pb.METRIC_PERIOD_UNSPECIFIED: ("day", 1),
    pb.METRIC_PERIOD_DAY: ("day", 1),
    pb.METRIC_PERIOD_WEEK: ("week", 7),
    pb.METRIC_PERIOD_MONTH: ("month", 31),
}
"""The period's name, and how many days it has at most."""


class MetricHandlers:
    """Reads of metrics by local date."""

    def __init__(
        self,
        store: MetricDayStore,
        rollups: Rollups,
        metrics: Callable[[], Coroutine[Any, Any, Mapping[str, Metric]]],
    ) -> None:
        self._store = store
        self._rollups = rollups
        self._metrics = metrics

    async def of_user(self, request: pb.SummarizeUserMetricRequest) -> pb.SummarizeUserMetricResponse:
        """A user's metric by period. Raises `InvalidArgument` or `NotFound`."""
        violations = Violations()
        check_user_id(request.user_id, "user_id", violations)
        unit, first, last = _asked(request, request.period, violations)
        await self._check_defined(request.metric)
        days = await self._rollups.user_days(request.user_id, request.metric, last)
        total = sum(amount.micros for day, amount in days.items() if day < first)
        within = [DayTotal(day, amount, 1) for day, amount in days.items() if day >= first]
        periods = [each.summary for each in _by_period(within, unit, total)]
        return pb.SummarizeUserMetricResponse(periods=periods)

    async def of_all(self, request: pb.SummarizeMetricRequest) -> pb.SummarizeMetricResponse:
        """A metric over all users by period. Raises `InvalidArgument` or `NotFound`."""
        unit, first, last = _asked(request, request.period, Violations())
        await self._check_defined(request.metric)
        total, days = await self._store.totals(request.metric, first, last)
        return pb.SummarizeMetricResponse(periods=_by_period(days, unit, total))

    async def users(self, request: pb.ListMetricUsersRequest) -> pb.ListMetricUsersResponse:
        """Who contributed most. Raises `InvalidArgument` or `NotFound`."""
        _, first, last = _asked(request, pb.METRIC_PERIOD_DAY, Violations())
        query = ["metric_users", request.metric, str(first), str(last)]
        page = read_page(request.page_size, request.page_token, keyset=[int, str], query=query)
        await self._check_defined(request.metric)
        after = (page.after[0], page.after[1]) if page.after else None
        found = await self._store.top(request.metric, first, last, after, page.size + 1)
        shown = found[: page.size]
        response = pb.ListMetricUsersResponse()
        for each in shown:
            response.users.add(
                user_id=each.user_id,
                change=from_micros(each.amount.micros),
                event_count=each.amount.event_count,
            )
        if len(found) > page.size:
            response.next_page_token = page.next_token(shown[-1].amount.micros, shown[-1].user_id)
        return response

    async def _check_defined(self, metric: str) -> None:
        if metric not in await self._metrics():
            raise METRIC.unknown(metric)


def _asked(request: Any, period: pb.MetricPeriod.ValueType, violations: Violations) -> tuple[str, date, date]:
    """The period's name, and the dates. Raises `InvalidArgument`."""
    check_key(request.metric, "metric", violations)
    first = date_field(request, "first_date", "", violations)
    last = date_field(request, "last_date", "", violations)
    unit, days = _PERIODS.get(period, ("", 0))
    if not unit:
        violations.add("period", "must be DAY, WEEK or MONTH")
    if first is not None and last is not None:
        if last < first:
            violations.add("last_date", "must not be before first_date")
        elif unit and (last - first).days >= days * MAX_PERIODS:
            violations.add("last_date", f"must be within {MAX_PERIODS} {unit}s of first_date")
    violations.raise_if_any()
    assert first is not None
    assert last is not None
    return unit, first, last


def _by_period(days: Iterable[DayTotal], unit: str, total_micros: int) -> list[pb.MetricTotal]:
    """The periods that have events, or what is left of a change by them; the total before them all is given."""
    by_period: dict[date, list[DayTotal]] = {}
    for each in days:
        by_period.setdefault(_start(each.day, unit), []).append(each)
    periods = []
    for start in sorted(by_period):
        amount = sum((each.amount for each in by_period[start]), NOTHING)
        total_micros += amount.micros
        if amount == NOTHING:
            continue
        summary = pb.MetricSummary(
            start_date=date_to_proto(start),
            change=from_micros(amount.micros),
            total=from_micros(total_micros),
            event_count=amount.event_count,
        )
        user_days = sum(each.user_count for each in by_period[start])
        periods.append(pb.MetricTotal(summary=summary, user_day_count=user_days))
    return periods


def _start(day: date, unit: str) -> date:
    """The first date of a day's period (RULES 1.6)."""
    match unit:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case _:
            return day
