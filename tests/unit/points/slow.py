"""The obvious, slow fold: every time all facts from the first, every arrival with all sums anew (RULES 2.5, 5.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import ceil, floor
from typing import Any

from services.points.domain.definitions import (
    Level,
    MetricCause,
    PointsSystem,
    Rounding,
    Stacking,
    Trigger,
    UserCreatedCause,
)
from services.points.domain.facts import Instant
from shared.filters import matches

Name = tuple[int, str, Any, Any]
"""Position, trigger, the owner's entry, and the completion or period."""


@dataclass
class SlowFact:
    position: int
    owner: Instant
    system: PointsSystem
    """As of its arrival."""
    contribution: int = 0
    counts: list[Trigger] = field(default_factory=list)
    welcomes: list[Trigger] = field(default_factory=list)
    follows: bool = False
    given: list[tuple[Trigger, Instant, Any]] = field(default_factory=list)
    spent: dict[Name, int] = field(default_factory=dict)
    out: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass
class SlowAward:
    owner: Instant
    times: int
    base: int
    multiplied: int
    amount: int


def arrival(position: int, owner: Instant, system: PointsSystem, event: Mapping[str, Any]) -> SlowFact:
    """The fact of an event: metric, value, plan."""
    attributes = {"plan": event["plan"]} if event.get("plan") else {}
    fact = SlowFact(position, owner, system, follows=event.get("follows", False))
    for trigger in system.triggers:
        if not matches(trigger.user_filters, attributes):
            continue
        if isinstance(trigger.cause, MetricCause) and trigger.cause.metric == event.get("metric"):
            fact.counts.append(trigger)
        if isinstance(trigger.cause, UserCreatedCause):
            fact.welcomes.append(trigger)
    fact.contribution = event.get("value", 0)
    return fact


def slow_fold(facts: list[SlowFact]) -> dict[Name, SlowAward]:
    """All awards, by name."""
    awards: dict[Name, SlowAward] = {}
    arrived: list[SlowFact] = []
    granted: dict[tuple[str, Any], int] = {}
    balance, lifetime, greeted = 0, 0, False
    by_entry = {fact.owner.entry_id: fact for fact in facts}
    for fact in sorted(facts, key=lambda one: one.position):
        due: list[tuple[Name, Instant, Trigger, int]] = []
        if not fact.out:
            arrived.append(fact)
            if not fact.follows and not greeted:
                greeted = True
                due.extend(
                    (_name(fact, trigger, fact.owner, None), fact.owner, trigger, 1)
                    for trigger in fact.welcomes
                )
            for trigger in fact.counts:
                due.extend(_crossings(fact, trigger, arrived, granted))
        for trigger, owner, what in fact.given:
            due.append((_name(fact, trigger, owner, what), owner, trigger, 1))
        order = [trigger.key for trigger in fact.system.triggers]
        due.sort(key=lambda one: (order.index(one[2].key), one[1].order))
        level = fact.system.level_at(balance, lifetime)
        multiplied = []
        for name, owner, trigger, times in due:
            source = fact if name[3] else by_entry[owner.entry_id]
            multiplied.append(_multiplied(source, owner, trigger, trigger.amount * times, level, fact.system))
        amounts = _limited(fact, balance, due, _of_the_day(fact.system, due, multiplied, awards))
        for (name, owner, trigger, times), product, amount in zip(due, multiplied, amounts, strict=True):
            awards[name] = SlowAward(owner, times, trigger.amount * times, product, amount)
            balance += amount
            lifetime += max(0, amount)
    return awards


