"""RULES 6.13: who is excluded, or not one of those whom a board is for, is ranked nowhere and pushes nobody down."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from laurel.common.v1.filter_pb2 import AttributeFilter
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.fixtures import participants
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import (
    NEXT_WEEK,
    NOON,
    WEEKLY,
    entry,
    event,
    revert,
    selector,
    user_update,
)
from tests.service.leaderboard.steps import applied, define, maintained, ranking, rebuilt, standings
from tests.service.leaderboard.test_maintenance import DUE

EU = {"region": "EU"}
PRO = [AttributeFilter(attribute="plan", equals="pro")]


def exclusion(
    name: object, user: str, sequence: int, *, board: str = "", excluded: bool = True, at: datetime = NOON
) -> participant_pb.Command:
    message = entry(name, user=user, at=at)
    message.user_sequence = sequence
    message.board_exclusion.leaderboard = board
    message.board_exclusion.excluded = excluded
    return participants.command(message)


async def three(service: Service) -> None:
    """a, b and c on an all-time and a weekly board, in this order."""
    await define(service, "all-time", breakdown_attributes=["region"])
    await define(service, "weekly", schedule=WEEKLY)
    await applied(service, *(event(user, 9 - n, user=user, attributes=EU) for n, user in enumerate("abc")))


async def order(service: Service, board: str, segment: Mapping[str, str] | None = None) -> str:
    return "".join(user for _, user, _ in await ranking(service, board, segment))


async def test_ranks_close_and_open_again_on_every_board_and_segment(service: Service) -> None:
    await three(service)
    told = await standings(service, exclusion(1, "a", 1))
    assert [
        (standing.leaderboard, dict(standing.segment), standing.previous_rank, standing.rank)
        for standing in told
    ] == [
        ("all-time", {}, 1, 0),
        ("all-time", EU, 1, 0),
        ("weekly", {}, 1, 0),
    ]
    assert await order(service, "all-time") == await order(service, "weekly") == "bc"
    assert await order(service, "all-time", EU) == "bc"
    back = await standings(service, exclusion(2, "a", 2, excluded=False))
    assert [(standing.previous_rank, standing.rank, standing.score) for standing in back] == [(0, 1, 9)] * 3
    assert await order(service, "all-time", EU) == await order(service, "weekly") == "abc"


async def test_one_board_alone_can_exclude_and_all_boards_outweigh_one(service: Service) -> None:
    await three(service)
    await applied(service, exclusion(1, "b", 1, board="weekly"))
    assert (await order(service, "all-time"), await order(service, "weekly")) == ("abc", "ac")
    await applied(service, exclusion(2, "b", 2), exclusion(3, "b", 3, board="weekly", excluded=False))
    assert (await order(service, "all-time"), await order(service, "weekly")) == ("ac", "ac")


async def test_what_is_counted_meanwhile_is_there_on_return(service: Service) -> None:
    await three(service)
    await applied(service, exclusion(1, "c", 1), event(2, 5, user="c", attributes=EU))
    assert await order(service, "all-time") == "ab"
    await applied(service, exclusion(3, "c", 2, excluded=False))
    assert await ranking(service, "all-time") == [(1, "c", 12), (2, "a", 9), (3, "b", 8)]


async def test_of_two_words_the_later_one_holds_whichever_arrives_first(service: Service) -> None:
    await three(service)
    await applied(service, exclusion("late", "a", 8, excluded=False))
    assert await standings(service, exclusion("early", "a", 7)) == []
    assert await order(service, "weekly") == "abc"


async def test_who_is_excluded_is_excluded_from_boards_and_runs_that_come_later(service: Service) -> None:
    await three(service)
    await applied(service, exclusion(1, "a", 1))
    await define(service, "newer")
    next_week = NOON + timedelta(days=7)
    await applied(
        service,
        event(2, 3, user="a", at=next_week),
        event(3, 1, user="b", at=next_week),
        event(4, 9, user="n"),
    )
    assert await order(service, "newer") == "nb"
    assert [user for _, user, _ in await ranking(service, "weekly", day=NEXT_WEEK)] == ["b"]


async def test_a_past_run_opens_and_closes_until_it_is_final_and_its_archive_never_changes(
    service: Service,
) -> None:
    await three(service)
    in_grace = DUE - timedelta(minutes=30)
    await applied(service, exclusion(1, "a", 1, at=in_grace))
    assert await order(service, "weekly") == "bc"
    await maintained(service, DUE)
    told = await standings(service, exclusion(2, "a", 2, excluded=False, at=DUE + timedelta(minutes=1)))
    assert {standing.leaderboard for standing in told} == {"all-time"}
    assert await ranking(service, "weekly") == [(1, "b", 8), (2, "c", 7)]


async def test_nothing_says_a_word_of_who_is_hidden(service: Service) -> None:
    await three(service)
    await applied(service, exclusion(1, "a", 1))
    for _ in range(2):
        friends = await service.stub.BatchGetMembers(
            pb.BatchGetMembersRequest(selector=selector("weekly"), user_ids=["a", "b"])
        )
        assert [(member.rank, member.user_id) for member in friends.members] == [(1, "b")]
        own = await service.stub.ListUserStandings(pb.ListUserStandingsRequest(user_id="a"))
        assert not own.standings
        statistics = await service.stub.GetRunStatistics(
            pb.GetRunStatisticsRequest(selector=selector("weekly"))
        )
        assert statistics.statistics.highest == 8
        await service.sets.flushdb()


async def test_a_rebuild_leaves_out_who_is_hidden_and_an_undone_event_brings_nobody_back(
    service: Service,
) -> None:
    await three(service)
    await applied(service, event("more", 5, user="b", attributes=EU), exclusion(1, "b", 1))
    await service.participant.RevertEntries(revert("more", user="b"))
    await rebuilt(service)
    assert await order(service, "all-time") == "ac"
    await applied(service, exclusion(2, "b", 2, excluded=False))
    assert await ranking(service, "all-time") == [(1, "a", 9), (2, "b", 8), (3, "c", 7)]


async def test_a_board_is_for_those_who_meet_its_filters_now(service: Service) -> None:
    await define(service, "pro", user_filters=PRO)
    told = await standings(service, event(1, 5, attributes={"plan": "free"}))
    assert told == []
    (joined,) = await standings(service, user_update(2, {"plan": "pro"}))
    assert (joined.previous_rank, joined.rank, joined.score) == (0, 1, 5)
    (left,) = await standings(service, user_update(3, {"plan": "free"}, snapshot=3))
    assert (left.previous_rank, left.rank) == (1, 0)
    assert await ranking(service, "pro") == []


async def test_a_board_that_is_not_there_is_refused_by_name(service: Service) -> None:
    await three(service)
    (outcome,) = await applied(service, exclusion(1, "a", 1, board="nonsense"))
    assert outcome.error.reason == "LEADERBOARD_NOT_FOUND"
    (again,) = await applied(service, exclusion(1, "a", 1, board="nonsense"))
    assert again == outcome
    assert await order(service, "weekly") == "abc"


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_of_exclusions_and_plans_gives_the_same_ranks_from_everywhere(
    service: Service, seed: int
) -> None:
    random = Random(seed)
    await define(service, "all", breakdown_attributes=["region"])
    await define(service, "pro", user_filters=PRO, schedule=WEEKLY)
    users = "abcdef"
    scores = dict.fromkeys(users, 0)
    plans: dict[str, dict[str, str]] = {user: {} for user in users}
    out: dict[str, dict[str, bool]] = {user: {} for user in users}
    for number in range(80):
        user = random.choice(users)
        match random.randrange(4):
            case 0 | 1:
                scores[user] += 1 + number
                await applied(
                    service, event(number, 1 + number, user=user, attributes=plans[user], snapshot=number + 1)
                )
            case 2:
                plans[user] = {"plan": random.choice(["pro", "free"]), "region": random.choice(["EU", "AS"])}
                await applied(service, user_update(number, plans[user], user=user, snapshot=number + 1))
            case _:
                board, excluded = random.choice(["", "all", "pro"]), random.random() < 0.6
                out[user][board] = excluded
                message = exclusion(number, user, number + 1, board=board, excluded=excluded)
                await applied(service, message)

    def expected(board: str, region: str = "") -> list[tuple[int, str, float]]:
        ranked = [
            (score, user)
            for user, score in scores.items()
            if score
            and not out[user].get("")
            and not out[user].get(board)
            and (board != "pro" or plans[user].get("plan") == "pro")
            and region in ("", plans[user].get("region"))
        ]
        return [(rank, user, score) for rank, (score, user) in enumerate(sorted(ranked, reverse=True), 1)]

    for step in ("sets", "PostgreSQL", "rebuilt"):
        assert await ranking(service, "all") == expected("all"), step
        assert await ranking(service, "all", EU) == expected("all", "EU"), step
        assert await ranking(service, "pro") == expected("pro"), step
        await (service.sets.flushdb() if step == "sets" else rebuilt(service))
    await maintained(service, datetime(2026, 4, 1, tzinfo=UTC))
    assert await ranking(service, "pro") == expected("pro")
