"""Sums of metrics by local date (RULES 1.5, 1.6, 2.2; docs/adr/0025): whatever happened, they are what a count of the
events that are left gives.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import grpc.aio
import pytest
from laurel.common.v1 import error_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1 import event_pb2, metric_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2

from shared.rpc.convert import date_to_proto
from tests.fixtures.clock import now as present
from tests.service.orchestrator.conftest import Orchestrator, refused
from tests.service.orchestrator.test_importing import run as run_import

AGGREGATIONS = {
    "lessons": metric_pb2.METRIC_AGGREGATION_SUM,
    "record": metric_pb2.METRIC_AGGREGATION_MAX,
    "weight": metric_pb2.METRIC_AGGREGATION_LAST,
    "countries": metric_pb2.METRIC_AGGREGATION_UNIQUE,
}
ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati")
USERS = ("ada", "bob", "eve")
FOREVER = (date(2000, 1, 1), date(2030, 1, 1))


@dataclass
class Sent:
    """An event that was sent, as a reader of the ledger would count it."""

    user: str
    metric: str
    value: float
    country: str
    at: datetime
    zone: str
    entry_id: str = ""
    counts: bool = True

    @property
    def day(self) -> date:
        return self.at.astimezone(ZoneInfo(self.zone)).date()

    def request(self, key: str) -> event_pb2.IngestEventRequest:
        request = event_pb2.IngestEventRequest(metric=self.metric, value=self.value, idempotency_key=key)
        request.user.user_id = self.user
        request.user.time_zone = self.zone
        request.occur_time.FromDatetime(self.at)
        if self.metric == "countries":
            request.attributes["country"] = self.country
        return request


Counted = dict[date, tuple[float, int]]


def counted(events: Iterable[Sent], user: str, metric: str) -> Counted:
    """What a user's events contributed, and how many there were, by date; the plain way."""
    days: Counted = {}
    total: float = 0
    seen: set[str] = set()
    own = [each for each in events if (each.user, each.metric) == (user, metric) and each.counts]
    greatest: float | None = None
    for each in sorted(own, key=lambda event: event.at):
        before = total
        match metric:
            case "lessons":
                total += each.value
            case "record":
                total = greatest = each.value if greatest is None else max(greatest, each.value)
            case "weight":
                total = each.value
            case _:
                seen.add(each.country)
                total = len(seen)
        change, count = days.get(each.day, (0, 0))
        days[each.day] = (change + total - before, count + 1)
    return days


def over_all(events: Iterable[Sent], metric: str) -> dict[date, tuple[float, int, int]]:
    """The same over all users, with how many of them there were."""
    kept = list(events)
    days: dict[date, tuple[float, int, int]] = {}
    for user in {each.user for each in kept}:
        for day, (change, count) in counted(kept, user, metric).items():
            known = days.get(day, (0, 0, 0))
            days[day] = (known[0] + change, known[1] + count, known[2] + 1)
    return days


async def define_all(orchestrator: Orchestrator) -> None:
    for key, aggregation in AGGREGATIONS.items():
        metric = metric_pb2.Metric(key=key, name=key, aggregation=aggregation)
        if key == "countries":
            metric.unique_attribute = "country"
        await orchestrator.pool.execute(
            """INSERT INTO definitions (kind, key, body, create_time, update_time)
               VALUES ('metric', $1, $2, now(), now()) ON CONFLICT DO NOTHING""",
            key,
            metric.SerializeToString(),
        )
    await orchestrator.pool.execute("UPDATE configuration_version SET version = version + 1")


async def of_user(
    orchestrator: Orchestrator,
    user: str,
    metric: str = "lessons",
    dates: tuple[date, date] = FOREVER,
    period: pb.MetricPeriod.ValueType = pb.METRIC_PERIOD_MONTH,
) -> pb.SummarizeUserMetricResponse:
    request = pb.SummarizeUserMetricRequest(
        user_id=user,
        metric=metric,
        period=period,
        first_date=date_to_proto(dates[0]),
        last_date=date_to_proto(dates[1]),
    )
    return await orchestrator.stub.SummarizeUserMetric(request, timeout=20)


def around(now: datetime) -> tuple[date, date]:
    return (now.date() - timedelta(days=30), now.date() + timedelta(days=5))


