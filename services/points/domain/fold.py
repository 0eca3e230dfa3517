"""A user's points are a fold of facts, in the order of arrival (RULES 5.1).

`step` is the fold: what one more fact does to the points that all before it made. Applying an entry is one step, from
what is stored. Taking a fact out is the fold without it: `refold` goes on from a place before the fact, once with and
once without it, and what differs are new rows of the ledger. So the rows are always what the fold of the live facts
gives.

A fact keeps what its arrival decided: which triggers matched, and the version of the definitions, with their amounts,
intervals and limits. These things are therefore decided like this:

* *When is a trigger due?* A metric trigger: `counting`. A streak trigger: `streaks`. A trigger for achievements: with
  the completion. One for new users: with the first live entry of the user that is none which follows from others. The
  latter three hang on one fact, and pass to the next that would have caused them when it is taken out.
* *To which entry does an award belong?* To the one with which the condition was met in the order of the events'
  times. It bears that entry's id, time and local date, and its terms; the limits are those of the arrival that
  brought it about.
* *What is spent stays spent.* A deduction keeps the amount that it took when it came, also where the fold without a
  fact that was taken out would leave less to take, or would have refused it: the balance then lies below
  `min_balance`. It is given back when it is no longer due itself: its own entry is taken out, or its crossing goes to
  another event. It takes more than it took when it came where more of it is covered now; never more than is due. What
  is kept is the amount as of its arrival, so that facts can be taken out in any order with one result.
* *What expires* is what is left then of awards whose last date is over (`lots`). That it is looked at is a fact; where
  a refold gives something otherwise, part of the first that came when it was over (`looks`).
* *Refusing* is decided once, on arrival. A refused entry is no fact.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.counting import HistoryNeeded, Mark, Timeline, count
from services.points.domain.days import UNKNOWN, Days, after, allowed
from services.points.domain.definitions import (
    EXPIRED,
    Catalogue,
    Expiry,
    MetricCause,
    Trigger,
    TriggerKey,
)
from services.points.domain.facts import Due, Fact, Instant
from services.points.domain.limits import Grant, InsufficientPoints, base_amount, in_order, limited, uncovered
from services.points.domain.lots import Lots, expired
from services.points.domain.lots import granted as lots_with
from services.points.domain.multipliers import for_trigger, product

_NEW: Timeline = Timeline()
_NOTHING_HELD: Final[Mapping[str, int]] = {}


class Points(Struct, frozen=True):
    """What the fold carries from fact to fact."""

    greeted: bool = False
    """The user's first entry has come."""
    timelines: Mapping[TriggerKey, Timeline] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)
    """By key of the system. Their levels and versions are the ledger's affair."""
    days: Days = UNKNOWN
    """What was given on dates, where limits ask for it."""
    lots: Lots | None = None
    """What is left of awards, where something can expire; None: not loaded."""


class Step(Struct, frozen=True):
    """What a fact did."""

    points: Points
    grants: tuple[Grant, ...]
    """By key of the system; in a system in the order of its triggers."""


def step(
    points: Points,
    fact: Fact,
    terms: Catalogue,
    *,
    systems: frozenset[str] | None = None,
    refusable: bool = False,
    held: Mapping[str, int] = _NOTHING_HELD,
) -> Step | InsufficientPoints:
    """One more fact, under the terms that it names. Raises `HistoryNeeded`.

    `systems` restricts the fold to those: no system knows of another. `held`: what is held of balances, where it can be
    refused.
    """
    timelines, dues = _dues(points, fact, terms, systems)
    if not dues and not timelines:
        greeted = points.greeted or not fact.follows
        return Step(points if greeted == points.greeted else replace(points, greeted=greeted), ())
    accounts, days, lots = points.accounts, points.days, points.lots
    grants: tuple[Grant, ...] = ()
    if dues:
        accounts = dict(accounts)
        by_system: dict[str, list[Due]] = {}
        for due in dues:
            by_system.setdefault(due.key.points_system, []).append(due)
        for key, those in sorted(by_system.items()):
            system = terms.system(key)
            before = accounts.get(key, EMPTY_ACCOUNT)
            due_here = in_order(system, [_with_what_expired(due, lots) for due in those])
            level = system.level_at(before.balance, before.lifetime) if system.multiplies_by_level else None
            products = [product(system, level, due) for due in due_here]
            amounts = [each.amount for each in products]
            if key in terms.day_limited:
                amounts = allowed(system, days, due_here, amounts)
            refusal = (
                uncovered(system, before.balance, held.get(key, 0), due_here, amounts) if refusable else None
            )
            if refusal is not None:
                return refusal
            granted = limited(
                system, before.balance, before.lifetime, due_here, products, amounts, fact.spent
            )
            if system.expiry is not None:
                granted = tuple(_expiring(system.expiry, grant) for grant in granted)
            if days is not UNKNOWN:
                days = after(system, days, granted)
            if lots is not None:
                lots = lots_with(lots, key, granted)
            accounts[key] = _moved(before, granted, fact.position)
            grants += granted
    return Step(
        Points(
            greeted=points.greeted or not fact.follows,
            timelines={**points.timelines, **timelines} if timelines else points.timelines,
            accounts=accounts,
            days=days,
            lots=lots,
        ),
        grants,
    )


