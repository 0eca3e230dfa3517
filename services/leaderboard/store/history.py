"""The facts that are stored of a user: asked for where a score has to be derived from all of them."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from services.leaderboard.domain.boards import SourceKind
from services.leaderboard.domain.entries import Histories, History
from services.leaderboard.domain.scores import Fact
from services.leaderboard.store import rows
from services.leaderboard.store.rows import columns
from shared.postgres.pool import Pool

# A metric's facts are in the request log. OFFSET 0 keeps the planner from turning the look-up by user into a join over
# whole indexes of its partitions, which costs the same while they are empty and is cached for when they are not.
METRIC_HISTORY: Final = """
    SELECT wanted.number, 1 AS kind, log.metric, log.entry_id, log.entry_id AS origin_id, log.value_micros,
           log.occur_time, log.local_date, 0::bigint AS version
      FROM unnest($1::text[], $2::text[], $3::date[], $4::date[])
           WITH ORDINALITY AS wanted (user_id, key, first_date, last_date, number)
     CROSS JOIN LATERAL (
           SELECT * FROM request_log
            WHERE user_id = wanted.user_id AND metric = wanted.key AND state = 1
              AND local_date BETWEEN wanted.first_date AND wanted.last_date
           OFFSET 0) AS log
"""
KEPT_HISTORY: Final = """
    SELECT wanted.number, facts.kind, facts.key, facts.entry_id, facts.origin_id, facts.amount,
           facts.reach_time, facts.local_date, facts.version
      FROM unnest($1::text[], $2::text[], $3::date[], $4::date[], $5::smallint[])
           WITH ORDINALITY AS wanted (user_id, key, first_date, last_date, kind, number)
     CROSS JOIN LATERAL (
           SELECT * FROM facts
            WHERE user_id = wanted.user_id AND kind = wanted.kind AND key = wanted.key
              AND local_date BETWEEN wanted.first_date AND wanted.last_date) AS facts
"""


class HistoryStore:
    """The SQL of histories."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, wanted: Sequence[History]) -> Histories:
        """The facts asked for. At most one round trip for metrics, and one for the others."""
        metrics = [one for one in wanted if one.source.kind is SourceKind.METRIC]
        kept = [one for one in wanted if one.source.kind is not SourceKind.METRIC]
        return {
            **await self._history(METRIC_HISTORY, metrics),
            **await self._history(KEPT_HISTORY, kept, [rows.KINDS[one.source.kind] for one in kept]),
        }

    async def _history(
        self, query: str, wanted: Sequence[History], kinds: Sequence[int] | None = None
    ) -> dict[tuple[str, str, date], list[Fact]]:
        found: dict[tuple[str, str, date], list[Fact]] = {
            (one.user_id, one.board, one.run.start): [] for one in wanted
        }
        if not wanted:
            return found
        arguments = columns([(one.user_id, one.source.key, one.run.start, one.run.end) for one in wanted], 4)
        keys = list(found)
        for row in await self._pool.fetch(query, *arguments, *([] if kinds is None else [kinds])):
            found[keys[row["number"] - 1]].append(rows.fact(tuple(row)[1:]))
        return found