async def days_of(orchestrator: Orchestrator, user: str, metric: str, now: datetime) -> Counted:
    response = await of_user(orchestrator, user, metric, around(now), pb.METRIC_PERIOD_DAY)
    total: float = 0
    for each in response.periods:
        total += each.change
        assert each.total == pytest.approx(total)
    return {_day(each): (each.change, each.event_count) for each in response.periods}


async def days_of_all(
    orchestrator: Orchestrator, metric: str, now: datetime
) -> dict[date, tuple[float, int, int]]:
    first, last = around(now)
    request = pb.SummarizeMetricRequest(
        metric=metric, first_date=date_to_proto(first), last_date=date_to_proto(last)
    )
    response = await orchestrator.stub.SummarizeMetric(request, timeout=20)
    return {
        _day(each.summary): (each.summary.change, each.summary.event_count, each.user_day_count)
        for each in response.periods
    }


async def top(
    orchestrator: Orchestrator, metric: str, now: datetime, page_size: int = 0
) -> list[tuple[str, float, int]]:
    first, last = around(now)
    request = pb.ListMetricUsersRequest(
        metric=metric, first_date=date_to_proto(first), last_date=date_to_proto(last), page_size=page_size
    )
    found: list[tuple[str, float, int]] = []
    while True:
        page = await orchestrator.stub.ListMetricUsers(request, timeout=20)
        found.extend((each.user_id, each.change, each.event_count) for each in page.users)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def _day(summary: pb.MetricSummary) -> date:
    return date(summary.start_date.year, summary.start_date.month, summary.start_date.day)


async def caught_up(orchestrator: Orchestrator) -> None:
    await orchestrator.stub.RunMaintenance(pb.RunMaintenanceRequest(), timeout=60)


def sent(rng: random.Random, now: datetime, number: int) -> Sent:
    return Sent(
        user=rng.choice(USERS),
        metric=rng.choice(list(AGGREGATIONS)),
        value=rng.choice([-3, -0.5, 1, 2, 7.25]),
        country=rng.choice(["it", "jp", "pe"]),
        # Late or not, and no two at one instant.
        at=now - timedelta(seconds=rng.randrange(0, 5 * 86_400), microseconds=number),
        zone=rng.choice(ZONES),
    )


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_history_sums_are_what_a_count_of_the_events_gives(
    orchestrator: Orchestrator, seed: int
) -> None:
    """Late events, voids, refusals, imports, changes of zone, and a user who is deleted; looked at in between."""
    await define_all(orchestrator)
    rng = random.Random(seed)
    now = present().replace(microsecond=0)
    refusing: set[str] = set()

    def decide(command: participant_service_pb2.Command) -> Any:
        if command.entry.metric_event.attributes.get("refuse"):
            return error_pb2.Error(code="FAILED_PRECONDITION", reason="INSUFFICIENT_POINTS", message="no")
        return effects_pb2.Effects()

    orchestrator.points.decide = decide
    events: list[Sent] = []
    for number in range(60):
        each = sent(rng, now, number)
        request = each.request(f"k{number}")
        act = rng.random()
        if act < 0.1:
            request.attributes["refuse"] = "yes"
            with pytest.raises(grpc.aio.AioRpcError):
                await orchestrator.stub.IngestEvent(request, timeout=20)
            refusing.add(f"k{number}")
            continue
        if act < 0.2:
            (response,) = await run_import(orchestrator, [request])
            assert response.imported_count == 1
            listed = pb.ListUserEntriesRequest(
                user_id=each.user, page_size=200, origins=[entry_pb2.ENTRY_ORIGIN_IMPORT]
            )
            page = await orchestrator.stub.ListUserEntries(listed, timeout=20)
            imported = {entry.entry_id for entry in page.entries}
            each.entry_id = (imported - {known.entry_id for known in events}).pop()
        else:
            each.entry_id = (await orchestrator.stub.IngestEvent(request, timeout=20)).entry_id
        events.append(each)
        if rng.random() < 0.25:
            gone = rng.choice([event for event in events if event.counts])
            void = pb.VoidEntryRequest(entry_id=gone.entry_id, reason="r", request_id=f"v{number}")
            await orchestrator.stub.VoidEntry(void, timeout=20)
            gone.counts = False
        if rng.random() < 0.2:
            await caught_up(orchestrator)
        if rng.random() < 0.2:
            metric = rng.choice(list(AGGREGATIONS))
            found = await days_of(orchestrator, each.user, metric, now)
            assert found == _shown(counted(events, each.user, metric))
    assert refusing
    await caught_up(orchestrator)
    for metric in AGGREGATIONS:
        for user in USERS:
            assert await days_of(orchestrator, user, metric, now) == _shown(counted(events, user, metric))
        assert await days_of_all(orchestrator, metric, now) == _shown(over_all(events, metric))

    await orchestrator.stub.DeleteUser(pb.DeleteUserRequest(user_id="bob", request_id="gone"), timeout=30)
    await caught_up(orchestrator)
    for metric in AGGREGATIONS:
        assert await days_of_all(orchestrator, metric, now) == _shown(over_all(events, metric))
        left = {}
        for user in ("ada", "eve"):
            days = counted(events, user, metric).values()
            if days:
                left[user] = (sum(change for change, _ in days), sum(count for _, count in days))
        ranked = sorted(left, key=lambda user: (-left[user][0], user))
        for size in (0, 1):
            assert await top(orchestrator, metric, now, size) == [(user, *left[user]) for user in ranked]
    stored = await orchestrator.pool.fetch("SELECT DISTINCT user_id FROM metric_days")
    assert "bob" not in {row["user_id"] for row in stored}


