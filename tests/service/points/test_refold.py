"""What the database gives to a refold is what lists give: the same ledger, with voids, late events and limits."""

import random
from datetime import timedelta
from typing import Any

import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from services.points import convert
from services.points.definitions import catalogue_from
from services.points.domain.decisions import Applied
from services.points.refolding import FIRST_CHUNK
from shared.rpc.convert import date_to_proto, to_timestamp
from tests.fixtures import participants
from tests.service.points.conftest import Service
from tests.service.points.messages import (
    NOON,
    UNIT,
    WELCOME,
    apply,
    completion_id,
    correction,
    entry_id,
    event,
    revert,
)
from tests.service.points.steps import amounts, balance, check_ledger, days, define, send
from tests.unit.points.user import User

DAY = 24 * 60
"""Minutes."""
EACH = types.PointsTrigger(key="each", amount=10, metric=types.MetricPointsTrigger(metric="commits", every=1))
TEN = types.PointsTrigger(key="ten", amount=10, metric=types.MetricPointsTrigger(metric="commits", every=10))
COST = types.PointsTrigger(key="cost", amount=-7, metric=types.MetricPointsTrigger(metric="fun", every=2))
BADGE = types.PointsTrigger(key="badge", amount=15, achievement=types.AchievementPointsTrigger())

LEDGER = """
    SELECT trigger, entry_id, position, sum(times)::bigint, sum(base_amount)::bigint,
           sum(coalesce(multiplied_amount, base_amount))::bigint, sum(amount)::bigint
      FROM awards
     GROUP BY 1, 2, 3
    HAVING (sum(times), sum(base_amount), sum(amount)) <> (0, 0, 0)
"""


def ledger(user: User) -> set[tuple[Any, ...]]:
    return {
        (
            name.key.trigger,
            name.entry_id,
            position,
            award.due.times,
            award.due.base_amount,
            award.product.amount,
            award.amount,
        )
        for (position, name), award in user.past.live_awards().items()
        if award.due.times or award.due.base_amount or award.amount
    }


async def play(
    service: Service,
    system: types.PointsSystem,
    chance: random.Random,
    count: int,
    least: int,
    step: int = 1,
) -> None:
    """The same random history in the service and in lists; every third event is voided. `step`: minutes."""
    user = User([catalogue_from([system], 0).systems[system.key]])
    names = []
    for number in range(count):
        metric = chance.choice(["commits", "commits", "fun"])
        late = chance.choice([0, 0, 0, chance.randint(1, 30)])
        value = chance.choice([one for one in range(least, 7) if one])
        completed = [f"badge-{number}"] if chance.random() < 0.1 else []
        command = event(number, value, metric=metric, minutes=step * (number - late), completed=completed)
        (outcome,) = await send(service, command)
        (work,) = participants.work(convert.command, command)
        decided = user.apply(work.command)
        assert isinstance(decided, Applied) != outcome.HasField("error")
        if isinstance(decided, Applied):
            assert amounts(outcome) == [award.amount for change in decided.changes for award in change.awards]
            names.append(number)
        if number % 3 == 2 and names:
            name = names.pop(chance.randrange(len(names)))
            (undone,) = (await service.participant.RevertEntries(revert(name))).outcomes
            taken = user.undo(entry_id(name))
            assert amounts(undone) == [award.amount for change in taken for award in change.awards]
    assert {tuple(row) for row in await service.database.fetch(LEDGER)} == ledger(user)
    standing = user.points()
    (row,) = await service.database.fetch("SELECT balance, lifetime, reach_time, level FROM balances")
    assert tuple(row) == (standing.balance, standing.lifetime, standing.reach_time, standing.level)
    await check_ledger(service)


@pytest.mark.parametrize("seed", range(4))
async def test_a_random_history_gives_the_same_ledger_in_the_database_and_in_lists(
    service: Service, seed: int
) -> None:
    chance = random.Random(seed)
    triggers = [EACH, TEN, COST, BADGE, WELCOME]
    system = await define(
        service, "xp", triggers, max_balance=120, min_balance=-5, levels=[types.Level(key="b", threshold=60)]
    )
    await play(service, system, chance, 60, least=1 if seed % 2 else -3)


