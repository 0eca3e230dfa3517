"""The sorted sets in Valkey or Redis: a projection of the scores in PostgreSQL (RULES 6.7).

What is written are absolute positions with the version of their user, of which the newest wins: so a write may come
twice, late, or in the middle of a rebuild. Whether the sets are complete, they say themselves, in three ways:

* by a marker that the last rebuild left and by the identities of the servers that it filled: one that was restarted,
  emptied or restored, or took over from another, is none of them;
* the keys of each segment by whether they belong together (`scripts`): so one that is gone is noticed;
* by the register of the segments that were made, which is a hash with the marker in it: so a segment that is gone
  whole is no new one, and with the register the marker would be gone.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, json
from msgspec.structs import replace
from redis.asyncio import Redis, RedisCluster

from services.leaderboard.domain.boards import Board, RankMode
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
    FILL,
    FILLING,
    FINISH,
    FORGET,
    MARK,
    MEMBERS,
    PAGE,
    PLACE,
    WHOLE,
)
from services.leaderboard.servers import Command, evaluation, run_with_scripts, servers_of
from shared.ids import digest

REGISTRY: Final = "laurel:segments"
"""The hash of all segments that were made, by their tags; and, under no tag, the marker of complete sets."""

MARKER: Final = ""
"""The field of the register in which the marker is."""

_BETWEEN_POSITIONS: Final = "\0"
_PREFIX: Final = "laurel:{"
_SCAN_COUNT: Final = 1_000
_SCRIPTS: Final = (PLACE, PAGE, MEMBERS, BEGIN, FILL, FINISH, MARK, FORGET)


class Stamp(Struct, frozen=True):
    """What the sets said of themselves in the round trip of an answer, after everything else."""

    marker: str | None
    servers: frozenset[str]
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
        if expected is None or self.marker != expected:
            return False
        return self.servers <= servers_in(expected)


def marker_of(rebuild_id: str, servers: Iterable[str]) -> str:
    """The marker that a rebuild leaves, with the servers that it filled."""
    return f"{rebuild_id}/{','.join(sorted(servers))}"


def servers_in(marker: str) -> frozenset[str]:
    """The servers that were filled when the marker was left."""
    return frozenset(marker.rpartition("/")[2].split(","))


class _Told(Struct, frozen=True):
    """What a script that reads answered: numbers, the first of which is the state, and positions."""

    numbers: Sequence[int]
    positions: Sequence[str]

    @classmethod
    def of(cls, answer: Sequence[bytes]) -> "_Told":
        numbers, positions = answer
        return cls(
            list(map(int, numbers.split())), positions.decode().split(_BETWEEN_POSITIONS) if positions else []
        )


class Projection:
    """The sorted sets. Failures of the server pass as those of the client (`shared.redis.client.translate`)."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client = client
        self._servers = servers_of(client)
        self._place: Final = _sha(PLACE)
        self._page: Final = _sha(PAGE)
        self._members: Final = _sha(MEMBERS)
        self._begin: Final = _sha(BEGIN)
        self._fill: Final = _sha(FILL)
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
        (told,), stamp = await self._asked(self._members, arguments, [key])
        _, member_count, *numbers = told.numbers
        found = [
            MemberPlace(member_of(board.order, position), Place(ordinal, rank), better_count)
            for position, ordinal, rank, better_count in zip(
                told.positions, *[iter(numbers)] * 3, strict=True
            )
        ]
        return found, member_count, stamp

    async def member_counts(self, board: Board, keys: Sequence[SegmentKey]) -> tuple[list[int], Stamp]:
        """How many members these segments of a board have."""
        told, stamp = await self._pages(board, keys, 0, 0, "")
        return [one.numbers[1] for one in told], stamp

    async def positions(self, key: SegmentKey, after: bytes | None, last: bytes | None) -> list[bytes]:
        """What the sorted set of a segment has behind a position, up to another. None: from the first, to the last."""
        order, *_ = keys_of(key)
        low = b"-" if after is None else b"(" + after
        high = b"+" if last is None else b"[" + last
        found: list[bytes]
        (found,) = (await self._servers.run([Command(order, ("ZRANGEBYLEX", order, low, high))])).values
        return found

    async def memory_bytes(self, key: SegmentKey) -> int:
        """What a segment takes, as the server estimates it from a sample."""
        commands = [Command(name, ("MEMORY USAGE", name)) for name in keys_of(key)]
        return sum(size or 0 for size in (await self._servers.run(commands)).values)

    async def stamp(self) -> Stamp:
        """What the sets say of themselves now."""
        _, stamp, _ = await self._run([], ())
        return replace(stamp, servers=await self._servers.identities())

    async def drop(self, keys: Iterable[SegmentKey]) -> None:
        """Remove segments, for good. First from the register, so that nobody takes them for lost."""
        gone = list(keys)
        await self._servers.run([Command(REGISTRY, ("HDEL", REGISTRY, _tag(key))) for key in gone])
        await self._servers.run([_unlinking(keys_of(key)) for key in gone])

    async def holding(self, user_id: str) -> list[str]:
        """The tags of all segments that have heard of a user, some thousand at a time."""
        found: list[str] = []
        tags: list[str] = []
        async for name, _ in self._client.hscan_iter(REGISTRY, count=_SCAN_COUNT):
            if (tag := _text(name)) != MARKER:
                tags.append(tag)
            if len(tags) == _SCAN_COUNT:
                found += await self._holding(user_id, tags)
                tags = []
        return found + await self._holding(user_id, tags)

    async def _holding(self, user_id: str, tags: Sequence[str]) -> list[str]:
        commands = [Command(name, ("HEXISTS", name, user_id)) for name in (_keys_of(tag)[1] for tag in tags)]
        answers = (await self._servers.run(commands)).values
        return [tag for tag, is_held in zip(tags, answers, strict=True) if is_held]

    async def forget(self, user_id: str) -> int:
        """Nothing of a user is left in any segment; in how many there was something."""
        tags = await self.holding(user_id)
        commands = [evaluation(self._forget, _keys_of(tag), [user_id]) for tag in tags]
        answers, _, _ = await self._run(commands, ())
        return sum(map(int, answers))

    async def clear(self) -> None:
        """Remove everything, the marker first: from then on nobody takes the sets for complete."""
        await self._servers.run([Command(REGISTRY, ("DEL", REGISTRY))])
        async for names in self._servers.scanned(f"{_PREFIX}*", _SCAN_COUNT):
            await self._servers.run([_unlinking([name.decode()]) for name in names])

    async def begin(self, rebuild_id: str, keys: Sequence[SegmentKey]) -> None:
        """Empty these segments, which are to be filled: they take what is written, and say that they lack something."""
        registered = [Command(REGISTRY, ("HSET", REGISTRY, _tag(key), "")) for key in keys]
        await self._servers.run(registered)
        await self._run([evaluation(self._begin, keys_of(key), [rebuild_id]) for key in keys], ())

    async def fill(
        self, rebuild_id: str, parts: Iterable[tuple[SegmentKey, RankMode, Sequence[str]]]
    ) -> None:
        """Take in what a rebuild reads, of each segment some thousand entries at a time (`scripts.FILL`). One round
        trip.
        """
        await self._run(
            [
                evaluation(self._fill, keys_of(key), [mode.value, rebuild_id, json.encode(entries)])
                for key, mode, entries in parts
            ],
            (),
        )

    async def finish(
        self, rebuild_id: str, keys: Sequence[SegmentKey], board_of: Callable[[str], Board]
    ) -> None:
        """Declare these segments filled. Those that were lost again since they were begun say so as before."""
        modes = [board_of(key.board).rank_mode.value for key in keys]
        await self._run(
            [
                evaluation(self._finish, keys_of(key), [mode, rebuild_id])
                for key, mode in zip(keys, modes, strict=True)
            ],
            (),
        )

    async def mark(self, old: str | None, new: str) -> bool:
        """Replace the marker, unless it is no more the old one, and with it the register. Whoever has read another than
        the new one does not take the sets for complete.
        """
        (done,), _, _ = await self._run([evaluation(self._mark, [REGISTRY], [old or "", new])], ())
        return bool(done)

    async def _placed(
        self,
        groups: Mapping[SegmentKey, Sequence[int]],
        steps: Sequence[Step],
        board_of: Callable[[str], Board],
        how_to_make: Mapping[SegmentKey, str],
    ) -> tuple[dict[SegmentKey, Any], Stamp]:
        """What the script answered for each segment."""
        commands = []
        for key, indices in groups.items():
            board = board_of(key.board)
            makes = how_to_make.get(key, "")
            moves: list[str] = []
            for index in indices:
                step = steps[index]
                # A version is no number there: beyond 2^53 those are not exact.
                moves += (step.user_id, str(step.version), step.before or "", step.after or "")
            arguments = [board.rank_mode.value, board.participant_limit, makes, json.encode(moves)]
            commands.append(evaluation(self._place, keys_of(key), arguments))
        answers, stamp, _ = await self._run(commands, ())
        return dict(zip(groups, answers, strict=True)), stamp

    async def _registered(self, keys: Sequence[SegmentKey]) -> dict[SegmentKey, str]:
        """How to make these segments: those are new that nobody had registered. They are registered before they are
        made, so none is there that would not be missed.
        """
        commands = [Command(REGISTRY, ("HSETNX", REGISTRY, _tag(key), "")) for key in keys]
        answers = (await self._servers.run(commands)).values
        return {key: AS_NEW if is_new else AS_LOST for key, is_new in zip(keys, answers, strict=True)}

    async def _read(
        self, board: Board, key: SegmentKey, first_index: int, count: int, user_id: str
    ) -> tuple[MemberPage, Stamp]:
        (told,), stamp = await self._pages(board, [key], first_index, count, user_id)
        _, member_count, ordinal, rank = told.numbers
        members = [member_of(board.order, position) for position in told.positions]
        return MemberPage(members, _place(ordinal, rank), member_count), stamp

    async def _pages(
        self, board: Board, keys: Sequence[SegmentKey], first_index: int, count: int, user_id: str
    ) -> tuple[list["_Told"], Stamp]:
        """What the script of pages answered for each segment."""
        arguments = [board.rank_mode.value, str(first_index), str(count), user_id]
        return await self._asked(self._page, arguments, keys)

    async def _asked(
        self, script: str, arguments: Sequence[str], keys: Sequence[SegmentKey]
    ) -> tuple[list["_Told"], Stamp]:
        """What a script that reads answered for each segment. One that is not there, and not registered, never was."""
        commands = [evaluation(script, keys_of(key), arguments) for key in keys]
        answers, stamp, registered = await self._run(commands, keys)
        told = [_Told.of(answer) for answer in answers]
        states = {
            key: WHOLE if one.numbers[0] == ABSENT and not is_registered else one.numbers[0]
            for key, one, is_registered in zip(keys, told, registered, strict=True)
        }
        return told, _noted(stamp, states)

    async def _run(
        self, commands: Sequence[Command], keys: Sequence[SegmentKey]
    ) -> tuple[list[Any], Stamp, list[bool]]:
        """What the commands answered; and which of `keys` are registered. The register is read last: what the stamp
        vouches for was done before it.
        """
        last = Command(REGISTRY, ("HMGET", REGISTRY, MARKER, *map(_tag, keys)))
        told = await run_with_scripts(self._servers, _SCRIPTS, commands, last)
        *answers, (marker, *registered) = told.values
        stamp = Stamp(None if marker is None else marker.decode(), told.servers)
        return answers, stamp, [one is not None for one in registered]


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


def _unlinking(names: Sequence[str]) -> Command:
    """Remove keys of one segment, or one key."""
    return Command(names[0], ("UNLINK", *names))


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
