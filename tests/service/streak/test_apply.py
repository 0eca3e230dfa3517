"""What events do to streaks, through the service."""

import asyncio
from datetime import date, timedelta

import grpc.aio
import pytest
from laurel.common.v1 import filter_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.streak.v1 import streak_pb2

from shared.rpc.convert import to_datetime
from tests.service.streak.conftest import Service, replica
from tests.service.streak.messages import apply, at, day, entry_id, event, revert
from tests.service.streak.steps import (
    applied,
    define,
    derived_state,
    effect,
    lengths,
    recorded,
    shown,
    statuses,
)

ONE_FREEZE = streak_pb2.FreezeSettings(initial_count=1)


async def test_the_first_event_starts_a_streak_and_the_reply_is_complete(service: Service) -> None:
    await define(service, metrics=[streak_pb2.MetricThreshold(metric="commits", threshold=2)])
    first = await effect(service, event(1, at(3, 9)))
    assert not first.extended
    assert not first.HasField("change")
    assert (first.state.progress[0].current, first.state.progress[0].threshold) == (1, 2)
    second = await effect(service, event(2, at(3, 10)))
    assert second.extended
    assert (second.state.length, second.state.longest, second.state.period_qualified) == (1, 1, True)
    assert day(second.state.start_date) == day(second.state.period_end_date) == date(2025, 3, 3)
    assert to_datetime(second.state.expire_time) == at(5, 0)
    assert (second.change.version, second.change.length_before, second.change.length) == (1, 0, 1)
    assert lengths(second.change) == [(3, 0, 1)]
    assert to_datetime(second.change.reach_time) == at(3, 10)
    assert statuses(second) == [(3, "QUALIFIED")]


async def test_an_event_sent_again_gets_its_first_answer_byte_for_byte(service: Service) -> None:
    await define(service)
    request = apply(event(1, at(3)), event(2, at(4)))
    first = await service.participant.ApplyEntries(request)
    before = await derived_state(service)
    await service.participant.ApplyEntries(apply(event(3, at(5))))
    again = await service.participant.ApplyEntries(request)
    assert again.SerializeToString() == first.SerializeToString()
    (late,) = await shown(service, at(5))
    assert late.length == 3
    assert len((await derived_state(service))[1]) == len(before[1]) + 1


async def test_the_same_id_with_other_content_is_refused(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    (outcome,) = await applied(service, event(1, at(4)))
    assert (outcome.error.code, outcome.error.reason) == ("ALREADY_EXISTS", "ENTRY_CONFLICT")
    assert await recorded(service) == [(date(2025, 3, 3), "QUALIFIED")]


async def test_a_malformed_command_is_answered_and_its_neighbours_are_applied(service: Service) -> None:
    await define(service)
    broken = event("broken", at(3), zone="+02:00")
    broken.entry.entry_id = "not-an-id"
    closing = event("closing", at(3))
    closing.entry.streak_closing.SetInParent()
    outcomes = await applied(service, event(1, at(3)), broken, closing, event(2, at(3), user="bob"))
    assert [outcome.error.reason for outcome in outcomes] == ["", "INVALID_FIELDS", "INVALID_FIELDS", ""]
    assert {violation.field for violation in outcomes[1].error.violations} == {
        "commands[1].entry.entry_id",
        "commands[1].entry.time_zone",
        "commands[1].entry.user.time_zone",
    }
    assert outcomes[2].error.violations[0].field == "commands[2].entry.operation"
    assert [len(outcome.effects.streaks) for outcome in outcomes] == [1, 0, 0, 1]


@pytest.mark.parametrize("size", [0, 1_001])
async def test_a_batch_is_refused_whole_only_for_its_size(service: Service, size: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.participant.ApplyEntries(apply(*[event(1, at(3))] * size))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "commands" in (caught.value.details() or "")


async def test_an_event_closes_what_is_due_before_it_counts(service: Service) -> None:
    await define(service, freezes=ONE_FREEZE)
    await applied(service, event(1, at(3)), event(2, at(4)))
    back = await effect(service, event(3, at(7)))
    assert statuses(back) == [(5, "FROZEN"), (6, "BROKEN"), (7, "QUALIFIED")]
    assert (back.change.length_before, back.change.length, back.change.longest) == (2, 1, 2)
    assert lengths(back.change) == [(6, 0, 0), (7, 0, 1)]
    assert back.state.freeze_count == 0


async def test_a_late_event_refunds_a_freeze_and_joins_two_runs(service: Service) -> None:
    await define(service, freezes=ONE_FREEZE)
    await applied(service, event(1, at(3)), event(2, at(4)), event(3, at(7)))
    on_fifth = await effect(service, event(4, at(5), now=at(7, 13)))
    assert on_fifth.extended
    assert on_fifth.refunded_freeze_count == 1
    assert (on_fifth.change.length, on_fifth.change.longest) == (4, 4)
    assert lengths(on_fifth.change) == [(5, 0, 3), (6, 0, 0), (7, 1, 4)]
    assert await recorded(service) == [
        (date(2025, 3, 3), "QUALIFIED"),
        (date(2025, 3, 4), "QUALIFIED"),
        (date(2025, 3, 5), "QUALIFIED"),
        (date(2025, 3, 6), "FROZEN"),
        (date(2025, 3, 7), "QUALIFIED"),
    ]


async def test_a_flight_over_the_date_line_costs_no_day(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3, 20), zone="Pacific/Honolulu"))  # the third, 10:00
    landed = await effect(service, event(2, at(4, 13), zone="Pacific/Kiritimati"))  # the fifth, 03:00
    assert statuses(landed) == [(4, "SKIPPED"), (5, "QUALIFIED")]
    assert landed.state.length == 2