@pytest.mark.parametrize("seed", range(4))
async def test_so_does_one_in_which_boosts_and_tiers_multiply(service: Service, seed: int) -> None:
    start = to_timestamp(NOON + timedelta(minutes=20))
    boosts = [
        types.PointsBoost(key="late", multiplier=1.5, start_time=start, rounding=types.BOOST_ROUNDING_CEIL),
        types.PointsBoost(
            key="days", multiplier=0.7, start_date=date_to_proto(NOON.date()), triggers=["each", "badge"]
        ),
    ]
    levels = [types.Level(key="b", threshold=60, multiplier=2)]
    system = await define(
        service, "xp", [EACH, TEN, COST, BADGE, WELCOME], max_balance=400, levels=levels, boosts=boosts
    )
    await play(service, system, random.Random(seed), 60, least=1 if seed % 2 else -3)


@pytest.mark.parametrize("seed", range(4))
async def test_so_does_one_with_limits_of_a_day_and_cooldowns(service: Service, seed: int) -> None:
    triggers = [
        types.PointsTrigger(key="each", amount=10, daily_limit=70, metric=EACH.metric),
        types.PointsTrigger(key="ten", amount=10, cooldown_seconds=36 * 3600, metric=TEN.metric),
        COST,
        BADGE,
        WELCOME,
    ]
    system = await define(service, "xp", triggers, max_balance=400, daily_cap=90)
    await play(service, system, random.Random(seed), 60, least=1 if seed % 2 else -3, step=300)


async def test_an_award_says_what_multiplied_it(service: Service) -> None:
    boost = types.PointsBoost(key="always", multiplier=1.5, start_date=date_to_proto(NOON.date()))
    levels = [types.Level(key="gold", threshold=0, multiplier=2)]
    await define(service, "xp", [EACH], boosts=[boost], levels=levels, max_balance=25)
    await send(service, event("e", 1))
    (award,) = (await service.stub.ListAwards(pb.ListAwardsRequest(user_id="alice"))).awards
    assert (award.base_amount, award.amount, award.clipped_amount, award.multiplier) == (10, 25, 5, 3)
    assert (list(award.boosts), award.multiplying_level) == (["always"], "gold")


@pytest.mark.parametrize("maximum", [0, 1_000_000_000])
async def test_a_refold_with_much_behind_it_gives_what_the_others_alone_give(
    service: Service, maximum: int
) -> None:
    """By what crosses otherwise alone, or, where there is a maximum, over several chunks."""
    await define(service, "xp", [TEN], max_balance=maximum)
    count = 3 * FIRST_CHUNK
    for start in range(0, count, 512):
        numbers = range(start, min(start + 512, count))
        await send(service, *[event(n, 3, minutes=n) for n in numbers])
        await send(service, *[event(f"bob-{n}", 3, minutes=n, user="bob") for n in numbers if n != 7])
    await service.participant.RevertEntries(revert(7))
    sums = """
        SELECT occur_time, sum(amount) FROM awards WHERE user_id = $1 GROUP BY 1 HAVING sum(amount) <> 0 ORDER BY 1
    """
    ours, others = [await service.database.fetch(sums, user) for user in ("alice", "bob")]
    assert ours == others
    await check_ledger(service)


async def test_awards_lie_on_the_date_of_the_event_with_which_the_condition_was_met(service: Service) -> None:
    await define(service, "xp", [TEN])
    outcomes = [(await send(service, event(n, 4, minutes=n * DAY)))[0] for n in (3, 1, 2)]
    assert [days(outcome) for outcome in outcomes] == [[], [], [4]]
    (award,) = outcomes[2].effects.points[0].awards
    assert (award.entry_id, award.cause_entry_id) == (str(entry_id(3)), str(entry_id(2)))
    assert outcomes[2].effects.points[0].reach_time == to_timestamp(NOON + timedelta(days=3))


def revisable(
    name: object, contribution: float, version: int, minutes: int, **revisions: float
) -> participant_pb.Command:
    """An event of a metric of distinct values, and what others contribute from now on."""
    command = event(name, 1, minutes=minutes)
    fact = command.entry.metric_event
    _revise(fact, version, revisions)
    fact.contribution_micros = round(contribution * UNIT)
    return command


