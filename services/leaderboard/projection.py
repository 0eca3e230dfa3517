"""The sorted sets in Valkey or Redis: a projection of the scores in PostgreSQL (RULES 6.7).

What is written are absolute positions with the version of their user, of which the newest wins: so a write may come
twice, late, or in the middle of a rebuild. Whether the sets are complete, they say themselves, in three ways:

* by a marker that the last rebuild left and by the identity of the server: a server that was restarted, emptied or
  restored is not the one that was filled;
* the keys of each segment by whether they belong together (`scripts`): so one that is gone is noticed;
* by the register of the segments that were made, which is a hash with the marker in it: so a segment that is gone
  whole is no new one, and with the register the marker would be gone.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.ranks import (
    LOOK_ONLY,
    MemberPage,
    MemberPlace,
    Place,
    Placement,
    SegmentKey,
    Step,
    member_of,
)
from services.leaderboard.scripts import (
    ABSENT,
    AS_LOST,
    AS_NEW,
    BEGIN,
    FILLING,
    FINISH,
    FORGET,
    MARK,
    MEMBERS,
    PAGE,
    PLACE,
    WHOLE,
)
from shared.ids import digest

REGISTRY: Final = "laurel:segments"
"""The hash of all segments that were made, by their tags; and, under no tag, the marker of complete sets."""

MARKER: Final = ""
"""The field of the register in which the marker is."""

_PREFIX: Final = "laurel:{"
_KEYS_PER_SEGMENT: Final = 4
_SCAN_COUNT: Final = 1_000
_SERVER: Final = "INFO SERVER"
"""The client has a parser for INFO, which takes apart what nobody reads, and none for this: it sends the same."""
_SERVER_ID: Final = b"run_id:"


class Stamp(Struct, frozen=True):
    """What the sets said of themselves in the round trip of an answer, after everything else."""

    marker: str | None
    server: str
    unready: tuple[SegmentKey, ...] = ()
    """Of the segments that were asked for, those of which something is gone, or which are being filled."""

    def is_complete(self, expected: str | None) -> bool:
        """Whether the sets hold everything that was asked for, given the marker that PostgreSQL had before the round
        trip.

        When a rebuild began between the two, the marker is another or gone.
        """
        return self.is_of(expected) and not self.unready

    def is_of(self, expected: str | None) -> bool:
        """Whether these are the sets that the last rebuild filled, whatever has become of single segments."""
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
        self._members: Final = _sha(MEMBERS)
        self._begin: Final = _sha(BEGIN)
        self._finish: Final = _sha(FINISH)
        self._mark: Final = _sha(MARK)
        self._forget: Final = _sha(FORGET)

    async def place(
        self, steps: Sequence[Step], board_of: Callable[[str], Board]
    ) -> tuple[list[Placement], Stamp]:
        """Take the steps and tell what each did; one round trip, one script call for each segment.

        A segment that is not there is made, which takes two more: whole where it is new, else still to be filled, so
        that what is written is there and nobody takes it for all. Where a part of a segment is gone nothing is changed
        and nothing told: without placements, the stamp says where.
        """
        groups = _by_segment(steps)
        answers, stamp = await self._placed(groups, steps, board_of, {})
        absent = [
            key
            for key, answer in answers.items()
            if int(answer[0][:1]) == ABSENT and _brings_somebody(steps, groups[key])
        ]
        if absent:
            how = await self._registered(absent)
            made, stamp = await self._placed({key: groups[key] for key in absent}, steps, board_of, how)
            answers |= made
        states = {key: int(answer[0][:1]) for key, answer in answers.items()}
        stamp = _noted(stamp, states)
        if any(state > FILLING for state in states.values()):
            return [], stamp
        placements: list[Placement | None] = [None] * len(steps)
        for key, indices in groups.items():
            for index, placement in zip(indices, _placements(board_of(key.board), answers[key]), strict=True):
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

    async def members(
        self, board: Board, key: SegmentKey, user_ids: Sequence[str]
    ) -> tuple[list[MemberPlace], int, Stamp]:
        """The places of those of these users who are members, in their order, and how many members there are."""
        arguments = [board.rank_mode.value, *user_ids]
        ((_, member_count, *told),), stamp = await self._asked(self._members, arguments, [key])
        found = [
            MemberPlace(member_of(board.order, position.decode()), Place(ordinal, rank), better_count)
            for position, ordinal, rank, better_count in zip(*[iter(told)] * 4, strict=True)
        ]
        return found, member_count, stamp

    async def member_counts(self, board: Board, keys: Sequence[SegmentKey]) -> tuple[list[int], Stamp]:
        """How many members these segments of a board have."""
        answers, stamp = await self._pages(board, keys, 0, 0, "")
        return [answer[1] for answer in answers], stamp

    async def positions(self, key: SegmentKey) -> set[str]:
        """All that the sorted set of a segment has, some thousand at a time."""
        order, *_ = keys_of(key)
        positions: set[str] = set()
        async for member, _ in self._client.zscan_iter(order, count=_SCAN_COUNT):
            positions.add(member.decode())
        return positions

    async def memory_bytes(self, key: SegmentKey) -> int:
        """What a segment takes, as the server estimates it from a sample."""
        pipe = self._client.pipeline(transaction=False)
        for name in keys_of(key):
            pipe.memory_usage(name)
        return sum(size or 0 for size in await pipe.execute())

    async def stamp(self) -> Stamp:
        """What the sets say of themselves now."""
        _, stamp, _ = await self._run(_nothing, ())
        return stamp

    async def drop(self, keys: Iterable[SegmentKey]) -> None:
        """Remove segments, for good. First from the register, so that nobody takes them for lost."""
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.hdel(REGISTRY, _tag(key))
            pipe.unlink(*keys_of(key))
        await pipe.execute()

    async def holding(self, user_id: str) -> list[str]:
        """The tags of all segments that have heard of a user, some thousand at a time."""
        found: list[str] = []
        cursor = 0
        while True:
            cursor, registered = await self._client.hscan(REGISTRY, cursor, count=_SCAN_COUNT)
            tags = [tag for name in registered if (tag := _text(name)) != MARKER]
            pipe = self._client.pipeline(transaction=False)
            for tag in tags:
                pipe.hexists(_keys_of(tag)[1], user_id)
            if tags:
                found += [tag for tag, is_held in zip(tags, await pipe.execute(), strict=True) if is_held]
            if cursor == 0:
                return found

    async def forget(self, user_id: str) -> int:
        """Nothing of a user is left in any segment; in how many there was something."""
        tags = await self.holding(user_id)

        def queue(pipe: Pipeline) -> None:
            for tag in tags:
                pipe.evalsha(self._forget, _KEYS_PER_SEGMENT, *_keys_of(tag), user_id)

        answers, _, _ = await self._run(queue, ())
        return sum(map(int, answers))

    async def clear(self) -> None:
        """Remove everything, the marker first: from then on nobody takes the sets for complete."""
        await self._client.delete(REGISTRY)
        async for names in self._scanned():
            await self._client.unlink(*names)

    async def begin(self, rebuild_id: str, keys: Sequence[SegmentKey]) -> None:
        """Empty these segments, which are to be filled: they take what is written, and say that they lack something."""

        def queue(pipe: Pipeline) -> None:
            for key in keys:
                pipe.hset(REGISTRY, _tag(key), "")
                pipe.evalsha(self._begin, _KEYS_PER_SEGMENT, *keys_of(key), rebuild_id)

        await self._run(queue, ())

    async def finish(
        self, rebuild_id: str, keys: Sequence[SegmentKey], board_of: Callable[[str], Board]
    ) -> None:
        """Declare these segments filled. Those that were lost again since they were begun say so as before."""

        def queue(pipe: Pipeline) -> None:
            for key in keys:
                mode = board_of(key.board).rank_mode.value
                pipe.evalsha(self._finish, _KEYS_PER_SEGMENT, *keys_of(key), mode, rebuild_id)

        await self._run(queue, ())

    async def mark(self, old: str | None, new: str) -> bool:
        """Replace the marker, unless it is no more the old one, and with it the register. Whoever has read another than
        the new one does not take the sets for complete.
        """

        def queue(pipe: Pipeline) -> None:
            pipe.evalsha(self._mark, 1, REGISTRY, old or "", new)

        (done,), _, _ = await self._run(queue, ())
        return bool(done)

    async def _placed(
        self,
        groups: Mapping[SegmentKey, Sequence[int]],
        steps: Sequence[Step],
        board_of: Callable[[str], Board],
        how_to_make: Mapping[SegmentKey, str],
    ) -> tuple[dict[SegmentKey, Any], Stamp]:
        """What the script answered for each segment."""

        def queue(pipe: Pipeline) -> None:
            for key, indices in groups.items():
                board = board_of(key.board)
                makes = how_to_make.get(key, "")
                arguments: list[Any] = [board.rank_mode.value, board.participant_limit, makes]
                for index in indices:
                    step = steps[index]
                    arguments += [step.user_id, step.version, step.before or "", step.after or ""]
                pipe.evalsha(self._place, _KEYS_PER_SEGMENT, *keys_of(key), *arguments)

        answers, stamp, _ = await self._run(queue, ())
        return dict(zip(groups, answers, strict=True)), stamp

    async def _registered(self, keys: Sequence[SegmentKey]) -> dict[SegmentKey, str]:
        """How to make these segments: those are new that nobody had registered. They are registered before they are
        made, so none is there that would not be missed.
        """
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.hsetnx(REGISTRY, _tag(key), "")
        answers = await pipe.execute()
        return {key: AS_NEW if is_new else AS_LOST for key, is_new in zip(keys, answers, strict=True)}

    async def _read(
        self, board: Board, key: SegmentKey, first_index: int, count: int, user_id: str
    ) -> tuple[MemberPage, Stamp]:
        ((_, member_count, ordinal, rank, *positions),), stamp = await self._pages(
            board, [key], first_index, count, user_id
        )
        members = [member_of(board.order, position.decode()) for position in positions]
        return MemberPage(members, _place(ordinal, rank), member_count), stamp

    async def _pages(
        self, board: Board, keys: Sequence[SegmentKey], first_index: int, count: int, user_id: str
    ) -> tuple[list[Any], Stamp]:
        """What the script of pages answered for each segment."""
        arguments = [board.rank_mode.value, str(first_index), str(count), user_id]
        return await self._asked(self._page, arguments, keys)

    async def _asked(
        self, script: str, arguments: Sequence[str], keys: Sequence[SegmentKey]
    ) -> tuple[list[Any], Stamp]:
        """What a script that reads answered for each segment. One that is not there, and not registered, never was."""

        def queue(pipe: Pipeline) -> None:
            for key in keys:
                pipe.evalsha(script, _KEYS_PER_SEGMENT, *keys_of(key), *arguments)

        answers, stamp, registered = await self._run(queue, keys)
        states = {
            key: WHOLE if state == ABSENT and not is_registered else state
            for key, (state, *_), is_registered in zip(keys, answers, registered, strict=True)
        }
        return answers, _noted(stamp, states)

    async def _run(
        self, queue: Callable[[Pipeline], None], keys: Sequence[SegmentKey]
    ) -> tuple[list[Any], Stamp, list[bool]]:
        """One round trip; and which of `keys` are registered. The stamp is read last: what it vouches for was done
        before it.
        """
        try:
            answers = await self._execute(queue, keys)
        except NoScriptError:  # the server is new: it has forgotten the scripts with all else
            for script in (PLACE, PAGE, MEMBERS, BEGIN, FINISH, MARK, FORGET):
                await self._client.script_load(script)
            answers = await self._execute(queue, keys)
        (marker, *registered), information = answers[-2:]
        server = information.partition(_SERVER_ID)[2].split(maxsplit=1)[0].decode()
        stamp = Stamp(None if marker is None else marker.decode(), server)
        return answers[:-2], stamp, [one is not None for one in registered]

    async def _execute(self, queue: Callable[[Pipeline], None], keys: Sequence[SegmentKey]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        queue(pipe)
        pipe.hmget(REGISTRY, MARKER, *map(_tag, keys))
        pipe.execute_command(_SERVER)
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
    return _keys_of(_tag(key))


def _keys_of(tag: str) -> list[str]:
    name = f"laurel:{{{tag}}}"
    return [f"{name}:order", f"{name}:held", f"{name}:scores", f"{name}:counts"]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _tag(key: SegmentKey) -> str:
    """What names a segment."""
    segment = digest(key.segment).hex()[:32] if key.segment else ""
    return f"{key.board}:{key.run_start.isoformat()}:{segment}"


def _nothing(_pipe: Pipeline) -> None:
    """Queue nothing besides the stamp."""


def _noted(stamp: Stamp, states: Mapping[SegmentKey, int]) -> Stamp:
    """The stamp, with the segments that are not whole."""
    unready = tuple(key for key, state in states.items() if state != WHOLE)
    return replace(stamp, unready=unready) if unready else stamp


def _brings_somebody(steps: Sequence[Step], indices: Iterable[int]) -> bool:
    """Whether any of these steps sets something: who only looks does so where something should be."""
    return any(steps[index].version != LOOK_ONLY for index in indices)


def _by_segment(steps: Sequence[Step]) -> dict[SegmentKey, list[int]]:
    """The indices of the steps in each segment, in order."""
    groups: dict[SegmentKey, list[int]] = {}
    for index, step in enumerate(steps):
        groups.setdefault(step.key, []).append(index)
    return groups


def _placements(board: Board, answer: Sequence[bytes]) -> list[Placement]:
    """What the script answered for one segment: its state, five numbers for each move, and, with a limit, positions."""
    numbers, *last_ranked = answer
    _state, *values_of_moves = map(int, numbers.split())
    values = iter(values_of_moves)
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
