"""Ranks from PostgreSQL itself, for as long as the sorted sets are not complete: the same questions as to
`projection.Projection`, exact, at the cost of counting.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from services.leaderboard.domain.boards import WHOLE, Board, RankMode
from services.leaderboard.domain.ranks import (
    Member,
    MemberPage,
    MemberPlace,
    Place,
    Placement,
    SegmentKey,
    Step,
    member_of,
    order_score,
    position_of,
)
from services.leaderboard.domain.scores import Score
from services.leaderboard.store import rows
from shared.postgres.pool import Pool

# Who is no member has no order_score, and so compares to nothing.
_IN_WHOLE: Final = "s.board = wanted.board AND s.run_start = wanted.run_start"
_IN_SEGMENT: Final = f"{_IN_WHOLE} AND s.segment = wanted.segment AND s.segment <> ''"

_PLACES: Final = """
    SELECT wanted.number,
           1 + (SELECT count(*) FROM scores s
                 WHERE {scope} AND s.user_id <> wanted.user_id
                   AND (s.order_score, s.reach_time, s.user_id)
                       < (wanted.order_score, wanted.reach_time, wanted.user_id)) AS ordinal,
           1 + CASE wanted.mode
               WHEN 'competition' THEN
                   (SELECT count(*) FROM scores s
                     WHERE {scope} AND s.user_id <> wanted.user_id AND s.order_score < wanted.order_score)
               WHEN 'dense' THEN
                   (SELECT count(DISTINCT s.order_score) FROM scores s
                     WHERE {scope} AND s.user_id <> wanted.user_id AND s.order_score < wanted.order_score)
               END AS tied_rank
      FROM unnest($1::bigint[], $2::text[], $3::text[], $4::date[], $5::text[], $6::text[], $7::bigint[],
                  $8::timestamptz[])
        AS wanted (number, mode, board, run_start, segment, user_id, order_score, reach_time)
"""
PLACES_IN_WHOLE: Final = _PLACES.format(scope=_IN_WHOLE)
PLACES_IN_SEGMENT: Final = _PLACES.format(scope=_IN_SEGMENT)

_SIZES: Final = """
    SELECT wanted.number,
           (SELECT count(*) FROM scores s WHERE {scope} AND s.order_score IS NOT NULL) AS member_count,
           last.user_id, last.score, last.reach_time
      FROM unnest($1::bigint[], $2::text[], $3::date[], $4::text[], $5::bigint[])
        AS wanted (number, board, run_start, segment, participant_limit)
      LEFT JOIN LATERAL (
           SELECT s.user_id, s.score, s.reach_time
             FROM scores s
            WHERE {scope} AND s.order_score IS NOT NULL AND wanted.participant_limit > 0
            ORDER BY s.order_score, s.reach_time, s.user_id
           OFFSET greatest(wanted.participant_limit - 1, 0) LIMIT 1) AS last ON true
"""
SIZES_OF_WHOLE: Final = _SIZES.format(scope=_IN_WHOLE)
SIZES_OF_SEGMENT: Final = _SIZES.format(scope=_IN_SEGMENT)

PAGE_OF_WHOLE: Final = """
    SELECT user_id, score, reach_time
      FROM scores
     WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND $3::text = ''
     ORDER BY order_score, reach_time, user_id
    OFFSET $4 LIMIT $5
"""
PAGE_OF_SEGMENT: Final = """
    SELECT user_id, score, reach_time
      FROM scores
     WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND segment = $3 AND segment <> ''
     ORDER BY order_score, reach_time, user_id
    OFFSET $4 LIMIT $5
"""
# On `|| ''`, see undo.SET_SCORE.
OWN: Final = """
    SELECT order_score, reach_time
      FROM scores
     WHERE user_id = $1 AND board || '' = $2 AND run_start = $3 AND order_score IS NOT NULL
       AND ($4::text = '' OR segment = $4)
"""

CURRENT: Final = """
    SELECT wanted.number, scores.segment, scores.version,
           CASE WHEN scores.order_score IS NOT NULL THEN scores.score END AS score, scores.reach_time
      FROM unnest($1::bigint[], $2::text[], $3::text[], $4::date[])
        AS wanted (number, user_id, board, run_start)
      JOIN scores ON scores.user_id = wanted.user_id AND scores.board || '' = wanted.board
                 AND scores.run_start = wanted.run_start
"""

MEMBERS: Final = """
    SELECT user_id, score, reach_time
      FROM scores
     WHERE user_id = ANY($1::text[]) AND board || '' = $2 AND run_start = $3 AND order_score IS NOT NULL
       AND ($4::text = '' OR segment = $4)