def _revise(fact: entry_pb2.MetricFact, version: int, revisions: dict[str, float]) -> None:
    fact.revisable = True
    fact.total_version = version
    for other, contribution in revisions.items():
        fact.revisions.add(entry_id=str(entry_id(other)), contribution_micros=round(contribution * UNIT))


async def test_an_earlier_event_takes_over_what_a_later_one_had_contributed(service: Service) -> None:
    await define(service, "xp", [EACH])
    await send(service, revisable("later", 1, 1, DAY))
    (outcome,) = await send(service, revisable("earlier", 1, 2, 0, later=0))
    assert (amounts(outcome), days(outcome)) == ([-10, 10], [2, 1])
    assert outcome.effects.points[0].version == 3
    await check_ledger(service)


async def test_a_revision_waits_for_its_entry(service: Service) -> None:
    await define(service, "xp", [EACH])
    await send(service, revisable("earlier", 1, 2, 0, later=0))
    (outcome,) = await send(service, revisable("later", 1, 1, DAY))
    assert not outcome.effects.points
    assert await balance(service) == 10


async def test_a_correction_gives_the_contribution_to_another_event(service: Service) -> None:
    await define(service, "xp", [EACH])
    await send(service, revisable("first", 1, 1, 0), revisable("second", 0, 2, DAY))
    await service.participant.RevertEntries(revert("first"))
    correcting = correction("c", corrects="first")
    _revise(correcting.entry.correction.metric, 3, {"second": 1})
    correcting.entry.correction.metric.metric = "commits"
    correcting = participants.command(correcting.entry)
    (outcome,) = await send(service, correcting)
    assert (amounts(outcome), days(outcome)) == ([10], [2])
    again = await service.participant.ApplyEntries(apply(correcting))
    assert again.outcomes[0] == outcome
    await check_ledger(service)


async def test_several_entries_of_a_user_in_a_batch_take_turns_with_one_that_changes_earlier_facts(
    service: Service,
) -> None:
    await define(service, "xp", [EACH])
    outcomes = await send(
        service,
        revisable("a", 1, 1, DAY),
        event("bob", 1, user="bob"),
        revisable("b", 1, 2, 0, a=0),
        revisable("c", 1, 3, 2 * DAY),
        event("bob again", 1, user="bob", minutes=1),
    )
    assert [amounts(outcome) for outcome in outcomes] == [[10], [10], [-10, 10], [10], [10]]
    assert (await balance(service), await balance(service, "bob")) == (20, 20)


async def test_a_completion_that_stays_is_rewarded_with_the_level_of_the_arrival_that_would_have_brought_it(
    service: Service,
) -> None:
    await define(service, "xp", [EACH, BADGE], levels=[types.Level(key="b", threshold=60, multiplier=2)])
    late = event("late", 1, completed=["badge"])
    late.effects.achievements[0].entry_id = str(entry_id("early"))
    late.effects.achievements[0].complete_time.CopyFrom(to_timestamp(NOON + timedelta(days=1)))
    late.effects.achievements[0].local_date.CopyFrom(date_to_proto(NOON.date() + timedelta(days=1)))
    late = participants.command(late.entry, late.effects)
    await send(service, event("early", 1, minutes=DAY), late, event("much", 5, minutes=2 * DAY))
    await send(service, event("also late", 1, minutes=1))
    await service.participant.RevertEntries(revert("late"))
    assert await balance(service) == 10 + 15 + 50 + 20
    correcting = correction("c", corrects="late")
    correcting.effects.completion_causes.add(
        completion_id=str(completion_id("badge")), cause_entry_id=str(entry_id("also late"))
    )
    (outcome,) = await send(service, participants.command(correcting.entry, correcting.effects))
    (change,) = outcome.effects.points
    assert [(award.trigger, award.amount, award.entry_id) for award in change.awards] == [
        ("badge", -15, str(entry_id("early"))),
        ("badge", 30, str(entry_id("early"))),
    ]
    assert await balance(service) == 10 + 50 + 20 + 30
    await check_ledger(service)
