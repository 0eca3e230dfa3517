"""When thresholds change, users have other levels: told to all, read right meanwhile (RULES 5.5)."""

from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from shared.rpc.convert import to_timestamp
from tests.fixtures import clock
from tests.fixtures.feeds import listed
from tests.service.points.conftest import Service
from tests.service.points.messages import gift
from tests.service.points.steps import define, points, send


async def maintain(service: Service) -> None:
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(clock.now()), hold_seconds=60)
    while (await service.participant.RunMaintenance(request)).more:
        pass


async def told(service: Service) -> list[tuple[str, str, str, int]]:
    found = await listed(service)
    return [
        (change.user_id, each.level_before, each.level, each.added)
        for change in found.changes
        for each in change.timed_points.changes
    ]


async def test_users_are_told_once_of_levels_that_thresholds_gave_or_took(service: Service) -> None:
    await maintain(service)
    await define(
        service, "xp", levels=[types.Level(key="low", threshold=10), types.Level(key="high", threshold=100)]
    )
    for number, user in enumerate(("ann", "bob", "cid")):
        await send(service, gift(user, 50 * number + 5, user=user))
    await maintain(service)
    assert await told(service) == []
    changed = types.PointsSystem(
        key="xp", levels=[types.Level(key="low", threshold=1), types.Level(key="high", threshold=106)]
    )
    await service.definitions.update(changed, "levels")
    assert (await points(service, "cid"))["xp"].level.key == "low"
    counts = await service.stub.GetLevelDistribution(pb.GetLevelDistributionRequest(points_system="xp"))
    assert [(each.level.key, each.user_count) for each in counts.levels] == [("", 0), ("low", 3), ("high", 0)]
    await maintain(service)
    expected = [("ann", "", "low", 0), ("cid", "high", "low", 0)]
    assert await told(service) == expected
    await maintain(service)
    assert await told(service) == expected
    (outcome,) = await send(service, gift("more", 1, user="cid", minutes=1))
    (change,) = outcome.effects.points
    assert (change.level_before, change.level) == ("low", "high")
    assert not (await service.stub.AuditPoints(pb.AuditPointsRequest())).differences
