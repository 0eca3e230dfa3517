"""Summaries, distributions, boosts that apply, previews, and the audit."""

import random
from datetime import UTC, datetime, timedelta

import grpc.aio
import pytest
from laurel.common.v1.date_pb2 import LocalDate
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from shared.errors import from_rpc_error
from shared.rpc.convert import date_to_proto, to_timestamp
from tests.service.points.conftest import Service
from tests.service.points.messages import (
    BADGE,
    BRONZE,
    NOON,
    SPEND,
    TEN_PER_THREE,
    WELCOME,
    event,
    gift,
    revert,
)
from tests.service.points.steps import balance, define, send

DAY = 24 * 60
DOUBLE = types.PointsBoost(key="double", multiplier=2, start_date=LocalDate(year=2025, month=3, day=2))
MARCH_FIRST = date_to_proto(NOON.date())


async def summary(
    service: Service, unit: "pb.SummaryUnit.ValueType", days: int = 40
) -> list[tuple[str, int, int, int]]:
    response = await service.stub.SummarizePoints(
        pb.SummarizePointsRequest(
            user_id="alice",
            points_system="xp",
            unit=unit,
            first_date=MARCH_FIRST,
            last_date=date_to_proto(NOON.date() + timedelta(days=days)),
        )
    )
    return [
        (f"{each.start_date.month}-{each.start_date.day}", each.earned, each.spent, each.balance)
        for each in response.periods
    ]


async def test_points_are_summed_by_day_week_and_month(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("a", 3), gift("b", -4, minutes=2 * DAY), gift("c", 50, minutes=31 * DAY))
    assert await summary(service, pb.SUMMARY_UNIT_DAY) == [
        ("3-1", 10, 0, 10),
        ("3-3", 0, 4, 6),
        ("4-1", 50, 0, 56),
    ]
    assert await summary(service, pb.SUMMARY_UNIT_WEEK) == [
        ("2-24", 10, 0, 10),
        ("3-3", 0, 4, 6),
        ("3-31", 50, 0, 56),
    ]
    assert await summary(service, pb.SUMMARY_UNIT_MONTH) == [("3-1", 10, 4, 6), ("4-1", 50, 0, 56)]
    assert await summary(service, pb.SUMMARY_UNIT_DAY, days=3) == [("3-1", 10, 0, 10), ("3-3", 0, 4, 6)]


async def test_what_was_undone_and_what_came_late_stand_under_their_dates(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("a", 3, minutes=5 * DAY), event("b", 3, minutes=2 * DAY), event("c", 6))
    await service.participant.RevertEntries(revert("c"))
    assert await summary(service, pb.SUMMARY_UNIT_DAY) == [("3-3", 10, 0, 10), ("3-6", 10, 0, 20)]


async def test_a_summary_says_what_each_trigger_gave_and_what_boosts_added(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WELCOME], boosts=[DOUBLE])
    await send(service, event("a", 6, minutes=DAY), gift("g", 5, minutes=DAY))
    response = await service.stub.SummarizePoints(
        pb.SummarizePointsRequest(
            user_id="alice", points_system="xp", first_date=MARCH_FIRST, last_date=DOUBLE.start_date
        )
    )
    (period,) = response.periods
    assert [(each.trigger, each.times, each.base_amount, each.amount) for each in period.triggers] == [
        ("", 1, 5, 5),
        ("commits", 2, 20, 40),
        ("welcome", 1, 25, 50),
    ]


async def test_users_are_counted_by_ranges(service: Service) -> None:
    await define(service, "xp")
    for number, amount in enumerate((5, 10, 19, 20, 400)):
        await send(service, gift(number, amount, user=f"user-{number}"))
    await send(service, gift("s", -395, user="user-4"))

    async def counted(*, by_lifetime: bool) -> list[tuple[int, int]]:
        request = pb.GetPointsDistributionRequest(
            points_system="xp", bounds=[10, 20], by_lifetime=by_lifetime
        )
        response = await service.stub.GetPointsDistribution(request)
        assert not response.ranges[0].HasField("first")
        return [(each.first, each.user_count) for each in response.ranges]

    assert await counted(by_lifetime=False) == [(0, 2), (10, 2), (20, 1)]
    assert await counted(by_lifetime=True) == [(0, 1), (10, 2), (20, 2)]


async def test_of_some_users_those_alone_are_counted(service: Service) -> None:
    await define(service, "xp", [])
    await send(service, gift("a", 9), gift("b", 10, user="bob"), gift("c", 15, user="carol"))

    async def counted(*user_ids: str) -> list[int]:
        request = pb.GetPointsDistributionRequest(
            points_system="xp", bounds=[10], only=pb.UserSet(user_ids=user_ids)
        )
        return [each.user_count for each in (await service.stub.GetPointsDistribution(request)).ranges]

    assert await counted("alice", "carol", "nobody") == [1, 1]
    assert await counted() == [0, 0]


async def test_a_user_is_told_which_boosts_apply_now(service: Service) -> None:
    over = to_timestamp(datetime(2001, 1, 1, tzinfo=UTC))
    pro = types.PointsBoost(key="pro", multiplier=3, start_date=DOUBLE.start_date)
    pro.user_filters.add(attribute="plan", equals="pro")
    ended = types.PointsBoost(key="ended", multiplier=3, start_time=over)
    ended.end_time.FromDatetime(datetime(2002, 1, 1, tzinfo=UTC))
    cancelled = types.PointsBoost(key="cancelled", multiplier=3, start_time=over, cancelled=True)
    await define(service, "xp", boosts=[DOUBLE, pro, ended, cancelled])
    found = {}
    for plan in ("pro", "free"):
        request = pb.ListUserBoostsRequest(user_id="alice", attributes={"plan": plan}, time_zone="Asia/Tokyo")
        response = await service.stub.ListUserBoosts(request)
        found[plan] = [each.boost.key for each in response.boosts]
    assert found == {"pro": ["double", "pro"], "free": ["double"]}


