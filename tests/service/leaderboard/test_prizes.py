"""RULES 6.10: prizes of an archived run, each once, whatever fails."""

from collections.abc import Iterator, Mapping
from typing import Any

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.leaderboard.config import ENDING_BATCH
from shared import faults
from shared.rpc.convert import to_timestamp
from tests.fixtures.paging import pages
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import WEDNESDAY, WEEKLY, event, selector
from tests.service.leaderboard.steps import applied, define, found, maintained
from tests.service.leaderboard.test_maintenance import DUE


def prize(key: str, first: int = 0, last: int = 0, **fields: Any) -> board_pb.Prize:
    points = [board_pb.PrizePoints(points_system="xp", amount=10)]
    return board_pb.Prize(key=key, first_rank=first, last_rank=last, **{"points": points, **fields})


GOLD = prize("gold", 1, 1, achievement="champion")
PODIUM = prize("podium", 2, 3)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


async def given(service: Service, **fields: Any) -> list[tuple[str, str, int, str]]:
    """Segment, prize, rank and user of each, read in pages of 2."""
    request = pb.ListPrizesRequest(leaderboard="weekly", run_date=WEDNESDAY, page_size=2, **fields)
    listed = await pages(service.stub.ListPrizes, request, "prizes")
    return [
        (one.segment.get("region", ""), one.prize.key, one.rank, one.user_id)
        for page in listed
        for one in page
    ]


async def week(service: Service, scores: Mapping[str, int], **fields: Any) -> None:
    await define(service, "weekly", schedule=WEEKLY, **fields)
    await applied(
        service,
        *(
            event(user, score, user=user, attributes={"region": "EU" if user < "c" else "AS"})
            for user, score in scores.items()
        ),
    )


async def test_what_is_given_is_told_once_each_with_what_it_is(service: Service) -> None:
    await week(service, {"a": 9, "b": 7, "c": 5, "d": 3}, prizes=[GOLD, PODIUM])
    assert await maintained(service, DUE) == 1 + 3
    assert await maintained(service, DUE) == 0
    changes = await found(service)
    assert [(change.user_id, change.board_prize.prize, change.board_prize.rank) for change in changes] == [
        ("a", "gold", 1),
        ("b", "podium", 2),
        ("c", "podium", 3),
    ]
    first = changes[0]
    assert first.board_prize.achievement == "champion"
    assert [(gift.points_system, gift.amount) for gift in first.board_prize.gifts] == [("xp", 10)]
    assert first.occur_time == to_timestamp(DUE)
    assert first.origin == entry_pb2.ENTRY_ORIGIN_MAINTENANCE
    assert await given(service) == [("", "gold", 1, "a"), ("", "podium", 2, "b"), ("", "podium", 3, "c")]
    assert await given(service, user_id="b") == [("", "podium", 2, "b")]


@pytest.mark.parametrize(
    ("mode", "winners"),
    [
        (board_pb.RANK_MODE_ORDINAL, "abc"),
        (board_pb.RANK_MODE_COMPETITION, "abc"),
        (board_pb.RANK_MODE_DENSE, "abcd"),
    ],
)
async def test_ties_are_treated_as_the_board_treats_them(
    service: Service, mode: board_pb.RankMode.ValueType, winners: str
) -> None:
    scores = {"a": 9, "b": 7, "c": 7, "d": 5, "e": 3}
    await week(service, scores, rank_mode=mode, prizes=[prize("podium", 1, 3)])
    await maintained(service, DUE)
    assert "".join(change.user_id for change in await found(service)) == winners


async def test_the_best_percent_and_each_segments_first_are_given_theirs(service: Service) -> None:
    prizes = [
        prize("half", top_percent=50),
        prize("local", 1, 1, each_segment=True),
    ]
    await week(service, {"a": 9, "b": 7, "c": 5, "d": 3}, breakdown_attributes=["region"], prizes=prizes)
    await maintained(service, DUE)
    assert await given(service) == [
        ("", "half", 1, "a"),
        ("", "half", 2, "b"),
        ("AS", "local", 1, "c"),
        ("EU", "local", 1, "a"),
    ]
    assert len({change.entry_id for change in await found(service)}) == 4


@pytest.mark.parametrize(
    "point",
    ["maintenance.before_commit", "maintenance.after_commit", "ending.before_commit", "ending.after_commit"],
)
@pytest.mark.parametrize("nth", [1, 2])
async def test_each_is_given_once_when_every_step_fails(service: Service, point: str, nth: int) -> None:
    """More winners than one transaction gives prizes to."""
    winners, members = ENDING_BATCH + 10, ENDING_BATCH + 20
    users = {f"u{number:04}": members - number for number in range(members)}
    await week(service, users, prizes=[prize("many", 1, winners)])
    faults.arm(f"leaderboard.{point}=error@{nth}")
    for _ in range(3):
        try:
            await maintained(service, DUE)
        except grpc.aio.AioRpcError:
            continue
    changes = await found(service)
    expected = list(users)[:winners]
    assert [change.user_id for change in changes] == expected
    assert len({change.entry_id for change in changes}) == winners
    listed = await service.stub.ListPrizes(
        pb.ListPrizesRequest(leaderboard="weekly", run_date=WEDNESDAY, page_size=1_000)
    )
    assert [given_prize.user_id for given_prize in listed.prizes] == expected


async def test_what_a_later_definition_says_changes_nothing_of_a_run_that_is_archived(
    service: Service,
) -> None:
    await week(service, {"a": 9, "b": 7}, prizes=[GOLD])
    faults.arm("leaderboard.ending.before_commit=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await maintained(service, DUE)
    await service.definitions.update(
        board_pb.Leaderboard(key="weekly", metric="commits", schedule=WEEKLY, prizes=[PODIUM]), "prizes"
    )
    await maintained(service, DUE)
    assert await given(service) == [("", "gold", 1, "a")]


async def test_a_run_of_imported_history_says_where_its_prizes_come_from(service: Service) -> None:
    await week(service, {"a": 9}, prizes=[GOLD])
    await service.participant.RunMaintenance(
        participant_pb.RunMaintenanceRequest(now=to_timestamp(DUE), history=True)
    )
    assert [change.origin for change in await found(service)] == [entry_pb2.ENTRY_ORIGIN_IMPORT]


async def test_a_users_place_says_which_prize_it_would_be_and_which_lies_ahead(service: Service) -> None:
    await week(
        service, {"a": 9, "b": 7, "c": 5, "d": 3}, prizes=[GOLD, PODIUM, prize("all", top_percent=100)]
    )
    told = {}
    for user in "abd":
        request = pb.GetMemberRequest(selector=selector("weekly"), user_id=user)
        standing = (await service.stub.GetMember(request)).standing
        told[user] = (list(standing.prizes), standing.next_prize, standing.next_prize_distance)
    assert told == {
        "a": (["gold", "all"], "", 0),
        "b": (["podium", "all"], "gold", 2),
        "d": (["all"], "podium", 2),
    }
