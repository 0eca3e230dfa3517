"""RULES 6.9, over the wire."""

import grpc.aio
import pytest
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from services.leaderboard.store import history
from shared.errors import from_rpc_error
from tests.fixtures.paging import cut, pages
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import NEXT_WEEK, NOON, WEDNESDAY, WEEKLY, event, selector
from tests.service.leaderboard.steps import applied, define, ranking

EU = {"region": "EU"}
ASIA = {"region": "AS"}


async def ten_members(service: Service, **fields: object) -> None:
    await define(service, "all-time", **fields)
    await applied(
        service,
        *(event(n, 10 - n, user=f"u{n}", attributes=EU if n % 2 else ASIA) for n in range(10)),
    )


async def around(service: Service, user: str, radius: int) -> list[tuple[int, str]]:
    response = await service.stub.ListMembersAround(
        pb.ListMembersAroundRequest(selector=selector("all-time"), user_id=user, radius=radius)
    )
    return [(member.rank, member.user_id) for member in response.members]


async def test_pages_follow_each_other_by_rank_with_names_and_times(service: Service) -> None:
    await ten_members(service)
    request = pb.ListRankedMembersRequest(selector=selector("all-time"), page_size=4)
    first = await service.stub.ListRankedMembers(request)
    request.page_token = first.next_page_token
    second = await service.stub.ListRankedMembers(request)
    assert [member.rank for member in [*first.members, *second.members]] == list(range(1, 9))
    assert (first.members[0].name, first.members[0].user_id) == ("U0", "u0")
    assert first.members[0].reach_time.ToDatetime() == NOON.replace(tzinfo=None)
    assert first.member_count == 10
    assert not first.rebuilding


async def test_ties_go_on_over_the_end_of_a_page(service: Service) -> None:
    await define(service, "dense", rank_mode=board_pb.RANK_MODE_DENSE)
    await applied(service, *(event(n, 5 if 1 <= n <= 3 else 9 - n, user=f"u{n}") for n in range(6)))
    assert [rank for rank, _, _ in await ranking(service, "dense")] == [1, 2, 2, 2, 2, 3]


async def test_a_page_token_is_good_for_its_own_list_only(service: Service) -> None:
    await ten_members(service, breakdown_attributes=["region"])
    request = pb.ListRankedMembersRequest(selector=selector("all-time"), page_size=4)
    token = (await service.stub.ListRankedMembers(request)).next_page_token
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.ListRankedMembers(
            pb.ListRankedMembersRequest(selector=selector("all-time", EU), page_token=token)
        )
    assert [violation.field for violation in from_rpc_error(raised.value).violations] == ["page_token"]


async def test_members_around_a_user_are_cut_at_the_ends(service: Service) -> None:
    await ten_members(service)
    assert await around(service, "u5", 2) == [(4, "u3"), (5, "u4"), (6, "u5"), (7, "u6"), (8, "u7")]
    assert await around(service, "u0", 1) == [(1, "u0"), (2, "u1")]
    assert await around(service, "u9", 1) == [(9, "u8"), (10, "u9")]


async def test_beyond_the_participant_limit_nobody_is_listed(service: Service) -> None:
    await ten_members(service, participant_limit=3)
    assert [user for _, user, _ in await ranking(service, "all-time")] == ["u0", "u1", "u2"]
    assert await around(service, "u2", 2) == [(1, "u0"), (2, "u1"), (3, "u2")]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await around(service, "u3", 2)
    assert from_rpc_error(raised.value).reason == "MEMBER_NOT_FOUND"


async def test_a_users_standings_are_told_by_board_and_segment(service: Service) -> None:
    await ten_members(service, breakdown_attributes=["region"])
    await define(service, "weekly", schedule=WEEKLY, participant_limit=1)
    await applied(service, event("w1", 1, user="u3", minutes=1, attributes=EU), event("w2", 5, user="u0"))
    response = await service.stub.ListUserStandings(
        pb.ListUserStandingsRequest(user_id="u3", run_date=WEDNESDAY)
    )
    told = [
        (standing.leaderboard, dict(standing.segment), standing.rank, standing.score)
        for standing in response.standings
    ]
    assert told == [("all-time", {}, 4, 8), ("all-time", EU, 2, 8), ("weekly", {}, 0, 8)]
    assert response.standings[2].threshold == 15


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
async def test_a_users_standings_come_by_board_and_segment_in_pages(service: Service, size: int) -> None:
    for key in ("c", "a", "b"):
        await define(service, key, breakdown_attributes=["region"])
    await applied(service, event(1, 5, attributes=EU), event(2, 7, user="bob", attributes=EU))
    request = pb.ListUserStandingsRequest(user_id="ada", run_date=WEDNESDAY, page_size=size)
    found = await pages(service.stub.ListUserStandings, request, "standings")
    told = [[(one.leaderboard, dict(one.segment), one.user_id) for one in page] for page in found]
    assert told == cut([(key, segment, "ada") for key in "abc" for segment in ({}, EU)], size)