"""

_Lookup = tuple[int, str, str, Any, str, str, int, Any]
_Size = tuple[int, Any]


class StandingStore:
    """The truth about ranks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def place(self, steps: Sequence[Step], board_of: Callable[[str], Board]) -> list[Placement]:
        """What `Projection.place` tells, from the scores as they are stored; nothing is changed."""
        lookups = [
            lookup
            for index, step in enumerate(steps)
            for lookup in (
                _lookup(2 * index, step, step.before, board_of),
                _lookup(2 * index + 1, step, step.after, board_of),
            )
            if lookup is not None
        ]
        places = await self._places(lookups)
        keys = list({step.key: None for step in steps})
        sizes = dict(zip(keys, await self._sizes(keys, board_of), strict=True))
        return [
            Placement(
                places.get(2 * index),
                places.get(2 * index + 1),
                sizes[step.key][0],
                rows.member(sizes[step.key][1]) if sizes[step.key][1] else None,
            )
            for index, step in enumerate(steps)
        ]

    async def current(self, steps: Sequence[Step], board_of: Callable[[str], Board]) -> list[Step]:
        """The same users in the same segments, with the positions that are now true.

        Whoever wrote to the sorted sets while they were emptied and filled writes this after it: so that a late write
        does not leave what had become stale by then. Scores of finalised runs are gone.
        """
        columns = [
            [number for number, _ in enumerate(steps)],
            [step.user_id for step in steps],
            [step.key.board for step in steps],
            [step.key.run_start for step in steps],
        ]
        result = []
        for row in await self._pool.fetch(CURRENT, *columns):
            step = steps[row["number"]]
            score = Score(row["score"], row["reach_time"])
            is_in = step.key.segment in (WHOLE, row["segment"])
            order = board_of(step.key.board).order
            position = position_of(order, step.user_id, score) if is_in else None
            result.append(replace(step, version=row["version"], before=None, after=position))
        return result

    async def page(self, board: Board, key: SegmentKey, first_index: int, count: int) -> MemberPage:
        """The members from an index (from 0) on."""
        query = PAGE_OF_WHOLE if key.segment == WHOLE else PAGE_OF_SEGMENT
        found = await self._pool.fetch(query, key.board, key.run_start, key.segment, first_index, count)
        members = [rows.member(row) for row in found]
        ((member_count, _),) = await self._sizes([key], lambda _: board)
        if not members:
            return MemberPage(members, None, member_count)
        first = members[0]
        place = (0, board.rank_mode.value, *_key_values(key), first.user_id)
        places = await self._places([(*place, order_score(board.order, first.amount), first.reach_time)])
        return MemberPage(members, places[0], member_count)

    async def around(self, board: Board, key: SegmentKey, user_id: str, radius: int) -> MemberPage:
        """The members around a user; none where the user is not one of them."""
        own = await self._pool.fetchrow(OWN, user_id, key.board, key.run_start, key.segment)
        if own is None:
            ((member_count, _),) = await self._sizes([key], lambda _: board)
            return MemberPage([], None, member_count)
        lookup = (0, board.rank_mode.value, *_key_values(key), user_id, own["order_score"], own["reach_time"])
        index = (await self._places([lookup]))[0].ordinal - 1
        first = max(0, index - radius)
        return await self.page(board, key, first, index + radius + 1 - first)

    async def members(
        self, board: Board, key: SegmentKey, user_ids: Sequence[str]
    ) -> tuple[list[MemberPlace], int]:
        """The places of those of these users who are members, and how many members there are."""
        found = await self._pool.fetch(MEMBERS, list(user_ids), key.board, key.run_start, key.segment)
        members = [rows.member(row) for row in found]
        ranked = await self._places(_lookups(board.rank_mode, board, key, members))
        better = ranked
        if board.rank_mode is not RankMode.ORDINAL:
            better = await self._places(_lookups(RankMode.COMPETITION, board, key, members))
        ((member_count, _),) = await self._sizes([key], lambda _: board)
        places = [
            MemberPlace(member, ranked[number], better[number].rank - 1)
            for number, member in enumerate(members)
        ]
        return places, member_count

    async def member_counts(self, keys: Sequence[SegmentKey], board: Board) -> list[int]:
        """How many members these segments have."""
        return [count for count, _ in await self._sizes(keys, lambda _: board)]

    async def _places(self, lookups: Sequence[_Lookup]) -> dict[int, Place]:
        places: dict[int, Place] = {}
        for query, is_whole in ((PLACES_IN_WHOLE, True), (PLACES_IN_SEGMENT, False)):
            chosen = [lookup for lookup in lookups if (lookup[4] == WHOLE) is is_whole]
            if chosen:
                columns = [list(column) for column in zip(*chosen, strict=True)]
                for row in await self._pool.fetch(query, *columns):
                    places[row["number"]] = Place(row["ordinal"], row["tied_rank"] or row["ordinal"])
        return places

    async def _sizes(self, keys: Sequence[SegmentKey], board_of: Callable[[str], Board]) -> list[_Size]:
        """Of each segment: the member count, and the member on the last ranked place."""
        sizes: dict[int, _Size] = {}
        for query, is_whole in ((SIZES_OF_WHOLE, True), (SIZES_OF_SEGMENT, False)):
            chosen = [
                (number, *_key_values(key), board_of(key.board).participant_limit)
                for number, key in enumerate(keys)
                if (key.segment == WHOLE) is is_whole
            ]
            if chosen:
                columns = [list(column) for column in zip(*chosen, strict=True)]
                for row in await self._pool.fetch(query, *columns):
                    last = None if row["score"] is None else tuple(row)[2:]
                    sizes[row["number"]] = (row["member_count"], last)
        return [sizes[number] for number in range(len(keys))]


def _lookup(
    number: int, step: Step, position: str | None, board_of: Callable[[str], Board]
) -> _Lookup | None:
    if position is None:
        return None
    board = board_of(step.key.board)
    member = member_of(board.order, position)
    return (
        number,
        board.rank_mode.value,
        *_key_values(step.key),
        step.user_id,
        order_score(board.order, member.amount),
        member.reach_time,
    )


def _lookups(mode: RankMode, board: Board, key: SegmentKey, members: Sequence[Member]) -> list[_Lookup]:
    return [
        (
            number,
            mode.value,
            *_key_values(key),
            member.user_id,
            order_score(board.order, member.amount),
            member.reach_time,
        )
        for number, member in enumerate(members)
    ]


def _key_values(key: SegmentKey) -> tuple[str, Any, str]:
    return key.board, key.run_start, key.segment
