"""Completions bear the instant at which their condition was met, whatever the order, whatever is undone (RULES 2.5)."""

import asyncio
import itertools
import random
from datetime import datetime, timedelta

import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.common.v1.date_pb2 import LocalDate
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as saga_pb
from laurel.streak.v1 import streak_pb2

from services.achievement.domain import place_of
from services.achievement.past import FIRST_CHUNK
from shared.entries import Entry, EntryKind
from shared.rpc.convert import to_timestamp
from tests.fixtures import participants
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import (
    MERGED,
    NOON,
    PRO,
    apply,
    by_metric,
    by_streak,
    correction,
    entry,
    entry_id,
    event,
    reach,
    revert,
    streak,
)
from tests.service.achievement.steps import completed, define, revoked, shown
from tests.unit.achievement import ledger as model

HOURS = {"first": -96, "second": -72, "third": -24}


def commit(name: str, value: int = 5, *, hours: int | None = None, zone: str = "UTC") -> saga_pb.Command:
    at = HOURS[name] if hours is None else hours
    return event(name, value, version=1, total=value, minutes=at * 60, zone=zone)


async def send(service: Service, *commands: saga_pb.Command) -> list[saga_pb.Outcome]:
    outcomes = list((await service.participant.ApplyEntries(apply(*commands))).outcomes)
    assert not any(outcome.HasField("error") for outcome in outcomes)
    return outcomes


async def owners(service: Service) -> dict[str, str]:
    """The entry of each completion that is held, and how many hours before noon it was."""
    return {held.achievement: held.entry_id for held in await shown(service, completed_only=True)}


async def first_and_ten(service: Service) -> None:
    await define(service, "first-commit", metric=by_metric(1))
    await define(service, "ten-commits", metric=by_metric(10))


async def test_without_the_first_of_three_commits_both_achievements_pass_on(service: Service) -> None:
    await first_and_ten(service)
    await send(service, *map(commit, HOURS))
    await service.participant.RevertEntries(revert("first"))
    (outcome,) = await send(service, correction("k1", of="first", version=4, total=10))
    assert (revoked(outcome), completed(outcome)) == (["first-commit", "ten-commits"],) * 2
    assert await owners(service) == {
        "first-commit": str(entry_id("second")),
        "ten-commits": str(entry_id("third")),
    }
    *_, gone, come = outcome.effects.achievements
    assert (come.entry_id, come.local_date) == (str(entry_id("third")), LocalDate(year=2025, month=2, day=28))
    assert come.complete_time == to_timestamp(NOON - timedelta(hours=24))
    assert (gone.entry_id, gone.local_date) == (
        str(entry_id("second")),
        LocalDate(year=2025, month=2, day=26),
    )
    assert gone.completion_id != come.completion_id


@pytest.mark.parametrize("order", [*itertools.permutations(HOURS)], ids="-".join)
@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_in_whatever_order_three_events_arrive_the_third_date_reaches_ten(
    service: Service, order: tuple[str, ...], in_one_batch: bool
) -> None:
    await define(service, "ten", metric=by_metric(10))
    await define(service, "ten-merged", metric=by_metric(10, [MERGED]), user_filters=[PRO])
    commands = [
        event(
            name, 4, version=1, total=4, minutes=HOURS[name] * 60, attributes={"state": "merged"}, plan="pro"
        )
        for name in order
    ]
    for batch in [commands] if in_one_batch else [[command] for command in commands]:
        await send(service, *batch)
    assert await owners(service) == {"ten": str(entry_id("third")), "ten-merged": str(entry_id("third"))}