def _shown(days: Any) -> Any:
    """Days that have events, or a change."""
    return {day: amounts for day, amounts in days.items() if any(amounts[:2])}


async def test_what_was_there_before_is_summed_from_the_ledger(orchestrator: Orchestrator) -> None:
    """A ledger as it is after the migration: nothing is summed, and the feed has long been trimmed."""
    await define_all(orchestrator)
    now = present().replace(microsecond=0)
    rng = random.Random(7)
    events = [sent(rng, now, number) for number in range(40)]
    for number, each in enumerate(events):
        await orchestrator.stub.IngestEvent(each.request(f"k{number}"), timeout=20)
    await orchestrator.pool.execute("DELETE FROM domain_events")
    for table in ("metric_days", "metric_rollups", "metric_day_totals"):
        await orchestrator.pool.execute(f"DELETE FROM {table}")
    await orchestrator.pool.execute(
        "UPDATE metric_sweep SET round = round + 1, after_user_id = '', after_metric = ''"
    )
    await caught_up(orchestrator)
    for metric in AGGREGATIONS:
        assert await days_of_all(orchestrator, metric, now) == _shown(over_all(events, metric))
    assert await orchestrator.pool.fetchval("SELECT after_user_id FROM metric_sweep") is None


async def test_a_summary_knows_of_every_event_that_was_answered(orchestrator: Orchestrator) -> None:
    now = present()
    for number in range(3):
        await orchestrator.ingest(key=f"k{number}", value=2)
        ((_, (change, count)),) = (await days_of(orchestrator, "ada", "lessons", now)).items()
        assert (change, count) == (2 * (number + 1), number + 1)
    assert await orchestrator.pool.fetchval("SELECT count(*) FROM metric_days") == 0


async def test_weeks_begin_on_monday_and_a_range_cuts_what_lies_outside(orchestrator: Orchestrator) -> None:
    history = [
        (datetime(2024, 2, 25, 12, tzinfo=UTC), 1),  # a Sunday
        (datetime(2024, 2, 26, 12, tzinfo=UTC), 2),
        (datetime(2024, 3, 1, 12, tzinfo=UTC), 4),
        (datetime(2024, 3, 3, 12, tzinfo=UTC), 8),
        (datetime(2024, 3, 4, 12, tzinfo=UTC), 16),
    ]
    lines = []
    for at, value in history:
        lines.append(event_pb2.IngestEventRequest(metric="lessons", value=value))
        lines[-1].user.user_id = "ada"
        lines[-1].occur_time.FromDatetime(at)
    await run_import(orchestrator, lines)

    async def sums(
        period: pb.MetricPeriod.ValueType, first: date, last: date
    ) -> list[tuple[date, float, float]]:
        response = await of_user(orchestrator, "ada", "lessons", (first, last), period)
        return [(_day(each), each.change, each.total) for each in response.periods]

    assert await sums(pb.METRIC_PERIOD_WEEK, date(2024, 2, 1), date(2024, 3, 31)) == [
        (date(2024, 2, 19), 1, 1),
        (date(2024, 2, 26), 14, 15),
        (date(2024, 3, 4), 16, 31),
    ]
    assert await sums(pb.METRIC_PERIOD_MONTH, date(2024, 2, 26), date(2024, 3, 3)) == [
        (date(2024, 2, 1), 2, 3),
        (date(2024, 3, 1), 12, 15),
    ]


