"""RULES 6.9: one user, friends, statistics and what is shown of members; the same from the sorted sets, from PostgreSQL
and from the archive.
"""

from random import Random
from typing import Any, NamedTuple

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from shared.errors import from_rpc_error
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import WEEKLY, event, selector, user_update
from tests.service.leaderboard.steps import applied, define, maintained
from tests.service.leaderboard.test_maintenance import DUE

SOURCES = ("sorted sets", "PostgreSQL", "archive")
MODES = (board_pb.RANK_MODE_ORDINAL, board_pb.RANK_MODE_COMPETITION, board_pb.RANK_MODE_DENSE)
EU = {"region": "EU", "country": "FR", "plan": "pro"}


class Row(NamedTuple):
    user: str
    score: int
    minute: int


def ordered(rows: list[Row], *, ascending: bool) -> list[Row]:
    return sorted(rows, key=lambda row: (row.score if ascending else -row.score, row.minute, row.user))


def expected_rank(mode: board_pb.RankMode.ValueType, rows: list[Row], index: int) -> int:
    """As the board numbers ties, counted in the most obvious way."""
    better = [row.score for row in rows[:index] if row.score != rows[index].score]
    match mode:
        case board_pb.RANK_MODE_ORDINAL:
            return index + 1
        case board_pb.RANK_MODE_COMPETITION:
            return len(better) + 1
        case _:
            return len(set(better)) + 1


async def told_from(service: Service, source: str) -> None:
    """From here on reads are answered from there."""
    if source == "PostgreSQL":
        await service.sets.flushdb()
    elif source == "archive":
        await maintained(service, DUE)


async def filled(service: Service, seed: int, **fields: Any) -> list[Row]:
    """A weekly board with ties, and its members in order."""
    await define(service, "weekly", schedule=WEEKLY, **fields)
    random = Random(seed)
    rows = [Row(f"u{n}", random.randint(1, 6), random.randint(0, 3)) for n in range(14)]
    await applied(service, *(event(row.user, row.score, user=row.user, minutes=row.minute) for row in rows))
    return ordered(rows, ascending=fields.get("order") == board_pb.SORT_ORDER_ASC)


async def member(service: Service, user: str) -> board_pb.MemberStanding:
    request = pb.GetMemberRequest(selector=selector("weekly"), user_id=user)
    return (await service.stub.GetMember(request)).standing


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [board_pb.SORT_ORDER_DESC, board_pb.SORT_ORDER_ASC])
async def test_a_users_place_says_who_is_next_and_how_far_away(
    service: Service, source: str, mode: board_pb.RankMode.ValueType, order: board_pb.SortOrder.ValueType
) -> None:
    rows = await filled(service, mode + 10 * order, rank_mode=mode, order=order)
    await told_from(service, source)
    for index, row in enumerate(rows):
        told = await member(service, row.user)
        rank = expected_rank(mode, rows, index)
        assert (told.member.rank, told.member.score, told.member.name) == (rank, row.score, row.user.title())
        better = [at for at in range(index) if expected_rank(mode, rows, at) < rank]
        assert told.top_percent == pytest.approx(100 * (len(better) + 1) / len(rows))
        if not better:
            assert not told.HasField("next")
            continue
        before = rows[better[-1]]
        assert (told.next.user_id, told.next.rank) == (before.user, expected_rank(mode, rows, better[-1]))
        assert told.next_distance == abs(before.score - row.score)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("mode", MODES)
async def test_friends_come_best_first_with_their_ranks_among_all(
    service: Service, source: str, mode: board_pb.RankMode.ValueType
) -> None:
    rows = await filled(service, mode, rank_mode=mode, participant_limit=11)
    await told_from(service, source)
    friends = ["u9", "nobody", "u1", "u4", "u13", "u9", "u7"]
    response = await service.stub.BatchGetMembers(
        pb.BatchGetMembersRequest(selector=selector("weekly"), user_ids=friends)
    )
    assert [(one.rank, one.user_id, one.score) for one in response.members] == [
        (expected_rank(mode, rows, index), row.user, row.score)
        for index, row in enumerate(rows[:11])
        if row.user in friends
    ]
    assert response.member_count == 11


@pytest.mark.parametrize("source", SOURCES)
async def test_a_segments_members_are_told_of_the_segment(service: Service, source: str) -> None:
    await define(service, "weekly", schedule=WEEKLY, breakdown_attributes=["region"])
    regions = {"a": "EU", "b": "AS", "c": "EU", "d": "AS"}
    await applied(
        service,
        *(
            event(user, 9 - n, user=user, attributes={"region": regions[user]})
            for n, user in enumerate("abcd")
        ),
    )
    await told_from(service, source)
    chosen = selector("weekly", {"region": "AS"})
    response = await service.stub.BatchGetMembers(
        pb.BatchGetMembersRequest(selector=chosen, user_ids=list("abcd"))
    )
    assert [(one.rank, one.user_id) for one in response.members] == [(1, "b"), (2, "d")]
    statistics = await service.stub.GetRunStatistics(pb.GetRunStatisticsRequest(selector=chosen))
    assert (statistics.statistics.member_count, statistics.statistics.total) == (2, 14)


