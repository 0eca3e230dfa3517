"""RULES 5.8: users per level at the end of each UTC date, as maintenance found them after it."""

import asyncio
from collections.abc import Mapping
from datetime import date, timedelta

import asyncpg
import grpc.aio
import pytest
from laurel.common.v1.date_pb2 import LocalDate
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from services.points.definitions import KINDS, catalogue_of
from services.points.level_days import LevelDays
from shared.errors import from_rpc_error
from shared.postgres.definitions import Catalogue
from shared.rpc.convert import date_to_proto, to_timestamp
from shared.tenants import CURRENT_TENANT, stored
from tests.service.points.conftest import Service
from tests.service.points.messages import BRONZE, NOON, SILVER, gift, revert
from tests.service.points.steps import define, send

TODAY = NOON.date()
DAY = timedelta(days=1)


async def maintained(service: Service, days: int, *, history: bool = False) -> None:
    """A pass so many days after the events; the background's own is held."""
    request = participant_pb.RunMaintenanceRequest(
        now=to_timestamp(NOON + days * DAY), hold_seconds=3_600, history=history
    )
    while (await service.participant.RunMaintenance(request)).more:
        pass


async def listed(service: Service, key: str = "xp") -> Mapping[date, list[tuple[str, int, int]]]:
    request = pb.ListLevelDaysRequest(
        points_system=key, first_date=date_to_proto(TODAY - 9 * DAY), last_date=date_to_proto(TODAY + 9 * DAY)
    )
    found = (await service.stub.ListLevelDays(request)).days
    return {
        date(each.date.year, each.date.month, each.date.day): [
            (level.level, level.threshold, level.user_count) for level in each.levels
        ]
        for each in found
    }


def of(below: int, bronze: int, silver: int) -> list[tuple[str, int, int]]:
    return [("", 0, below), ("bronze", 10, bronze), ("silver", 50, silver)]


async def test_a_date_has_the_numbers_of_its_end_whatever_comes_later(service: Service) -> None:
    await define(service, "xp", levels=[BRONZE, SILVER])
    await send(service, gift("a", 5, user="ann"), gift("b", 20, user="bob"), gift("c", 90, user="cid"))
    await service.participant.RevertEntries(revert("c", user="cid"))
    await maintained(service, 0)
    before = {TODAY - DAY: of(2, 1, 0)}  # the first pass of today came late, after all that
    assert await listed(service) == before
    await send(service, gift("d", 40, user="bob"))
    await maintained(service, 1)
    expected = before | {TODAY: of(2, 0, 1)}
    assert await listed(service) == expected
    await service.participant.RevertEntries(revert("d", user="bob"))
    await maintained(service, 1)
    assert await listed(service) == expected
    await maintained(service, 3)
    assert await listed(service) == expected | {TODAY + 2 * DAY: of(2, 1, 0)}


async def test_levels_are_those_of_then(service: Service) -> None:
    await define(service, "xp", levels=[BRONZE, SILVER], level_basis=types.LEVEL_BASIS_LIFETIME)
    await send(service, gift("a", 60), gift("b", -55, minutes=1))
    await maintained(service, 1)
    await service.definitions.update(
        types.PointsSystem(key="xp", levels=[types.Level(key="gold", name="Gold", threshold=60)]), "levels"
    )
    await maintained(service, 2)
    assert await listed(service) == {TODAY: of(0, 0, 1), TODAY + DAY: [("", 0, 0), ("gold", 60, 1)]}


async def test_passes_at_once_count_a_date_once_and_one_that_failed_is_made_up_for(service: Service) -> None:
    await define(service, "xp", levels=[BRONZE, SILVER])
    await send(service, *(gift(n, 20, user=f"u{n}") for n in range(9)))
    await service.database.execute("ALTER TABLE level_days ADD CONSTRAINT nothing CHECK (false) NOT VALID")
    with pytest.raises(grpc.aio.AioRpcError):
        await maintained(service, 1)
    await service.database.execute("ALTER TABLE level_days DROP CONSTRAINT nothing")
    await asyncio.gather(*(maintained(service, 1) for _ in range(4)))
    assert await listed(service) == {TODAY: of(0, 9, 0)}


async def test_history_that_is_imported_has_no_dates(service: Service) -> None:
    await define(service, "xp", levels=[BRONZE])
    await maintained(service, 1, history=True)
    assert await listed(service) == {}


async def test_a_tenant_has_its_own_numbers_also_where_it_has_no_users(service: Service) -> None:
    await define(service, "xp", levels=[BRONZE, SILVER])
    await send(service, gift("a", 20), gift("b", 60, user=stored("acme", "ann")))
    await maintained(service, 1)
    assert await listed(service) == {TODAY: of(0, 1, 1)}
    async with asyncpg.create_pool(service.dsn, min_size=1, max_size=1) as pool:
        days = LevelDays(pool, Catalogue(pool, KINDS, catalogue_of))
        for tenant, numbers in (("acme", [0, 0, 1]), ("bolt", [0, 0, 0])):
            token = CURRENT_TENANT.set(tenant)
            try:
                (day,) = await days.list("xp", TODAY, TODAY)
            finally:
                CURRENT_TENANT.reset(token)
            assert list(day.user_counts) == numbers


async def test_what_is_of_a_system_that_is_gone_goes_with_the_next_date(service: Service) -> None:
    await define(service, "xp", levels=[BRONZE])
    await define(service, "other")
    await maintained(service, 1)
    await service.definitions.delete("points_system", "xp")
    await maintained(service, 2)
    await define(service, "xp")
    assert await listed(service) == {}
    assert await listed(service, "other") == {TODAY: [("", 0, 0)], TODAY + DAY: [("", 0, 0)]}


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [
        (None, TODAY, "first_date"),
        (TODAY, None, "last_date"),
        (TODAY, TODAY - DAY, "last_date"),
        (TODAY, TODAY + 400 * DAY, "last_date"),
    ],
)
async def test_a_range_that_is_none_or_too_long_is_refused_by_name(
    service: Service, first: date | None, last: date | None, field: str
) -> None:
    request = pb.ListLevelDaysRequest(
        points_system="xp",
        first_date=LocalDate() if first is None else date_to_proto(first),
        last_date=LocalDate() if last is None else date_to_proto(last),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListLevelDays(request)
    assert [each.field for each in from_rpc_error(caught.value).violations] == [field]


async def test_a_system_that_is_not_there_is_said_to_be_missing(service: Service) -> None:
    today = date_to_proto(TODAY)
    request = pb.ListLevelDaysRequest(points_system="no", first_date=today, last_date=today)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListLevelDays(request)
    assert from_rpc_error(caught.value).reason == "POINTS_SYSTEM_NOT_FOUND"
