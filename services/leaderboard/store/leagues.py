"""Seats in the cohorts of leagues (RULES 6.12): taken before an entry is decided, so that its segment is known.

A seat once taken is kept: a batch that is decided anew, or sent again after a crash, finds it. Whoever takes seats in a
run holds its lock, and so does whoever seats those who had to wait for the end of the run before.
"""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from services.leaderboard.domain.boards import Boards
from services.leaderboard.domain.leagues import Cohort, League, Outcome, Seat, cohort_segment, filled
from services.leaderboard.domain.past import WantedSeat
from services.leaderboard.domain.states import RunKey
from services.leaderboard.store import rows
from shared.ids import digest
from shared.postgres.pool import Connection, Pool

KNOWN: Final = """
    SELECT user_id, division, cohort FROM seats WHERE board = $1 AND run_start = $2 AND user_id = ANY($3::text[])
"""
LOCK: Final = "SELECT pg_advisory_xact_lock($1)"
# In which division somebody is, is known when every earlier run is final and was gone through.
IS_UNDECIDED: Final = """
    SELECT EXISTS (SELECT FROM runs WHERE board = $1 AND start_date < $2 AND NOT finalized)
        OR EXISTS (SELECT FROM endings WHERE board = $1 AND run_start < $2 AND NOT done)
"""
DIVISIONS: Final = "SELECT user_id, division FROM divisions WHERE board = $1 AND user_id = ANY($2::text[])"
LATEST: Final = """
    SELECT latest.division, latest.cohort, latest.member_count
      FROM unnest($3::integer[]) AS wanted (division)
     CROSS JOIN LATERAL (
           SELECT * FROM cohorts
            WHERE board = $1 AND run_start = $2 AND division = wanted.division
            ORDER BY cohort DESC LIMIT 1) AS latest
"""
TAKE: Final = """
    INSERT INTO seats (board, run_start, user_id, division, cohort, is_projected) SELECT * FROM unnest($1::seat_row[])
"""
COUNT: Final = """
    INSERT INTO cohorts (board, run_start, division, cohort, member_count)
    SELECT board, run_start, division, cohort, count(*)
      FROM unnest($1::seat_row[])
     WHERE cohort IS NOT NULL
     GROUP BY board, run_start, division, cohort
        ON CONFLICT (board, run_start, division, cohort) DO UPDATE
           SET member_count = cohorts.member_count + EXCLUDED.member_count
"""
RUNS_WAITING: Final = "SELECT DISTINCT board, run_start FROM seats WHERE cohort IS NULL OR NOT is_projected"
WAITING: Final = """
    SELECT user_id FROM seats
     WHERE board = $1 AND run_start = $2 AND cohort IS NULL
     ORDER BY number
     LIMIT $3
"""
# Whoever writes to these users meanwhile finds another version, and decides anew.
LOCK_USERS: Final = "SELECT FROM users WHERE user_id = ANY($1::text[]) ORDER BY user_id FOR UPDATE"
IS_OPEN: Final = "SELECT true FROM runs WHERE board = $1 AND start_date = $2 AND NOT finalized FOR SHARE"
SEAT: Final = """
    WITH seated AS (
        UPDATE seats SET division = batch.division, cohort = batch.cohort, is_projected = batch.is_projected
          FROM unnest($1::seat_row[]) AS batch
         WHERE seats.board = batch.board AND seats.run_start = batch.run_start AND seats.user_id = batch.user_id
    ), moved AS (
        UPDATE users SET version = users.version + 1
          FROM unnest($1::seat_row[]) AS batch
         WHERE users.user_id = batch.user_id
        RETURNING users.user_id, users.version
    ), seen AS (
        INSERT INTO segments (board, run_start, segment)
        SELECT DISTINCT batch.board, batch.run_start, place.segment
          FROM unnest($1::seat_row[]) AS batch JOIN unnest($2::text[], $3::text[]) AS place (user_id, segment)
               USING (user_id)
            ON CONFLICT (board, run_start, segment) DO NOTHING
    )
    UPDATE scores SET segment = place.segment, version = moved.version
      FROM unnest($1::seat_row[]) AS batch
      JOIN unnest($2::text[], $3::text[]) AS place (user_id, segment) USING (user_id)
      JOIN moved USING (user_id)
     WHERE scores.user_id = batch.user_id AND scores.board || '' = batch.board AND scores.run_start = batch.run_start
"""
UNPROJECTED: Final = """
    SELECT user_id, division, cohort FROM seats
     WHERE board = $1 AND run_start = $2 AND cohort IS NOT NULL AND NOT is_projected
     LIMIT $3
"""
PROJECTED: Final = """
    UPDATE seats SET is_projected = true WHERE board = $1 AND run_start = $2 AND user_id = ANY($3::text[])
"""
OF_USER: Final = """
    SELECT (SELECT ROW(division, cohort, outcome) FROM seats
             WHERE board = $1 AND run_start = $2 AND user_id = $3) AS seat,
           coalesce((SELECT division FROM divisions WHERE board = $1 AND user_id = $3), 0) AS division
"""


class UserSeat(Struct, frozen=True):
    """A user in a league, and what a run that is over brought."""

    seat: Seat | None
    """In the run; None: not active in it."""
    outcome: Outcome | None
    division: int
    """After the last run that was gone through."""


