"""RULES 6.7: what fills a sorted set from PostgreSQL leaves what events would have left, and nothing newer is lost."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from redis.asyncio import Redis

from services.leaderboard.domain.boards import Board, Order, RankMode, Source, SourceKind
from services.leaderboard.domain.members import Held, held_order, held_position
from services.leaderboard.domain.ranks import GONE, SegmentKey, Step
from services.leaderboard.domain.scores import MAX_SCORE, Score
from services.leaderboard.projection import Projection, keys_of
from services.leaderboard.store import rows
from tests.service.leaderboard.conftest import Service

KEY = SegmentKey("board", date.min, "")
SEEN = """
    SELECT user_id, {position}
      FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS held (user_id, order_score, reach_time)
"""
SCORES = [0, 1, -1, MAX_SCORE, -MAX_SCORE, 10**15, -(10**15)]
TIMES = [
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(2026, 3, 4, 12, 0, 0, 1, UTC),
    datetime(9999, 12, 30, 23, 59, 59, 999_999, UTC),
    datetime(1900, 1, 1, 0, 0, 0, 123_457, UTC),
]


@pytest.fixture
async def sets(valkey_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey_url) as client:
        yield client


@pytest.mark.parametrize("order", Order)
async def test_postgresql_writes_a_position_as_the_domain_does(service: Service, order: Order) -> None:
    draw = random.Random(1)
    held = {
        f"u{number}:{'é' * (number % 3)}": Held(
            "",
            Score(
                draw.choice([*SCORES, draw.randint(-(2**62), 2**62), None]),
                draw.choice([*TIMES, TIMES[2] + timedelta(microseconds=draw.randrange(10**15))]),
            ),
            hidden=draw.random() < 0.1,
        )
        for number in range(500)
    }
    columns = [
        list(held),
        [held_order(order, one) for one in held.values()],
        [one.score.reach_time for one in held.values()],
    ]
    found = await service.database.fetch(SEEN.format(position=rows.POSITION), *columns)
    assert [tuple(row) for row in found] == [
        (user, held_position(order, user, one)) for user, one in held.items()
    ]


@pytest.mark.parametrize("mode", RankMode)
@pytest.mark.parametrize("seed", range(5))
async def test_a_fill_beside_events_leaves_the_newest_of_each_user(
    sets: Redis, mode: RankMode, seed: int
) -> None:
    """In whatever order, and however often: the sets are those of the newest versions, filled by nothing else."""
    draw = random.Random(seed)
    board = Board(KEY.board, Source(SourceKind.METRIC, "m"), rank_mode=mode)
    projection = Projection(sets)

    async def state(key: SegmentKey) -> list[object]:
        order, held, scores, counts = keys_of(key)
        return [
            await sets.zrange(order, 0, -1),
            await sets.hgetall(held),
            await sets.zrange(scores, 0, -1),
            await sets.hgetall(counts),
        ]

    def position(user: str) -> str | None:
        score = draw.randint(0, 5)
        return f"{score:016x}{draw.randint(0, 3):016x}{user}" if draw.random() < 0.8 else None

    newest: dict[str, tuple[int, str | None]] = {}
    users = [f'u"{number}\\:é' for number in range(30)]
    await projection.begin("rebuild", [KEY])
    for _ in range(20):
        chosen = draw.sample(users, 8)
        said = {user: (draw.randint(1, 9), position(user)) for user in chosen}
        for user, (version, place) in said.items():
            if version > newest.get(user, (0, None))[0]:
                newest[user] = version, place
        if draw.random() < 0.5:
            entries = [f"{version}:{place or GONE + user}" for user, (version, place) in said.items()]
            await projection.fill("rebuild", [(KEY, mode, entries)])
        else:
            steps = [Step(KEY, user, version, None, place) for user, (version, place) in said.items()]
            await projection.place(steps, lambda _: board)
    await projection.finish("rebuild", [KEY], lambda _: board)
    other = SegmentKey("other", date.min, "")
    await projection.begin("rebuild", [other])
    steps = [Step(other, user, version, None, place) for user, (version, place) in newest.items()]
    await projection.place(steps, lambda _: board)
    await projection.finish("rebuild", [other], lambda _: board)
    assert await state(KEY) == await state(other)


async def test_a_segment_that_was_lost_in_the_middle_is_filled_by_nobody_and_stays_noticed(
    sets: Redis,
) -> None:
    board = Board(KEY.board, Source(SourceKind.METRIC, "m"))
    projection = Projection(sets)
    await projection.begin("rebuild", [KEY])
    await projection.fill("rebuild", [(KEY, board.rank_mode, ["1:" + "0" * 32 + "ada"])])
    await sets.delete(*keys_of(KEY))
    await projection.place([Step(KEY, "bob", 1, None, "0" * 32 + "bob")], lambda _: board)
    await projection.fill("rebuild", [(KEY, board.rank_mode, ["1:" + "0" * 32 + "cyd"])])
    await projection.finish("rebuild", [KEY], lambda _: board)
    _, stamp = await projection.member_counts(board, [KEY])
    assert stamp.unready == (KEY,)
    assert await sets.zrange(keys_of(KEY)[0], 0, -1) == [b"0" * 32 + b"bob"]
