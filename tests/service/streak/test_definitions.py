"""Streak definitions through the service: validated whole, changed, kept while in use."""

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from laurel.common.v1 import filter_pb2
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, event, revert, streak
from tests.service.streak.steps import applied, define

FREEZES = streak_pb2.FreezeSettings
BAD = {
    "key": streak("Not A Key"),
    "frequency": streak(frequency=streak_pb2.FREQUENCY_UNSPECIFIED),
    "metrics": streak(metrics=[]),
    "metrics[0].metric": streak(metrics=[streak_pb2.MetricThreshold(metric="")]),
    "metrics[1].metric": streak(metrics=[streak_pb2.MetricThreshold(metric="commits")] * 2),
    "metrics[0].threshold": streak(metrics=[streak_pb2.MetricThreshold(metric="commits", threshold=-1)]),
    "mode": streak(mode=7),
    "status": streak(status=7),
    "days_off[0]": streak(days_off=[9]),
    "days_off": streak(days_off=range(1, 8)),
    "week_start": streak(week_start=streak_pb2.WEEKDAY_SUNDAY),
    "freezes.initial_count": streak(freezes=FREEZES(initial_count=-1)),
    "freezes.earn_every_days": streak(freezes=FREEZES(earn_count=1)),
    "freezes.earn_count": streak(freezes=FREEZES(earn_every_days=1)),
    "freezes.max_count": streak(freezes=FREEZES(initial_count=3, max_count=2)),
    "user_filters[0]": streak(user_filters=[filter_pb2.AttributeFilter(attribute="plan")]),
}


def details(error: grpc.aio.AioRpcError) -> tuple[str, set[str]]:
    """The reason of an error and the fields at fault."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for message in (info, bad):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    return info.reason, {violation.field for violation in bad.field_violations}


@pytest.mark.parametrize("field", BAD)
async def test_a_wrong_definition_is_refused_with_the_field_at_fault(service: Service, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.CreateStreak(pb.CreateStreakRequest(streak=BAD[field], request_id="r"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value) == ("INVALID_FIELDS", {f"streak.{field}"})


async def test_everything_wrong_with_a_configuration_is_told_at_once_and_nothing_applied(
    service: Service,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ApplyConfiguration(
            pb.ApplyConfigurationRequest(streaks=[streak("fine"), *BAD.values()])
        )
    _, fields = details(caught.value)
    assert {f"streaks[{number}].{field}" for number, field in enumerate(BAD, start=1)} <= fields
    assert list((await service.stub.ListStreaks(pb.ListStreaksRequest())).streaks) == []


async def test_defaults_are_made_explicit(service: Service) -> None:
    created = await define(
        service,
        frequency=streak_pb2.FREQUENCY_WEEKLY,
        metrics=[streak_pb2.MetricThreshold(metric="commits")],
    )
    assert created.metrics[0].threshold == 1
    assert created.mode == streak_pb2.METRIC_MODE_ANY
    assert created.week_start == streak_pb2.WEEKDAY_MONDAY
    assert created.status == streak_pb2.STREAK_STATUS_ACTIVE
    assert (await service.stub.GetStreak(pb.GetStreakRequest(key="daily"))).streak == created


async def test_the_frequency_never_changes_and_the_rest_does(service: Service) -> None:
    await define(service)
    update = streak_pb2.Streak(key="daily", frequency=streak_pb2.FREQUENCY_WEEKLY, name="New")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.UpdateStreak(pb.UpdateStreakRequest(streak=update, request_id="u1"))
    assert details(caught.value)[1] == {"frequency"}
    response = await service.stub.UpdateStreak(
        pb.UpdateStreakRequest(streak=update, update_mask=FieldMask(paths=["name"]), request_id="u2")
    )
    assert response.streak.name == "New"


async def test_a_change_takes_effect_on_the_next_event(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    archived = streak_pb2.Streak(key="daily", status=streak_pb2.STREAK_STATUS_ARCHIVED)
    await service.stub.UpdateStreak(pb.UpdateStreakRequest(streak=archived, request_id="u"))
    (outcome,) = await applied(service, event(2, at(4)))
    assert list(outcome.effects) == []


async def test_a_streak_is_deleted_only_while_no_user_has_it(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.DeleteStreak(pb.DeleteStreakRequest(key="daily", request_id="d1"))
    assert (caught.value.code(), details(caught.value)[0]) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "STREAK_IN_USE",
    )
    await service.stub.RevertEvents(revert(1))
    await service.stub.DeleteStreak(pb.DeleteStreakRequest(key="daily", request_id="d2"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.GetStreak(pb.GetStreakRequest(key="daily"))
    assert details(caught.value)[0] == "STREAK_NOT_FOUND"


async def test_a_configuration_applied_again_changes_nothing(service: Service) -> None:
    request = pb.ApplyConfigurationRequest(
        streaks=[streak("a"), streak("b", days_off=[7, 6], freezes=FREEZES(initial_count=1))]
    )
    first = await service.stub.ApplyConfiguration(request)
    again = await service.stub.ApplyConfiguration(request)
    assert [change.action for change in first.changes] == [1, 1]
    assert [change.action for change in again.changes] == [3, 3]
