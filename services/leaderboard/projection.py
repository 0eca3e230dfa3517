"""The sorted sets in Valkey or Redis: a projection of the scores in PostgreSQL (RULES 6.7).

What is written are absolute positions with the version of their user, of which the newest wins: so a write may come
twice, late, or in the middle of a rebuild. Whether the sets are complete, they say themselves, by a marker that the
last rebuild left and by the identity of the server: a server that was restarted, emptied or restored is not the one
that was filled.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.ranks import MemberPage, Place, Placement, SegmentKey, Step, member_of
from services.leaderboard.scripts import MARKER, PAGE, PLACE
from shared.ids import digest

_PREFIX: Final = "laurel:{"
_KEYS_PER_SEGMENT: Final = 4
_SCAN_COUNT: Final = 1_000


class Stamp(Struct, frozen=True):
    """What the sets said of themselves in the round trip of an answer, after everything else."""

    marker: str | None
    server: str

    def is_complete(self, expected: str | None) -> bool:
        """Whether the sets hold everything, given the marker that PostgreSQL had before the round trip.

        When a rebuild began between the two, the marker is another or gone.
        """
        return expected is not None and self.marker == expected and expected.endswith(f"/{self.server}")


def marker_of(rebuild_id: str, server: str) -> str:
    """The marker that a rebuild leaves on the server that it filled."""
    return f"{rebuild_id}/{server}"


class Projection:
    """The sorted sets. Failures of the server pass as those of the client (`shared.redis.client.translate`)."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._place: Final = _sha(PLACE)
        self._page: Final = _sha(PAGE)

    async def place(
        self, steps: Sequence[Step], board_of: Callable[[str], Board]
    ) -> tuple[list[Placement], Stamp]:
        """Take the steps and tell what each did; one round trip, one script call for each segment."""
        groups = _by_segment(steps)

        def queue(pipe: Pipeline) -> None:
            for key, indices in groups.items():
                board = board_of(key.board)
                arguments: list[Any] = [board.rank_mode.value, board.participant_limit]
                for index in indices:
                    step = steps[index]
                    arguments += [step.user_id, step.version, step.before or "", step.after or ""]
                pipe.evalsha(self._place, _KEYS_PER_SEGMENT, *keys_of(key), *arguments)

        answers, stamp = await self._run(queue)
        placements: list[Placement | None] = [None] * len(steps)
        for (key, indices), answer in zip(groups.items(), answers, strict=True):
            for index, placement in zip(indices, _placements(board_of(key.board), answer), strict=True):
                placements[index] = placement
        return [one for one in placements if one is not None], stamp

    async def page(
        self, board: Board, key: SegmentKey, first_index: int, count: int
    ) -> tuple[MemberPage, Stamp]:
        """The members from an index (from 0) on."""
        return await self._read(board, key, first_index, count, "")

    async def around(
        self, board: Board, key: SegmentKey, user_id: str, radius: int
    ) -> tuple[MemberPage, Stamp]:
        """The members around a user; none where the user is not one of them."""
        return await self._read(board, key, 0, radius, user_id)

    async def member_counts(self, keys: Sequence[SegmentKey]) -> tuple[list[int], Stamp]:
        """How many members these segments have."""

        def queue(pipe: Pipeline) -> None:
            for key in keys:
                pipe.zcard(keys_of(key)[0])

        answers, stamp = await self._run(queue)
        return answers, stamp

    async def stamp(self) -> Stamp:
        """What the sets say of themselves now."""
        _, stamp = await self._run(_nothing)
        return stamp

    async def drop(self, keys: Iterable[SegmentKey]) -> None:
        """Remove segments, for good."""
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.unlink(*keys_of(key))
        await pipe.execute()

    async def clear(self) -> None:
        """Remove everything, the marker first: from then on nobody takes the sets for complete."""
        await self._client.delete(MARKER)
        async for names in self._scanned():
            await self._client.unlink(*names)

    async def mark(self, marker: str) -> None:
        """Declare the sets complete."""
        await self._client.set(MARKER, marker)

    async def _read(
        self, board: Board, key: SegmentKey, first_index: int, count: int, user_id: str
    ) -> tuple[MemberPage, Stamp]:
        def queue(pipe: Pipeline) -> None:
            pipe.evalsha(
                self._page,
                _KEYS_PER_SEGMENT,
                *keys_of(key),
                board.rank_mode.value,
                str(first_index),
                str(count),
                user_id,
            )

        ((member_count, ordinal, rank, *positions),), stamp = await self._run(queue)
        members = [member_of(board.order, position.decode()) for position in positions]
        return MemberPage(members, _place(ordinal, rank), member_count), stamp

    async def _run(self, queue: Callable[[Pipeline], None]) -> tuple[list[Any], Stamp]:
        """One round trip. The stamp is read last: what it vouches for was done before it."""
        try:
            answers = await self._execute(queue)
        except NoScriptError:  # the server is new: it has forgotten the scripts with all else
            await self._client.script_load(PLACE)
            await self._client.script_load(PAGE)
            answers = await self._execute(queue)
        marker, information = answers[-2:]
        stamp = Stamp(marker.decode() if marker else None, information["run_id"])
        return answers[:-2], stamp

    async def _execute(self, queue: Callable[[Pipeline], None]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        queue(pipe)
        pipe.get(MARKER)
        pipe.info("server")
        answers: list[Any] = await pipe.execute()
        return answers

    async def _scanned(self) -> AsyncIterator[list[bytes | str]]:
        cursor = 0
        while True:
            cursor, names = await self._client.scan(cursor, match=f"{_PREFIX}*", count=_SCAN_COUNT)
            if names:
                yield names
            if cursor == 0:
                return


def keys_of(key: SegmentKey) -> list[str]:
    """The four keys of a segment. What is in braces is the hash tag, so that they share a slot of a cluster."""
    segment = digest(key.segment).hex()[:32] if key.segment else ""
    tag = f"{_PREFIX}{key.board}:{key.run_start.isoformat()}:{segment}}}"
    return [f"{tag}:order", f"{tag}:held", f"{tag}:scores", f"{tag}:counts"]


def _nothing(_pipe: Pipeline) -> None:
    """Queue nothing besides the stamp."""


def _by_segment(steps: Sequence[Step]) -> dict[SegmentKey, list[int]]:
    """The indices of the steps in each segment, in order."""
    groups: dict[SegmentKey, list[int]] = {}
    for index, step in enumerate(steps):
        groups.setdefault(step.key, []).append(index)
    return groups


def _placements(board: Board, answer: Sequence[bytes]) -> list[Placement]:
    """What the script answered for one segment: numbers, five for each move, and, with a limit, positions."""
    numbers, *last_ranked = answer
    values = iter(map(int, numbers.split()))
    members = [member_of(board.order, one.decode()) if one else None for one in last_ranked]
    return [
        Placement(
            _place(before_ordinal, before_rank),
            _place(after_ordinal, after_rank),
            member_count,
            members[index] if members else None,
        )
        for index, (before_ordinal, before_rank, after_ordinal, after_rank, member_count) in enumerate(
            zip(values, values, values, values, values, strict=True)
        )
    ]


def _place(ordinal: int, rank: int) -> Place | None:
    return Place(ordinal, rank) if ordinal else None


def _sha(script: str) -> str:
    """The name by which a server knows a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
