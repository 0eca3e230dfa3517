"""What is asked changes: by a user's wish, by the end of a pause, by another definition. Closed periods stay."""

import pytest
from laurel.ledger.v1.entry_pb2 import StreakOverrideCall, StreakPause, StreakResume
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1.streak_pb2 import MetricThreshold, StreakOverride

from services.streak.domain import Overridable
from shared.errors import InvalidArgument
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, by_hand, day, event, local, revert, streak
from tests.service.streak.steps import (
    applied,
    define,
    derived_state,
    effect,
    maintain,
    recorded,
    shown,
    statuses,
)

EVERYTHING = list(Overridable)
TWO_METRICS = [MetricThreshold(metric="commits", threshold=2), MetricThreshold(metric="lines", threshold=5)]


def override(name: object, on: int, hour: int = 12, **wanted: object) -> participant_pb.Command:
    call = StreakOverrideCall(streak="daily", override=StreakOverride(**wanted))  # type: ignore[arg-type]
    return by_hand(name, at(on, hour), call)


def resume(name: object, on: int) -> participant_pb.Command:
    return by_hand(name, at(on), StreakResume(streak="daily"))


async def refusal(service: Service, command: participant_pb.Command) -> tuple[str, dict[str, str]]:
    (outcome,) = await applied(service, command)
    return outcome.error.reason, dict(outcome.error.metadata)


async def test_a_user_asks_more_of_himself_from_today_on(service: Service) -> None:
    await define(service, metrics=TWO_METRICS, overridable=EVERYTHING)
    await applied(service, event(3, at(3), value=2), event(4, at(4), value=2))
    harder = [MetricThreshold(metric="commits", threshold=3)]
    asked = await effect(service, override("more", 4, metrics=harder))
    assert (asked.state.length, asked.state.period_qualified, asked.change.length_before) == (1, False, 2)
    assert [(each.metric, each.current, each.threshold) for each in asked.state.progress] == [
        ("commits", 2, 3)
    ]
    assert asked.state.override.metrics == harder
    assert (await effect(service, event("third", at(4, 13)))).state.length == 2
    lines = await effect(service, event("lines", at(5), metric="lines", value=9))
    assert not lines.extended
    back = await effect(service, override("back", 5, 13))
    assert (back.state.length, back.state.period_qualified) == (3, True)
    assert not back.state.HasField("override")


async def test_a_user_has_other_days_off_and_another_mode(service: Service) -> None:
    await define(service, metrics=TWO_METRICS, overridable=EVERYTHING)
    await applied(service, event(3, at(3), value=2))
    tuesday = [streak_pb2.WEEKDAY_TUESDAY]
    await applied(
        service,
        override("days", 3, has_days_off=True, days_off=tuesday, mode=streak_pb2.METRIC_MODE_ALL, hour=13),
    )
    assert (await shown(service, at(3, 14)))[0].length == 0
    await applied(service, event("lines", at(3, 15), metric="lines", value=5))
    await maintain(service, at(6))
    assert [status for _, status in await recorded(service)] == ["QUALIFIED", "DAY_OFF", "BROKEN"]


async def test_a_streak_that_is_switched_off_counts_nothing_and_keeps_its_length(service: Service) -> None:
    await define(service, overridable=[Overridable.SWITCHED_OFF])
    await applied(service, event(3, at(3)))
    off = await effect(service, override("off", 4, switched_off=True))
    assert (off.state.length, off.state.HasField("expire_time")) == (1, False)
    assert not (await effect(service, event(5, at(5)))).extended
    assert (await service.participant.RevertEntries(revert(5, now=at(5, 13)))).outcomes[0].reverted
    assert (await shown(service, at(5, 14)))[0].length == 1
    assert await maintain(service, at(20)) == 0
    on = await effect(service, override("on", 21))
    assert (on.state.length, len(on.periods)) == (1, 16)
    assert {period.status for period in on.periods} == {streak_pb2.PERIOD_STATUS_PAUSED}
    assert (await effect(service, event(21, at(21, 13)))).state.length == 2
    await maintain(service, at(23))
    assert (await shown(service, at(23)))[0].length == 0


async def test_what_a_streak_does_not_let_users_change_is_refused(service: Service) -> None:
    await define(service, metrics=TWO_METRICS, overridable=[Overridable.THRESHOLDS])
    refused = "OVERRIDE_NOT_ALLOWED"
    assert await refusal(service, override(1, 3, switched_off=True)) == (
        refused,
        {"streak": "daily", "overridable": "SWITCHED_OFF"},
    )
    assert (await refusal(service, override(2, 3, mode=streak_pb2.METRIC_MODE_ALL)))[0] == refused
    assert (await refusal(service, override(3, 3, has_days_off=True)))[0] == refused
    only = [MetricThreshold(metric="commits", threshold=1)]
    assert (await refusal(service, override(4, 3, metrics=only)))[1]["overridable"] == "METRICS"
    other = [MetricThreshold(metric="steps")]
    assert (await refusal(service, override(5, 3, metrics=other)))[1]["metric"] == "steps"
    both = [MetricThreshold(metric=each, threshold=1) for each in ("commits", "lines")]
    (allowed,) = await applied(service, override(6, 3, metrics=both))
    assert not allowed.HasField("error")


async def test_days_off_are_overridable_of_daily_streaks_alone(service: Service) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await service.definitions.put(
            streak(frequency=streak_pb2.FREQUENCY_WEEKLY, overridable=[Overridable.DAYS_OFF, 1, 1, 99])
        )
    assert [violation.field.partition(".")[2] for violation in refused.value.violations] == [
        "overridable[0]",
        "overridable[2]",
        "overridable[3]",
    ]


