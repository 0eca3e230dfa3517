"""What is read of leaderboards besides the lists of members: runs, segments, a user's scores and rank history."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from services.leaderboard.domain.members import Held, Profile
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.runs import RunState
from services.leaderboard.domain.states import RunKey
from services.leaderboard.results import ArchivedPlace, RankEvent, Segment
from services.leaderboard.store import history, rows
from shared.pages import Page
from shared.postgres.pool import Pool

# Tenants have boards of their own of it.
IN_USE: Final = "SELECT EXISTS (SELECT FROM runs WHERE board = $1 OR split_part(board, chr(31), 2) = $1)"
CONFIGURATION_VERSION: Final = "SELECT version FROM configuration_version"
# Of many users a few arrays: a row for each takes both sides twice as long.
SEEN: Final = """
    SELECT (SELECT version FROM configuration_version) AS configuration_version,
           (SELECT marker FROM projection) AS marker,
           (SELECT ROW(board, start_date, end_date, finalize_time, finalized)
              FROM runs WHERE board = $1 AND start_date = $2) AS run,
           known.user_ids, known.names, known.attributes
      FROM (SELECT array_agg(user_id) AS user_ids, array_agg(name) AS names,
                   array_agg(attributes) FILTER (WHERE $4) AS attributes
              FROM users WHERE user_id = ANY($3::text[])) AS known
"""
PROFILES: Final = """
    SELECT user_id, version, profile_version, name, attributes FROM users WHERE user_id = ANY($1::text[])
"""
RUNS: Final = """
    SELECT board, start_date, end_date, finalize_time, finalized
      FROM runs
     WHERE board = $1 AND start_date < $2
     ORDER BY start_date DESC
     LIMIT $3
"""
LATEST_RUNS: Final = """
    SELECT board, start_date, end_date, finalize_time, finalized
      FROM runs
     WHERE board = $1
     ORDER BY start_date DESC
     LIMIT $2
"""
# A segment that everybody left, or of which all entries were undone, is not listed. OFFSET 0: to look at each segment,
# and not at all scores first.
SEGMENTS: Final = """
    SELECT segment, member_count
      FROM segments
     WHERE board = $1 AND run_start = $2 AND segment >= $3 AND ($4 OR segment > $3)
       AND CASE WHEN member_count IS NOT NULL THEN member_count > 0
                WHEN segment = '' THEN EXISTS (
                     SELECT FROM scores
                      WHERE scores.board = $1 AND scores.run_start = $2 AND scores.order_score IS NOT NULL)
                ELSE EXISTS (
                     SELECT FROM scores
                      WHERE scores.board = $1 AND scores.run_start = $2 AND scores.segment = segments.segment
                        AND scores.segment <> '' AND scores.order_score IS NOT NULL
                     OFFSET 0) END
     ORDER BY segment
     LIMIT $5
"""
# On `|| ''`, see undo.SET_SCORE.
USER_SCORES: Final = """
    SELECT scores.board, scores.run_start, segment, score, reach_time, entry_id, source_version, order_score,
           beyond, runs.end_date, runs.finalize_time, runs.finalized
      FROM unnest($2::text[], $3::date[]) AS wanted (board, start_date)
      JOIN scores ON scores.user_id = $1 AND scores.board || '' = wanted.board AND run_start = wanted.start_date
      JOIN runs ON runs.board = wanted.board AND runs.start_date = wanted.start_date
     WHERE order_score IS NOT NULL
     ORDER BY scores.board
"""
USER_ARCHIVE: Final = """
    SELECT archive.board, archive.run_start, segment, rank, archive.user_id, score, reach_time,
           runs.end_date, runs.finalize_time, runs.finalized
      FROM unnest($2::text[], $3::date[]) AS wanted (board, start_date)
      JOIN archive ON archive.user_id = $1 AND archive.board = wanted.board
                  AND run_start = wanted.start_date
      JOIN runs ON runs.board = wanted.board AND runs.start_date = wanted.start_date
     ORDER BY archive.board, segment
"""
_RANK_EVENTS: Final = f"""
    SELECT change.board, change.segment, change.run_start, entry_id, change.previous_rank, change.rank,
           change.score, change_time, passed
      FROM {history.CHANGES}
     WHERE user_id = $1 AND ($2 = '' OR change.board = $2)
"""
_NEWEST_FIRST: Final = """
     ORDER BY change_time DESC, entry_id DESC, change.board DESC, change.run_start DESC, change.segment DESC
     LIMIT $3
