"""An undone event leaves nothing behind (RULES 7.3): a user whose events were voided in any order ends as a twin
who only ever had the others.

What a user latched on the way depends on the order of arrival (RULES 4.1, 5.2): achievements and points are
compared where events arrive as they happened, everything else in any order.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import json_format
from laurel.achievement.v1 import achievement_service_pb2
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2, user_pb2
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from tests.fixtures import clock
from tests.fixtures.clients import persist
from tests.fixtures.system import System, connect, event

pytestmark = pytest.mark.calendar

pb = orchestrator_service_pb2

ZONES: Final = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu")
METRICS: Final = ("steps", "steps", "steps", "pages", "pages", "best", "mood", "places")
VALUES: Final = (0.5, 1, 1, 1.5, 2, 3)
STREAKS: Final = ("either", "both", "week")
DAYS: Final = 6
LATCHED: Final = ("achievements", "points")
"""Parts of what is known of a user that depend on the order of arrival."""

WORLD: Final = json_format.ParseDict(
    {
        "metrics": [
            {"key": "steps"},
            {"key": "pages"},
            {"key": "best", "aggregation": "METRIC_AGGREGATION_MAX"},
            {"key": "mood", "aggregation": "METRIC_AGGREGATION_LAST"},
            {"key": "places", "aggregation": "METRIC_AGGREGATION_UNIQUE", "unique_attribute": "place"},
        ],
        "streaks": [
            {
                "key": "either",
                "frequency": "FREQUENCY_DAILY",
                "metrics": [{"metric": "steps", "threshold": 2}, {"metric": "pages", "threshold": 1}],
                "freezes": {"initial_count": 1, "earn_count": 1, "earn_every_days": 2, "max_count": 2},
            },
            {
                "key": "both",
                "frequency": "FREQUENCY_DAILY",
                "metrics": [{"metric": "steps", "threshold": 1}, {"metric": "pages", "threshold": 1}],
                "mode": "METRIC_MODE_ALL",
                "days_off": ["WEEKDAY_SUNDAY"],
            },
            {
                "key": "week",
                "frequency": "FREQUENCY_WEEKLY",
                "metrics": [{"metric": "steps", "threshold": 2}],
                "week_start": "WEEKDAY_WEDNESDAY",
            },
        ],
        "achievements": [
            {"key": "five-steps", "metric": {"metric": "steps", "threshold": 5}},
            {
                "key": "uphill",
                "metric": {
                    "metric": "steps",
                    "threshold": 2,
                    "event_filters": [{"attribute": "way", "equals": "up"}],
                },
            },
            {"key": "record", "metric": {"metric": "best", "threshold": 3}},
            {"key": "cheerful", "metric": {"metric": "mood", "threshold": 3}},
            {"key": "two-places", "metric": {"metric": "places", "threshold": 2}},
            {"key": "two-days", "streak": {"streak": "either", "length": 2}},
            {"key": "both-once", "streak": {"streak": "both", "length": 1}},
        ],
        "points_systems": [
            {
                "key": "xp",
                "level_basis": "LEVEL_BASIS_LIFETIME",
                "levels": [{"key": "novice", "threshold": 10}, {"key": "expert", "threshold": 200}],
                "triggers": [
                    {"key": "welcome", "amount": 25, "user_created": {}},
                    {"key": "steps", "amount": 3, "metric": {"metric": "steps", "every": 1.5}},
                    {"key": "places", "amount": 19, "metric": {"metric": "places", "every": 1}},
                    {"key": "days", "amount": 11, "streak": {"streak": "either", "length": 2}},
                    {
                        "key": "third",
                        "amount": 13,
                        "streak": {"streak": "either", "length": 3, "once": True},
                    },
                    {"key": "achieved", "amount": 100, "achievement": {}},
                ],
            },
        ],
        "leaderboards": [
            {"key": "steps", "metric": "steps", "breakdown_attributes": ["region"]},
            {"key": "best", "metric": "pages", "aggregation": "SCORE_AGGREGATION_BEST"},
            {
                "key": "least",
                "metric": "steps",
                "aggregation": "SCORE_AGGREGATION_BEST",
                "order": "SORT_ORDER_ASC",
                "rank_mode": "RANK_MODE_DENSE",
            },
            {"key": "latest", "metric": "steps", "aggregation": "SCORE_AGGREGATION_LAST"},
            {"key": "day", "metric": "steps", "schedule": {"unit": "RUN_UNIT_DAY"}},
            {"key": "streak", "streak": "either"},
        ],
    },
    pb.ApplyConfigurationRequest(),
)


@pytest.fixture(scope="module")
def own_stack(quick_directory: Path) -> Iterator[Stack]:
    """A stack of its own: the world of these tests is another one."""
    config = StackConfig(home=quick_directory / "twins", port_base=0, fsync=False)
    with Stack(config) as running:
        running.up()
        yield running


@pytest.fixture(scope="module")
async def world(own_stack: Stack) -> AsyncIterator[System]:
    """Stubs of the system with the world of this module in it."""
    connected = connect(own_stack)
    await connected.orchestrator.ApplyConfiguration(WORLD)
    yield connected
    await connected.close()


def some_events(rng: random.Random, user: str, now: datetime) -> list[event_pb2.IngestEventRequest]:
    """Events of the last days in several zones, some around midnight, no two at one instant."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    region = rng.choice(["north", "south"])
    events = []
    for number in range(rng.randrange(3, 20)):
        day = today - timedelta(days=rng.randrange(DAYS))
        apart = timedelta(microseconds=10 * number)
        at = rng.choice([day + apart, day - apart, now - timedelta(seconds=rng.uniform(1, DAYS * 86_400))])
        metric = rng.choice(METRICS)
        request = event(
            user,
            f"k{number}",
            metric=metric,
            value=rng.choice(VALUES),
            zone=rng.choice(ZONES),
            at=at.timestamp(),
            region=region,
        )
        request.attributes["way"] = rng.choice(["up", "down"])
        if metric == "places":
            request.attributes["place"] = rng.choice(["here", "there", "elsewhere"])
        events.append(request)
    return events


