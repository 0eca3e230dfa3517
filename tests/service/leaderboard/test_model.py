"""Random events, undone ones among them, against an obvious recomputation: from the sorted sets, from PostgreSQL,
and from the archive the ranks are the same.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import NOON, WEEKLY, apply, event, local_date, revert
from tests.service.leaderboard.steps import define, maintained, ranking

USERS = [f"user-{letter}" for letter in "abcdefghij"]
REGIONS = ("EU", "AS", "")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
"""Before any of the runs is over: what comes later than that does not count."""

ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles")


@dataclass(frozen=True)
class Happened:
    """An event, and by whom from where."""

    number: int
    user: str
    value: float
    at: datetime
    zone: str
    region: str
    snapshot: int

    @property
    def local_date(self) -> date:
        return self.at.astimezone(ZoneInfo(self.zone)).date()

    def command(self) -> participant_pb.Command:
        attributes = {"region": self.region} if self.region else {}
        return event(
            self.number,
            self.value,
            user=self.user,
            at=self.at,
            now=NOW,
            zone=self.zone,
            attributes=attributes,
            snapshot=self.snapshot,
        )


def history(rng: random.Random, count: int) -> list[Happened]:
    return [
        Happened(
            number,
            rng.choice(USERS),
            rng.choice([-1, 1, 1, 2, 2.5]),
            NOON + timedelta(hours=rng.randrange(-80, 120), minutes=rng.choice([0, 0, 30])),
            rng.choice(ZONES),
            rng.choice(REGIONS),
            snapshot=1 + number // 10,
        )
        for number in range(count)
    ]


Scored = tuple[float, datetime]


def total(events: Sequence[Happened]) -> Scored:
    return sum(happened.value for happened in events), max(one.at for one in events)


def lowest(events: Sequence[Happened]) -> Scored:
    value = min(happened.value for happened in events)
    return value, min(happened.at for happened in events if happened.value == value)


def recomputed(
    events: Sequence[Happened],
    score: Callable[[Sequence[Happened]], Scored],
    *,
    ascending: bool = False,
) -> list[tuple[str, float]]:
    by_user: defaultdict[str, list[Happened]] = defaultdict(list)
    for happened in events:
        by_user[happened.user].append(happened)
    scored = [(user, *score(mine)) for user, mine in by_user.items()]
    sign = 1 if ascending else -1
    scored.sort(key=lambda one: (sign * one[1], one[2], one[0].encode()))
    return [(user, value) for user, value, _ in scored]


def numbered(members: Sequence[tuple[str, float]], mode: str) -> list[tuple[int, str, float]]:
    values = [value for _, value in members]
    if mode == "competition":
        return [(1 + values.index(value), user, value) for user, value in members]
    if mode == "dense":
        distinct = list(dict.fromkeys(values))
        return [(1 + distinct.index(value), user, value) for user, value in members]
    return [(rank, user, value) for rank, (user, value) in enumerate(members, 1)]


async def check(service: Service, live: Sequence[Happened], seen: Sequence[Happened]) -> None:
    """Every board against its recomputation."""
    newest = {
        happened.user: max((o for o in seen if o.user == happened.user), key=_snapshot).region
        for happened in live
    }
    assert await ranking(service, "all-time") == numbered(recomputed(live, total), "")
    assert await ranking(service, "tied") == numbered(recomputed(live, total), "competition")
    assert await ranking(service, "lowest") == numbered(recomputed(live, lowest, ascending=True), "")
    for region in ("EU", "AS"):
        mine = [happened for happened in live if newest[happened.user] == region]
        found = await ranking(service, "regional", {"region": region})
        assert found == numbered(recomputed(mine, total), "dense")
    await check_weeks(service, live)


async def check_weeks(service: Service, live: Sequence[Happened]) -> None:
    for monday in (date(2026, 2, 23), date(2026, 3, 2), date(2026, 3, 9)):
        week = [happened for happened in live if monday <= happened.local_date < monday + timedelta(days=7)]
        found = await ranking(service, "weekly", day=local_date(monday))
        assert found == numbered(recomputed(week, total), "")


def _snapshot(happened: Happened) -> tuple[int, int]:
    """Of several with one version the first that was seen counts."""
    return happened.snapshot, -happened.number


@pytest.mark.parametrize("seed", range(4))
async def test_ranks_equal_those_recomputed_from_the_events(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    await define(service, "all-time")
    await define(service, "tied", rank_mode=board_pb.RANK_MODE_COMPETITION)
    await define(
        service,
        "lowest",
        aggregation=board_pb.SCORE_AGGREGATION_BEST,
        order=board_pb.SORT_ORDER_ASC,
    )
    await define(service, "regional", rank_mode=board_pb.RANK_MODE_DENSE, breakdown_attributes=["region"])
    await define(service, "weekly", schedule=WEEKLY)
    events = history(rng, 120)
    undone = {happened.number for happened in rng.sample(events, 30)}
    for start in range(0, len(events), 12):
        batch = events[start : start + 12]
        await service.participant.ApplyEntries(apply(*(happened.command() for happened in batch)))
        names = [happened.number for happened in batch if happened.number in undone]
        if names:
            await service.participant.RevertEntries(revert(*names, now=NOW))
    live = [happened for happened in events if happened.number not in undone]
    await check(service, live, events)
    await service.sets.flushdb()
    await check(service, live, events)
    await maintained(service, datetime(2026, 4, 1, tzinfo=UTC))
    await check_weeks(service, live)
