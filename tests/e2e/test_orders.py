"""Right in every order: what came late is judged by its own time, and what is undone leaves what the others alone give
(RULES 2.2, 2.3, 2.5, 4.5, 5.1, 6.3, 7.3).

Small histories, sent in all their orders, each by a user of its own, through real processes, and read as anybody reads.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import pytest
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2

from deploy.local.stack import Stack
from tests.fixtures.known import (
    Place,
    Row,
    Score,
    achievements_of,
    awards_of,
    balances_of,
    known_of,
    members_of,
    standings,
    streaks_of,
    totals_of,
)
from tests.fixtures.orders import (
    NOW,
    Happened,
    pass_time,
    send,
    send_together,
    stack_on_that_day,
    void,
)
from tests.fixtures.six_orders import (
    DAY,
    HOUR,
    LAST_WEEK,
    NAMES,
    THIS_WEEK,
    TODAY,
    WORLD,
    Told,
    ago,
    amounts,
    day,
    every,
    in_all_orders,
    of_each,
    on_all_runs,
    tell,
)
from tests.fixtures.system import System, connect
from tests.unit.streak.slow_fold import SlowFact, SlowRules, slow_fold

pb = orchestrator_service_pb2


@pytest.fixture(scope="module")
def own_stack(quick_directory: Path) -> Iterator[Stack]:
    """A stack of its own: the day and the world of these tests are others."""
    with stack_on_that_day(quick_directory / "orders") as running:
        yield running


@pytest.fixture(scope="module")
async def world(own_stack: Stack) -> AsyncIterator[System]:
    """Stubs of the system with the world of this module in it."""
    connected = connect(own_stack)
    await connected.orchestrator.ApplyConfiguration(WORLD)
    yield connected
    await connected.close()


# Points as a fold (RULES 5.1).


TENS: Final = (ago("tens", 7, 2 * DAY + HOUR), ago("tens", 7, 2 * DAY), ago("tens", 7, DAY))


async def test_points_for_every_ten_are_the_same_in_every_order(world: System) -> None:
    told = await in_all_orders(world, "tens", TENS)
    right = {("per", "second", day(2 * DAY)): 10, ("per", "third", day(DAY)): 10}
    assert {order: await amounts(world, "tens", user) for order, user in told.items()} == every(told, right)


async def test_a_remainder_stays_with_the_others_when_an_event_is_voided(world: System) -> None:
    told = await in_all_orders(world, "remainder", TENS)
    await asyncio.gather(*(void(world, user.entries["first"]) for user in told.values()))
    right = {("per", "third", day(DAY)): 10}
    assert {order: await amounts(world, "tens", user) for order, user in told.items()} == every(told, right)
    boards = {order: await on_all_runs(world, "tens-daily", user.user) for order, user in told.items()}
    assert boards == every(told, {day(DAY): 10})


@pytest.mark.parametrize(("undone", "left"), [("first", "second"), ("second", "first")])
@pytest.mark.parametrize(("system", "metrics"), [("sixty", ("left", "right")), ("alone", ("alone", "alone"))])
async def test_what_a_limit_had_cut_is_given_once_who_took_its_place_is_voided(
    world: System, system: str, metrics: tuple[str, str], undone: str, left: str
) -> None:
    history = (ago(metrics[0], 5, 2 * DAY), ago(metrics[1], 4, DAY))
    told = await in_all_orders(world, f"limit {system} {undone}", history)
    for user in told.values():
        assert (await balances_of(world, user.user))[system][0] == 60
        await void(world, user.entries[undone])
    points, date_of = {"first": 50, "second": 40}, {"first": day(2 * DAY), "second": day(DAY)}
    ledgers = {order: await amounts(world, system, user) for order, user in told.items()}
    trigger = "per" if system == "alone" else metrics[NAMES.index(left)]
    assert ledgers == every(told, {(trigger, left, date_of[left]): points[left]})
    balances = {order: (await balances_of(world, user.user))[system] for order, user in told.items()}
    assert balances == every(told, (points[left], points[left], ""))
    boards = {order: await on_all_runs(world, f"{system}-daily", user.user) for order, user in told.items()}
    assert boards == every(told, {date_of[left]: points[left]})


# A late event is judged by its own time (RULES 2.3, 2.5).


async def test_filters_see_what_had_been_said_of_the_user_up_to_the_event(world: System) -> None:
    history = (
        ago("work", 1, 3 * DAY, plan="free"),
        ago("work", 1, 2 * DAY),
        ago("work", 1, DAY, plan="pro"),
    )
    told = await in_all_orders(world, "plan", history)
    ledgers = {order: await amounts(world, "work", user) for order, user in told.items()}
    assert ledgers == every(told, {("per", "third", day(DAY)): 10})
    days = {
        order: [
            (period[0], period[2]) for period in (await streaks_of(world, user.user, NOW))["work"]["periods"]
        ]
        for order, user in told.items()
    }
    assert days == every(told, [(day(DAY), "QUALIFIED")])
    attributes = {order: (await totals_of(world, user.user))["attributes"] for order, user in told.items()}
    assert attributes == every(told, {"plan": "pro"})


CLIMB: Final = (ago("climb", 4, 3 * DAY), ago("climb", 4, 2 * DAY), ago("climb", 4, DAY))


async def test_awards_and_completions_bear_the_instant_at_which_the_condition_was_met(world: System) -> None:
    told = await in_all_orders(world, "climb", CLIMB)
    third = CLIMB[2].at
    ledgers = {order: await awards_of(world, user.user, user.names) for order, user in told.items()}
    right = {
        Row("climb", "per", "third", day(DAY)): (10, third),
        Row("summits", "days", "third", day(DAY)): (5, third),
        Row("summits", "achieved", "third", day(DAY)): (100, third),
    }
    assert {
        order: {row: said for row, said in ledger.items() if row.points_system != "visits"}
        for order, ledger in ledgers.items()
    } == every(told, right)
    completions = {
        order: (await achievements_of(world, user.user, user.names))["climber"]
        for order, user in told.items()
    }
    climber = {"current": 12, "percent": 100, "completed": True, "at": third, "entry": "third"}
    assert completions == every(told, climber)


HIKES: Final = (
    ago("hike", 1, 2 * DAY),
    ago("hike", 1, DAY + HOUR),
    ago("hike", 1, DAY),
    ago("hike", 1, HOUR),
)


async def test_without_a_voided_event_lengths_and_completions_are_multiplied_at_the_arrival_that_brought_them(
    world: System,
) -> None:
    """The second and the third are of one day: without the second, the third brings what belongs to the fourth."""
    told = await in_all_orders(world, "hikes", HIKES)
    await asyncio.gather(*(void(world, user.entries["second"]) for user in told.values()))
    left = await in_all_orders(world, "hikes left", (HIKES[0], *HIKES[2:]))
    called = {"first": "first", "second": "third", "third": "fourth"}
    for order, user in left.items():
        alone = {
            (trigger, called[name], on): amount
            for (trigger, name, on), amount in (await amounts(world, "hikes", user)).items()
        }
        assert {trigger for trigger, _, _ in alone} == {"per", "days", "three-hikes", "three-days"}
        arrived = [called[name] for name in order.split()]
        for other, one in told.items():
            if [name for name in other.split() if name != "second"] == arrived:
                assert await amounts(world, "hikes", one) == alone, other


async def test_points_boards_show_when_points_were_reached(world: System) -> None:
    told = await in_all_orders(world, "reach", CLIMB)
    third = CLIMB[2].at
    for board, score in (("climb", 10), ("summits", 105)):
        found = await standings(world, [board, f"{board}-daily"])
        places = {
            order: {(place.board, place.run): said for place, said in found[user.user].items()}
            for order, user in told.items()
        }
        right = {(board, None): Score(score, third), (f"{board}-daily", day(DAY)): Score(score, third)}
        assert places == every(told, right)


async def test_who_reached_a_score_before_that_instant_is_ahead(world: System) -> None:
    told = await in_all_orders(world, "race", CLIMB)
    third = CLIMB[2].at
    for rival, at in (("race zz earlier", third - HOUR), ("race 00 later", third + HOUR)):
        await send(world, [Happened(at, "climb", 12).request(rival)])
    racers = sorted(user.user for user in told.values())
    for place in (Place("climb", None), Place("climb-daily", day(DAY))):
        ranked = [one.user_id for one in await members_of(world, place) if one.user_id.startswith("race")]
        assert ranked == ["race zz earlier", *racers, "race 00 later"], place


COMMITS: Final = tuple(
    Happened(at, "commits", zone="Pacific/Kiritimati")
    for at in (
        datetime(2025, 6, 22, 0, tzinfo=UTC),
        datetime(2025, 6, 23, 0, tzinfo=UTC),
        datetime(2025, 6, 23, 11, tzinfo=UTC),
    )
)
"""On the 22nd, the 23rd and the 24th, as that zone counts; a week begins on the 23rd."""


async def test_a_run_ranks_the_streaks_that_were_alive_in_it_by_the_length_at_its_end(world: System) -> None:
    told = await in_all_orders(world, "weeks", COMMITS)
    found = await standings(world, ["commits-weekly"])
    weeks = {
        order: {place.run: said for place, said in found[user.user].items()} for order, user in told.items()
    }
    right = {LAST_WEEK: Score(1, COMMITS[0].at), THIS_WEEK: Score(3, COMMITS[2].at)}
    assert weeks == every(told, right)


@pytest.mark.parametrize(
    ("undone", "right"),
    [
        ("first", {THIS_WEEK: Score(2, COMMITS[2].at)}),
        ("second", {LAST_WEEK: Score(1, COMMITS[0].at), THIS_WEEK: Score(1, COMMITS[2].at)}),
        ("third", {LAST_WEEK: Score(1, COMMITS[0].at), THIS_WEEK: Score(2, COMMITS[1].at)}),
    ],
)
async def test_a_voided_day_leaves_the_runs_of_streaks_as_the_others_alone_give(
    world: System, undone: str, right: dict[date, Score]
) -> None:
    told = await in_all_orders(world, f"weeks without {undone}", COMMITS)
    await asyncio.gather(*(void(world, user.entries[undone]) for user in told.values()))
    found = await standings(world, ["commits-weekly"])
    weeks = {
        order: {place.run: said for place, said in found.get(user.user, {}).items()}
        for order, user in told.items()
    }
    assert weeks == every(told, right)


async def test_nobody_is_missing_from_an_open_run_after_a_week_of_events_in_no_order(world: System) -> None:
    rng, zones = random.Random(16), ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati")
    sent = [
        (f"crowd {number % 108:03}", NOW - timedelta(seconds=rng.uniform(1, 6.5 * 86_400)), zones[number % 4])
        for number in range(1_500)
    ]
    rng.shuffle(sent)
    waiting = iter(sent)

    async def caller() -> None:
        for user, at, zone in waiting:
            await world.orchestrator.IngestEvent(Happened(at, "commits", zone=zone).request(user))

    await asyncio.gather(*(caller() for _ in range(64)))
    rules = SlowRules("DAILY", {"commits": 1_000_000})
    right: dict[date, dict[str, float]] = {LAST_WEEK: {}, THIS_WEEK: {}}
    for user in sorted({user for user, _, _ in sent}):
        facts = [
            SlowFact(at, number, "commits", 1_000_000, zone)
            for number, (who, at, zone) in enumerate(sent)
            if who == user
        ]
        periods = slow_fold(rules, facts, NOW).periods
        for week, ends in ((LAST_WEEK, THIS_WEEK - DAY), (THIS_WEEK, THIS_WEEK + 6 * DAY)):
            length = [length for start, _, _, length, _ in periods if start <= ends][-1:]
            if length and length[0]:
                right[week][user] = length[0]
    for week, scores in right.items():
        members = await members_of(world, Place("commits-weekly", week))
        found = {
            member.user_id: member.score
            for member in members
            if member.user_id.startswith("crowd") and member.score
        }
        assert found == scores


async def test_a_record_of_a_last_metric_completes_whenever_it_arrives(world: System) -> None:
    told = await in_all_orders(world, "mass", (ago("mass", 150, 30 * HOUR), ago("mass", 5, HOUR)))
    for user in told.values():
        heavy = (await achievements_of(world, user.user, user.names))["heavy"]
        assert (heavy["completed"], heavy.get("at"), heavy.get("entry")) == (
            True,
            NOW - 30 * HOUR,
            "first",
        ), user.user
        assert (await totals_of(world, user.user))["mass"] == (5, 2)


# What a void leaves (RULES 5.1, 7.3).


async def test_after_a_void_completions_belong_to_the_entries_that_now_meet_their_conditions(
    world: System,
) -> None:
    history = (ago("patches", 5, 96 * HOUR), ago("patches", 5, 72 * HOUR), ago("patches", 5, 24 * HOUR))
    told = await tell(world, "patches", history, (0, 1, 2))
    await void(world, told.entries["first"])
    held = await achievements_of(world, told.user, told.names)
    assert {key: (held[key]["at"], held[key]["entry"]) for key in ("first-patch", "ten-patches")} == {
        "first-patch": (history[1].at, "second"),
        "ten-patches": (history[2].at, "third"),
    }
    rows = await awards_of(world, told.user, told.names)
    assert {row: said for row, said in rows.items() if row.points_system == "patches"} == {
        Row("patches", "one", "second", day(72 * HOUR)): (1, history[1].at),
        Row("patches", "ten", "third", day(24 * HOUR)): (10, history[2].at),
    }
    assert await on_all_runs(world, "patches-daily", told.user) == {day(72 * HOUR): 1, day(24 * HOUR): 10}


@pytest.mark.parametrize("undone", range(3))
async def test_after_a_void_completions_are_those_that_the_others_alone_give_in_their_order(
    world: System, undone: int
) -> None:
    history = (ago("patches", 5, 96 * HOUR), ago("patches", 5, 72 * HOUR), ago("patches", 5, 24 * HOUR))
    told = await in_all_orders(world, f"patches without {undone}", history)
    left: dict[str, Told] = {}
    for order, user in told.items():
        indexes = [NAMES.index(name) for name in order.split() if NAMES.index(name) != undone]
        await void(world, user.entries[NAMES[undone]])
        left[order] = await tell(world, f"{user.user} twin", history, indexes)
    assert await of_each(world, told) == await of_each(world, left)


VISITS: Final = (ago("visits", 1, 3 * DAY), ago("visits", 1, DAY))


@pytest.mark.parametrize(("undone", "left"), [("first", "second"), ("second", "first")])
async def test_what_comes_once_belongs_to_the_next_event_when_the_one_that_brought_it_is_voided(
    world: System, undone: str, left: str
) -> None:
    told = await in_all_orders(world, f"visits without {undone}", VISITS)
    await asyncio.gather(*(void(world, user.entries[undone]) for user in told.values()))
    at = VISITS[NAMES.index(left)].at
    ledgers = {order: await awards_of(world, user.user, user.names) for order, user in told.items()}
    assert ledgers == every(
        told,
        {
            Row("visits", "welcome", left, at.date()): (25, at),
            Row("visits", "first", left, at.date()): (100, at),
        },
    )
    found = await standings(world, ["visits", "visits-daily", "visits-count"])
    places = {
        order: {(place.board, place.run): said for place, said in found[user.user].items()}
        for order, user in told.items()
    }
    right = {
        ("visits", None): Score(125, at),
        ("visits-daily", at.date()): Score(125, at),
        ("visits-count", None): Score(1, at),
    }
    assert places == every(told, right)


async def test_who_has_no_event_left_is_as_one_who_never_was(world: System) -> None:
    told = await in_all_orders(world, "visits without any", VISITS)
    for user in told.values():
        for entry in user.entries.values():
            await void(world, entry)
    nobody = (await known_of(world, ["nobody"], NOW))["nobody"]
    assert await of_each(world, told) == every(told, nobody)


# Zones and segments that change (RULES 1.5, 3.7, 6.5).


WALK: Final = (
    Happened(NOW - 4 * HOUR, "walk"),
    Happened(NOW - HOUR, "swim", zone="Pacific/Kiritimati"),
)


def days_of(streaks: dict[Any, Any]) -> dict[str, tuple[Any, Any]]:
    """The current period of each streak, and when it expires."""
    return {
        key: (one["state"]["periodStartDate"], one["state"]["expireTime"]) for key, one in streaks.items()
    }


async def test_all_streaks_of_a_user_are_on_the_day_of_the_stored_zone(world: System) -> None:
    told = await in_all_orders(world, "walk", WALK)
    days = {order: days_of(await streaks_of(world, user.user, NOW)) for order, user in told.items()}
    tomorrow = TODAY + DAY
    right = {
        "walk": (tomorrow, datetime(2025, 6, 24, 10, tzinfo=UTC)),
        "swim": (tomorrow, datetime(2025, 6, 25, 10, tzinfo=UTC)),
    }
    assert days == every(told, right)
    later = datetime(2025, 6, 24, 10, 0, 1, tzinfo=UTC)
    ended = {
        order: (await streaks_of(world, user.user, later))["walk"]["state"].get("length", 0)
        for order, user in told.items()
    }
    assert ended == every(told, 0)


async def test_a_zone_goes_with_the_event_that_brought_it(world: System) -> None:
    told = await in_all_orders(world, "walk home", WALK)
    await asyncio.gather(*(void(world, user.entries["second"]) for user in told.values()))
    days = {order: days_of(await streaks_of(world, user.user, NOW))["walk"] for order, user in told.items()}
    assert days == every(told, (TODAY, datetime(2025, 6, 25, tzinfo=UTC)))


async def test_a_zone_that_is_told_without_an_event_moves_the_day_of_streaks(world: System) -> None:
    told = await tell(world, "walk away", WALK[:1], (0,))
    request = pb.UpdateUserRequest(request_id="away")
    request.user.user_id, request.user.time_zone = told.user, "Pacific/Kiritimati"
    await world.orchestrator.UpdateUser(request)
    days = days_of(await streaks_of(world, told.user, NOW))
    assert days == {"walk": (TODAY + DAY, datetime(2025, 6, 24, 10, tzinfo=UTC))}


PLAYS: Final = (ago("plays", 1, 2 * HOUR, plan="free"), ago("plays", 2, HOUR, plan="pro"))
IN_PRO: Final = {(): 3.0, (("plan", "pro"),): 3.0}


async def segments_of(system: System, user: str, board: str = "plays-weekly") -> dict[Any, float]:
    found = (await standings(system, [board])).get(user, {})
    return {place.segment: score.score for place, score in found.items()}


async def test_a_score_moves_whole_to_the_segment_of_the_newest_attributes(world: System) -> None:
    requests: dict[str, list[event_pb2.IngestEventRequest]] = {
        user: [PLAYS[index].request(user) for index in order]
        for user, order in (("plays", (0, 1)), ("plays late", (1, 0)))
    }
    for user, sent in requests.items():
        await send(world, sent)
        assert await segments_of(world, user) == IN_PRO, user
        together = f"{user} together"
        for request in sent:
            request.user.user_id = together
        await send_together(world, sent)
        assert await segments_of(world, together) == IN_PRO, together


FRESH: Final = (ago("fresh", 1, 2 * DAY, plan="free"), ago("fresh", 2, HOUR, plan="pro"))
FRESH_IN_PRO: Final = {
    (LAST_WEEK, ()): 1.0,
    (LAST_WEEK, (("plan", "pro"),)): 1.0,
    (THIS_WEEK, ()): 2.0,
    (THIS_WEEK, (("plan", "pro"),)): 2.0,
}


async def weeks_of(system: System, user: str) -> dict[Any, float]:
    found = (await standings(system, ["fresh-weekly"])).get(user, {})
    return {(place.run, place.segment): score.score for place, score in found.items()}


@pytest.mark.parametrize("order", list(permutations((0, 1))))
async def test_a_run_that_an_event_opened_moves_with_the_next_of_its_group(
    world: System, order: Sequence[int]
) -> None:
    user = f"opens {order}"
    await send_together(world, [FRESH[index].request(user) for index in order])
    assert await weeks_of(world, user) == FRESH_IN_PRO


async def test_a_score_goes_back_with_the_attributes_that_a_void_takes(world: System) -> None:
    told = await in_all_orders(world, "plays free", PLAYS)
    await asyncio.gather(*(void(world, user.entries["second"]) for user in told.values()))
    found = {order: await segments_of(world, user.user) for order, user in told.items()}
    assert found == every(told, {(): 1.0, (("plan", "free"),): 1.0})


# What an event contributes (RULES 2.2).


def item(name: str, how_long: timedelta) -> Happened:
    return Happened(NOW - how_long, "items", 1, event={"item": name})


async def test_a_repeated_item_gives_nothing_in_any_order(world: System) -> None:
    told = await in_all_orders(world, "items", (item("a", 3 * DAY), item("a", 2 * DAY), item("b", DAY)))
    found = await standings(world, ["items-sum", "items-daily"])
    for order, user in told.items():
        assert (await totals_of(world, user.user))["items"] == (2, 3), order
        assert sum((await amounts(world, "items", user)).values()) == 2
        scores = {
            (place.board, place.run): said.score for place, said in found[user.user].items() if said.score
        }
        assert scores == {
            ("items-sum", None): 2,
            ("items-daily", day(3 * DAY)): 1,
            ("items-daily", day(DAY)): 1,
        }, order
        periods = (await streaks_of(world, user.user, NOW))["items"]["periods"]
        assert [period[0] for period in periods if period[2] == "QUALIFIED"] == [day(3 * DAY), day(DAY)], (
            order
        )
        two = (await achievements_of(world, user.user, user.names))["two-items"]
        assert two["completed"], order


async def test_in_order_each_award_for_items_belongs_to_the_event_with_the_new_item(world: System) -> None:
    history = (item("a", 3 * DAY), item("a", 2 * DAY), item("b", DAY))
    told = await tell(world, "items in order", history, (0, 1, 2))
    right = {("per", "first", day(3 * DAY)): 1, ("per", "third", day(DAY)): 1}
    assert await amounts(world, "items", told) == right
    two = (await achievements_of(world, told.user, told.names))["two-items"]
    assert (two["at"], two["entry"]) == (history[2].at, "third")


async def test_a_voided_item_is_new_again_with_the_next_that_has_it(world: System) -> None:
    history = (item("a", 3 * DAY), item("a", 2 * DAY), item("b", DAY))
    told = await in_all_orders(world, "items again", history)
    await asyncio.gather(*(void(world, user.entries["first"]) for user in told.values()))
    for order, user in told.items():
        right = {("per", "second", day(2 * DAY)): 1, ("per", "third", day(DAY)): 1}
        assert await amounts(world, "items", user) == right, order
        periods = (await streaks_of(world, user.user, NOW))["items"]["periods"]
        assert [period[3] for period in periods if period[2] == "QUALIFIED"] == [1, 2], order
        scores = await on_all_runs(world, "items-daily", user.user)
        assert {run: score for run, score in scores.items() if score} == {
            day(2 * DAY): 1,
            day(DAY): 1,
        }, order


async def test_only_records_of_a_max_metric_count(world: System) -> None:
    history = (ago("record", 5, 3 * DAY), ago("record", 3, 2 * DAY), ago("record", 8, DAY))
    told = await in_all_orders(world, "record", history)
    found = await standings(world, ["record-sum", "record-best", "record-last"])
    for order, user in told.items():
        assert (await totals_of(world, user.user))["record"] == (8, 3), order
        assert sum((await amounts(world, "record", user)).values()) == 8
        scores = {place.board: said.score for place, said in found[user.user].items()}
        assert scores == {"record-sum": 8, "record-best": 8, "record-last": 8}, order
        periods = (await streaks_of(world, user.user, NOW))["record"]["periods"]
        assert [period[0] for period in periods if period[2] == "QUALIFIED"] == [day(3 * DAY), day(DAY)], (
            order
        )


async def test_a_last_metric_contributes_its_changes(world: System) -> None:
    told = await in_all_orders(
        world, "scales", (ago("mass", 30, 3 * DAY), ago("mass", 80, 2 * DAY), ago("mass", 55, DAY))
    )
    found = await standings(world, ["mass-sum", "mass-best", "mass-last"])
    for order, user in told.items():
        assert (await totals_of(world, user.user))["mass"] == (55, 3), order
        assert sum((await amounts(world, "mass", user)).values()) == 8
        scores = {place.board: said.score for place, said in found[user.user].items()}
        assert scores == {"mass-sum": 55, "mass-best": 80, "mass-last": 55}, order


# Time passes, for everybody: what follows here is last.


async def test_progress_of_a_streak_is_taken_back_when_it_breaks_at_midnight(world: System) -> None:
    await tell(world, "dance", (ago("dance", 1, DAY), ago("dance", 1, HOUR)), (0, 1))
    before = (await achievements_of(world, "dance", {}))["three-dances"]
    assert (before["current"], before["completed"]) == (2, False)
    await pass_time(world, NOW + 2 * DAY)
    after = (await achievements_of(world, "dance", {}))["three-dances"]
    assert (after["current"], after["percent"], after["completed"]) == (0, 0, False)


async def test_progress_of_a_streak_that_had_ended_when_its_events_came_is_none(world: System) -> None:
    history = (ago("dance", 1, 6 * DAY), ago("dance", 1, 5 * DAY), ago("dance", 1, 3 * DAY))
    told = await in_all_orders(world, "dances of last week", history)
    found = {
        order: (await achievements_of(world, user.user, {}))["three-dances"]["current"]
        for order, user in told.items()
    }
    assert found == every(told, 0)


async def test_a_run_is_archived_in_the_segment_to_which_the_score_moved(world: System) -> None:
    await send_together(world, [event.request("archived") for event in FRESH])
    await pass_time(world, NOW + 30 * DAY)
    assert await weeks_of(world, "archived") == FRESH_IN_PRO


async def test_an_imported_run_is_archived_in_the_segment_to_which_the_score_moved(world: System) -> None:
    weeks = 10 * 7 * DAY
    requests = [replace(event, at=event.at - weeks).request("imported", str(event.at)) for event in FRESH]

    async def batches() -> AsyncIterator[pb.ImportEventsRequest]:
        yield pb.ImportEventsRequest(events=requests)

    responses = [response async for response in world.orchestrator.ImportEvents(batches())]
    assert sum(response.imported_count for response in responses) == 2, responses
    right = {(run - weeks, segment): score for (run, segment), score in FRESH_IN_PRO.items()}
    assert await weeks_of(world, "imported") == right