async def test_an_import_that_ends_early_is_summed_all_the_same(orchestrator: Orchestrator) -> None:
    await caught_up(orchestrator)
    line = event_pb2.IngestEventRequest(metric="lessons", value=5)
    line.user.user_id = "ada"
    line.occur_time.FromDatetime(datetime(2024, 3, 1, 12, tzinfo=UTC))

    async def requests() -> Any:
        yield pb.ImportEventsRequest(events=[line])
        yield pb.ImportEventsRequest(events=[])  # refused: it ends the stream

    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in orchestrator.stub.ImportEvents(requests()):
            pass
    await caught_up(orchestrator)
    days = {date(2024, 3, 1): (5.0, 1, 1)}
    assert await days_of_all(orchestrator, "lessons", datetime(2024, 3, 10, tzinfo=UTC)) == days


async def test_a_users_entries_are_found_by_metric_time_origin_and_whether_they_were_voided(
    orchestrator: Orchestrator,
) -> None:
    await define_all(orchestrator)
    now = present().replace(microsecond=0)
    made = [
        Sent("ada", "lessons", 1, "", now - timedelta(hours=3), "UTC"),
        Sent("ada", "lessons", 1, "", now - timedelta(hours=2), "UTC"),
        Sent("ada", "record", 1, "", now - timedelta(hours=1), "UTC"),
    ]
    for number, each in enumerate(made):
        each.entry_id = (await orchestrator.stub.IngestEvent(each.request(f"k{number}"), timeout=20)).entry_id
    void = pb.VoidEntryRequest(entry_id=made[0].entry_id, reason="r", request_id="v")
    await orchestrator.stub.VoidEntry(void, timeout=20)

    async def found(**filters: Any) -> list[int]:
        request = pb.ListUserEntriesRequest(user_id="ada", page_size=1, **filters)
        ids: list[str] = []
        while True:
            page = await orchestrator.stub.ListUserEntries(request, timeout=20)
            ids.extend(entry.entry_id for entry in page.entries)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        known = [each.entry_id for each in made]
        return [known.index(each) if each in known else -1 for each in ids]

    assert sorted(await found()) == [-1, 0, 1, 2]
    assert sorted(await found(metric="lessons")) == [0, 1]
    assert await found(metric="lessons", voided=True) == [0]
    assert await found(voided=True) == [0]
    assert sorted(await found(voided=False)) == [-1, 1, 2]
    assert await found(origins=[entry_pb2.ENTRY_ORIGIN_IMPORT]) == []
    request = pb.ListUserEntriesRequest(user_id="ada")
    request.start_time.FromDatetime(now - timedelta(hours=2))
    request.end_time.FromDatetime(now - timedelta(hours=1))
    page = await orchestrator.stub.ListUserEntries(request, timeout=20)
    assert [entry.entry_id for entry in page.entries] == [made[1].entry_id]


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("SummarizeUserMetric", pb.SummarizeUserMetricRequest(metric="lessons"), "user_id"),
        ("SummarizeUserMetric", pb.SummarizeUserMetricRequest(user_id="a", metric="lessons"), "first_date"),
        (
            "SummarizeUserMetric",
            pb.SummarizeUserMetricRequest(user_id="a", metric="lessons", period=cast(Any, 9)),
            "period",
        ),
        ("SummarizeMetric", pb.SummarizeMetricRequest(metric="No"), "metric"),
        ("ListMetricUsers", pb.ListMetricUsersRequest(metric="lessons"), "last_date"),
        ("ListUserEntries", pb.ListUserEntriesRequest(user_id="a", origins=[cast(Any, 17)]), "origins[0]"),
        ("ListUserEntries", pb.ListUserEntriesRequest(user_id="a", metric="No"), "metric"),
    ],
)
async def test_what_is_wrong_with_a_request_is_named(
    orchestrator: Orchestrator, method: str, request_: Any, field: str
) -> None:
    error = await refused(getattr(orchestrator.stub, method)(request_, timeout=20))
    assert field in {violation.field for violation in error.violations}


async def test_the_range_of_a_summary_is_bounded_and_its_metric_known(orchestrator: Orchestrator) -> None:
    error = await refused(of_user(orchestrator, "ada", dates=(date(2000, 1, 1), date(2040, 1, 1))))
    assert {violation.field for violation in error.violations} == {"last_date"}
    assert (await refused(of_user(orchestrator, "ada", "unknown"))).reason == "METRIC_NOT_FOUND"
