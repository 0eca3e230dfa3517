"""That boosts begin and end is told, once (RULES 5.3, 8.1)."""

from datetime import timedelta

from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types

from shared.rpc.convert import date_to_proto, to_timestamp
from tests.fixtures.feeds import listed
from tests.service.points.conftest import Service
from tests.service.points.messages import NOON
from tests.service.points.steps import define

HOUR = timedelta(hours=1)


async def maintain(service: Service, hours: float) -> None:
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON + hours * HOUR), hold_seconds=3_600)
    while (await service.participant.RunMaintenance(request)).more:
        pass


async def told(service: Service) -> list[tuple[str, bool, float]]:
    found = await listed(service)
    return [
        (
            change.boost_change.boost.key,
            change.boost_change.finished,
            (change.occur_time.seconds - NOON.timestamp()) / 3_600,
        )
        for change in found.changes
    ]


def boost(key: str, start: float, end: float) -> types.PointsBoost:
    return types.PointsBoost(
        key=key,
        multiplier=2,
        start_time=to_timestamp(NOON + start * HOUR),
        end_time=to_timestamp(NOON + end * HOUR),
    )


async def test_each_boost_is_told_to_begin_and_to_end_once_at_its_time(service: Service) -> None:
    await maintain(service, 0)
    await define(service, "xp")
    await maintain(service, 0)
    today = types.PointsBoost(key="today", multiplier=3)
    today.start_date.CopyFrom(date_to_proto(NOON.date()))
    today.end_date.CopyFrom(date_to_proto(NOON.date()))
    boosts = [boost("early", -2, -1), boost("hour", 1, 2), boost("long", 1, 900), today]
    await service.definitions.update(types.PointsSystem(key="xp", boosts=boosts), "boosts")
    await maintain(service, 1.5)
    assert await told(service) == [("hour", False, 1), ("long", False, 1), ("today", False, -26)]
    await maintain(service, 1.75)
    boosts[2].cancelled = True
    await service.definitions.update(types.PointsSystem(key="xp", boosts=boosts), "boosts")
    await maintain(service, 23)
    assert (await told(service))[3:] == [("hour", True, 2), ("long", True, 23)]
    await maintain(service, 30)
    assert (await told(service))[5:] == [("today", True, 24)]
    await maintain(service, 31)
    assert len(await told(service)) == 6
