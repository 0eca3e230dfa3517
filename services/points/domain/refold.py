"""A fact is taken out, or changed: the fold goes on from a place before it, once as it was and once as it is now.

What differs are the rows of the ledger. The fold stops where both ways have come together again for all that follows:
a trigger has, when both sums lie a multiple of X apart, since then both cross with the same events; a balance has,
when it is the same, or when no limit acts any more. Where little can differ, `shortcuts` finds it without all of this.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.counting import Timeline, settled, stored
from services.points.domain.days import Days
from services.points.domain.definitions import Catalogue, TriggerKey
from services.points.domain.dependence import Dependence, balances_agree, is_far_from_the_end
from services.points.domain.edits import Difference, Edit, Names, Terms, edited
from services.points.domain.facts import Fact
from services.points.domain.fold import Points, step
from services.points.domain.ledger import Draft
from services.points.domain.limits import Grant, InsufficientPoints
from services.points.domain.looks import looked_at
from services.points.domain.lots import Lots
from services.points.domain.state import UserState

_MANY_MARKS: Final = 64


class Plan(Struct, frozen=True):
    """Which facts a refold needs."""

    start: int
    """The position to fold from."""
    systems: frozenset[str]
    """The systems that can be touched."""
    late: bool
    """Facts from there on came late: it takes those before, too, that are newer than the oldest of them."""


class Pair(Struct, frozen=True):
    """The fold with the facts as they were, and as they are now."""

    before: Points
    after: Points


def plan(state: UserState, facts: Mapping[int, Fact], edits: Mapping[int, Edit], terms: Terms) -> Plan:
    """From where to fold, and which systems. `facts` are those that are edited."""
    systems: set[str] = set()
    for position, edit in edits.items():
        fact = facts[position]
        systems.update(due.key.points_system for due in (*fact.given, *edit.added))
        systems.update(identity.key.points_system for identity in edit.dropped)
        systems.update(key.points_system for key in fact.triggers)
        if position == state.first_position and edit.taken_out:
            systems.update(state.points.accounts)
            systems.update(trigger.key.points_system for trigger in terms(fact.terms).by_user_created)
    timelines = [timeline for key, timeline in state.points.timelines.items() if key.points_system in systems]
    accounts = [account for key, account in state.points.accounts.items() if key in systems]
    start = min(edits)
    if any(timeline.irregular for timeline in timelines) or not all(map(is_far_from_the_end, accounts)):
        start = 1
    late = any(timeline.late_position >= start for timeline in timelines) or _makes_lateness_count(
        timelines, edits
    )
    return Plan(start, frozenset(systems), late)


def begin(
    state: UserState,
    plan: Plan,
    sums: Mapping[TriggerKey, int],
    added_since: Mapping[str, tuple[int, int]],
    days: Days,
    lots: Lots | None,
    *,
    greeted: bool,
) -> Points:
    """The fold of all facts before the start: from the sums of their contributions, and what was added since.

    `added_since`: to the balance and to the lifetime, by system.
    """
    if plan.start == 1:
        return Points(days=days, lots=lots)
    timelines = {}
    for key, now in state.points.timelines.items():
        if key.points_system in plan.systems and key in sums:
            count = sums[key] // now.every_micros
            timelines[key] = stored(
                Timeline(
                    accumulated_micros=sums[key],
                    high_micros=sums[key],
                    due_count=count,
                    granted_count=count,
                    every_micros=now.every_micros,
                    fractional=plan.late and now.fractional,
                )
            )
    accounts = {}
    for system, account in state.points.accounts.items():
        if system in plan.systems:
            balance, lifetime = added_since.get(system, (0, 0))
            accounts[system] = Account(account.balance - balance, account.lifetime - lifetime)
    return Points(greeted, timelines, accounts, days, lots)


def go_on(
    pair: Pair,
    facts: Sequence[Fact],
    edits: Mapping[int, Edit],
    terms: Terms,
    plan: Plan,
    zone: str | None = None,
    *,
    settling: bool,
) -> tuple[Pair, list[Difference]]:
    """The fold over more facts, both ways, and where their awards differ. `zone`: of the user, if that is told.

    Raises `HistoryNeeded`.
    """
    before, after = pair.before, pair.after
    differing = []
    oldest_to_come = _oldest_to_come(facts)
    for index, fact in enumerate(facts):
        catalogue = terms(fact.terms)
        changed = edited(fact, edits[fact.position]) if fact.position in edits else fact
        if before is not after:
            changed = looked_at(before, after, changed, plan.systems, zone)
        first = stepped(before, fact, catalogue, plan.systems)
        same = before is after and changed is fact
        second = first if same else stepped(after, changed, catalogue, plan.systems)
        before, after = first[0], second[0]
        if first[1] != second[1]:
            differing.append((fact.position, first[1], second[1]))
        if settling and index % _MANY_MARKS == _MANY_MARKS - 1:
            same = before is after
            before = _settled(before, oldest_to_come[index])
            after = before if same else _settled(after, oldest_to_come[index])
    return Pair(before, after), differing


def folded(
    facts: Sequence[Fact], terms: Terms, *, settling: bool
) -> Iterator[tuple[Fact, tuple[Grant, ...]]]:
    """The whole fold, and what it grants with each fact. Raises `HistoryNeeded`, then it cannot settle."""
    points = Points(days=Days(), lots=Lots())
    oldest_to_come = _oldest_to_come(facts)
    for index, fact in enumerate(facts):
        points, grants = stepped(points, fact, terms(fact.terms), None)
        yield fact, grants
        if settling and index % _MANY_MARKS == _MANY_MARKS - 1:
            points = _settled(points, oldest_to_come[index])


def together(
    pair: Pair, state: UserState, plan: Plan, position: int, dependence: Callable[[str], Dependence]
) -> bool:
    """Whether both ways give the same for all that follows after this position."""
    before, after = pair.before, pair.after
    if before.greeted != after.greeted:
        return False
    for key, now in state.points.timelines.items():
        if key.points_system not in plan.systems:
            continue
        timeline, other = before.timelines.get(key, Timeline()), after.timelines.get(key, Timeline())
        if timeline is other:
            continue
        irregular = now.irregular or timeline.irregular or other.irregular
        if irregular or now.late_position > position or (other.fractional and not now.fractional):
            return False
        if (timeline.accumulated_micros - other.accumulated_micros) % now.every_micros:
            return False
    return all(
        balances_agree(
            before.accounts.get(key, EMPTY_ACCOUNT),
            after.accounts.get(key, EMPTY_ACCOUNT),
            state.points.accounts.get(key, EMPTY_ACCOUNT).cut_position <= position,
            dependence(key),
        )
        for key in plan.systems
    )


def drafts_of(differing: Sequence[Difference], names: Names) -> Iterator[Draft]:
    """The rows for the differences, in the order of arrival."""
    for position, before, after in differing:
        earlier = {grant.due.identity: grant for grant in before}
        later = {grant.due.identity: grant for grant in after}
        for identity in (*earlier, *(key for key in later if key not in earlier)):
            was, is_now = earlier.get(identity), later.get(identity)
            if was == is_now:
                continue
            some = was or is_now
            assert some is not None
            known = names.get((position, identity))
            times = (is_now.due.times if is_now else 0) - (was.due.times if was else 0)
            base = (is_now.due.base_amount if is_now else 0) - (was.due.base_amount if was else 0)
            yield Draft(
                position=position,
                due=replace(some.due, times=times, base_amount=base),
                product=replace(
                    some.product if is_now is None else is_now.product,
                    amount=(is_now.product.amount if is_now else 0) - (was.product.amount if was else 0),
                ),
                amount=(is_now.amount if is_now else 0) - (was.amount if was else 0),
                earned=(is_now.earned if is_now else 0) - (was.earned if was else 0),
                expire_date=is_now.expire_date if is_now else None,
                reversed_award_id=known.award_id if known else None,
                refolded=True,
            )


def moved(state: UserState, pair: Pair, plan: Plan) -> UserState:
    """The state as it is stored, with what both ways differ by in their counts."""
    timelines = dict(state.points.timelines)
    for key, now in timelines.items():
        timeline, other = (
            pair.before.timelines.get(key, Timeline()),
            pair.after.timelines.get(key, Timeline()),
        )
        if key.points_system in plan.systems and timeline is not other:
            timelines[key] = stored(
                replace(
                    now,
                    accumulated_micros=now.accumulated_micros
                    + other.accumulated_micros
                    - timeline.accumulated_micros,
                    high_micros=now.high_micros + other.high_micros - timeline.high_micros,
                    due_count=now.due_count + other.due_count - timeline.due_count,
                    granted_count=now.granted_count + other.granted_count - timeline.granted_count,
                    irregular=now.irregular or other.irregular,
                    fractional=now.fractional or other.fractional,
                    late_position=max(now.late_position, other.late_position),
                )
            )
    return replace(state, points=replace(state.points, timelines=timelines))


def stepped(
    points: Points, fact: Fact, terms: Catalogue, systems: frozenset[str] | None
) -> tuple[Points, tuple[Grant, ...]]:
    """The fold over one fact that was accepted before, and what it grants; of some systems alone, or of all."""
    stepped = step(points, fact, terms, systems=systems)
    if isinstance(stepped, InsufficientPoints):
        raise AssertionError("a fact is not refused again")
    return stepped.points, stepped.grants


def _makes_lateness_count(timelines: Iterable[Timeline], edits: Mapping[int, Edit]) -> bool:
    """Until now every event crossed its own multiples, late or not; a revised contribution ends that."""
    return any(
        edit.contribution_micros is not None
        and (edit.contribution_micros < 0 or edit.contribution_micros % timeline.every_micros != 0)
        for edit in edits.values()
        for timeline in timelines
        if timeline.every_micros and not timeline.fractional
    )


def _settled(points: Points, until: datetime | None) -> Points:
    timelines = {
        key: settled(timeline, until) if timeline.marks else timeline
        for key, timeline in points.timelines.items()
    }
    return replace(points, timelines=timelines)


def _oldest_to_come(facts: Sequence[Fact]) -> list[datetime | None]:
    """After each fact, the earliest time among those that come after it; None where none does."""
    oldest: list[datetime | None] = [None] * len(facts)
    for index in range(len(facts) - 2, -1, -1):
        following, time = oldest[index + 1], facts[index + 1].instant.occur_time
        oldest[index] = time if following is None else min(time, following)
    return oldest
