"""RULES 6.7: whichever keys of a board are lost, nothing is silently wrong, and that board alone is filled again."""

import asyncio
import random
from collections.abc import Iterator
from datetime import date

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from services.leaderboard.domain.boards import segment_text
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.projection import MARKER, REGISTRY, keys_of
from shared import faults
from tests.fixtures.participants import apply
from tests.fixtures.waiting import until
from tests.service.leaderboard.conftest import Service, replica
from tests.service.leaderboard.messages import WEEKLY, event, revert, selector, user_update
from tests.service.leaderboard.steps import applied, define, projected, ranking, rebuilt, standings

PERPETUAL = date.min
EU, ASIA = {"region": "EU"}, {"region": "AS"}
ALL_TIME = SegmentKey("all-time", PERPETUAL, "")
DENSE = SegmentKey("dense", PERPETUAL, "")
EUROPE = SegmentKey("dense", PERPETUAL, segment_text(EU))
PATIENCE_SECONDS = 20.0
CANARY = "nobody"
"""A member's field that no event wrote. Who rebuilds the board takes it away."""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


async def three_members(service: Service) -> None:
    """On two boards, of which one has segments."""
    await define(service, "all-time")
    await define(service, "dense", rank_mode=board_pb.RANK_MODE_DENSE, breakdown_attributes=["region"])
    await applied(
        service,
        event(1, 9, user="ada", attributes=EU),
        event(2, 7, user="bob", attributes=EU),
        event(3, 5, user="cyd", attributes=ASIA),
    )
    await until_whole(service)


async def is_rebuilding(service: Service, board: str, segment: dict[str, str] | None = None) -> bool:
    response = await service.stub.ListRankedMembers(
        pb.ListRankedMembersRequest(selector=selector(board, segment))
    )
    return response.rebuilding


async def until_whole(service: Service) -> None:
    async def is_whole() -> bool:
        looks = [("all-time", None), ("dense", None), ("dense", EU), ("dense", ASIA)]
        return not any([await is_rebuilding(service, *look) for look in looks])

    await until(is_whole, seconds=PATIENCE_SECONDS, what="every board is whole")


async def release_canary(service: Service, key: SegmentKey) -> None:
    await service.sets.hset(keys_of(key)[1], CANARY, "1:")


async def canary_lives(service: Service, key: SegmentKey) -> bool:
    return bool(await service.sets.hexists(keys_of(key)[1], CANARY))


async def test_the_next_event_on_a_board_whose_keys_are_gone_has_its_right_rank(service: Service) -> None:
    await three_members(service)
    await service.sets.delete(*keys_of(ALL_TIME))
    standing = next(
        member
        for member in await standings(service, event("late", 4, user="dan"))
        if member.leaderboard == "all-time"
    )
    assert (standing.rank, standing.previous_rank) == (4, 0)
    await until_whole(service)
    assert await ranking(service, "all-time") == [(1, "ada", 9), (2, "bob", 7), (3, "cyd", 5), (4, "dan", 4)]


async def test_a_read_of_a_board_whose_keys_are_gone_says_rebuilding_and_is_right(service: Service) -> None:
    await three_members(service)
    faults.arm("leaderboard.rebuild.before_mark=error@1")
    await service.sets.delete(*keys_of(ALL_TIME))
    response = await service.stub.ListRankedMembers(
        pb.ListRankedMembersRequest(selector=selector("all-time"))
    )
    assert response.rebuilding
    assert [member.user_id for member in response.members] == ["ada", "bob", "cyd"]


async def test_a_board_that_lost_its_keys_is_filled_alone(service: Service) -> None:
    await three_members(service)
    await release_canary(service, DENSE)
    await release_canary(service, ALL_TIME)
    before = await projected(service)
    await service.sets.delete(keys_of(ALL_TIME)[0])
    assert await is_rebuilding(service, "all-time")
    await until_whole(service)
    assert await projected(service) == before
    assert await canary_lives(service, DENSE)
    assert not await canary_lives(service, ALL_TIME)


async def test_the_other_boards_are_answered_from_their_sets_meanwhile(service: Service) -> None:
    await three_members(service)
    faults.arm("leaderboard.rebuild.before_mark=error@1")
    await service.sets.delete(*keys_of(ALL_TIME))
    assert await is_rebuilding(service, "all-time")
    assert not await is_rebuilding(service, "dense")
    assert not await is_rebuilding(service, "dense", EU)


@pytest.mark.parametrize("segment", [DENSE, EUROPE], ids=["the whole board", "a segment"])
@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 2, 3)])
async def test_whichever_key_is_gone_the_next_event_is_right(
    service: Service, segment: SegmentKey, lost: tuple[int, ...]
) -> None:
    await three_members(service)
    before = await projected(service)
    await service.sets.delete(*(keys_of(segment)[number] for number in lost))
    told = await standings(service, event("late", 1, user="bob", minutes=1, attributes=EU))
    assert [(standing.leaderboard, standing.rank) for standing in told] == [
        ("all-time", 2),
        ("dense", 2),
        ("dense", 2),
    ]
    await until_whole(service)
    assert await ranking(service, "dense", EU) == [(1, "ada", 9), (2, "bob", 8)]
    await service.participant.RevertEntries(revert("late", user="bob"))
    assert await projected(service) == before


