"""A streak of many users, and a user's streak as a calendar shows it."""

from collections.abc import Awaitable
from datetime import date, datetime, timedelta

import grpc.aio
import pytest
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.errors import from_rpc_error
from shared.rpc.convert import date_to_proto, to_datetime, to_timestamp
from tests.fixtures.paging import pages
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, day, event
from tests.service.streak.steps import applied, define, maintain, status_name

FREEZES = streak_pb2.FreezeSettings(initial_count=1)


async def calendar(service: Service, first: date, last: date, user: str = "alice") -> list[tuple[int, str]]:
    response = await service.stub.GetCalendar(
        pb.GetCalendarRequest(
            user_id=user, streak="daily", start_date=date_to_proto(first), end_date=date_to_proto(last)
        )
    )
    return [(day(period.start_date).day, status_name(period.status)) for period in response.periods]


async def wrong(call: Awaitable[object]) -> set[str]:
    """The fields that a refused call names."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return {violation.field for violation in from_rpc_error(caught.value).violations}


@pytest.mark.parametrize("maintained", [False, True])
async def test_a_calendar_has_every_period_of_the_range(service: Service, maintained: bool) -> None:
    await define(service, freezes=FREEZES)
    await applied(service, *(event(d, at(d)) for d in (3, 4, 6, 10)))
    if maintained:
        await maintain(service, at(12))
    whole = [
        (3, "QUALIFIED"),
        (4, "QUALIFIED"),
        (5, "FROZEN"),
        (6, "QUALIFIED"),
        (7, "BROKEN"),
        (10, "QUALIFIED"),
        (11, "BROKEN"),
    ]
    assert await calendar(service, date(2025, 2, 1), date(2025, 3, 31)) == whole
    assert await calendar(service, date(2025, 3, 4), date(2025, 3, 7)) == whole[1:5]
    assert await calendar(service, date(2025, 3, 8), date(2025, 3, 9)) == []


async def test_a_calendar_of_weeks_has_each_that_the_range_touches(service: Service) -> None:
    await define(service, frequency=streak_pb2.FREQUENCY_WEEKLY)
    await applied(service, event(1, at(5)), event(2, at(12)))
    assert await calendar(service, date(2025, 3, 9), date(2025, 3, 10)) == [
        (3, "QUALIFIED"),
        (10, "QUALIFIED"),
    ]


async def test_friends_come_longest_first_whoever_has_none_last(service: Service) -> None:
    await define(service)
    lengths = {"dan": 3, "bob": 1, "ann": 1}
    for user, length in lengths.items():
        await applied(service, *(event((user, n), at(3 + n), user=user) for n in range(length)))
    response = await service.stub.BatchGetUserStreaks(
        pb.BatchGetUserStreaksRequest(
            streak="daily",
            user_ids=["bob", "nobody", "ann", "dan", "bob"],
            read_time=to_timestamp(at(3, 13)),
        )
    )
    assert [(each.user_id, each.state.length) for each in response.streaks] == [
        ("dan", 3),
        ("ann", 1),
        ("bob", 1),
        ("nobody", 0),
    ]


async def test_at_risk_are_those_who_have_not_done_today_what_keeps_their_streak(service: Service) -> None:
    await define(service, freezes=FREEZES)
    for user, days in {"done": (3, 4), "due": (3,), "new": (4,)}.items():
        await applied(service, *(event((user, d), at(d), user=user) for d in days))
    await applied(service, event("east", at(3, 3), user="east", zone="Asia/Tokyo"))
    await applied(service, event("idle", at(3), user="idle", value=0.5))

    async def at_risk(hours: int, zone: str = "", size: int = 0) -> list[str]:
        request = pb.ListStreaksAtRiskRequest(
            streak="daily",
            within_hours=hours,
            time_zone=zone,
            read_time=to_timestamp(at(4, 13)),
            page_size=size,
        )
        found = await pages(service.stub.ListStreaksAtRisk, request, "streaks")
        return [each.user_id for page in found for each in page]

    assert await at_risk(12) == ["east", "due"]
    assert await at_risk(12, size=1) == ["east", "due"]
    assert await at_risk(2) == ["east"]
    assert await at_risk(1) == []
    assert await at_risk(12, "UTC") == ["due"]
    request = pb.ListStreaksAtRiskRequest(
        streak="daily", within_hours=12, time_zone="UTC", read_time=to_timestamp(at(4, 13))
    )
    (due,) = (await service.stub.ListStreaksAtRisk(request)).streaks
    assert (due.time_zone, due.state.length, due.state.freeze_count) == ("UTC", 1, 1)
    assert to_datetime(due.state.expire_time) == at(5, 0)


async def test_whose_streak_ends_in_a_window_is_told_by_its_end_without_those_whom_a_freeze_keeps(
    service: Service,
) -> None:
    await define(service, freezes=FREEZES)
    # Who missed the 4th has spent the freeze.
    for user, days in {"done": (3, 5, 6), "due": (3, 5), "also": (3, 5), "kept": (5,)}.items():
        await applied(service, *(event((user, d), at(d), user=user) for d in days))
    east_events = (event(("east", d), at(d, 3), user="east", zone="Asia/Tokyo") for d in (3, 5))
    await applied(service, *east_events)

    async def ends(begin: datetime, hours: int, size: int = 0) -> list[tuple[datetime, str, list[str]]]:
        request = pb.ListStreakEndsRequest(
            streak="daily",
            begin_time=to_timestamp(begin),
            end_time=to_timestamp(begin + timedelta(hours=hours)),
            page_size=size,
        )
        found = await pages(service.stub.ListStreakEnds, request, "ends")
        return [
            (to_datetime(each.end_time), each.time_zone, list(each.user_ids))
            for page in found
            for each in page
        ]

    east, rest = (at(6, 15), "Asia/Tokyo", ["east"]), (at(7, 0), "UTC", ["also", "due"])
    assert await ends(at(6, 13), 12) == [east, rest]
    assert await ends(at(6, 13), 12, size=1) == [east, (*rest[:2], ["also"]), (*rest[:2], ["due"])]
    assert await ends(at(6, 13), 2) == [east]
    assert await ends(at(6, 15), 8) == []
    # Of what was folded under another definition it is said by the one that holds.
    off = streak_pb2.Streak(key="daily", days_off=[streak_pb2.WEEKDAY_THURSDAY])
    await service.definitions.update(off, "days_off", at=at(5, 20))
    assert await ends(at(6, 13), 12) == []


async def test_statistics_count_lengths_losses_and_what_freezes_saved(service: Service) -> None:
    await define(service, freezes=FREEZES)
    lengths = {"ann": 1, "bob": 3, "cat": 8}
    for user, length in lengths.items():
        await applied(service, *(event((user, n), at(3 + n), user=user) for n in range(length)))
    await applied(service, *(event(("dan", d), at(d), user="dan") for d in range(20, 29)))
    await maintain(service, at(29))
    request = pb.GetStreakStatisticsRequest(
        streak="daily",
        start_date=date_to_proto(date(2025, 3, 1)),
        end_date=date_to_proto(date(2025, 3, 31)),
    )
    found = await service.stub.GetStreakStatistics(request)
    assert [(each.min_length, each.count) for each in found.lengths] == [(7, 1)]
    # Each had one freeze, and broke the day after it: the 5th, 7th and 12th.
    assert (found.lost_count, found.frozen_count, found.frozen_share) == (3, 3, 0.5)
    assert [(each.min_length, each.count) for each in found.losses] == [(1, 1), (3, 1), (7, 1)]
    assert [(each.weekday, each.count) for each in found.weekdays] == [
        (streak_pb2.WEEKDAY_WEDNESDAY, 2),
        (streak_pb2.WEEKDAY_FRIDAY, 1),
    ]
    request.end_date.CopyFrom(date_to_proto(date(2025, 3, 6)))
    assert (await service.stub.GetStreakStatistics(request)).lost_count == 1


async def test_wrong_reads_of_many_name_their_fields(service: Service) -> None:
    await define(service)
    stub, today = service.stub, date(2025, 3, 1)
    assert await wrong(stub.GetCalendar(pb.GetCalendarRequest())) == {
        "user_id",
        "streak",
        "start_date",
        "end_date",
    }
    backwards = pb.GetCalendarRequest(
        user_id="alice",
        streak="daily",
        start_date=date_to_proto(today),
        end_date=date_to_proto(today - timedelta(days=1)),
    )
    assert await wrong(stub.GetCalendar(backwards)) == {"end_date"}
    many = pb.BatchGetUserStreaksRequest(streak="daily", user_ids=["a"] * 101)
    assert await wrong(stub.BatchGetUserStreaks(many)) == {"user_ids"}
    empty = pb.BatchGetUserStreaksRequest(streak="daily", user_ids=["a", ""])
    assert await wrong(stub.BatchGetUserStreaks(empty)) == {"user_ids[1]"}
    at_risk = pb.ListStreaksAtRiskRequest(streak="daily", within_hours=0, time_zone="Mars")
    assert await wrong(stub.ListStreaksAtRisk(at_risk)) == {"within_hours", "time_zone"}
    begin, late = to_timestamp(at(1)), to_timestamp(at(9))
    window = pb.ListStreakEndsRequest(streak="daily", begin_time=begin, end_time=late, page_size=-1)
    assert await wrong(stub.ListStreakEnds(window)) == {"end_time"}
    window = pb.ListStreakEndsRequest(streak="", begin_time=begin, end_time=begin)
    assert await wrong(stub.ListStreakEnds(window)) == {"streak", "end_time"}
    assert await wrong(stub.ListStreakEnds(pb.ListStreakEndsRequest(streak="daily"))) == {
        "begin_time",
        "end_time",
    }
    unknown = pb.ListStreaksAtRiskRequest(streak="none", within_hours=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListStreaksAtRisk(unknown)
    assert from_rpc_error(caught.value).reason == "STREAK_NOT_FOUND"
