"""Seats in the cohorts of leagues (RULES 6.12): taken before an entry is decided, so that its segment is known.

A seat once taken is kept: a batch that is decided anew, or sent again after a crash, finds it. Whoever takes seats in a
run holds its lock, and so does whoever seats those who had to wait for the end of the run before.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from services.leaderboard.domain.boards import Boards
from services.leaderboard.domain.leagues import (
    Arrival,
    Begun,
    Cohort,
    Filling,
    League,
    Outcome,
    Placed,
    Seat,
    cohort_segment,
    filled,
    filled_near,
)
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
# Of a league with bands: the newest cohort, so that it is known how many there are, and all that have room.
BEGUN: Final = """
    SELECT begun.division, begun.cohort, begun.member_count, begun.band
      FROM unnest($3::integer[]) AS wanted (division)
     CROSS JOIN LATERAL (
           (SELECT * FROM cohorts
             WHERE board = $1 AND run_start = $2 AND division = wanted.division
             ORDER BY cohort DESC LIMIT 1)
            UNION
           SELECT * FROM cohorts
            WHERE board = $1 AND run_start = $2 AND division = wanted.division AND is_filling) AS begun
"""
TAKE: Final = """
    INSERT INTO seats (board, run_start, user_id, division, cohort, is_projected, utc_hour)
    SELECT * FROM unnest($1::seat_row_2[])
"""
# In a league without bands (a size of 0 is told) only the newest cohort has room, and none is marked.
COUNT: Final = """
    INSERT INTO cohorts (board, run_start, division, cohort, member_count, band, is_filling)
    SELECT board, run_start, division, cohort, member_count, band, member_count < $2
      FROM unnest($1::cohort_row[])
        ON CONFLICT (board, run_start, division, cohort) DO UPDATE
           SET member_count = cohorts.member_count + EXCLUDED.member_count,
               is_filling = cohorts.member_count + EXCLUDED.member_count < $2
"""
RUNS_WAITING: Final = "SELECT DISTINCT board, run_start FROM seats WHERE cohort IS NULL OR NOT is_projected"
WAITING: Final = """
    SELECT user_id, utc_hour FROM seats
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
        by_run: dict[RunKey, dict[str, int | None]] = {}
        for asked in wanted:
            by_run.setdefault((asked.board, asked.run_start), {})[asked.user_id] = asked.utc_hour
        taken: dict[str, dict[RunKey, Seat]] = {}
        for run, hours in sorted(by_run.items()):
            league = boards.by_key[run[0]].league
            seats = _seats(await self._pool.fetch(KNOWN, *run, list(hours)))
            if league is not None and len(seats) < len(hours):
                seats = await self._take(league, run, hours)
            for user_id, seat in seats.items():
                taken.setdefault(user_id, {})[run] = seat
        return taken

    async def _take(self, league: League, run: RunKey, hours: Mapping[str, int | None]) -> dict[str, Seat]:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK, _lock_of(run))
            seats = _seats(await connection.fetch(KNOWN, *run, list(hours)))
            new = {user_id: hour for user_id, hour in hours.items() if user_id not in seats}
            if not new:
                return seats
            found: Sequence[Cohort | None] = [None] * len(new)
            if not await connection.fetchval(IS_UNDECIDED, *run):
                found = await _fill(connection, league, run, new)
            seated = [
                (*_row(run, user_id, cohort, is_projected=True), hour)
                for (user_id, hour), cohort in zip(new.items(), found, strict=True)
            ]
            await connection.execute(TAKE, seated)
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
            found = await connection.fetch(WAITING, *run, limit)
            waiting = {row["user_id"]: row["utc_hour"] for row in found}
            user_ids = list(waiting)
            if not waiting:
                return 0
            await connection.execute(LOCK_USERS, user_ids)
            if not await connection.fetchval(IS_OPEN, *run):
                return 0
            cohorts = await _fill(connection, league, run, waiting)
            seated = [
                _row(run, user_id, cohort, is_projected=False)
                for user_id, cohort in zip(user_ids, cohorts, strict=True)
            ]
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


async def _fill(
    connection: Connection, league: League, run: RunKey, hours: Mapping[str, int | None]
) -> list[Cohort]:
    """Cohorts for users who have none, counted, under the run's lock. `hours`: by user, in the order of activity."""
    known = {
        row["user_id"]: row["division"] for row in await connection.fetch(DIVISIONS, run[0], list(hours))
    }
    divisions = [known.get(user_id, 0) for user_id in hours]
    if league.zone_band_count:
        # Who waits since before it was asked for counts as one of UTC.
        arrivals = [
            Arrival(*arrival)
            for arrival in zip(divisions, (hour or 0 for hour in hours.values()), strict=True)
        ]
        places = filled_near(league, await _begun(connection, league, run, divisions), arrivals)
    else:
        latest = {
            row["division"]: (row["cohort"], row["member_count"])
            for row in await connection.fetch(LATEST, *run, sorted(set(divisions)))
        }
        places = [Placed(cohort, None) for cohort in filled(league, latest, divisions)]
    counts = [
        (*run, place.cohort.division, place.cohort.number, count, place.band)
        for place, count in Counter(places).items()
    ]
    await connection.execute(COUNT, counts, league.cohort_size if league.zone_band_count else 0)
    return [place.cohort for place in places]


async def _begun(
    connection: Connection, league: League, run: RunKey, divisions: Sequence[int]
) -> dict[int, Begun]:
    """What there is of cohorts in these divisions. One that was begun without bands is for whoever comes."""
    begun: dict[int, Begun] = {}
    for row in await connection.fetch(BEGUN, *run, sorted(set(divisions))):
        known = begun.get(row["division"], Begun())
        filling = Filling(row["cohort"], row["member_count"], row["band"])
        has_room = filling.member_count < league.cohort_size
        begun[row["division"]] = Begun(
            max(known.count, filling.number), (*known.filling, filling) if has_room else known.filling
        )
    return begun


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
