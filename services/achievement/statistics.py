"""What an achievement is calibrated by: of some users, who holds it, what it took them, and who gave up."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct

from services.achievement.domain import (
    Achievement,
    ApiTrigger,
    Catalogue,
    CompositeTrigger,
    MetricTrigger,
    StreakTrigger,
)
from shared.postgres.pool import Pool
from shared.tenants import Range

QUIET: Final = timedelta(days=30)
"""Who has done nothing for so long has given up."""
_AROUND: Final = timedelta(days=2)
"""An instant lies at most so far from its local date."""

# The first event of the metric, or of any. By key of each user who holds it.
HELD: Final = """
    SELECT count(*) AS holder_count,
           percentile_disc(0.5) WITHIN GROUP (
               ORDER BY extract(epoch FROM greatest(live.complete_time - began.first_time, interval '0'))
           ) AS median_seconds,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY live.cause_position) AS median_entry_count
      FROM live_completions AS live
      LEFT JOIN LATERAL (
           SELECT min(first.occur_time) AS first_time
             FROM sources AS source
            CROSS JOIN LATERAL (
                  SELECT occur_time FROM request_log
                   WHERE user_id = source.user_id AND metric = source.key AND state = 1
                   ORDER BY occur_time
                   LIMIT 1
            ) AS first
            WHERE source.user_id = live.user_id AND source.kind = 1 AND ($3::text = '' OR source.key = $3::text)
      ) AS began ON true
     WHERE live.user_id = ANY($1::text[]) AND live.achievement = $2 AND live.number = 1
"""
# Of a streak, or of a metric: with event filters by the sum of what matches. The last activity is that of the metric,
# of a streak that of any.
BEGUN: Final = """
    SELECT count(*) AS begun_count, count(*) FILTER (WHERE latest.newest_time < $6) AS abandoned_count
      FROM sources AS source
      LEFT JOIN accumulators AS sums ON $5 AND sums.user_id = source.user_id AND sums.achievement = $2
      LEFT JOIN LATERAL (
           SELECT max(newest_time) AS newest_time FROM sources AS other
            WHERE other.user_id = source.user_id AND other.kind = 1 AND ($4::integer = 2 OR other.key = $3)
      ) AS latest ON true
     WHERE source.user_id = ANY($1::text[]) AND source.key = $3 AND source.kind = $4::integer
       AND CASE WHEN $5 THEN coalesce(sums.sum_micros, 0) ELSE source.current END > 0
       AND NOT EXISTS (SELECT FROM live_completions AS live
                        WHERE live.user_id = source.user_id AND live.achievement = $2)
"""
# Of what somebody has to do something for. Who has enough of that waits for what comes by time.
BEGUN_COMPOSITE: Final = """
    SELECT count(*) AS begun_count, count(*) FILTER (WHERE newest < $4 AND held_count < $5) AS abandoned_count
      FROM (SELECT user_id, max(complete_time) AS newest, count(DISTINCT achievement) AS held_count
              FROM live_completions AS live
             WHERE user_id = ANY($1::text[]) AND achievement = ANY($3::text[])
               AND NOT EXISTS (SELECT FROM live_completions AS held
                                WHERE held.user_id = live.user_id AND held.achievement = $2)
             GROUP BY user_id) AS begun
"""
DAILY: Final = """
    SELECT coalesce(avg(sum_micros), 0)::float8
      FROM (SELECT sum(value_micros) AS sum_micros
              FROM request_log
             WHERE user_id = ANY($1::text[]) AND metric = $2 AND occur_time > $3 AND occur_time <= $4 AND state = 1
             GROUP BY user_id, local_date) AS days
     WHERE sum_micros > 0
"""
_DAYS: Final = """
    SELECT local_date, count(*)
      FROM completion_facts AS fact
     WHERE achievement = $1 AND fact_time >= $2 AND fact_time < $3 AND kind = 1 AND local_date BETWEEN $4 AND $5 {own}
       AND NOT EXISTS (SELECT FROM completion_facts AS gone
                        WHERE gone.user_id = fact.user_id AND gone.achievement = fact.achievement
                          AND gone.completion_id = fact.completion_id AND gone.kind = 2)
     GROUP BY local_date
     ORDER BY local_date
"""
DAYS: Final = _DAYS.format(own="")
DAYS_OWN: Final = _DAYS.format(own="AND user_id > $6 AND user_id < $7")


class Statistics(Struct, frozen=True):
    """Of the users that were looked at."""

    holder_count: int
    median_seconds: float
    median_entry_count: int
    begun_count: int
    abandoned_count: int
    at_a_stroke: bool
    """Nobody can begin it, and nobody give it up."""
    daily_micros: float
    """What a user contributes on an active day; 0 where it is no metric's."""
    days: Mapping[date, int]


class StatisticsStore:
    """Reads by key of some users."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of(
        self,
        catalogue: Catalogue,
        achievement: Achievement,
        users: Sequence[str],
        now: datetime,
        first: date,
        last: date,
        own: Range = (),
    ) -> Statistics:
        """As of an instant; completions of a range of dates, of all users with these ids."""
        trigger, key = achievement.trigger, achievement.key
        metric = trigger.metric if isinstance(trigger, MetricTrigger) else ""
        held = await self._pool.fetchrow(HELD, users, key, metric)
        assert held is not None  # sums without groups have a row
        # What comes by time takes as long as it says, whatever its holders do.
        by_time = catalogue.comes_by_time(achievement)
        at_a_stroke = by_time or isinstance(trigger, ApiTrigger)
        begun, abandoned = 0, 0
        if not at_a_stroke:
            begun, abandoned = await self._begun(catalogue, achievement, users, now - QUIET)
        daily = 0.0
        if metric:
            daily = await self._pool.fetchval(DAILY, users, metric, now - QUIET, now)
        midnight = datetime.min.time()
        begins = datetime.combine(first, midnight, now.tzinfo) - _AROUND
        ends = datetime.combine(last, midnight, now.tzinfo) + _AROUND
        days = await self._pool.fetch(DAYS_OWN if own else DAYS, key, begins, ends, first, last, *own)
        return Statistics(
            held["holder_count"],
            0.0 if by_time else float(held["median_seconds"] or 0),
            0 if by_time else held["median_entry_count"] or 0,
            begun,
            abandoned,
            at_a_stroke,
            daily,
            {row["local_date"]: row["count"] for row in days},
        )

    async def _begun(
        self, catalogue: Catalogue, achievement: Achievement, users: Sequence[str], quiet_since: datetime
    ) -> tuple[int, int]:
        trigger, key = achievement.trigger, achievement.key
        match trigger:
            case MetricTrigger() | StreakTrigger():
                source, filtered = trigger.source, bool(trigger.event_filters)
                row = await self._pool.fetchrow(
                    BEGUN, users, key, source.key, int(source.kind), filtered, quiet_since
                )
            case CompositeTrigger():
                wanted, enough = catalogue.effort(trigger)
                row = await self._pool.fetchrow(BEGUN_COMPOSITE, users, key, wanted, quiet_since, enough)
            case _:
                raise AssertionError("it is earned at a stroke")
        assert row is not None
        return row["begun_count"], row["abandoned_count"]