class LeagueStore:
    """The SQL of leagues."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self, boards: Boards, wanted: Collection[WantedSeat]) -> dict[str, dict[RunKey, Seat]]:
        """Seats by user: those that they have, else new ones. Who has one costs a look-up."""
        by_run: dict[RunKey, list[str]] = {}
        for asked in wanted:
            by_run.setdefault((asked.board, asked.run_start), []).append(asked.user_id)
        taken: dict[str, dict[RunKey, Seat]] = {}
        for run, user_ids in sorted(by_run.items()):
            league = boards.by_key[run[0]].league
            seats = _seats(await self._pool.fetch(KNOWN, *run, user_ids))
            if league is not None and len(seats) < len(user_ids):
                seats = await self._take(league, run, user_ids)
            for user_id, seat in seats.items():
                taken.setdefault(user_id, {})[run] = seat
        return taken

    async def _take(self, league: League, run: RunKey, user_ids: Sequence[str]) -> dict[str, Seat]:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK, _lock_of(run))
            seats = _seats(await connection.fetch(KNOWN, *run, user_ids))
            new = [user_id for user_id in user_ids if user_id not in seats]
            if not new:
                return seats
            found: Sequence[Cohort | None] = [None] * len(new)
            if not await connection.fetchval(IS_UNDECIDED, *run):
                found = await _fill(connection, league, run, new)
            seated = [
                _row(run, user_id, cohort, is_projected=True)
                for user_id, cohort in zip(new, found, strict=True)
            ]
            await connection.execute(TAKE, seated)
            await connection.execute(COUNT, seated)
            return seats | {user_id: Seat(cohort) for user_id, cohort in zip(new, found, strict=True)}

    async def runs_waiting(self) -> list[RunKey]:
        """The runs in which somebody waits. One look-up by index when there is nobody."""
        return sorted((row["board"], row["run_start"]) for row in await self._pool.fetch(RUNS_WAITING))

    async def seat_waiting(self, league: League, run: RunKey, limit: int) -> int:
        """Seat those who were active before it was decided what the run before brings, in that order; how many."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK, _lock_of(run))
            if await connection.fetchval(IS_UNDECIDED, *run):
                return 0
            user_ids = [row["user_id"] for row in await connection.fetch(WAITING, *run, limit)]
            if not user_ids:
                return 0
            await connection.execute(LOCK_USERS, user_ids)
            if not await connection.fetchval(IS_OPEN, *run):
                return 0
            cohorts = await _fill(connection, league, run, user_ids)
            seated = [
                _row(run, user_id, cohort, is_projected=False)
                for user_id, cohort in zip(user_ids, cohorts, strict=True)
            ]
            await connection.execute(COUNT, seated)
            await connection.execute(
                SEAT, seated, user_ids, [cohort_segment(league, cohort) for cohort in cohorts]
            )
            return len(user_ids)

    async def unprojected(self, league: League, run: RunKey, limit: int) -> dict[str, str]:
        """The cohorts, as segments, of users of whom these sorted sets have not heard."""
        found = await self._pool.fetch(UNPROJECTED, *run, limit)
        return {
            row["user_id"]: cohort_segment(league, Cohort(row["division"], row["cohort"])) for row in found
        }

    async def set_projected(self, run: RunKey, user_ids: Sequence[str]) -> None:
        """The sorted sets have heard of these."""
        await self._pool.execute(PROJECTED, *run, user_ids)

    async def of_user(self, run: RunKey, user_id: str) -> UserSeat:
        """What is known of a user."""
        row = await self._pool.fetchrow(OF_USER, *run, user_id)
        assert row is not None  # a SELECT without FROM has one row
        if row["seat"] is None:
            return UserSeat(None, None, row["division"])
        division, cohort, outcome = row["seat"]
        seat = Seat(None if cohort is None else Cohort(division, cohort))
        return UserSeat(seat, None if outcome is None else Outcome(outcome), row["division"])


async def _fill(connection: Connection, league: League, run: RunKey, user_ids: Sequence[str]) -> list[Cohort]:
    """Cohorts for users who have none, under the run's lock."""
    known = {row["user_id"]: row["division"] for row in await connection.fetch(DIVISIONS, run[0], user_ids)}
    divisions = [known.get(user_id, 0) for user_id in user_ids]
    latest = {
        row["division"]: (row["cohort"], row["member_count"])
        for row in await connection.fetch(LATEST, *run, sorted(set(divisions)))
    }
    return filled(league, latest, divisions)


def _seats(found: Sequence[rows.Row]) -> dict[str, Seat]:
    return {
        row["user_id"]: Seat(None if row["cohort"] is None else Cohort(row["division"], row["cohort"]))
        for row in found
    }


def _row(
    run: RunKey, user_id: str, cohort: Cohort | None, *, is_projected: bool
) -> tuple[str, date, str, int | None, int | None, bool]:
    division, number = (None, None) if cohort is None else (cohort.division, cohort.number)
    return (*run, user_id, division, number, is_projected)


def _lock_of(run: RunKey) -> int:
    return int.from_bytes(digest("league", run[0], run[1].isoformat())[:8], signed=True)
