"""What an achievement is calibrated by (RULES 4.7)."""

from datetime import date, timedelta
from typing import Any

import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from shared.errors import from_rpc_error
from shared.rpc.convert import date_to_proto, to_timestamp
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import (
    API,
    MERGED,
    NOON,
    apply,
    by_metric,
    by_streak,
    call,
    event,
    streak,
)
from tests.service.achievement.steps import define

DAY = 24 * 60


def asked(key: str, days_later: int = 0, **fields: Any) -> pb.GetAchievementStatisticsRequest:
    return pb.GetAchievementStatisticsRequest(
        achievement=key,
        start_date=date_to_proto(NOON.date()),
        end_date=date_to_proto(NOON.date() + timedelta(days=30)),
        read_time=to_timestamp(NOON + timedelta(days=days_later)),
        **fields,
    )


async def test_it_says_who_holds_it_what_it_took_and_who_gave_up(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    await define(service, "merged", metric=by_metric(100, [MERGED]))
    await define(service, "both", composite=types.CompositeTrigger(achievements=["ten", "merged"]))
    for user, days in (("ann", 2), ("bob", 4), ("cat", 6)):
        await service.participant.ApplyEntries(
            apply(
                event(f"{user} 1", 4, version=1, total=4, user=user, minutes=0),
                event(f"{user} 2", 6, version=2, total=10, user=user, minutes=days * DAY),
            )
        )
    merged = {"state": "merged"}
    await service.participant.ApplyEntries(
        apply(
            event("dan", 2, version=1, total=2, user="dan", minutes=0, attributes=merged),
            event("eve", 2, version=1, total=2, user="eve", minutes=20 * DAY),
            call("fay", "nothing", user="fay"),
        )
    )
    found = await service.stub.GetAchievementStatistics(asked("ten", 31))
    assert (found.user_count, found.looked_at_count, found.holder_count, found.share) == (6, 6, 3, 0.5)
    assert (found.median_seconds, found.median_entry_count) == (4 * 86_400, 2)
    assert (found.begun_count, found.abandoned_count, found.abandoned_share) == (2, 1, 0.5)
    assert [(each.date.day, each.count) for each in found.days] == [(3, 1), (5, 1), (7, 1)]
    filtered = await service.stub.GetAchievementStatistics(asked("merged", 31))
    assert (filtered.begun_count, filtered.abandoned_count) == (1, 1)
    above = await service.stub.GetAchievementStatistics(asked("both", 31))
    assert (above.begun_count, above.abandoned_count) == (3, 0)


async def test_it_says_how_many_active_days_it_takes(service: Service) -> None:
    await define(service, "far", metric=by_metric(100))
    await service.participant.ApplyEntries(
        apply(
            event("1", 4, version=1, total=4, minutes=0),
            event("2", 2, version=2, total=6, minutes=1),
            event("3", 4, version=3, total=10, minutes=DAY),
        )
    )
    found = await service.stub.GetAchievementStatistics(asked("far", 2))
    assert (found.daily_value, found.difficulty_days) == (5, 20)
    assert (await service.stub.GetAchievementStatistics(asked("far", 60))).difficulty_days == 0


async def test_of_a_streak_activity_of_any_kind_counts(service: Service) -> None:
    await define(service, "week", streak=by_streak(7))
    told = event("1", 1, version=1, total=1, minutes=0, streaks=[streak(1, 1)])
    await service.participant.ApplyEntries(apply(told))
    early = await service.stub.GetAchievementStatistics(asked("week", 29))
    late = await service.stub.GetAchievementStatistics(asked("week", 31))
    assert (early.begun_count, early.abandoned_count, late.abandoned_count) == (1, 0, 1)


async def test_nobody_begins_or_gives_up_what_comes_by_time_or_by_a_call(service: Service) -> None:
    hold = participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=3600)
    await service.participant.RunMaintenance(hold)
    await define(service, "year", anniversary=types.AnniversaryTrigger(years=1))
    await define(service, "two", anniversary=types.AnniversaryTrigger(years=2))
    await define(service, "founder", api=API)
    await define(service, "ten", metric=by_metric(10))
    await define(service, "old", composite=types.CompositeTrigger(achievements=["year", "two"]))
    await define(service, "both", composite=types.CompositeTrigger(achievements=["two", "ten"]))
    signed_up = {"sign_up_date": (NOON - timedelta(days=500)).date().isoformat()}
    for user, total in (("ann", 10), ("bob", 4)):
        told = event(user, total, version=1, total=total, user=user, minutes=0)
        told.entry.user.attributes.update(signed_up)
        await service.participant.ApplyEntries(apply(told))
    for key, holders in (("year", 2), ("old", 0), ("founder", 0)):
        found = await service.stub.GetAchievementStatistics(asked(key, 90))
        assert (found.at_a_stroke, found.holder_count) == (True, holders)
        assert (found.begun_count, found.abandoned_count, found.median_entry_count) == (0, 0, 0)
    both = await service.stub.GetAchievementStatistics(asked("both", 90))
    # Ann has done what there is to do, and waits for the second year.
    assert (both.at_a_stroke, both.begun_count, both.abandoned_count) == (False, 1, 0)
    ten = await service.stub.GetAchievementStatistics(asked("ten", 90))
    assert (ten.at_a_stroke, ten.begun_count, ten.abandoned_count) == (False, 1, 1)


async def test_what_is_wrong_is_said(service: Service) -> None:
    await define(service, "founder", api=API)
    assert (await service.stub.GetAchievementStatistics(asked("founder"))).holder_count == 0
    late = asked("founder")
    late.end_date.CopyFrom(date_to_proto(date(2026, 1, 1)))
    for request, reason in ((asked("nothing"), "ACHIEVEMENT_NOT_FOUND"), (late, "INVALID_FIELDS")):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await service.stub.GetAchievementStatistics(request)
        assert from_rpc_error(failure.value).reason == reason