async def test_an_override_that_is_undone_has_never_been(service: Service, twin: Service) -> None:
    for replica in (service, twin):
        await define(replica, overridable=EVERYTHING)
        await applied(replica, event(3, at(3)), event(4, at(4)))
    await applied(service, override("off", 5, switched_off=True))
    for replica in (service, twin):
        await applied(replica, event(5, at(5, 13)), event(7, at(7)))
    assert (await service.participant.RevertEntries(revert("off", now=at(8)))).outcomes[0].reverted
    for replica in (service, twin):
        await applied(replica, event(8, at(8, 13)))
        await maintain(replica, at(12))
    assert await derived_state(service) == await derived_state(twin)


async def test_a_pause_is_ended_early_and_its_days_come_back(service: Service) -> None:
    await define(service, pause_days_per_year=10)
    await applied(service, event(3, at(3)))
    assert (await refusal(service, resume("early", 3)))[0] == "NOTHING_TO_RESUME"
    dates = StreakPause(streak="daily", start_date=local(4), end_date=local(13), by_user=True)
    await applied(service, by_hand("trip", at(4), dates))
    resumed = await effect(service, resume("home", 6))
    assert list(resumed.state.pauses) == []
    assert (await effect(service, event(6, at(6, 13)))).state.length == 2
    more = StreakPause(streak="daily", start_date=local(10), end_date=local(17), by_user=True)
    (allowed,) = await applied(service, by_hand("again", at(7), more))
    assert not allowed.HasField("error")
    await maintain(service, at(8))
    assert [status for _, status in await recorded(service)] == [
        "QUALIFIED",
        "PAUSED",
        "PAUSED",
        "QUALIFIED",
        "BROKEN",
    ]
    assert (await service.participant.RevertEntries(revert("home", now=at(8)))).outcomes[0].reverted
    assert (await shown(service, at(8)))[0].length == 2


async def test_another_threshold_holds_from_the_period_in_which_it_is_made(service: Service) -> None:
    await service.definitions.create(streak(), at=at(1))
    await applied(service, *(event(n, at(n)) for n in (3, 4, 5)))
    harder = streak(metrics=[MetricThreshold(metric="commits", threshold=2)])
    await service.definitions.update(harder, "metrics", at=at(5, 13))
    assert (await shown(service, at(5, 14)))[0].length == 2
    again = await effect(service, event("second", at(5, 15)))
    assert (again.state.length, statuses(again)) == (3, [(5, "QUALIFIED")])
    late = await effect(service, event("late", at(4, 9), now=at(5, 16)))
    assert late.state.length == 3
    assert (await effect(service, event("one", at(6)))).state.length == 3
    await maintain(service, at(7, 1))
    assert [status for _, status in await recorded(service)] == ["QUALIFIED"] * 3 + ["BROKEN"]


async def test_days_off_freezes_and_metrics_change_and_what_was_closed_stays(service: Service) -> None:
    one = streak_pb2.FreezeSettings(initial_count=1)
    await service.definitions.create(streak(freezes=one), at=at(1))
    await applied(service, event(3, at(3)))
    await maintain(service, at(5, 1))
    assert [status for _, status in await recorded(service)] == ["QUALIFIED", "FROZEN"]
    # What it counts for is decided when it comes: not for a streak that gets its metric later that day.
    await applied(service, event("early", at(5, 8), metric="lines"))
    changed = streak(
        freezes=streak_pb2.FreezeSettings(earn_count=2, earn_every_days=3, max_count=2),
        days_off=[streak_pb2.WEEKDAY_TUESDAY, streak_pb2.WEEKDAY_WEDNESDAY],
        metrics=[MetricThreshold(metric="lines", threshold=1)],
    )
    await service.definitions.update(changed, "freezes", "days_off", "metrics", at=at(5, 9))
    await maintain(service, at(7, 1))
    # The fourth was a Tuesday; the sixth earned two freezes, three days after the third.
    assert [status for _, status in await recorded(service)] == ["QUALIFIED", "FROZEN", "DAY_OFF", "FROZEN"]
    assert (await effect(service, event("new", at(7), metric="lines"))).state.length == 2


async def test_a_week_gets_longer_where_weeks_begin_on_another_day(service: Service) -> None:
    weekly = streak_pb2.FREQUENCY_WEEKLY
    await service.definitions.create(streak(frequency=weekly), at=at(1))
    await applied(service, event(3, at(3)))
    sunday = streak(frequency=weekly, week_start=streak_pb2.WEEKDAY_SUNDAY)
    await service.definitions.update(sunday, "week_start", at=at(5))
    state = (await shown(service, at(6)))[0]
    assert (day(state.period_start_date), day(state.period_end_date)) == (day(local(3)), day(local(15)))
    following = await effect(service, event(16, at(16)))
    assert following.state.length == 2
    assert day(following.state.period_end_date) == day(local(22))
    await maintain(service, at(30))
    assert await recorded(service) == [
        (day(local(3)), "QUALIFIED"),
        (day(local(16)), "QUALIFIED"),
        (day(local(23)), "BROKEN"),
    ]


async def test_a_definition_that_changes_and_changes_back_leaves_what_it_had_closed(service: Service) -> None:
    await service.definitions.create(streak(), at=at(1))
    await applied(service, event(3, at(3)), event(4, at(4)))
    for threshold, hour in ((5, 13), (1, 14)):
        asked = streak(metrics=[MetricThreshold(metric="commits", threshold=threshold)])
        await service.definitions.update(asked, "metrics", at=at(4, hour))
    assert (await effect(service, event(5, at(5)))).state.length == 3