"""
RANK_EVENTS: Final = _RANK_EVENTS + _NEWEST_FIRST
# By the first of the bounds the index is read from there on.
EARLIER_RANK_EVENTS: Final = f"""
    {_RANK_EVENTS}
       AND (change_time, entry_id) <= ($4, $5)
       AND (change_time, entry_id, change.board, change.run_start, change.segment) < ($4, $5, $6, $7, $8)
    {_NEWEST_FIRST}
"""


class Seen(Struct, frozen=True):
    """What is true beside what was read of a list, in one snapshot."""

    configuration_version: int
    marker: str | None
    """Of complete sorted sets."""
    run: RunState | None
    """None: it was never entered."""
    profiles: Mapping[str, Profile]
    """Names, and attributes where they were asked for."""


class ReadStore:
    """The SQL of reads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def configuration_version(self) -> int:
        """Of the definitions."""
        version: int = await self._pool.fetchval(CONFIGURATION_VERSION)
        return version

    async def seen(
        self, key: SegmentKey, user_ids: Collection[str], *, with_attributes: bool = False
    ) -> Seen:
        """The run of this list, the profiles of these users, and whether definitions and sorted sets are what they
        were taken for.
        """
        row = await self._pool.fetchrow(SEEN, key.board, key.run_start, list(user_ids), with_attributes)
        assert row is not None  # a SELECT without FROM has one row
        return Seen(
            row["configuration_version"],
            row["marker"],
            rows.run_state(row["run"]) if row["run"] else None,
            _named(row["user_ids"] or (), row["names"] or (), row["attributes"]),
        )

    async def profiles(self, user_ids: Collection[str]) -> dict[str, Profile]:
        """The profiles of these users."""
        return _profiles(await self._pool.fetch(PROFILES, list(user_ids)))

    async def runs(self, board: str, page: Page) -> list[RunState]:
        """A board's runs, newest first; one more than the page holds where there are more."""
        if page.after is None:
            found = await self._pool.fetch(LATEST_RUNS, board, page.size + 1)
        else:
            found = await self._pool.fetch(RUNS, board, page.after[0], page.size + 1)
        return [rows.run_state(row) for row in found]

    async def segments(self, run: RunKey, page: Page) -> list[Segment]:
        """A run's segments, the whole board first; one more than the page holds where there are more."""
        after = page.after[-1] if page.after else ""
        found = await self._pool.fetch(SEGMENTS, *run, after, page.after is None, page.size + 1)
        return [Segment(SegmentKey(*run, row["segment"]), row["member_count"]) for row in found]

    async def user_scores(self, user_id: str, runs: Collection[RunKey]) -> list[tuple[RunState, Held]]:
        """The user's scores in those of the runs that are open, by board."""
        found = await self._pool.fetch(USER_SCORES, user_id, *_run_columns(runs))
        return [
            (rows.run_state((row[0], row[1], *tuple(row)[9:])), rows.held(tuple(row)[:9])[1]) for row in found
        ]

    async def user_archive(self, user_id: str, runs: Collection[RunKey]) -> list[ArchivedPlace]:
        """The user's places in those of the runs that are finalised, by board and segment."""
        found = await self._pool.fetch(USER_ARCHIVE, user_id, *_run_columns(runs))
        return [
            ArchivedPlace(
                rows.run_state((row[0], row[1], row[7], row[8], row[9])),
                row["segment"],
                row["rank"],
                rows.member(tuple(row)[4:7]),
            )
            for row in found
        ]

    async def rank_events(self, user_id: str, board: str, page: Page) -> list[RankEvent]:
        """A user's rank changes, newest first; one more than the page holds where there are more."""
        if page.after is None:
            found = await self._pool.fetch(RANK_EVENTS, user_id, board, page.size + 1)
        else:
            found = await self._pool.fetch(EARLIER_RANK_EVENTS, user_id, board, page.size + 1, *page.after)
        return [RankEvent(SegmentKey(row[0], row[2], row[1]), *tuple(row)[3:]) for row in found]


def _named(
    user_ids: Sequence[str], names: Sequence[str], attributes: Sequence[str] | None
) -> dict[str, Profile]:
    if attributes is None:
        return {user_id: Profile(name=name) for user_id, name in zip(user_ids, names, strict=True)}
    return {
        user_id: Profile(name=name, attributes=rows.attributes(text))
        for user_id, name, text in zip(user_ids, names, attributes, strict=True)
    }


def _profiles(found: Iterable[rows.Row]) -> dict[str, Profile]:
    return {user[0]: rows.profile(user[1:])[1] for user in map(tuple, found)}


def _run_columns(runs: Collection[RunKey]) -> tuple[Sequence[str], Sequence[date]]:
    return [board for board, _ in runs], [start for _, start in runs]