@pytest.mark.parametrize("source", ["PostgreSQL", "archive"])
@pytest.mark.parametrize("limit", [0, 5])
async def test_statistics_are_of_those_who_are_ranked(service: Service, source: str, limit: int) -> None:
    rows = await filled(service, 7, participant_limit=limit)
    await told_from(service, source)
    scores = sorted(row.score for row in (rows[:limit] if limit else rows))
    response = await service.stub.GetRunStatistics(
        pb.GetRunStatisticsRequest(selector=selector("weekly"), range_count=3)
    )
    told = response.statistics
    assert (told.member_count, told.total) == (len(scores), sum(scores))
    assert told.average == pytest.approx(sum(scores) / len(scores))
    assert (told.lowest, told.median, told.highest) == (scores[0], scores[(len(scores) - 1) // 2], scores[-1])
    width = (scores[-1] - scores[0]) / 3
    starts = [scores[0] + width * number for number in range(3)]
    assert [getattr(score_range, "from") for score_range in told.histogram] == pytest.approx(starts)
    assert [score_range.member_count for score_range in told.histogram] == [
        sum(
            start <= score < start + width or (start == starts[-1] and score == scores[-1])
            for score in scores
        )
        for start in starts
    ]


async def test_statistics_of_equal_scores_have_one_range_and_of_nobody_none(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    request = pb.GetRunStatisticsRequest(selector=selector("weekly"))
    nobody = (await service.stub.GetRunStatistics(request)).statistics
    assert nobody == board_pb.RunStatistics()
    await applied(service, event(1, 4, user="a"), event(2, 4, user="b"))
    told = (await service.stub.GetRunStatistics(request)).statistics
    assert [
        (getattr(score_range, "from"), score_range.to, score_range.member_count)
        for score_range in told.histogram
    ] == [(4, 4, 2)]


async def test_members_are_shown_with_the_attributes_that_the_board_names(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY, profile_attributes=["country", "avatar"])
    await applied(service, event(1, 4, user="a", attributes=EU))
    assert (await member(service, "a")).member.attributes == {"country": "FR"}
    await applied(service, user_update(2, {"country": "IT", "avatar": "cat"}, user="a"))
    page = await service.stub.ListRankedMembers(pb.ListRankedMembersRequest(selector=selector("weekly")))
    assert page.members[0].attributes == {"country": "IT", "avatar": "cat"}


async def test_who_is_beyond_the_limit_or_unknown_has_no_place(service: Service) -> None:
    rows = await filled(service, 3, participant_limit=2)
    for user in (rows[2].user, "nobody"):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await member(service, user)
        assert from_rpc_error(raised.value).reason == "MEMBER_NOT_FOUND"


async def test_a_watcher_hears_at_once_and_then_of_what_has_changed(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    await applied(service, event(1, 4, user="a"))
    watching = service.stub.WatchLeaderboard(
        pb.WatchLeaderboardRequest(
            selector=selector("weekly"), member_count=2, min_interval=Duration(nanos=100_000_000)
        )
    )
    tops = aiter(watching)
    first = await anext(tops)
    assert [(one.rank, one.user_id, one.score) for one in first.members] == [(1, "a", 4)]
    await applied(service, event(2, 9, user="b"))
    second = await anext(tops)
    assert [(one.rank, one.user_id, one.score) for one in second.members] == [(1, "b", 9), (2, "a", 4)]
    watching.cancel()


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetMember", pb.GetMemberRequest(selector=selector("weekly")), "user_id"),
        ("BatchGetMembers", pb.BatchGetMembersRequest(selector=selector("weekly")), "user_ids"),
        (
            "BatchGetMembers",
            pb.BatchGetMembersRequest(selector=selector("weekly"), user_ids=["u"] * 501),
            "user_ids",
        ),
        (
            "BatchGetMembers",
            pb.BatchGetMembersRequest(selector=selector("weekly"), user_ids=["u", ""]),
            "user_ids[1]",
        ),
        (
            "GetRunStatistics",
            pb.GetRunStatisticsRequest(selector=selector("weekly"), range_count=101),
            "range_count",
        ),
    ],
)
async def test_what_is_wrong_with_a_request_is_named(
    service: Service, method: str, request_: Any, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await getattr(service.stub, method)(request_)
    assert [violation.field for violation in from_rpc_error(raised.value).violations] == [field]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.WatchLeaderboardRequest(selector=selector("weekly"), member_count=-1), "member_count"),
        (
            pb.WatchLeaderboardRequest(selector=selector("weekly"), min_interval=Duration(nanos=1_000)),
            "min_interval",
        ),
        (
            pb.WatchLeaderboardRequest(selector=selector("weekly"), min_interval=Duration(seconds=2**40)),
            "min_interval",
        ),
    ],
)
async def test_what_is_wrong_with_a_watchers_wish_is_named(
    service: Service, request_: pb.WatchLeaderboardRequest, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.WatchLeaderboard(request_).read()
    assert [violation.field for violation in from_rpc_error(raised.value).violations] == [field]