def greets(fact: Fact, terms: Catalogue, systems: frozenset[str] | None = None) -> Iterator[Due]:
    """What is due where the fact is the user's first."""
    for trigger in terms.by_user_created:
        matched = not trigger.trigger.user_filters or trigger.key in fact.triggers
        if matched and (systems is None or trigger.key.points_system in systems):
            boosts = for_trigger(terms, fact.boosts, trigger.key)
            yield replace(once(trigger.key, trigger.trigger, fact.instant), boosts=boosts)


def once(key: TriggerKey, trigger: Trigger, owner: Instant) -> Due:
    """A trigger that is due one time."""
    return Due(key, owner, 1, trigger.amount)


def mark_of(fact: Fact, key: TriggerKey, trigger: Trigger, cause: MetricCause, terms: Catalogue) -> Mark:
    """A fact as a metric trigger counts it, under the terms that it names."""
    boosts = for_trigger(terms, fact.boosts, key) if fact.boosts else ()
    return Mark(fact.instant, fact.contribution_micros, cause.every_micros, trigger.amount, boosts)


def _dues(
    points: Points, fact: Fact, terms: Catalogue, systems: frozenset[str] | None
) -> tuple[dict[TriggerKey, Timeline], list[Due]]:
    dues = list(fact.given)
    if systems is not None:
        dues = [due for due in dues if due.key.points_system in systems]
    if not points.greeted and not fact.follows:
        dues.extend(greets(fact, terms, systems))
    timelines: dict[TriggerKey, Timeline] = {}
    for key in fact.triggers:
        trigger = terms.trigger(key) if systems is None or key.points_system in systems else None
        if trigger is None or not isinstance(trigger.cause, MetricCause):
            continue
        mark = mark_of(fact, key, trigger, trigger.cause, terms)
        timelines[key], crossings = count(points.timelines.get(key, _NEW), mark, fact.position)
        for crossing in crossings:
            base = base_amount(crossing.mark.amount, crossing.times)
            boosts = crossing.mark.boosts
            dues.append(Due(key, crossing.mark.instant, crossing.times, base, boosts=boosts))
    return timelines, dues


def _with_what_expired(due: Due, lots: Lots | None) -> Due:
    """Of what expires on a date: as much as is left of it. Raises `HistoryNeeded`."""
    if due.key.trigger != EXPIRED:
        return due
    if lots is None:
        raise HistoryNeeded
    assert due.period is not None
    return replace(due, base_amount=-expired(lots, due.key.points_system, due.period))


def _expiring(expiry: Expiry, grant: Grant) -> Grant:
    return replace(grant, expire_date=expiry.of(grant.due.owner.local_date)) if grant.amount > 0 else grant


def _moved(before: Account, granted: tuple[Grant, ...], position: int) -> Account:
    balance, lifetime, cut_position = before.balance, before.lifetime, before.cut_position
    for grant in granted:
        balance += grant.amount
        lifetime += grant.earned
        if grant.is_cut:
            cut_position = position
    return replace(before, balance=balance, lifetime=lifetime, cut_position=cut_position)
