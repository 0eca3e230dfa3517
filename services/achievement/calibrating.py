"""What an achievement is calibrated by, of some of the users."""

from datetime import date, datetime

from services.achievement.definitions import ACHIEVEMENT
from services.achievement.domain import Achievement, Catalogue
from services.achievement.statistics import Statistics, StatisticsStore
from services.achievement.store_backfill import BackfillStore
from shared.clock import Clock
from shared.postgres import definitions as stored
from shared.postgres.pool import Pool
from shared.tenants import own_range


class Calibration:
    """The use case."""

    def __init__(
        self, pool: Pool, catalogue: stored.Catalogue[Catalogue], clock: Clock, most_looked_at: int
    ) -> None:
        self._users = BackfillStore(pool)
        self._statistics = StatisticsStore(pool)
        self._catalogue = catalogue
        self._clock = clock
        self._most_looked_at = most_looked_at

    async def statistics(
        self, key: str, read_time: datetime | None, first: date, last: date
    ) -> tuple[Achievement, Statistics, int, int]:
        """The statistics of an achievement, of how many users they are, and how many there are: of all, or of those of
        the tenant that asks. Raises `NotFound`.
        """
        catalogue = await self._catalogue.latest()
        achievement = catalogue.get(key)
        if achievement is None:
            raise ACHIEVEMENT.unknown(key)
        own = own_range()
        user_count = await self._users.count_users(own)
        users = await self._users.some(user_count, self._most_looked_at, own)
        now = read_time or self._clock.now()
        found = await self._statistics.of(catalogue, achievement, users, now, first, last, own)
        return achievement, found, len(users), user_count
