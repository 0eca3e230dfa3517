"""Amnesties: what the app's being down has cost is given back, to everybody, before or after the fact."""

from datetime import datetime

import grpc.aio
import pytest
from laurel.common.v1 import date_pb2
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.errors import InvalidArgument
from shared.rpc.convert import to_timestamp
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, day, event, local, revert
from tests.service.streak.steps import (
    applied,
    define,
    derived_state,
    effect,
    feed,
    lengths,
    maintain,
    recorded,
    shown,
    statuses,
)

ONE_FREEZE = streak_pb2.FreezeSettings(initial_count=1)


def outage(key: str = "outage", first: int = 4, last: int = 5, **fields: object) -> streak_pb2.Amnesty:
    """From noon to noon."""
    times = {"start_time": to_timestamp(at(first)), "end_time": to_timestamp(at(last))}
    return streak_pb2.Amnesty(key=key, **times, **fields)  # type: ignore[arg-type]


async def declare(service: Service, amnesty: streak_pb2.Amnesty, on: datetime) -> None:
    await service.definitions.create(amnesty, at=on)


async def declared(service: Service) -> list[pb.DeclaredAmnesty]:
    return list((await service.stub.ListAmnesties(pb.ListAmnestiesRequest())).amnesties)


async def test_an_amnesty_that_was_declared_before_excuses_what_closes_in_it(service: Service) -> None:
    await define(service, freezes=ONE_FREEZE)
    await declare(service, outage(), at(3))
    await applied(service, event(1, at(3)))
    assert (await shown(service, at(4)))[0].expire_time == to_timestamp(at(7, 0))
    back = await effect(service, event(2, at(6)))
    assert statuses(back) == [(4, "EXCUSED"), (5, "EXCUSED"), (6, "QUALIFIED")]
    assert (back.state.length, back.state.freeze_count) == (2, 1)
    assert await maintain(service, at(6, 13)) == 0
    assert await feed(service) == []


async def test_an_amnesty_after_the_fact_gives_back_streaks_and_freezes_and_others_hear_of_it(
    service: Service,
) -> None:
    await define(service, freezes=ONE_FREEZE)
    for user in ("ada", "bob", "cyd"):
        await applied(service, event((user, 1), at(3), user=user))
    await applied(service, event("bob", at(6), user="bob"), event("cyd", at(5), user="cyd"))
    await maintain(service, at(6, 13))
    told = len(await feed(service))
    assert (await shown(service, at(6, 14), "ada"))[0].length == 0
    preview = await service.stub.PreviewAmnesty(
        pb.PreviewAmnestyRequest(start_time=to_timestamp(at(4)), end_time=to_timestamp(at(5)))
    )
    # By now, years later, none of these streaks would be alive.
    assert list(preview.streaks) == [
        pb.AmnestyPreview(streak="daily", affected_user_count=3, tried_user_count=3, refunded_freeze_count=3)
    ]
    await declare(service, outage(), at(6, 15))
    assert await maintain(service, at(6, 16)) == 3
    changes = (await feed(service))[told:]
    assert {change.user_id for change in changes} == {"ada", "bob", "cyd"}
    found = {change.user_id: change.streak_closing.effect for change in changes}
    assert (found["ada"].change.length_before, found["ada"].change.length) == (0, 1)
    assert (found["bob"].change.length_before, found["bob"].change.length) == (1, 2)
    assert lengths(found["bob"].change) == [(5, 0, 0), (6, 1, 2)]
    assert not found["cyd"].HasField("change")
    assert [found[user].refunded_freeze_count for user in ("ada", "bob", "cyd")] == [1, 1, 1]
    assert all(change.occur_time == to_timestamp(at(6, 15)) for change in changes)
    (line,) = await declared(service)
    assert (line.judged_count, line.saved_count, line.refunded_freeze_count, line.finished) == (3, 2, 3, True)
    assert await maintain(service, at(6, 17)) == 0