async def test_a_token_of_one_users_standings_is_none_of_anothers(service: Service) -> None:
    await ten_members(service, breakdown_attributes=["region"])
    page = pb.ListUserStandingsRequest(user_id="u1", run_date=WEDNESDAY, page_size=1)
    token = (await service.stub.ListUserStandings(page)).next_page_token
    for other in (
        pb.ListUserStandingsRequest(user_id="u2", run_date=WEDNESDAY, page_token=token),
        pb.ListUserStandingsRequest(user_id="u1", run_date=NEXT_WEEK, page_token=token),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.stub.ListUserStandings(other)
        assert [violation.field for violation in from_rpc_error(raised.value).violations] == ["page_token"]


async def test_a_user_without_scores_has_no_standings(service: Service) -> None:
    await ten_members(service)
    response = await service.stub.ListUserStandings(pb.ListUserStandingsRequest(user_id="nobody"))
    assert not response.standings


async def test_segments_are_listed_with_the_whole_board_first(service: Service) -> None:
    await ten_members(service, breakdown_attributes=["region"])
    first = await service.stub.ListSegments(pb.ListSegmentsRequest(leaderboard="all-time", page_size=2))
    second = await service.stub.ListSegments(
        pb.ListSegmentsRequest(leaderboard="all-time", page_size=2, page_token=first.next_page_token)
    )
    told = [(dict(segment.segment), segment.member_count) for segment in [*first.segments, *second.segments]]
    assert told == [({}, 10), (ASIA, 5), (EU, 5)]
    assert not second.next_page_token


async def test_segments_are_counted_from_the_truth_while_the_sets_are_empty(service: Service) -> None:
    await ten_members(service, breakdown_attributes=["region"])
    await service.sets.flushdb()
    response = await service.stub.ListSegments(pb.ListSegmentsRequest(leaderboard="all-time"))
    assert [segment.member_count for segment in response.segments] == [10, 5, 5]


async def test_rank_events_are_listed_newest_first_in_pages(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "weekly", schedule=WEEKLY)
    for number in range(2):
        await applied(
            service,
            event(("a", number), 2, minutes=2 * number),
            event(("b", number), 3, user="bob", minutes=2 * number + 1),
        )
    found = []
    request = pb.ListRankEventsRequest(user_id="ada", page_size=3)
    while True:
        response = await service.stub.ListRankEvents(request)
        found += [(one.leaderboard, one.previous_rank, one.rank, one.score) for one in response.rank_events]
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    assert found == [("weekly", 2, 1, 4), ("all-time", 2, 1, 4), ("weekly", 0, 1, 2), ("all-time", 0, 1, 2)]
    of_one_board = await service.stub.ListRankEvents(
        pb.ListRankEventsRequest(user_id="ada", leaderboard="weekly")
    )
    assert [(one.previous_rank, one.rank) for one in of_one_board.rank_events] == [(2, 1), (0, 1)]


async def test_an_entry_has_one_row_in_the_rank_history_and_rows_of_older_releases_are_read_alike(
    service: Service,
) -> None:
    await define(service, "all-time", breakdown_attributes=["region"])
    await define(service, "weekly", schedule=WEEKLY)
    await applied(service, event(1, 2, attributes=EU), event(2, 3, minutes=1, attributes=EU, user="bob"))
    await applied(service, event(3, 2, minutes=2, attributes=EU))
    assert await service.database.fetchval("SELECT count(*) FROM rank_events") == 3
    changes = await service.stub.ListRankEvents(pb.ListRankEventsRequest(user_id="ada"))
    assert len(changes.rank_events) == 6
    await service.database.execute(
        f"""
        INSERT INTO rank_events (user_id, change_time, entry_id, board, run_start, segment, previous_rank, rank, score)
        SELECT user_id, change_time, entry_id, change.* FROM {history.CHANGES}
         WHERE (change.board, change.segment) <> (event.board, event.segment)
        """
    )
    await service.database.execute("UPDATE rank_events SET others = NULL")
    assert await service.database.fetchval("SELECT count(*) FROM rank_events") == 9
    assert await service.stub.ListRankEvents(pb.ListRankEventsRequest(user_id="ada")) == changes


async def test_an_empty_run_has_no_members_but_dates(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    response = await service.stub.ListRankedMembers(
        pb.ListRankedMembersRequest(selector=selector("weekly", day=NEXT_WEEK))
    )
    assert not response.members
    assert (response.run.start_date.day, response.run.end_date.day) == (9, 15)
    assert response.run.HasField("finalize_time")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (selector("unknown"), "LEADERBOARD_NOT_FOUND"),
        (selector("all-time", EU), "SEGMENT_NOT_FOUND"),
        (selector("limited", day=NEXT_WEEK), "RUN_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_said_by_name(
    service: Service, wanted: pb.SegmentSelector, reason: str
) -> None:
    await define(service, "all-time")
    await define(service, "limited", schedule=board_pb.RunSchedule(end_date=WEDNESDAY))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.ListRankedMembers(pb.ListRankedMembersRequest(selector=wanted))
    error = from_rpc_error(raised.value)
    assert (raised.value.code(), error.reason) == (grpc.StatusCode.NOT_FOUND, reason)
    assert error.domain == "leaderboard.laurel"


async def test_every_mistake_of_a_request_is_named_at_once(service: Service) -> None:
    request = pb.ListMembersAroundRequest(
        selector=pb.SegmentSelector(
            leaderboard="No Key",
            segment={"": "x"},
            run_date=date_pb2.LocalDate(year=2026, month=2, day=30),
        ),
        radius=101,
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.ListMembersAround(request)
    fields = {violation.field for violation in from_rpc_error(raised.value).violations}
    assert fields == {
        "selector.leaderboard",
        "selector.segment['']",
        "selector.run_date",
        "user_id",
        "radius",
    }


async def test_today_is_the_default_run(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    now = await service.database.fetchval("SELECT now()")
    await applied(service, event(1, 5, at=now))
    response = await service.stub.ListRankedMembers(
        pb.ListRankedMembersRequest(selector=pb.SegmentSelector(leaderboard="weekly"))
    )
    assert [member.user_id for member in response.members] == ["ada"]
