"""RULES 2.5, 6.3, 6.5 and 7.3: random facts of three users, with what comes late, revises others, or is undone. In
whatever order and in whatever batches it is told, members, scores, reach times and segments are those of an obvious
recomputation from what is left, in PostgreSQL, in the sorted sets and in the archive.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.ledger.v1 import entry_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.fixtures import participants
from tests.service.leaderboard.conftest import PATIENT_GRACE, Service
from tests.service.leaderboard.messages import (
    MICROS,
    WEEKLY,
    Given,
    Recorded,
    apply,
    entry,
    entry_id,
    points_effect,
    revert,
    streak_effect,
)
from tests.service.leaderboard.steps import define, maintained, projected, rebuilt

USERS = ("ada", "bob", "cy")
FIRST = date(2026, 3, 2)
"""A Monday."""
DAYS = [FIRST + timedelta(days=day) for day in range(8)]
NOW = datetime.combine(DAYS[-1], time(6), tzinfo=UTC)
DAILY = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY)
DAY = timedelta(days=1)

Standing = tuple[str, date, str, str, int, datetime]
"""Board, start of the run, segment, user, score, reach time."""


@dataclass(frozen=True)
class Event:
    """Something that happened. `caused` are points under this entry and others."""

    number: int
    user: str
    at: datetime
    value: int
    plan: str | None
    caused: tuple[Given, ...]

    @property
    def order(self) -> tuple[datetime, UUID]:
        return self.at, entry_id(self.number)


@dataclass
class Upstream:
    """What the services before the leaderboard know of one user, and say: each message as of when it was made."""

    user: str
    frozen: frozenset[date]
    live: list[Event] = field(default_factory=list)
    version: int = 0
    balance: int = 0
    lifetime: int = 0
    points_time: datetime | None = None
    awards: list[Given] = field(default_factory=list)

    def happens(self, event: Event) -> participant_pb.Command:
        before = self._said()
        self.live.append(event)
        message = entry(event.number, user=self.user, at=event.at, now=NOW, snapshot=self.version + 1)
        self._snapshot(message, event)
        fact = message.metric_event
        fact.metric, fact.value_micros = "most", event.value * MICROS
        fact.revisable, fact.total_version = True, self.version + 1
        fact.contribution_micros = self._said().contributions[event.number] * MICROS
        return participants.command(message, self._effects(before, fact, event.number, event.caused))

    def is_undone(self, event: Event) -> participant_pb.Command:
        """The correction that follows."""
        before = self._said()
        self.live.remove(event)
        name = ("correction", event.number)
        message = entry(
            name, user=self.user, at=event.at, now=NOW, snapshot=self.version + 1, corrects=event.number
        )
        self._snapshot(message, None)
        fact = message.correction.metric
        fact.metric, fact.revisable, fact.total_version = "most", True, self.version + 1
        taken = [Given(-given.amount, given.belongs_to, given.at) for given in event.caused]
        return participants.command(message, self._effects(before, fact, name, taken))

    def _snapshot(self, message: entry_pb2.Entry, event: Event | None) -> None:
        said = [happened for happened in self.live if happened.plan is not None]
        newest = max(said, key=lambda one: one.order, default=None)
        earlier = [happened for happened in said if event is None or happened.order <= event.order]
        as_of = max(earlier, key=lambda one: one.order, default=None)
        if as_of and as_of.plan:
            message.user.attributes["plan"] = as_of.plan
        if newest is not as_of:
            message.user.has_newest_attributes = True
            if newest and newest.plan:
                message.user.newest_attributes["plan"] = newest.plan

    def _said(self) -> "Said":
        return Said(contributions(self.live), periods(self.live, self.frozen))

    def _effects(
        self, before: "Said", fact: entry_pb2.MetricFact, cause: object, given: Sequence[Given]
    ) -> Effects:
        self.version += 1
        after = self._said()
        for number, contribution in after.contributions.items():
            if before.contributions.get(number, contribution) != contribution:
                fact.revisions.add(entry_id=str(entry_id(number)), contribution_micros=contribution * MICROS)
        days = sorted(before.periods.keys() | after.periods.keys())
        changed = [
            after.periods.get(day, Recorded(day, None))
            for day in days
            if before.periods.get(day) != after.periods.get(day)
        ]
        effects = Effects()
        if changed:
            length, at = present(self.live, self.frozen)
            longest = max((recorded.length or 0 for recorded in after.periods.values()), default=0)
            effects.streaks.append(streak_effect(self.version, length, longest, at=at, periods=changed))
        if given:
            self.awards += given
            self.balance += sum(award.amount for award in given)
            kept = [award for award in totals(self.awards).values() if award.amount]
            self.points_time = max((award.at for award in kept), default=None)
            effects.points.append(
                points_effect(
                    self.version,
                    self.balance,
                    given,
                    lifetime=sum(max(0, award.amount) for award in kept),
                    at=self.points_time,
                    cause=cause,
                )
            )
        return effects


@dataclass(frozen=True)
class Said:
    """What depends on all events of a user."""

    contributions: Mapping[int, int]
    periods: Mapping[date, Recorded]


def contributions(events: Sequence[Event]) -> dict[int, int]:
    """Of a metric that is the greatest value."""
    found, total = {}, 0
    for happened in sorted(events, key=lambda event: event.order):
        found[happened.number] = max(total, happened.value) - total
        total = max(total, happened.value)
    return found


def totals(given: Sequence[Given]) -> dict[object, Given]:
    """Points by the entry that they belong to."""
    found: dict[object, Given] = {}
    for award in given:
        held = found.get(award.belongs_to)
        found[award.belongs_to] = Given(
            (held.amount if held else 0) + award.amount, award.belongs_to, award.at
        )
    return found


def day_by_day(
    events: Sequence[Event], frozen: frozenset[date]
) -> Iterator[tuple[date, int, int, Event | None]]:
    """Each day with the length before it, the length after it, and the event with which it qualified."""
    length = 0
    for day in DAYS:
        mine = [event for event in events if event.at.date() == day]
        first = min(mine, key=lambda one: one.order, default=None)
        before = length
        if first:
            length += 1
        elif day < DAYS[-1] and day not in frozen:
            length = 0
        yield day, before, length, first


def periods(events: Sequence[Event], frozen: frozenset[date]) -> dict[date, Recorded]:
    """What the streak service tells: days that qualified, and those that broke it."""
    return {
        day: Recorded(day, after, first.at if first else None, first.number if first else None)
        for day, before, after, first in day_by_day(events, frozen)
        if first or before != after
    }


def present(events: Sequence[Event], frozen: frozenset[date]) -> tuple[int, datetime | None]:
    length, at = 0, None
    for day, before, after, first in day_by_day(events, frozen):
        length = after
        if first:
            at = first.at
        elif before and not after:
            at = midnight(day + DAY)
    return length, at


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


# What is expected, from what is left alone.


def expected(upstream: Sequence[Upstream]) -> set[Standing]:
    found: set[Standing] = set()
    for one in upstream:
        plans = [(event.order, event.plan) for event in one.live if event.plan]
        segment = f'{{"plan":"{max(plans)[1]}"}}' if plans else ""
        for board, start, score, at in expected_of(one):
            found.add((board, start, "", one.user, score, at))
            if segment and board in SPLIT:
                found.add((board, start, segment, one.user, score, at))
    return found


def expected_of(user: Upstream) -> Iterator[tuple[str, date, int, datetime]]:
    added = contributions(user.live)
    counted = [
        (event.at.date(), added[event.number] * MICROS, event.at)
        for event in user.live
        if added[event.number]
    ]
    yield from sums("total", counted, lambda _: date.min)
    yield from sums("weekly", counted, monday)
    yield from sums("daily", counted, lambda day: day)
    if user.live:
        best = max(event.value for event in user.live)
        yield "best", date.min, best * MICROS, min(event.at for event in user.live if event.value == best)
        last = max(user.live, key=lambda one: one.order)
        yield "last", date.min, last.value * MICROS, last.at
    earned = [given for given in totals(user.awards).values() if given.amount]
    points = [(given.at.date(), given.amount, given.at) for given in earned]
    yield from sums("weekly-xp", points, monday)
    yield from sums("daily-xp", points, lambda day: day)
    if earned and (user.balance or any(given.amount > 0 for given in earned)):
        yield "rich", date.min, user.balance, max(given.at for given in earned)
    length, at = present(user.live, user.frozen)
    if at:
        yield "streak", date.min, length, at
    yield from lengths("weekly-streak", user, monday)
    yield from lengths("daily-streak", user, lambda day: day)


def sums(
    board: str, facts: Sequence[tuple[date, int, datetime]], start_of: Callable[[date], date]
) -> Iterator[tuple[str, date, int, datetime]]:
    runs = defaultdict(list)
    for day, amount, at in facts:
        runs[start_of(day)].append((amount, at))
    for start, counted in runs.items():
        yield board, start, sum(amount for amount, _ in counted), max(at for _, at in counted)


def lengths(
    board: str, user: Upstream, start_of: Callable[[date], date]
) -> Iterator[tuple[str, date, int, datetime]]:
    """Who had the streak alive on a day of the run, with the length at its end."""
    ends: dict[date, tuple[int, datetime]] = {}
    alive: set[date] = set()
    at = NOW
    for day, before, after, first in day_by_day(user.live, user.frozen):
        if first:
            at = first.at
        elif before and not after:
            at = midnight(day + DAY)
        ends[start_of(day)] = (after, at)
        if before or after:
            alive.add(start_of(day))
    for start in alive:
        yield board, start, *ends[start]


SPLIT = {"weekly", "daily-xp", "daily-streak", "weekly-streak"}


async def define_boards(service: Service) -> None:
    plan = {"breakdown_attributes": ["plan"]}
    await define(service, "total", metric="most")
    await define(service, "weekly", metric="most", schedule=WEEKLY, **plan)
    await define(service, "daily", metric="most", schedule=DAILY)
    await define(service, "best", metric="most", aggregation=board_pb.SCORE_AGGREGATION_BEST)
    await define(service, "last", metric="most", aggregation=board_pb.SCORE_AGGREGATION_LAST)
    await define(service, "rich", points_system="xp")
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    await define(service, "daily-xp", points_system="xp", schedule=DAILY, **plan)
    await define(service, "streak", streak="daily")
    await define(service, "weekly-streak", streak="daily", schedule=WEEKLY, **plan)
    await define(service, "daily-streak", streak="daily", schedule=DAILY, **plan)


Told = tuple[str, object, participant_pb.Command | None]
"""A user, an entry, and what is said of it; None: it is undone."""


def story(rng: random.Random) -> tuple[list[Upstream], list[Told]]:
    """What the services before say, in the order in which they came to know it: a third is undone."""
    upstream = {user: Upstream(user, frozenset(rng.sample(DAYS, 2))) for user in USERS}
    events: list[Event] = []
    for number in range(rng.randrange(8, 28)):
        user = rng.choice(USERS)
        at = datetime.combine(rng.choice(DAYS), time(rng.randrange(6)), tzinfo=UTC)
        earlier = [happened for happened in events if happened.user == user]
        caused = [Given(rng.choice([5, 10, -5]), number, at)] if rng.random() < 0.7 else []
        caused += [
            Given(rng.choice([10, -5, -10]), happened.number, happened.at)
            for happened in rng.sample(earlier, min(len(earlier), rng.choice([0, 0, 1, 2])))
        ]
        plan = rng.choice(["free", "pro", None])
        events.append(Event(number, user, at, rng.randrange(1, 6), plan, tuple(caused)))
    told: list[Told] = []
    undone: list[Event] = []
    for event in events:
        told.append((event.user, event.number, upstream[event.user].happens(event)))
        if rng.random() < 0.5:
            gone = rng.choice(upstream[event.user].live)
            if len(undone) < len(events) // 3:
                undone.append(gone)
                told.append((gone.user, gone.number, None))
                told.append((gone.user, ("correction", gone.number), upstream[gone.user].is_undone(gone)))
    return list(upstream.values()), told


def shuffled(rng: random.Random, told: Sequence[Told]) -> list[Told]:
    """Another order of arrival. An entry is undone after it came, and corrected after that."""
    keys = [rng.random() for _ in told]
    place = {(name, command is None): index for index, (_, name, command) in enumerate(told)}
    for index, (_, name, command) in enumerate(told):
        if command is None:
            entry_index, undone = place[name, False], index
            after = place[("correction", name), False]
            first, second, third = sorted((keys[entry_index], keys[undone], keys[after]))
            keys[entry_index], keys[undone], keys[after] = first, second, third
    return [told[index] for index in sorted(range(len(told)), key=keys.__getitem__)]


async def tell(service: Service, rng: random.Random, told: Sequence[Told]) -> None:
    """In batches of one kind of call each."""
    waiting: list[participant_pb.Command] = []

    async def send() -> None:
        if waiting:
            response = await service.participant.ApplyEntries(apply(*waiting))
            assert not any(outcome.HasField("error") for outcome in response.outcomes)
            waiting.clear()

    for user, name, command in told:
        if command is None:
            await send()
            await service.participant.RevertEntries(revert(name, user=user, now=NOW))
        else:
            waiting.append(command)
            if rng.random() < 0.3:
                await send()
    await send()


async def stored(service: Service, query: str) -> set[Standing]:
    return {tuple(row) for row in await service.database.fetch(query)}


SCORES = """
    SELECT board, run_start, part, user_id, score, reach_time
      FROM scores CROSS JOIN LATERAL (SELECT DISTINCT unnest(ARRAY['', segment])) AS parts (part)
     WHERE score IS NOT NULL