async def test_events_of_other_metrics_archived_streaks_and_other_users_do_not_count(
    service: Service,
) -> None:
    await define(service, "archived", status=streak_pb2.STREAK_STATUS_ARCHIVED)
    await define(service, "pro", user_filters=[filter_pb2.AttributeFilter(attribute="plan", equals="pro")])
    outcomes = await applied(
        service,
        event(1, at(3), metric="lines", attributes={"plan": "pro"}),
        event(2, at(3), attributes={"plan": "free"}),
        event(3, at(3), attributes={"plan": "pro"}),
    )
    assert [[told.state.streak for told in outcome.effects.streaks] for outcome in outcomes] == [
        [],
        [],
        ["pro"],
    ]


async def test_a_batch_decides_each_event_on_what_the_one_before_it_left(
    service: Service, twin: Service
) -> None:
    for server in (service, twin):
        await define(server)
        await define(server, "weekly", frequency=streak_pb2.FREQUENCY_WEEKLY)
    days = (3, 4, 11, 5, 6, 10, 7, 8, 9)
    outcomes = await applied(service, *(event(d, at(d), now=at(11)) for d in days))
    assert [outcome.effects.streaks[0].state.length for outcome in outcomes] == [0, 0, 1, 1, 1, 2, 2, 2, 9]
    assert [outcome.effects.streaks[1].state.length for outcome in outcomes] == [1, 1, 2, 2, 2, 2, 2, 2, 2]
    for d in sorted(days):
        await applied(twin, event(d, at(d), now=at(11)))
    assert await derived_state(service) == await derived_state(twin)


async def test_hundreds_of_concurrent_events_of_one_user_end_as_if_one_after_another(
    service: Service, twin: Service
) -> None:
    for server in (service, twin):
        await define(server, freezes=ONE_FREEZE)
    times = [at(3) + timedelta(hours=7 * number) for number in range(200) if number % 9]
    commands = [event(number, time, now=times[-1]) for number, time in enumerate(times)]
    async with replica(service.dsn) as other:
        stubs = (service.participant, other)
        responses = await asyncio.gather(
            *(stubs[number % 2].ApplyEntries(apply(sent)) for number, sent in enumerate(commands))
        )
    assert all(not response.outcomes[0].HasField("error") for response in responses)
    assert sum(response.outcomes[0].effects.streaks[0].extended for response in responses) == len(
        {time.date() for time in times}
    )
    for command in commands:
        await applied(twin, command)
    assert await derived_state(service) == await derived_state(twin)


async def test_what_changes_a_user_is_applied_and_undone_without_touching_streaks(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    before = await derived_state(service)
    update, correction = event(2, at(4)), event(3, at(4))
    update.entry.user_update.SetInParent()
    correction.entry.correction.corrected_entry_id = str(entry_id(1))
    correction.entry.correction.metric.CopyFrom(entry_pb2.MetricFact(metric="commits"))
    outcomes = await applied(service, update, correction)
    assert [outcome.WhichOneof("result") for outcome in outcomes] == ["effects", "effects"]
    (undone,) = (await service.participant.RevertEntries(revert(2))).outcomes
    assert undone.reverted
    assert await derived_state(service) == before