def as_they_happened(events: Sequence[event_pb2.IngestEventRequest]) -> list[event_pb2.IngestEventRequest]:
    return sorted(events, key=lambda one: (one.occur_time.seconds, one.occur_time.nanos))


async def void(system: System, entry_id: str) -> None:
    await system.orchestrator.VoidEntry(
        pb.VoidEntryRequest(entry_id=entry_id, reason="a mistake", request_id=entry_id)
    )


async def give_the_rest(
    system: System, events: Sequence[event_pb2.IngestEventRequest], undone: Sequence[int]
) -> str:
    """The twin, who only has the events that were not undone."""
    twin = f"{events[0].user.user_id}-twin"
    for index, request in enumerate(events):
        if index not in undone:
            copy = event_pb2.IngestEventRequest()
            copy.CopyFrom(request)
            copy.user.user_id = twin
            await system.orchestrator.IngestEvent(copy)
    return twin


async def known_of(system: System, user: str, now: datetime) -> dict[str, Any]:
    """Everything that five services say of a user, without what no event of theirs has touched."""
    return {
        "totals": await _totals(system, user),
        "streaks": await _streaks(system, user, now),
        "achievements": await _achievements(system, user),
        "points": await _points(system, user),
        "boards": await _boards(system, user, now),
    }


async def _totals(system: System, user: str) -> Mapping[str, Any]:
    users = await system.orchestrator.ListUsers(pb.ListUsersRequest(page_size=1_000))
    if user not in {one.user_id for one in users.users}:
        return {}
    known = await system.orchestrator.GetUser(pb.GetUserRequest(user_id=user))
    totals = {
        metric.metric: (metric.total, metric.event_count) for metric in known.metrics if metric.event_count
    }
    return {"zone": known.user.time_zone, "attributes": dict(known.user.attributes), **totals}


async def _streaks(system: System, user: str, now: datetime) -> Mapping[str, Any]:
    request = streak_service_pb2.ListUserStreaksRequest(user_id=user)
    request.read_time.FromDatetime(now)
    states = (await system.streak.ListUserStreaks(request)).streaks
    found: dict[str, Any] = {}
    for state in states:
        periods = await system.streak.ListPeriods(
            streak_service_pb2.ListPeriodsRequest(user_id=user, streak=state.streak, page_size=1_000)
        )
        ledger = await system.streak.ListFreezeLedger(
            streak_service_pb2.ListFreezeLedgerRequest(user_id=user, streak=state.streak, page_size=1_000)
        )
        found[state.streak] = [json_format.MessageToDict(one) for one in (state, periods, ledger)]
    return found


async def _achievements(system: System, user: str) -> Mapping[str, Any]:
    request = achievement_service_pb2.ListUserAchievementsRequest(user_id=user)
    listed = (await system.achievement.ListUserAchievements(request)).achievements
    return {held.achievement: (held.completed, held.current, held.percent) for held in listed}


async def _points(system: System, user: str) -> Sequence[Any]:
    listed = await system.points.ListUserPoints(points_service_pb2.ListUserPointsRequest(user_id=user))
    return [
        (points.points_system, points.balance, points.lifetime, points.level.key) for points in listed.points
    ]