@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (3,)])
async def test_whichever_key_is_gone_every_read_is_right(service: Service, lost: tuple[int, ...]) -> None:
    await three_members(service)

    async def around() -> list[tuple[int, str]]:
        request = pb.ListMembersAroundRequest(selector=selector("dense", EU), user_id="bob")
        return [
            (member.rank, member.user_id)
            for member in (await service.stub.ListMembersAround(request)).members
        ]

    async def ranks_of_bob() -> list[tuple[str, int]]:
        found = await service.stub.ListUserStandings(pb.ListUserStandingsRequest(user_id="bob"))
        return [(standing.leaderboard, standing.rank) for standing in found.standings]

    async def sizes() -> list[int]:
        found = await service.stub.ListSegments(pb.ListSegmentsRequest(leaderboard="dense"))
        return [segment.member_count for segment in found.segments]

    for read in (around, ranks_of_bob, sizes):
        answer = await read()
        await service.sets.delete(*(keys_of(EUROPE)[number] for number in lost))
        assert await read() == answer
        await until_whole(service)
    assert await around() == [(1, "ada"), (2, "bob")]


async def test_a_new_segment_is_not_taken_for_a_lost_one(service: Service) -> None:
    await three_members(service)
    await release_canary(service, DENSE)
    told = await standings(service, event("far", 1, user="eve", attributes={"region": "SA"}))
    assert [(standing.leaderboard, standing.rank) for standing in told] == [
        ("all-time", 4),
        ("dense", 4),
        ("dense", 1),
    ]
    assert not await is_rebuilding(service, "dense", {"region": "SA"})
    assert not await is_rebuilding(service, "dense", {"region": "NA"})
    assert await canary_lives(service, DENSE)


async def test_a_board_without_members_is_not_taken_for_a_lost_one(service: Service) -> None:
    await define(service, "all-time")
    assert not await is_rebuilding(service, "all-time")
    await applied(service, event(1, 9))
    await service.participant.RevertEntries(revert(1))
    assert not await is_rebuilding(service, "all-time")
    assert await ranking(service, "all-time") == []


async def test_a_fill_that_fails_leaves_a_board_that_nobody_trusts_and_the_next_read_has_it_filled(
    service: Service,
) -> None:
    await three_members(service)
    before = await projected(service)
    faults.arm("leaderboard.rebuild.before_mark=error@1")
    await service.sets.delete(keys_of(ALL_TIME)[1])
    assert await is_rebuilding(service, "all-time")
    async with replica(service.dsn, service.sets_url) as other:
        response = await other.ApplyEntries(apply(event("late", 4, user="bob", minutes=1)))
        assert response.outcomes[0].effects.leaderboards[0].rank == 1
    await until_whole(service)
    await service.participant.RevertEntries(revert("late", user="bob"))
    assert await projected(service) == before


async def test_who_left_a_segment_does_not_come_back_when_it_is_filled(service: Service) -> None:
    await three_members(service)
    faults.arm("leaderboard.apply.after_store=error@1")
    stale = event("stale", 1, user="bob", minutes=1, attributes=EU)
    with pytest.raises(grpc.aio.AioRpcError):
        await applied(service, stale)
    await applied(service, user_update("moves", ASIA, user="bob"))
    await service.sets.delete(keys_of(EUROPE)[0])
    assert await is_rebuilding(service, "dense", EU)
    await until_whole(service)
    await applied(service, stale)
    assert await ranking(service, "dense", EU) == [(1, "ada", 9)]
    assert await ranking(service, "dense", ASIA) == [(1, "bob", 8), (2, "cyd", 5)]


@pytest.mark.parametrize("seed", range(3))
async def test_events_of_several_replicas_go_on_while_keys_are_lost_at_random(
    service: Service, seed: int
) -> None:
    await three_members(service)
    await define(service, "weekly", schedule=WEEKLY)
    draw = random.Random(seed)

    async def lose() -> None:
        for _ in range(12):
            keys = sorted([key async for key in service.sets.scan_iter("laurel:*")])
            if keys:
                await service.sets.delete(draw.choice(keys))
            await is_rebuilding(service, "dense")

    async with (
        replica(service.dsn, service.sets_url) as second,
        replica(service.dsn, service.sets_url) as third,
    ):

        async def events(number: int) -> None:
            stub = (service.participant, second, third)[number]
            for turn in range(25):
                attributes = draw.choice([EU, ASIA, {}])
                command = event(
                    (number, turn),
                    draw.randint(1, 3),
                    user=f"{number}-{draw.randint(0, 5)}",
                    minutes=turn,
                    attributes=attributes,
                    snapshot=turn + 1,
                )
                await stub.ApplyEntries(apply(command))

        await asyncio.gather(*map(events, range(3)), lose())
        await until_whole(service)
        assert not await is_rebuilding(service, "weekly")
        sets = await projected(service)
    await rebuilt(service)
    assert await projected(service) == sets


async def test_each_rank_is_right_whatever_key_was_lost_before_it(service: Service) -> None:
    await three_members(service)
    draw = random.Random(7)
    scores = {"ada": 9, "bob": 7, "cyd": 5}
    for turn in range(40):
        keys = sorted([key async for key in service.sets.scan_iter("laurel:*")])
        await service.sets.delete(draw.choice(keys or [REGISTRY]))
        user, value = draw.choice(["ada", "bob", "cyd", "dan", "eve"]), draw.randint(1, 4)
        scores[user] = scores.get(user, 0) + value
        told = await standings(
            service, event(turn + 10, value, user=user, minutes=turn + 1, attributes=EU, snapshot=1)
        )
        distinct = sorted(set(scores.values()), reverse=True)
        dense = next(standing for standing in told if standing.leaderboard == "dense")
        assert dense.rank == distinct.index(scores[user]) + 1


async def test_the_registry_names_the_segments_that_are_there(service: Service) -> None:
    await three_members(service)
    names = {
        f"laurel:{{{name}}}:order" for name in texts(await service.sets.hkeys(REGISTRY)) if name != MARKER
    }
    assert names == set(await projected(service))


def texts(names: list[bytes | str]) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else name for name in names]