def _multiplied(
    source: SlowFact, owner: Instant, trigger: Trigger, amount: int, level: Level | None, system: PointsSystem
) -> int:
    """`source`: the fact whose terms and user decide which boosts there are."""
    if amount < 0:
        return amount
    boosts = [
        boost
        for boost in source.system.boosts
        if boost.window.holds(owner.occur_time, owner.local_date)
        and matches(boost.user_filters, source.attributes)
        and (not boost.triggers or trigger.key in boost.triggers)
    ]
    if system.stacking is Stacking.HIGHEST:
        boosts = sorted(boosts, key=lambda boost: boost.multiplier_micros)[-1:]
    exact = Fraction(amount) * (Fraction(level.multiplier_micros, 10**6) if level else 1)
    for boost in boosts:
        exact *= Fraction(boost.multiplier_micros, 10**6)
    if boosts and all(boost.rounding is Rounding.CEIL for boost in boosts):
        return ceil(exact)
    if boosts and all(boost.rounding is Rounding.NEAREST for boost in boosts):
        return floor(exact + Fraction(1, 2))
    return floor(exact)


def _crossings(
    fact: SlowFact, trigger: Trigger, arrived: list[SlowFact], granted: dict[tuple[str, Any], int]
) -> list[tuple[Name, Instant, Trigger, int]]:
    total = high = 0
    due: list[tuple[SlowFact, Trigger, int]] = []
    for expected in sorted(arrived, key=lambda each: each.owner.order):
        own = next((each for each in expected.counts if each.key == trigger.key), None)
        if own is None:
            continue
        assert isinstance(own.cause, MetricCause)
        total += expected.contribution
        highest = max(high, total)
        due.append((expected, own, highest // own.cause.every_micros - high // own.cause.every_micros))
        high = highest
    given = sum(granted.get((trigger.key, expected.owner.entry_id), 0) for expected, _, _ in due)
    missing = sum(times for _, _, times in due) - given
    found = []
    for expected, own, times in reversed(due):
        name = (trigger.key, expected.owner.entry_id)
        taken = min(missing, times - granted.get(name, 0))
        if taken > 0:
            missing -= taken
            granted[name] = granted.get(name, 0) + taken
            found.append((_name(fact, trigger, expected.owner, None), expected.owner, own, taken))
    return found


def _of_the_day(
    system: PointsSystem,
    due: list[tuple[Name, Instant, Trigger, int]],
    amounts: list[int],
    awards: Mapping[Name, SlowAward],
) -> list[int]:
    """What cooldowns and limits of the day leave, with all awards before in view."""
    given = [(name[1], award.owner, award.amount) for name, award in awards.items() if award.amount > 0]
    left = []
    for (name, owner, _, _), amount in zip(due, amounts, strict=True):
        trigger = next(each for each in system.triggers if each.key == name[1])
        own = [(other, points) for key, other, points in given if key == trigger.key]
        if amount > 0:
            if any(abs(other.occur_time - owner.occur_time) < trigger.cooldown for other, _ in own):
                amount = 0
            if trigger.daily_limit is not None:
                today = sum(points for other, points in own if other.local_date == owner.local_date)
                amount = min(amount, max(0, trigger.daily_limit - today))
            if system.daily_cap is not None:
                today = sum(points for _, other, points in given if other.local_date == owner.local_date)
                amount = min(amount, max(0, system.daily_cap - today))
            if amount > 0:
                given.append((trigger.key, owner, amount))
        left.append(amount)
    return left


def _limited(
    fact: SlowFact, balance: int, due: list[tuple[Name, Instant, Trigger, int]], multiplied: list[int]
) -> list[int]:
    """Point by point: cut one off the last that can spare it, until the limits are kept."""
    amounts = list(multiplied)
    least = [-fact.spent.get(name, 0) for name, _, _, _ in due]
    while balance + sum(amounts) > fact.system.max_balance:
        index = next((i for i in reversed(range(len(amounts))) if amounts[i] > 0), None)
        if index is None:
            break
        amounts[index] -= 1
    while balance + sum(amounts) < fact.system.min_balance:
        index = next((i for i in reversed(range(len(amounts))) if -amounts[i] > max(0, least[i])), None)
        if index is None:
            break
        amounts[index] += 1
    return amounts


def _name(fact: SlowFact, trigger: Trigger, owner: Instant, what: Any) -> Name:
    return (fact.position, trigger.key, owner.entry_id, what)


def newest(awards: Mapping[Name, SlowAward]) -> datetime | None:
    """The reach time."""
    return max((award.owner.occur_time for award in awards.values() if award.amount), default=None)