async def _boards(system: System, user: str, now: datetime) -> Mapping[Any, float]:
    scores = {}
    for back in range(-1, DAYS + 2):
        day = (now - timedelta(days=back)).date()
        request = leaderboard_service_pb2.ListUserStandingsRequest(
            user_id=user, run_date=date_pb2.LocalDate(year=day.year, month=day.month, day=day.day)
        )
        for standing in (await system.leaderboard.ListUserStandings(request)).standings:
            segment = tuple(standing.segment.items())
            scores[standing.leaderboard, segment, str(standing.run.start_date)] = standing.score
    return {key: score for key, score in scores.items() if score}


@pytest.mark.parametrize("seed", range(8))
async def test_voiding_events_in_any_order_leaves_what_the_others_alone_would_have_given(
    world: System, seed: int
) -> None:
    rng, now = random.Random(seed), clock.now()
    user = f"in-order-{seed}"
    events = as_they_happened(some_events(rng, user, now))
    ids = [(await world.orchestrator.IngestEvent(request)).entry_id for request in events]
    undone = rng.sample(range(len(events)), rng.randrange(1, len(events)))
    for index in undone:
        await void(world, ids[index])
    twin = await give_the_rest(world, events, undone)
    assert await known_of(world, user, now) == await known_of(world, twin, now)


@pytest.mark.parametrize("seed", range(8))
async def test_events_and_voids_may_alternate(world: System, seed: int) -> None:
    rng, now = random.Random(100 + seed), clock.now()
    user = f"alternating-{seed}"
    events = as_they_happened(some_events(rng, user, now))
    ids: list[str] = []
    undone: list[int] = []
    for request in events:
        ids.append((await world.orchestrator.IngestEvent(request)).entry_id)
        left = [index for index in range(len(ids)) if index not in undone]
        if left and rng.random() < 0.4:
            undone.append(rng.choice(left))
            await void(world, ids[undone[-1]])
    twin = await give_the_rest(world, events, undone)
    assert await known_of(world, user, now) == await known_of(world, twin, now)


@pytest.mark.parametrize("seed", range(8))
async def test_events_and_voids_at_once_end_alike_but_for_what_was_latched(world: System, seed: int) -> None:
    rng, now = random.Random(200 + seed), clock.now()
    user = f"at-once-{seed}"
    events = some_events(rng, user, now)
    replies = await asyncio.gather(*(world.orchestrator.IngestEvent(request) for request in events))
    undone = rng.sample(range(len(events)), rng.randrange(1, len(events)))
    await asyncio.gather(*(void(world, replies[index].entry_id) for index in undone))
    twin = await give_the_rest(world, events, undone)
    mine, theirs = await known_of(world, user, now), await known_of(world, twin, now)
    for part in LATCHED:
        mine.pop(part)
        theirs.pop(part)
    assert mine == theirs


async def test_a_user_all_of_whose_events_are_voided_is_as_one_who_never_was(world: System) -> None:
    rng, now = random.Random(300), clock.now()
    events = some_events(rng, "gone", now)
    replies = await asyncio.gather(*(world.orchestrator.IngestEvent(request) for request in events))
    await asyncio.gather(*(void(world, reply.entry_id) for reply in replies))
    assert await known_of(world, "gone", now) == await known_of(world, "nobody", now)


async def merge(system: System, user: str, into: str) -> pb.MergeUsersResponse:
    request = pb.MergeUsersRequest(user_id=user, into_user_id=into, request_id="once", reason="signed in")

    async def call() -> pb.MergeUsersResponse:
        return await system.orchestrator.MergeUsers(request, timeout=30)

    reply = await persist(call)
    assert isinstance(reply, pb.MergeUsersResponse)
    return reply


@pytest.mark.parametrize("seed", range(8))
async def test_who_was_two_users_has_after_a_merge_what_one_would_have(world: System, seed: int) -> None:
    """Half of them with voids before and after it: then what was latched may differ, as it does without a merge."""
    rng, now = random.Random(400 + seed), clock.now()
    some_are_void = seed % 2 == 1
    known, other = f"known-{seed}", f"anonymous-{seed}"
    events = as_they_happened(some_events(rng, known, now))
    merged_at = rng.randrange(1, len(events) + 1)
    of_other = {index for index in range(len(events)) if rng.random() < 0.5}
    await world.orchestrator.IngestEvent(event(known, "first", metric="pages", at=now.timestamp()))
    ids: dict[int, str] = {}
    for index, request in enumerate(events[:merged_at]):
        request.user.user_id = other if index in of_other else known
        ids[index] = (await world.orchestrator.IngestEvent(request)).entry_id
    undone = [index for index in ids if some_are_void and rng.random() < 0.2]
    later = [index for index in undone if rng.random() < 0.5]
    for index in set(undone) - set(later):
        await void(world, ids[index])
    if any(index < merged_at for index in of_other):
        reply = await merge(world, other, known)
        moved = sum(index < merged_at and (index not in undone or index in later) for index in of_other)
        assert (reply.moved_count, reply.refused_count) == (moved, 0)
    for index, request in enumerate(events[merged_at:], merged_at):
        request.user.user_id = other if index in of_other and min(of_other) < merged_at else known
        await world.orchestrator.IngestEvent(request)
    for index in later:
        await void(world, ids[index])
    twin = f"{known}-twin"
    await world.orchestrator.IngestEvent(event(twin, "first", metric="pages", at=now.timestamp()))
    before = range(merged_at)
    arrived = [*(one for one in before if one not in of_other), *(one for one in before if one in of_other)]
    for index in [*arrived, *range(merged_at, len(events))]:
        if index not in undone:
            events[index].user.user_id = twin
            await world.orchestrator.IngestEvent(events[index])
    mine, theirs = await known_of(world, known, now), await known_of(world, twin, now)
    for part in LATCHED if some_are_void else ():
        mine.pop(part)
        theirs.pop(part)
    assert mine == theirs
    assert await known_of(world, other, now) == await known_of(world, "nobody", now)


