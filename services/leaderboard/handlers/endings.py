"""What is done after a run was archived, a bounded batch at a time, once: prizes are given (RULES 6.10), and users of a
league go up or down (RULES 6.12).

A batch is one transaction: what was given, what is told of it (an entry of the ledger each, by the feed), and how far
the run has come. So a crash leaves a batch whole or undone, and whoever comes next goes on behind it.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as pb
from msgspec import Struct
from msgspec.structs import replace

from services.leaderboard.config import ENDING_BATCH
from services.leaderboard.convert.common import date_to_proto
from services.leaderboard.domain.boards import WHOLE, segment_values
from services.leaderboard.domain.leagues import League, Outcome, division_after, division_of, outcome_of
from services.leaderboard.domain.prizes import Prize, is_beyond, lists_with_prizes, wins
from services.leaderboard.store import endings as store
from services.leaderboard.store.endings import Ending, Finished
from shared import faults
from shared.ids import derived_id_at
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp

BEFORE_COMMIT: Final = faults.declare(
    "leaderboard.ending.before_commit", "prizes of an archived run are written, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "leaderboard.ending.after_commit", "some prizes of an archived run are committed, others to come"
)

_BEYOND_ALL: Final = "\U0010ffff"
"""Behind every segment."""


class Endings:
    """Any number of replicas may do it at once: a row's lock decides who goes on with a run."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._feed = Feed(pool)
        self._store = store.EndingStore(pool)

    async def run(self, batches: int) -> tuple[int, bool]:
        """So many batches at most; how many prizes were given, and whether there may be more."""
        given = 0
        for _ in range(batches):
            if not await self._store.is_under_way():
                return given, False
            async with self._pool.acquire() as connection, connection.transaction():
                count = await self._batch(connection)
                await BEFORE_COMMIT.reach()
            await AFTER_COMMIT.reach()
            if count is None:
                return given, False  # another replica is about it
            given += count
        return given, await self._store.is_under_way()

    async def _batch(self, connection: Connection) -> int | None:
        """One part of one segment; None where nobody is to be found who is not locked."""
        ending = await store.next_ending(connection)
        if ending is None:
            return None
        found = await store.segment_from(connection, ending.run, ending.segment)
        if found is None:
            await store.advance(connection, self._feed, ending, [], [], [], done=True)
            return 0
        segment, member_count = found
        prizes = lists_with_prizes(ending.prizes, is_whole=segment == WHOLE)
        league = ending.league if segment != WHOLE else None
        members = []
        if prizes or league:
            after = ending.ordinal if segment == ending.segment else 0
            members = await store.finished(connection, ending.run, segment, member_count, after, ENDING_BATCH)
        given = [(member, prize) for member in members for prize in prizes if wins(prize, member.finish)]
        moves = [] if league is None else [_move(league, segment, member) for member in members]
        await store.advance(
            connection,
            self._feed,
            _advanced(ending, segment, members, prizes),
            [_given_row(ending, segment, member, prize) for member, prize in given],
            [(*ending.run, move.member.user_id, move.outcome, move.after) for move in moves],
            [
                change.SerializeToString(deterministic=True)
                for change in (
                    *(_prize_change(ending, segment, member, prize) for member, prize in given),
                    *(_league_change(ending, segment, move) for move in moves if move.before != move.after),
                )
            ],
            done=False,
        )
        return len(given) + len(moves)


class _Move(Struct, frozen=True):
    """What a run brings a user of a league. Divisions by number and with their keys."""

    member: Finished
    outcome: Outcome
    before: int
    after: int
    league: League


def _move(league: League, segment: str, member: Finished) -> _Move:
    before = division_of(league, segment_values(segment))
    outcome = outcome_of(league, before, member.ordinal, member.finish.member_count)
    return _Move(member, outcome, before, division_after(before, outcome), league)


def _advanced(ending: Ending, segment: str, members: Sequence[Finished], prizes: Sequence[Prize]) -> Ending:
    """How far it has come after some members of a segment. In a league everybody is looked at."""
    goes_on = len(members) == ENDING_BATCH and (
        ending.league is not None or not is_beyond(prizes, members[-1].finish)
    )
    if goes_on:
        return replace(ending, segment=segment, ordinal=members[-1].ordinal)
    only_whole = ending.league is None and not lists_with_prizes(ending.prizes, is_whole=False)
    # Behind a segment come those that are greater: the least of these is the segment with one character more.
    return replace(ending, segment=_BEYOND_ALL if only_whole else segment + "\x01", ordinal=0)


def _entry_id(ending: Ending, segment: str, member: Finished, prize: Prize) -> UUID:
    """The same whoever finds it, and when."""
    board, start = ending.run
    return derived_id_at(
        ending.end_time, "prize", board, start.isoformat(), segment, member.user_id, prize.key
    )


def _given_row(ending: Ending, segment: str, member: Finished, prize: Prize) -> tuple[Any, ...]:
    return (
        *ending.run,
        segment,
        member.ordinal,
        prize.key,
        member.user_id,
        member.finish.rank,
        _entry_id(ending, segment, member, prize),
    )


def _prize_change(ending: Ending, segment: str, member: Finished, prize: Prize) -> pb.Change:
    """What the orchestrator makes an entry of."""
    board, start = ending.run
    return pb.Change(
        entry_id=str(_entry_id(ending, segment, member, prize)),
        user_id=member.user_id,
        occur_time=to_timestamp(ending.end_time),
        origin=_origin(ending),
        board_prize=entry_pb2.BoardPrize(
            leaderboard=board,
            run_start_date=date_to_proto(start),
            segment=segment_values(segment),
            prize=prize.key,
            rank=member.finish.rank,
            gifts=[
                entry_pb2.PointsGift(points_system=gift.points_system, amount=gift.amount)
                for gift in prize.gifts
            ],
            achievement=prize.achievement,
        ),
    )


def _league_change(ending: Ending, segment: str, move: _Move) -> pb.Change:
    """What the orchestrator makes an entry of."""
    board, start = ending.run
    user_id, divisions = move.member.user_id, move.league.divisions
    promoted = move.outcome is Outcome.PROMOTED
    return pb.Change(
        entry_id=str(derived_id_at(ending.end_time, "league", board, start.isoformat(), user_id)),
        user_id=user_id,
        occur_time=to_timestamp(ending.end_time),
        origin=_origin(ending),
        league_move=entry_pb2.LeagueMove(
            leaderboard=board,
            run_start_date=date_to_proto(start),
            segment=segment_values(segment),
            rank=move.member.finish.rank,
            from_division=divisions[move.before].key,
            to_division=divisions[move.after].key,
            promoted=promoted,
            achievement=divisions[move.after].achievement if promoted else "",
        ),
    )


def _origin(ending: Ending) -> entry_pb2.EntryOrigin.ValueType:
    return entry_pb2.ENTRY_ORIGIN_IMPORT if ending.history else entry_pb2.ENTRY_ORIGIN_MAINTENANCE
