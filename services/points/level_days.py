"""How many users are at each level, date by date (RULES 5.8).

The ledger is kept by user and has no order over all of them, so what was on a date is counted when it has ended, by one
look at the balances, and kept. No event writes or reads anything for it.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from services.points.config import LEVEL_COUNT_TIMEOUT_SECONDS
from services.points.definitions import POINTS_SYSTEM, Configuration
from services.points.domain.definitions import LevelBasis, PointsSystem
from shared.postgres import definitions as stored
from shared.postgres.pool import Pool
from shared.tenants import CURRENT_TENANT, SEPARATOR

ALL: Final = ""
"""Stands for all users, where a tenant stands for its own."""

IS_COUNTED: Final = """
    SELECT EXISTS (SELECT FROM level_days WHERE points_system = ANY($1::text[]) AND tenant = '' AND day = $2)
"""
UNLIMITED: Final = "SET LOCAL statement_timeout = 0"
COUNT: Final = """
    SELECT CASE strpos(user_id, $4) WHEN 0 THEN '' ELSE split_part(user_id, $4, 1) END AS tenant,
           width_bucket(CASE WHEN $2::boolean THEN lifetime ELSE balance END, $3::bigint[]) AS level,
           count(*) AS user_count
      FROM balances
     WHERE points_system = $1
     GROUP BY 1, 2
"""
# Of two passes that count a date at once the first decides it whole. What is of systems that are gone goes along.
KEEP: Final = """
    WITH counted AS (
        INSERT INTO level_days (points_system, tenant, day, levels, thresholds, user_counts)
        SELECT * FROM unnest($1::level_day_row[]) AS batch WHERE batch.tenant = ''
            ON CONFLICT (points_system, tenant, day) DO NOTHING
        RETURNING points_system
    ), gone AS (
        DELETE FROM level_days WHERE points_system <> ALL($2::text[])
    )
    INSERT INTO level_days (points_system, tenant, day, levels, thresholds, user_counts)
    SELECT batch.*
      FROM unnest($1::level_day_row[]) AS batch
     WHERE batch.tenant <> '' AND batch.points_system IN (SELECT points_system FROM counted)
"""
# A tenant without users on a date has no row of its own: then the levels of that date stand in the one of all.
LEVEL_DAYS: Final = """
    SELECT whole.day, whole.levels, whole.thresholds,
           CASE WHEN $2 = '' THEN whole.user_counts ELSE own.user_counts END AS user_counts
      FROM level_days AS whole
      LEFT JOIN level_days AS own ON own.points_system = $1 AND own.tenant = $2 AND own.day = whole.day
     WHERE whole.points_system = $1 AND whole.tenant = '' AND whole.day BETWEEN $3 AND $4
     ORDER BY whole.day
"""

Row = tuple[str, str, date, list[str], list[int], list[int]]
"""System, tenant, date, keys of levels, their thresholds, and users below the first and at each."""


class LevelDay(Struct, frozen=True):
    """How many users were at each level at the end of a date, by the levels of then."""

    day: date
    levels: Sequence[str]
    """By ascending threshold."""
    thresholds: Sequence[int]
    user_counts: Sequence[int]
    """Below the first level, and then at each."""


class LevelDays:
    """Counts users at the end of each UTC date, and reads what was counted."""

    def __init__(self, pool: Pool, configuration: stored.Catalogue[Configuration]) -> None:
        self._pool = pool
        self._configuration = configuration

    async def keep(self, day: date) -> None:
        """Keep the present numbers as those of a date that has just ended. One look-up where that was done before."""
        systems = (await self._configuration.latest()).catalogue.systems
        if not systems or await self._pool.fetchval(IS_COUNTED, sorted(systems), day):
            return
        found = [
            row
            for _, system in sorted(systems.items())
            for row in rows_of(system, day, await self._counted(system))
        ]
        await self._pool.execute(KEEP, found, sorted(systems))

    async def _counted(self, system: PointsSystem) -> Mapping[str, Mapping[int, int]]:
        """Users by tenant and place among the levels."""
        by_lifetime = system.level_basis is LevelBasis.LIFETIME
        thresholds = [level.threshold for level in system.levels]
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(UNLIMITED)
            counted = await connection.fetch(
                COUNT, system.key, by_lifetime, thresholds, SEPARATOR, timeout=LEVEL_COUNT_TIMEOUT_SECONDS
            )
        by_tenant: dict[str, dict[int, int]] = {}
        for row in counted:
            by_tenant.setdefault(row["tenant"], {})[row["level"]] = row["user_count"]
        return by_tenant

    async def list(self, points_system: str, first: date, last: date) -> list[LevelDay]:
        """The dates that were counted, oldest first, with the users that the call may know of. Raises `NotFound`."""
        if points_system not in (await self._configuration.latest()).catalogue.systems:
            raise POINTS_SYSTEM.unknown(points_system)
        found = await self._pool.fetch(LEVEL_DAYS, points_system, CURRENT_TENANT.get(), first, last)
        return [
            LevelDay(
                row["day"],
                row["levels"],
                row["thresholds"],
                row["user_counts"] or [0] * (len(row["levels"]) + 1),
            )
            for row in found
        ]


def rows_of(system: PointsSystem, day: date, counted: Mapping[str, Mapping[int, int]]) -> list[Row]:
    """What is kept of a date: the numbers of all users, and of each tenant's own."""
    places = range(len(system.levels) + 1)
    own = {
        tenant: [numbers.get(place, 0) for place in places]
        for tenant, numbers in sorted(counted.items())
        if tenant
    }
    whole = [sum(numbers.get(place, 0) for numbers in counted.values()) for place in places]
    keys, thresholds = [level.key for level in system.levels], [level.threshold for level in system.levels]
    return [
        (system.key, tenant, day, keys, thresholds, numbers)
        for tenant, numbers in ((ALL, whole), *own.items())
    ]