async def test_the_local_date_is_that_of_the_event_in_its_zone(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    (outcome,) = await send(service, commit("third", 10, zone="Pacific/Kiritimati"))
    (change,) = outcome.effects.achievements
    assert change.local_date == LocalDate(year=2025, month=3, day=1)


async def test_an_undoing_sent_twice_and_in_any_interleaving_ends_the_same(service: Service) -> None:
    await first_and_ten(service)
    await send(service, *map(commit, HOURS))
    for _ in range(2):
        await service.participant.RevertEntries(revert("first", "second"))
    corrections = [
        correction("k2", of="second", version=5, total=5),
        correction("k1", of="first", version=4, total=10),
    ]
    first = await send(service, *corrections)
    assert await send(service, *corrections) == first
    assert await owners(service) == {"first-commit": str(entry_id("third"))}


async def test_more_facts_than_are_read_at_once_are_read_in_turns(service: Service) -> None:
    """Arrived last to first: each is late. The last to come makes the newest reach the threshold."""
    count = 3 * FIRST_CHUNK
    await define(service, "all", metric=by_metric(count))
    await define(service, "half", metric=by_metric(count // 2))
    numbers = list(range(1, count + 1))
    for first in range(0, count, 500):
        batch = [
            event(number, 1, version=number, total=1, minutes=-number)
            for number in numbers[first : first + 500]
        ]
        await send(service, *batch)
    # Half were there with the one at count // 2, whose arrival let the newest reach it.
    assert await owners(service) == {"all": str(entry_id(1)), "half": str(entry_id(1))}
    await service.participant.RevertEntries(revert(1))
    (outcome,) = await send(service, correction("k1", of=1, version=count + 1, total=count - 1))
    assert (revoked(outcome), completed(outcome)) == (["half", "all"], ["half"])
    assert await owners(service) == {"half": str(entry_id(2))}


async def test_a_late_event_of_a_last_value_completes_at_its_own_time(service: Service) -> None:
    await define(service, "hundred", metric=by_metric(100))
    newest = event("newest", 5, version=1, total=5, minutes=-60)
    late = event("late", 150, version=2, total=5, minutes=-30 * 60)
    _contributes(newest, 5)
    _contributes(late, 150, newest=-145)
    outcomes = await send(service, newest) + await send(service, late)
    assert [completed(outcome) for outcome in outcomes] == [[], ["hundred"]]
    assert await owners(service) == {"hundred": str(entry_id("late"))}


async def test_a_revision_that_comes_before_its_event_waits_for_it(service: Service) -> None:
    await define(service, "hundred", metric=by_metric(100))
    early, told = event("early", 90, version=2, total=110, minutes=-60), event("e", 110, version=1, total=110)
    _contributes(early, 90, e=20)
    _contributes(told, 110)
    await send(service, early)
    await send(service, told)
    assert await owners(service) == {"hundred": str(entry_id("e"))}
    assert await service.database.fetchval("SELECT sum(value_micros) FROM request_log") == 110_000_000


async def test_a_length_passes_on_with_the_event_that_reached_it(service: Service) -> None:
    await define(service, "week", streak=by_streak(7))
    await send(
        service, event("seventh", 1, version=7, total=7, streaks=[streak(7, 7, reached={7: "seventh"})])
    )
    assert await owners(service) == {"week": str(entry_id("seventh"))}
    await service.participant.RevertEntries(revert("seventh"))
    other = correction("k1", of="seventh", version=8, total=6)
    change = streak(8, 7, reached={7: "other"})
    other.effects.streaks.append(streak_pb2.StreakEffect(change=change))
    (outcome,) = await send(service, other)
    assert (revoked(outcome), completed(outcome)) == (["week"], ["week"])
    assert outcome.effects.achievements[1].local_date == reach("other", 7).local_date
    assert await owners(service) == {"week": str(entry_id("other"))}


async def test_a_first_reach_is_checked(service: Service) -> None:
    wrong = streak(1, 1, reached={1: "e1"})
    wrong.first_reaches[0].reach.entry_id = "E1"
    wrong.first_reaches[0].reach.ClearField("occur_time")
    wrong.first_reaches[0].reach.local_date.month = 13
    (outcome,) = (
        await service.participant.ApplyEntries(apply(event("e1", 1, version=1, total=1, streaks=[wrong])))
    ).outcomes
    where = "commands[0].effects.streaks[0].change.first_reaches[0].reach"
    assert [violation.field for violation in outcome.error.violations] == [
        f"{where}.entry_id",
        f"{where}.occur_time",
        f"{where}.local_date",
    ]


async def test_any_history_ends_as_an_obvious_fold_of_what_is_left(service: Service) -> None:
    """Users side by side, in batches, with voids and late events anywhere; in the end everything comes once more."""
    achievements = list(model.catalogue("sum").all())
    for achievement in achievements:
        trigger = types.MetricTrigger(
            metric="sum",
            threshold=achievement.trigger.target / 1_000_000,
            event_filters=[MERGED] if achievement.event_filters else [],
        )
        since, until = achievement.earn_from, achievement.earn_until
        await define(
            service,
            achievement.key,
            metric=trigger,
            user_filters=[PRO] if achievement.user_filters else [],
            repeatable=achievement.repeatable,
            earn_from=to_timestamp(since) if since else None,
            earn_until=to_timestamp(until) if until else None,
        )
    lives = {f"user-{seed}": _life(random.Random(seed)) for seed in range(12)}
    await asyncio.gather(*(_live(service, user, life) for user, (_, life) in lives.items()))
    catalogue = model.catalogue("sum")
    expected = {
        (user, place): reach.occur_time
        for user, (left, _) in lives.items()
        for place, reach in model.earned_places(catalogue, left).items()
    }

    async def earned() -> dict[tuple[str, str], datetime]:
        rows = await service.database.fetch(
            "SELECT user_id, achievement, number, complete_time FROM live_completions"
        )
        return {(user, place_of(key, number)): complete_time for user, key, number, complete_time in rows}

    assert await earned() == expected
    for user, (_, life) in lives.items():
        await _live(service, user, life)
    assert await earned() == expected


Step = tuple[str, model.Event]


def _life(rng: random.Random) -> tuple[list[model.Event], list[Step]]:
    """What is left in the end, as it arrived, and all that happens."""
    values = [-3, -1, 1, 2, 4, 6]
    events = [
        model.Event(name, rng.choice(values), minutes, "sum", rng.random() < 0.6, rng.random() < 0.6)
        for name, minutes in enumerate(rng.sample(range(100), 14))
    ]
    steps: list[tuple[float, Step]] = []
    left = []
    for place, happened in enumerate(events):
        steps.append((place, ("arrives", happened)))
        if rng.random() < 0.3:
            undone = rng.uniform(place, len(events))
            steps += [
                (undone, ("undone", happened)),
                (rng.uniform(undone, len(events) + 1), ("corrected", happened)),
            ]
        else:
            left.append(happened)
    return left, [step for _, step in sorted(steps, key=lambda item: item[0])]


async def _live(service: Service, user: str, life: list[Step]) -> None:
    """Entries travel together until something is undone."""
    ledger, batch = model.Ledger(), list[saga_pb.Command]()
    for what, happened in life:
        if what == "arrives":
            batch.append(_command(user, ledger.record(happened).entry))
        elif what == "corrected":
            batch.append(_command(user, ledger.take_out(happened).entry))
        else:
            if batch:
                await service.participant.ApplyEntries(apply(*batch))
            batch = []
            await service.participant.RevertEntries(revert((user, happened.reach.entry_id), user=user))
    if batch:
        await service.participant.ApplyEntries(apply(*batch))


def _command(user: str, told: Entry) -> saga_pb.Command:
    """The message of an entry, with the ids of this user."""
    assert told.metric is not None
    fact = entry_pb2.MetricFact(
        metric=told.metric.metric,
        value_micros=told.metric.value_micros,
        total_after_micros=told.metric.total_after_micros,
        peak_micros=told.metric.peak_micros,
        total_version=told.metric.total_version,
        attributes=told.metric.attributes,
    )
    message = entry((user, told.entry_id), user=user, plan=told.user.attributes.get("plan", ""))
    message.occur_time.CopyFrom(to_timestamp(told.occur_time))
    if told.kind is EntryKind.METRIC_EVENT:
        message.metric_event.CopyFrom(fact)
    else:
        message.correction.corrected_entry_id = str(entry_id((user, told.corrected_entry_id)))
        message.correction.metric.CopyFrom(fact)
    return participants.command(message)


def _contributes(command: saga_pb.Command, value: int, **revisions: int) -> None:
    fact = command.entry.metric_event
    fact.revisable, fact.contribution_micros = True, value * 1_000_000
    for name, micros in revisions.items():
        fact.revisions.add(entry_id=str(entry_id(name)), contribution_micros=micros * 1_000_000)
    command.CopyFrom(participants.command(command.entry, command.effects))