async def balances(system: System, *users: str) -> list[int]:
    found = []
    for user in users:
        listed = await system.points.ListUserPoints(points_service_pb2.ListUserPointsRequest(user_id=user))
        found.append(sum(points.balance for points in listed.points))
    return found


async def test_what_was_done_by_hand_goes_along_with_a_merge(world: System) -> None:
    known, other, third = "by-hand", "by-hand-anonymous", "by-hand-third"
    call, kept = world.orchestrator, []
    [fresh] = await balances(world, "by-hand-nobody")
    for user, amount in ((known, 50), (other, 100), (third, 40)):
        await call.UpdateUser(pb.UpdateUserRequest(user=user_pb2.User(user_id=user), request_id="hello"))
        kept.append(pb.GrantPointsRequest(user_id=user, points_system="xp", amount=amount, request_id="g"))
        await call.GrantPoints(kept[-1])
    welcome = (await balances(world, known))[0] - 50 - fresh
    spend = pb.SpendPointsRequest(user_id=other, points_system="xp", amount=30, request_id="s")
    first = await call.SpendPoints(spend)
    given = pb.TransferPointsRequest(
        user_id=other, to_user_id=third, points_system="xp", amount=10, request_id="t"
    )
    passed_on = await call.TransferPoints(given)
    got = pb.TransferPointsRequest(
        user_id=third, to_user_id=other, points_system="xp", amount=5, request_id="t"
    )
    await call.TransferPoints(got)
    between = pb.TransferPointsRequest(
        user_id=known, to_user_id=other, points_system="xp", amount=7, request_id="t"
    )
    await call.TransferPoints(between)
    taken = await call.HoldPoints(
        pb.HoldPointsRequest(user_id=other, points_system="xp", amount=8, request_id="h1")
    )
    await call.CapturePoints(
        pb.CapturePointsRequest(user_id=other, hold_entry_id=taken.entry_id, request_id="c1")
    )
    held = await call.HoldPoints(
        pb.HoldPointsRequest(user_id=other, points_system="xp", amount=20, request_id="h2")
    )

    reply = await merge(world, other, known)

    # The transfer between the two is nothing now.
    assert (reply.into_user_id, reply.refused_count) == (known, 1)
    assert await balances(world, known, other, third) == [
        welcome + 50 + 100 - 30 - 10 + 5 - 8,
        0,
        welcome + 40 + 10 - 5,
    ]
    again = await call.SpendPoints(spend)
    assert (again.idempotent_replayed, again.entry_id) == (True, first.entry_id)
    assert (await call.TransferPoints(given)).idempotent_replayed
    assert (await call.TransferPoints(got)).idempotent_replayed
    # What has begun goes on under the id that led to it, and a new call leads to whom it leads.
    await call.CapturePoints(
        pb.CapturePointsRequest(user_id=other, hold_entry_id=held.entry_id, request_id="c2")
    )
    late = await call.HoldPoints(
        pb.HoldPointsRequest(user_id=other, points_system="xp", amount=2, request_id="h3")
    )
    await call.CapturePoints(
        pb.CapturePointsRequest(user_id=other, hold_entry_id=late.entry_id, request_id="c3")
    )
    await call.TransferPoints(
        pb.TransferPointsRequest(
            user_id=third, to_user_id=other, points_system="xp", amount=1, request_id="u"
        )
    )
    await void(world, passed_on.entry_id)
    assert await balances(world, known, other, third) == [
        welcome + 50 + 100 - 30 + 5 - 8 - 20 - 2 + 1,
        0,
        welcome + 40 - 5 - 1,
    ]
    await void(world, passed_on.entry_id)
    assert (await balances(world, third)) == [welcome + 40 - 5 - 1]
