"""What is done after a run was archived, a batch at a time, in one transaction with how far it has come: prizes, and
who goes up or down in a league.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, json

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.leagues import League
from services.leaderboard.domain.prizes import Finish, Prize
from services.leaderboard.domain.states import RunKey
from services.leaderboard.results import GivenPrize
from shared.pages import Page
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool

BEGIN: Final = """
    INSERT INTO endings (board, run_start, end_time, prizes, history, league)
    SELECT board, start_date, finalize_time, $3, $4, $5 FROM runs WHERE board = $1 AND start_date = $2
"""
IS_UNDER_WAY: Final = "SELECT EXISTS (SELECT FROM endings WHERE NOT done)"
# Whoever comes second goes on with another one, or waits for its next turn.
NEXT: Final = """
    SELECT board, run_start, end_time, prizes, history, last_segment, last_ordinal, league
      FROM endings
     WHERE NOT done
     ORDER BY end_time, board, run_start
     LIMIT 1
       FOR UPDATE SKIP LOCKED
"""
SEGMENT: Final = """
    SELECT segment, member_count
      FROM segments
     WHERE board = $1 AND run_start = $2 AND segment >= $3 AND member_count > 0
     ORDER BY segment
     LIMIT 1
"""
# The last member with a better rank: before who ties with others there are as many as before the first of them.
FINISHED: Final = """
    SELECT ordinal, rank, user_id,
           coalesce((SELECT better.ordinal FROM archive AS better
                      WHERE better.board = $1 AND better.run_start = $2 AND better.segment = $3
                        AND better.ordinal < archive.ordinal AND better.rank < archive.rank
                      ORDER BY better.ordinal DESC LIMIT 1), 0) AS better_count
      FROM archive
     WHERE board = $1 AND run_start = $2 AND segment = $3 AND ordinal > $4 AND rank > 0
     ORDER BY ordinal
     LIMIT $5
"""
ADVANCE: Final = """
    WITH given AS (
        INSERT INTO prizes (board, run_start, segment, ordinal, prize, user_id, rank, entry_id)
        SELECT * FROM unnest($6::prize_row[])
    ), decided AS (
        UPDATE seats SET outcome = batch.outcome
          FROM unnest($7::outcome_row[]) AS batch
         WHERE seats.board = batch.board AND seats.run_start = batch.run_start AND seats.user_id = batch.user_id
    ), moved AS (
        INSERT INTO divisions (board, user_id, division, run_start)
        SELECT board, user_id, division, run_start FROM unnest($7::outcome_row[])
            ON CONFLICT (board, user_id) DO UPDATE
               SET division = EXCLUDED.division, run_start = EXCLUDED.run_start
    )
    UPDATE endings SET last_segment = $3, last_ordinal = $4, done = $5 WHERE board = $1 AND run_start = $2
"""
DROP_INACTIVE: Final = """
    UPDATE divisions SET division = division - 1, run_start = $2 WHERE board = $1 AND run_start < $2 AND division > 0
"""
_GIVEN: Final = """
    SELECT given.segment, given.ordinal, given.prize, given.user_id, given.rank, given.entry_id, endings.prizes
      FROM prizes AS given JOIN endings USING (board, run_start)
     WHERE given.board = $1 AND given.run_start = $2
       AND (given.segment, given.ordinal, given.prize) > ($3, $4, $5) {condition}
     ORDER BY given.segment, given.ordinal, given.prize
     LIMIT $6
"""
GIVEN: Final = _GIVEN.format(condition="")
GIVEN_TO: Final = _GIVEN.format(condition="AND given.user_id = $7")

_LEAGUE: Final = json.Decoder(League)
_PRIZES: Final = json.Decoder(list[Prize])


class Ending(Struct, frozen=True):
    """A run for which something is still to be done, and how far that has come."""

    run: RunKey
    end_time: datetime
    prizes: Sequence[Prize]
    history: bool
    segment: str
    ordinal: int
    league: League | None = None


class Finished(Struct, frozen=True):
    """A member of an archived list."""

    user_id: str
    ordinal: int
    finish: Finish


async def begin(connection: Connection, board: Board, run: RunKey, *, history: bool) -> None:
    """Note that there is something to be done for a run, in the transaction that archives it."""
    league = None if board.league is None else json.encode(board.league).decode()
    await connection.execute(BEGIN, *run, json.encode(board.prizes).decode(), history, league)


async def next_ending(connection: Connection) -> Ending | None:
    """The one that has waited longest, locked until the end of the transaction."""
    row = await connection.fetchrow(NEXT)
    if row is None:
        return None
    board, start, end_time, prizes, history, segment, ordinal, league = row
    return Ending(
        (board, start),
        end_time,
        _PRIZES.decode(prizes),
        history,
        segment,
        ordinal,
        None if league is None else _LEAGUE.decode(league),
    )


async def segment_from(connection: Connection, run: RunKey, segment: str) -> tuple[str, int] | None:
    """The first segment from this one on that has members, and their number."""
    row = await connection.fetchrow(SEGMENT, *run, segment)
    return None if row is None else (row["segment"], row["member_count"])


async def finished(
    connection: Connection, run: RunKey, segment: str, member_count: int, after: int, limit: int
) -> list[Finished]:
    """The members of an archived list behind a place."""
    return [
        Finished(row["user_id"], row["ordinal"], Finish(row["rank"], row["better_count"], member_count))
        for row in await connection.fetch(FINISHED, *run, segment, after, limit)
    ]


async def advance(
    connection: Connection,
    feed: Feed,
    ending: Ending,
    given: Sequence[tuple[Any, ...]],
    outcomes: Sequence[tuple[Any, ...]],
    changes: Sequence[bytes],
    *,
    done: bool,
) -> None:
    """Store what a batch gave, what is told of it, and how far the ending has come."""
    await connection.execute(ADVANCE, *ending.run, ending.segment, ending.ordinal, done, given, outcomes)
    if done and ending.league is not None and ending.league.drops_inactive:
        await connection.execute(DROP_INACTIVE, *ending.run)
    await feed.append(connection, changes)


class EndingStore:
    """What is read of endings."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def is_under_way(self) -> bool:
        """Whether anything is to be done. One look-up by index when there is nothing."""
        under_way: bool = await self._pool.fetchval(IS_UNDER_WAY)
        return under_way

    async def given(self, run: RunKey, user_id: str, page: Page) -> list[GivenPrize]:
        """The prizes of a run, by segment and rank; one more than the page holds where there are more."""
        after: tuple[date | str | int, ...] = page.after[1:] if page.after else ("", 0, "")
        if user_id:
            found = await self._pool.fetch(GIVEN_TO, *run, *after, page.size + 1, user_id)
        else:
            found = await self._pool.fetch(GIVEN, *run, *after, page.size + 1)
        return [_given(run, row) for row in found]


def _given(run: RunKey, row: Any) -> GivenPrize:
    prize = next(prize for prize in _PRIZES.decode(row["prizes"]) if prize.key == row["prize"])
    entry_id: UUID = row["entry_id"]
    return GivenPrize(run, row["segment"], row["ordinal"], row["user_id"], row["rank"], prize, entry_id)
