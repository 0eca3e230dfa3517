"""RULES 6.11: groups against one another, live and from the archive, against a plain recomputation."""

from collections import defaultdict
from random import Random

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from shared.errors import from_rpc_error
from tests.fixtures.paging import pages
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import WEDNESDAY, WEEKLY, event, user_update
from tests.service.leaderboard.steps import applied, define, maintained
from tests.service.leaderboard.test_hidden import exclusion
from tests.service.leaderboard.test_maintenance import DUE

SUM, AVERAGE, BEST = (
    board_pb.GROUP_AGGREGATION_SUM,
    board_pb.GROUP_AGGREGATION_AVERAGE,
    board_pb.GROUP_AGGREGATION_BEST,
)
CITIES = ("London", "New York", "Oslo", "Rome")


async def listed(service: Service) -> list[tuple[int, str, float, int]]:
    """Rank, city, score and members, read in pages of 2."""
    request = pb.ListRankedGroupsRequest(leaderboard="duel", run_date=WEDNESDAY, page_size=2)
    found = await pages(service.stub.ListRankedGroups, request, "groups")
    return [(one.rank, one.segment["city"], one.score, one.member_count) for page in found for one in page]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (board_pb.GroupRanking(aggregation=SUM, least_member_count=2), sum),
        (
            board_pb.GroupRanking(aggregation=AVERAGE, least_member_count=3),
            lambda scores: sum(scores) / len(scores),
        ),
        (
            board_pb.GroupRanking(aggregation=BEST, best_count=2),
            lambda scores: sum(sorted(scores, reverse=True)[:2]),
        ),
    ],
)
@pytest.mark.parametrize("mode", [board_pb.RANK_MODE_ORDINAL, board_pb.RANK_MODE_COMPETITION])
async def test_groups_are_ranked_by_what_their_members_make(
    service: Service, rule: board_pb.GroupRanking, value: object, mode: board_pb.RankMode.ValueType
) -> None:
    assert callable(value)
    await define(service, "duel", schedule=WEEKLY, breakdown_attributes=["city"], groups=rule, rank_mode=mode)
    random = Random(7)
    scores: defaultdict[str, list[int]] = defaultdict(list)
    for number in range(18):
        city = random.choice(CITIES)
        scores[city].append(random.randint(1, 9))
        await applied(service, event(number, scores[city][-1], user=f"u{number}", attributes={"city": city}))
    values = {
        city: value(mine) for city, mine in scores.items() if len(mine) >= max(rule.least_member_count, 1)
    }
    expected = sorted(values.items(), key=lambda item: -item[1])
    for _ in range(2):
        told = await listed(service)
        assert [score for _, _, score, _ in told] == pytest.approx([score for _, score in expected])
        assert {city: members for _, city, _, members in told} == {city: len(scores[city]) for city in values}
        better = [1 + sum(other > values[city] for other in values.values()) for _, city, _, _ in told]
        if mode == board_pb.RANK_MODE_COMPETITION:
            assert [rank for rank, _, _, _ in told] == better
        else:
            assert [rank for rank, _, _, _ in told] == list(range(1, len(told) + 1))
        await maintained(service, DUE)


async def test_who_moves_takes_along_what_they_earned_and_who_is_excluded_earns_nobody_anything(
    service: Service,
) -> None:
    await define(
        service, "duel", schedule=WEEKLY, breakdown_attributes=["city"], groups=board_pb.GroupRanking()
    )
    for user, city, score in (("a", "Oslo", 5), ("b", "Oslo", 2), ("c", "Rome", 6)):
        await applied(service, event(user, score, user=user, attributes={"city": city}))
    assert await listed(service) == [(1, "Oslo", 7, 2), (2, "Rome", 6, 1)]
    await applied(service, user_update("move", {"city": "Rome"}, user="a"))
    assert await listed(service) == [(1, "Rome", 11, 2), (2, "Oslo", 2, 1)]
    await applied(service, exclusion("out", "c", 1))
    assert await listed(service) == [(1, "Rome", 5, 1), (2, "Oslo", 2, 1)]


async def test_a_board_without_groups_is_refused_by_name(service: Service) -> None:
    await define(service, "duel", schedule=WEEKLY, breakdown_attributes=["city"])
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await listed(service)
    assert from_rpc_error(raised.value).reason == "GROUPS_NOT_FOUND"