async def test_what_an_event_touches_first_is_excused_with_it_and_not_told_twice(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    await maintain(service, at(6))
    await declare(service, outage(), at(6, 13))
    assert (await shown(service, at(6, 14)))[0].length == 1
    back = await effect(service, event(2, at(6, 15)))
    assert (back.change.length_before, back.change.length) == (0, 2)
    told = len(await feed(service))
    assert await maintain(service, at(6, 16)) == 0
    assert len(await feed(service)) == told


async def test_an_amnesty_that_is_withdrawn_has_never_been(service: Service, twin: Service) -> None:
    for replica in (service, twin):
        await define(replica, freezes=ONE_FREEZE)
        await applied(replica, event(1, at(3)), event(2, at(6)))
        await maintain(replica, at(7))
    await declare(service, outage(), at(7))
    await maintain(service, at(7, 13))
    assert (await shown(service, at(7, 14)))[0].length == 2
    await service.definitions.delete("amnesty", "outage", at=at(7, 15))
    assert await maintain(service, at(7, 16)) == 1
    for replica in (service, twin):
        await applied(replica, event(3, at(7, 17)))
        await maintain(replica, at(9))
    assert await derived_state(service) == await derived_state(twin)
    assert await declared(service) == []


async def test_an_amnesty_is_for_the_streaks_that_it_names(service: Service) -> None:
    for key in ("daily", "other"):
        await define(service, key)
    await applied(service, event(1, at(3)))
    await maintain(service, at(6))
    await declare(service, outage(streaks=["other"]), at(6))
    await maintain(service, at(6, 13))
    assert [state.length for state in await shown(service, at(6, 14))] == [0, 1]


async def test_each_user_is_excused_in_the_zone_where_the_user_was(service: Service) -> None:
    await define(service)
    # From 12:00 to 14:00 UTC on the fourth: in Auckland the fifth has begun.
    window = streak_pb2.Amnesty(
        key="noon", start_time=to_timestamp(at(4, 12)), end_time=to_timestamp(at(4, 14))
    )
    for user, zone in (("ada", "America/Lima"), ("kiri", "Pacific/Auckland")):
        await applied(service, event(user, at(3, 12), user=user, zone=zone))
    await maintain(service, at(7))
    await declare(service, window, at(7))
    await maintain(service, at(7, 13))
    assert [status for _, status in await recorded(service, "ada")] == ["QUALIFIED", "EXCUSED", "BROKEN"]
    assert await recorded(service, "kiri") == [
        (day(local(4)), "QUALIFIED"),
        (day(local(5)), "EXCUSED"),
        (day(local(6)), "BROKEN"),
    ]


async def test_a_void_after_an_amnesty_gives_what_had_been_without_the_event(
    service: Service, twin: Service
) -> None:
    for replica in (service, twin):
        await define(replica, freezes=ONE_FREEZE)
    await applied(service, *(event(n, at(n)) for n in (3, 5, 6, 7)))
    await applied(twin, *(event(n, at(n)) for n in (3, 6, 7)))
    for replica in (service, twin):
        await declare(replica, outage(), at(8))
        await maintain(replica, at(8, 13))
    assert (await service.participant.RevertEntries(revert(5, now=at(8, 14)))).outcomes[0].reverted
    for replica in (service, twin):
        await applied(replica, event(9, at(9)))
    assert await derived_state(service) == await derived_state(twin)


@pytest.mark.parametrize(
    ("amnesty", "fields"),
    [
        (streak_pb2.Amnesty(key="a"), ["amnesty.start_time", "amnesty.end_time"]),
        (outage(first=5, last=5), ["amnesty.end_time"]),
        (
            streak_pb2.Amnesty(
                key="a", start_time=to_timestamp(at(1)), end_time=to_timestamp(at(3, month=4))
            ),
            ["amnesty.end_time"],
        ),
        (outage(streaks=["No"]), ["amnesty.streaks[0]"]),
    ],
)
async def test_what_is_wrong_with_an_amnesty_is_named(
    service: Service, amnesty: streak_pb2.Amnesty, fields: list[str]
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await service.definitions.put(amnesty)
    names = [violation.field.replace("[0]", "amnesty", 1) for violation in refused.value.violations]
    assert [name if name.startswith("amnesty") else f"amnesty{name}" for name in names] == fields


async def test_what_is_wrong_with_a_preview_is_named(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.stub.PreviewAmnesty(pb.PreviewAmnestyRequest(streaks=["No"]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    unknown = pb.PreviewAmnestyRequest(
        start_time=to_timestamp(at(3)), end_time=to_timestamp(at(4)), streaks=["nothing"]
    )
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await service.stub.PreviewAmnesty(unknown)
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND


async def test_statistics_tell_what_amnesties_saved(service: Service) -> None:
    await define(service)
    await declare(service, outage(), at(3))
    await applied(service, event(1, at(3)))
    await maintain(service, at(9))
    found = await service.stub.GetStreakStatistics(
        pb.GetStreakStatisticsRequest(
            streak="daily",
            start_date=date_pb2.LocalDate(year=2025, month=3, day=1),
            end_date=date_pb2.LocalDate(year=2025, month=3, day=31),
        )
    )
    assert (found.excused_count, found.lost_count) == (2, 1)