async def test_a_preview_says_what_an_event_would_give_and_changes_nothing(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, SPEND], levels=[BRONZE], boosts=[DOUBLE], daily_cap=30)
    await send(service, event("a", 2))
    request = pb.PreviewAwardRequest(user_id="alice", metric="commits", value=4)
    for _ in range(2):
        (change,) = (await service.stub.PreviewAward(request)).points
        assert [(award.base_amount, award.amount) for award in change.awards] == [(20, 30)]
        assert (change.balance, change.level) == (30, "bronze")
    assert await balance(service) == 0
    request = pb.PreviewAwardRequest(user_id="alice", metric="spending", value=1)
    refused = await service.stub.PreviewAward(request)
    assert refused.refusal.reason == "INSUFFICIENT_POINTS"


async def test_a_preview_for_who_was_never_seen_welcomes(service: Service) -> None:
    await define(service, "xp", [WELCOME])
    request = pb.PreviewAwardRequest(user_id="nobody", metric="commits", value=1)
    (change,) = (await service.stub.PreviewAward(request)).points
    assert change.added == 25
    assert not (await service.stub.ListAwards(pb.ListAwardsRequest(user_id="nobody"))).awards


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("SummarizePoints", pb.SummarizePointsRequest(user_id="a", points_system="xp"), "first_date"),
        (
            "SummarizePoints",
            pb.SummarizePointsRequest(
                user_id="a",
                points_system="xp",
                first_date=MARCH_FIRST,
                last_date=LocalDate(year=9999, month=12, day=31),
            ),
            "last_date",
        ),
        ("GetPointsDistribution", pb.GetPointsDistributionRequest(points_system="xp"), "bounds"),
        (
            "GetPointsDistribution",
            pb.GetPointsDistributionRequest(
                points_system="xp", bounds=[1], only=pb.UserSet(user_ids=["alice"] * 1_001)
            ),
            "only.user_ids",
        ),
        (
            "GetPointsDistribution",
            pb.GetPointsDistributionRequest(points_system="xp", bounds=[2, 2]),
            "bounds",
        ),
        ("ListUserBoosts", pb.ListUserBoostsRequest(user_id="a", time_zone="+01:00"), "time_zone"),
        ("PreviewAward", pb.PreviewAwardRequest(user_id="a", metric="m"), "value"),
        ("AuditPoints", pb.AuditPointsRequest(page_size=101), "page_size"),
    ],
)
async def test_a_mistake_in_a_read_is_named(
    service: Service, method: str, request_: object, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(service.stub, method)(request_)
    error = from_rpc_error(caught.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in {violation.field for violation in error.violations}


async def test_an_audit_finds_nothing_wrong_after_a_random_history(service: Service) -> None:
    cooling = types.PointsTrigger(key="cool", amount=7, cooldown_seconds=3600, metric=TEN_PER_THREE.metric)
    levels = [types.Level(key="b", threshold=40, multiplier=1.5)]
    await define(
        service,
        "xp",
        [TEN_PER_THREE, BADGE, WELCOME, cooling, SPEND],
        levels=levels,
        boosts=[DOUBLE],
        daily_cap=120,
    )
    chance = random.Random(7)
    for number in range(60):
        user = chance.choice(["alice", "bob"])
        time = number * 200 - chance.choice([0, 0, 0, 900])
        match chance.choice(["event", "event", "spend", "gift", "void"]):
            case "event":
                completed = [f"c{number}"] if chance.random() < 0.2 else []
                value = chance.randint(1, 9)
                await send(service, event(number, value, user=user, minutes=time, completed=completed))
            case "spend":
                await send(service, event(number, 1, metric="spending", user=user, minutes=time))
            case "gift":
                await send(service, gift(number, chance.choice([-5, 9]), user=user, minutes=time))
            case _:
                await service.participant.RevertEntries(revert(chance.randrange(number + 1), user=user))
    found = await service.stub.AuditPoints(pb.AuditPointsRequest())
    assert list(found.differences) == []
    assert found.user_count == 2
    assert found.award_count > 40


async def test_an_audit_says_what_is_wrong_and_where(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE], levels=[BRONZE])
    await send(service, event("a", 3), event("b", 3, user="bob"))
    await service.database.execute("UPDATE balances SET balance = 7, level = '' WHERE user_id = 'alice'")
    await service.database.execute("UPDATE awards SET amount = 4 WHERE user_id = 'bob'")
    found = await service.stub.AuditPoints(pb.AuditPointsRequest())
    wrong = [(each.user_id, each.what.split()[0], each.stored, each.expected) for each in found.differences]
    assert wrong == [
        ("alice", "balance", "7", "10"),
        ("alice", "level", "", "bronze"),
        ("bob", "balance", "10", "4"),
        ("bob", "lifetime", "10", "4"),
        ("bob", "level", "bronze", ""),
        ("bob", "award", "4 of 10, 1 times", "10 of 10, 1 times"),
    ]
    only = await service.stub.AuditPoints(pb.AuditPointsRequest(user_id="alice"))
    assert {each.user_id for each in only.differences} == {"alice"}


async def test_an_audit_of_all_goes_by_page(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, *[event(n, 3, user=f"user-{n}") for n in range(5)])
    request, counts = pb.AuditPointsRequest(page_size=2), []
    while True:
        page = await service.stub.AuditPoints(request)
        counts.append(page.user_count)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert counts == [2, 2, 1]
