"""Closing at local midnights: eager or lazy, with one result (RULES 3.7), and told to others once."""

import asyncio
from datetime import date, datetime, timedelta

import grpc.aio
import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2

from services.streak.definitions import KINDS, catalogue_of
from services.streak.maintenance import Maintenance
from shared.ids import derived_id_at
from shared.pace import Pace, Traffic
from shared.passes import run_by_clock
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import create_pool
from shared.rpc.convert import to_datetime, to_timestamp
from tests.service.streak.conftest import Service, replica
from tests.service.streak.messages import at, event, streak
from tests.service.streak.steps import (
    applied,
    define,
    derived_state,
    feed,
    feed_page,
    lengths,
    maintain,
    recorded,
    shown,
)


class OnTheSixth:
    """A clock that shows one instant."""

    def now(self) -> datetime:
        return at(6)


TWO_FREEZES = streak_pb2.FreezeSettings(initial_count=2)


async def test_a_streak_breaks_at_the_local_midnight_and_the_feed_says_so(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3), zone="Asia/Tokyo"), event(2, at(4), zone="Asia/Tokyo"))
    midnight = at(5, 15)
    assert await maintain(service, midnight - timedelta(microseconds=1)) == 0
    assert await maintain(service, at(5, 17)) == 1
    (change,) = await feed(service)
    effect = change.streak_closing.effect
    found = effect.change
    assert (change.user_id, change.time_zone, found.streak) == ("alice", "Asia/Tokyo", "daily")
    assert to_datetime(change.occur_time) == to_datetime(found.reach_time) == midnight
    assert (found.length_before, found.length, found.longest) == (2, 0, 2)
    assert (effect.user_id, effect.state.length, effect.state.longest) == ("alice", 0, 2)
    assert [period.status for period in effect.periods] == [streak_pb2.PERIOD_STATUS_BROKEN]
    assert change.origin == entry_pb2.ENTRY_ORIGIN_MAINTENANCE
    assert change.entry_id == str(derived_id_at(midnight, "streak", "alice", "daily", str(found.version)))
    assert (await recorded(service))[-1] == (date(2025, 3, 5), "BROKEN")


async def test_maintenance_run_again_finds_nothing(service: Service) -> None:
    await define(service)
    await applied(service, *(event(f"{n}", at(3), user=f"user-{n}") for n in range(8)))
    assert await maintain(service, at(9)) == 8
    before = await derived_state(service)
    assert await maintain(service, at(9)) == 0
    assert await maintain(service, at(25)) == 0
    assert await derived_state(service) == before
    assert len(await feed(service)) == 8


async def test_freezes_are_told_of_though_no_length_changes(service: Service) -> None:
    await define(service, freezes=TWO_FREEZES, days_off=[streak_pb2.WEEKDAY_WEDNESDAY])
    await applied(service, event(1, at(3)))
    assert await maintain(service, at(7)) == 1
    assert [status for _, status in await recorded(service)] == ["QUALIFIED", "FROZEN", "DAY_OFF", "FROZEN"]
    (change,) = await feed(service)
    effect = change.streak_closing.effect
    assert not effect.HasField("change")
    assert (effect.state.length, effect.state.freeze_count) == (1, 0)
    assert to_datetime(change.occur_time) == at(5, 0)


async def test_each_night_that_takes_a_freeze_is_a_change_of_its_own(service: Service) -> None:
    await define(service, freezes=TWO_FREEZES)
    await applied(service, event(1, at(3)))
    for now in (at(5), at(6), at(7)):
        await maintain(service, now)
    changes = await feed(service)
    assert [to_datetime(change.occur_time) for change in changes] == [at(5, 0), at(6, 0), at(7, 0)]
    assert len({change.entry_id for change in changes}) == 3
    assert [change.streak_closing.effect.HasField("change") for change in changes] == [False, False, True]


async def test_freezes_that_were_earned_are_told_with_what_they_were_spent_on(service: Service) -> None:
    await define(service, freezes=streak_pb2.FreezeSettings(earn_count=1, earn_every_days=1, max_count=1))
    await applied(service, event(1, at(3)))
    await maintain(service, at(5))
    (change,) = await feed(service)
    effect = change.streak_closing.effect
    assert (effect.earned_freeze_count, effect.state.freeze_count) == (2, 1)


async def test_days_off_close_periods_without_telling_others(service: Service) -> None:
    await define(service, days_off=[streak_pb2.WEEKDAY_TUESDAY, streak_pb2.WEEKDAY_WEDNESDAY])
    await applied(service, event(1, at(3)))
    await maintain(service, at(6))
    assert await feed(service) == []


async def test_what_is_found_of_history_says_so_and_tells_of_no_freezes(service: Service) -> None:
    await define(service, freezes=TWO_FREEZES)
    await applied(service, event(1, at(3)))
    await maintain(service, at(5), history=True)
    assert await feed(service) == []
    await maintain(service, at(9), history=True)
    (change,) = await feed(service)
    assert change.streak_closing.effect.change.length == 0
    assert change.origin == entry_pb2.ENTRY_ORIGIN_IMPORT


@pytest.mark.parametrize("hours", [1, 7, 24, 400])
async def test_recorded_history_does_not_depend_on_how_often_maintenance_ran(
    service: Service, twin: Service, hours: int
) -> None:
    freezes = streak_pb2.FreezeSettings(initial_count=1, earn_count=1, earn_every_days=4, max_count=2)
    for server in (service, twin):
        await define(server, freezes=freezes)
        await define(server, "weekly", frequency=streak_pb2.FREQUENCY_WEEKLY, freezes=freezes)
    days = (3, 4, 7, 8, 14, 20, 21, 25)
    now = at(3)
    for d in days:
        while now < at(d):
            await maintain(service, now)
            now += timedelta(hours=hours)
        await applied(service, event(d, at(d), zone="America/Sao_Paulo"))
        await applied(twin, event(d, at(d), zone="America/Sao_Paulo"))
    for server in (service, twin):
        await maintain(server, at(30))
    assert await derived_state(service) == await derived_state(twin)