"""
ARCHIVED = "SELECT board, run_start, segment, user_id, score, reach_time FROM archive"


async def forget(service: Service) -> None:
    tables = (
        "users, request_log, scores, segments, runs, archive, rank_events, earnings, lengths, early_revisions"
    )
    await service.database.execute(f"TRUNCATE {tables}")
    await rebuilt(service)


async def check(service: Service, wanted: set[Standing], *, last: bool) -> None:
    found = await stored(service, SCORES)
    assert (found - wanted, wanted - found) == (set(), set())
    sets = await projected(service)
    await rebuilt(service)
    assert {key: members for key, members in sets.items() if members} == await projected(service)
    if last:
        await maintained(service, NOW + PATIENT_GRACE + timedelta(days=60))
        repeating = {one for one in wanted if one[1] != date.min}
        assert await stored(service, ARCHIVED) == repeating
        assert not [key async for key in service.sets.scan_iter("laurel:{*") if key.count(b":2026-")]


@pytest.mark.parametrize("seed", range(6))
async def test_every_order_gives_what_is_left_alone_gives(patient: Service, seed: int) -> None:
    await define_boards(patient)
    for number in range(2):
        rng = random.Random(1_000 * seed + number)
        upstream, told = story(rng)
        wanted = expected(upstream)
        for attempt in range(3):
            await forget(patient)
            await tell(patient, rng, shuffled(rng, told) if attempt else told)
            await check(patient, wanted, last=attempt == 2)