async def test_a_read_shows_what_is_due_and_stores_nothing(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    before = await derived_state(service)
    (alive,) = await shown(service, at(4, 23))
    (broken,) = await shown(service, at(5))
    assert (alive.length, alive.HasField("expire_time")) == (1, True)
    assert (broken.length, broken.longest, broken.HasField("expire_time")) == (0, 1, False)
    assert not broken.HasField("start_date")
    assert await derived_state(service) == before


async def test_an_event_with_an_earlier_now_never_reopens_what_is_closed(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    await maintain(service, at(10))
    (outcome,) = await applied(service, event(2, at(3, 15), now=at(3, 15)))
    assert outcome.effects.streaks[0].state.length == 0
    assert outcome.effects.streaks[0].state.period_start_date.day == 10


async def test_a_late_event_after_a_closing_brings_the_streak_back(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    await maintain(service, at(5, 1))
    (outcome,) = await applied(service, event(2, at(4, 20), now=at(5, 2)))
    change = outcome.effects.streaks[0].change
    assert (change.length_before, change.length, change.version) == (0, 2, 3)
    assert lengths(change) == [(4, 0, 2)]


async def test_two_replicas_at_once_find_each_change_once_and_in_order(service: Service) -> None:
    await define(service)
    users = [f"user-{n:02}" for n in range(30)]
    await applied(service, *(event(user, at(3), user=user) for user in users))
    async with replica(service.dsn) as other:
        request = participant_pb.RunMaintenanceRequest(now=to_timestamp(at(6)))
        stubs = (service.participant, other, service.participant, other)
        responses = await asyncio.gather(*(stub.RunMaintenance(request) for stub in stubs))
    assert sum(response.done_count for response in responses) == len(users)
    assert [change.user_id for change in await feed(service)] == users


async def test_maintenance_beside_events_of_the_same_users_loses_nothing(
    service: Service, twin: Service
) -> None:
    for server in (service, twin):
        await define(server, freezes=TWO_FREEZES)
    commands = [
        event((user, d), at(d), user=user) for d in (3, 4, 6, 7, 12, 13) for user in ("a", "b", "c", "d", "e")
    ]
    await asyncio.gather(
        *(applied(service, command) for command in commands),
        *(maintain(service, at(d)) for d in (5, 9, 14) for _ in range(3)),
    )
    for command in commands:
        await applied(twin, command)
    for server in (service, twin):
        await maintain(server, at(20))
    assert await derived_state(service) == await derived_state(twin)


async def test_the_feed_is_read_in_pages_after_a_cursor(service: Service) -> None:
    await define(service)
    await applied(service, *(event(f"{n}", at(3), user=f"user-{n}") for n in range(5)))
    await maintain(service, at(9))
    first = await feed_page(service, page_size=2)
    rest = await feed_page(service, after=first.cursor)
    assert [change.user_id for change in (*first.changes, *rest.changes)] == [f"user-{n}" for n in range(5)]
    end = await feed_page(service, after=rest.cursor)
    assert (list(end.changes), end.cursor) == ([], rest.cursor)


async def test_a_changed_definition_holds_for_what_is_closed_and_shown_from_now_on(service: Service) -> None:
    await service.definitions.create(streak(), at=at(1))
    await applied(service, event(1, at(3)), event(2, at(4)))
    stricter = [streak_pb2.MetricThreshold(metric="commits", threshold=2)]
    await service.definitions.update(streak_pb2.Streak(key="daily", metrics=stricter), at=at(4, 19))
    (state,) = await shown(service, at(4, 20))
    assert state.length == 1
    (outcome,) = await applied(service, event(3, at(4, 21)))
    change = outcome.effects.streaks[0].change
    assert (change.length_before, change.length, change.longest) == (2, 2, 2)
    assert await recorded(service) == [(date(2025, 3, 3), "QUALIFIED"), (date(2025, 3, 4), "QUALIFIED")]
    daily = streak_pb2.FreezeSettings(earn_count=1, earn_every_days=1, max_count=1)
    await service.definitions.update(streak_pb2.Streak(key="daily", freezes=daily), at=at(5))
    await maintain(service, at(6))
    assert (await recorded(service))[-1] == (date(2025, 3, 5), "FROZEN")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (participant_pb.RunMaintenanceRequest(), "now"),
        (participant_pb.RunMaintenanceRequest(now=to_timestamp(at(3)), hold_seconds=-1), "hold_seconds"),
    ],
)
async def test_a_wrong_maintenance_request_is_refused(
    service: Service, request_: participant_pb.RunMaintenanceRequest, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.participant.RunMaintenance(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")


async def test_a_pass_by_the_clock_waits_while_an_import_holds_it(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    pool = await create_pool(service.dsn, application_name="test", size=2, statement_timeout_ms=5_000)
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    part, pace = Maintenance(pool, catalogue, 10).part, Pace(Traffic(), most=10, share=1)
    await run_by_clock(pool, OnTheSixth(), pace, part)
    assert await feed(service) == []
    await maintain(service, at(3), hold_seconds=0)
    await run_by_clock(pool, OnTheSixth(), pace, part)
    assert len(await feed(service)) == 1
    await pool.close()
