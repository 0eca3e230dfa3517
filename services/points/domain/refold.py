"""A fact is taken out, or changed: the fold goes on from a place before it, once as it was and once as it is now.

What differs are the rows of the ledger. The fold stops where both ways have come together again for all that follows:
a trigger has, when both sums lie a multiple of X apart, since then both cross with the same events; a balance has,
when it is the same, or when no limit acts any more.

Where nothing but the fact's own awards can differ, no other fact is looked at (`shortcut`). Where it moves the
crossings of triggers and nothing depends on those, only the facts are that cross more or less than before (`shifts`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.counting import Timeline, settled, stored
from services.points.domain.days import Days, reach
from services.points.domain.definitions import (
    GIFT,
    POINTS_LIMIT,
    BoostKey,
    Catalogue,
    MetricCause,
    PointsSystem,
    TriggerKey,
)
from services.points.domain.facts import Due, Fact, Identity
from services.points.domain.fold import Points, step
from services.points.domain.ledger import Draft
from services.points.domain.limits import Grant, InsufficientPoints
from services.points.domain.lots import Lots
from services.points.domain.multipliers import Product
from services.points.domain.state import UserState

_FAR: Final = POINTS_LIMIT // 4
"""Below it, no balance or lifetime comes near the end of the numbers."""
_MANY_MARKS: Final = 64

Terms = Callable[[int], Catalogue]
Difference = tuple[int, tuple[Grant, ...], tuple[Grant, ...]]
"""The position of a fact, what was granted with it, and what is now."""
Names = Mapping[tuple[int, Identity], "LiveAward"]


class LiveAward(Struct, frozen=True):
    """An award with all that refolds changed about it."""

    award_id: UUID
    due: Due
    product: Product
    amount: int
    first_amount: int
    """What it was when its fact came; 0 where a refold brought it."""

    def given_under(self, terms: Catalogue) -> Due:
        """What is due with its fact, under the terms of that."""
        names = (BoostKey(self.due.key.points_system, boost) for boost in self.product.boosts)
        return replace(self.due, boosts=tuple(terms.boosts[name] for name in names))


class Edit(Struct, frozen=True):
    """What becomes of a fact."""

    taken_out: bool = False
    """What it is by itself, and gave by itself, counts no more. What streaks and achievements gave with it is theirs to
    take back."""
    contribution_micros: int | None = None
    """What it contributes from now on."""
    dropped: tuple[Identity, ...] = ()
    """What was given with it and is taken back."""
    added: tuple[Due, ...] = ()
    """What is given with it from now on."""

    def drops(self, identity: Identity) -> bool:
        """Whether something that was given with the fact is taken back."""
        return identity in self.dropped or (self.taken_out and identity.key.trigger == GIFT)

    def joined(self, other: "Edit") -> "Edit":
        """Both, one after the other."""
        return Edit(
            self.taken_out or other.taken_out,
            self.contribution_micros if other.contribution_micros is None else other.contribution_micros,
            self.dropped + other.dropped,
            self.added + other.added,
        )


class Dependence(Struct, frozen=True):
    """On what of the facts before them a system's awards depend, in any version of its definition."""

    lowest_maximum: int = POINTS_LIMIT
    on_level: bool = False
    """A level multiplies awards."""
    expires: bool = False
    """What is left of awards expires."""
    day_reach: timedelta | None = None
    """How many dates away an award can lie on which others depend, where there are limits of a day or cooldowns."""

    @property
    def is_none(self) -> bool:
        """Each award is what it is, whatever was given before."""
        limitless = self.lowest_maximum > 2 * _FAR
        return limitless and not (self.on_level or self.expires) and self.day_reach is None

    @staticmethod
    def of(versions: Sequence[PointsSystem]) -> "Dependence":
        """Of all versions of a system's definition."""
        return Dependence(
            lowest_maximum=min((system.max_balance for system in versions), default=POINTS_LIMIT),
            on_level=any(system.multiplies_by_level for system in versions),
            expires=any(system.expiry is not None for system in versions),
            day_reach=max((reach(system) for system in versions if system.limits_days), default=None),
        )


class Shift(Struct, frozen=True):
    """The sum of a trigger is less from a fact on."""

    key: TriggerKey
    accumulated_micros: int
    """What it was in the end."""
    every_micros: int
    delta_micros: int
    """How much less; below zero where it is more."""


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


def edited(fact: Fact, edit: Edit) -> Fact:
    """The fact as it is from now on."""
    given = tuple(due for due in fact.given if not edit.drops(due.identity))
    fact = replace(fact, given=given + edit.added)
    if edit.taken_out:
        return replace(fact, follows=True, contribution_micros=0, triggers=())
    if edit.contribution_micros is not None:
        return replace(fact, contribution_micros=edit.contribution_micros)
    return fact


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
    if any(timeline.irregular for timeline in timelines) or not all(map(_is_far_from_the_end, accounts)):
        start = 1
    late = any(timeline.late_position >= start for timeline in timelines) or _makes_lateness_count(
        timelines, edits
    )
    return Plan(start, frozenset(systems), late)


def shortcut(
    state: UserState,
    plan: Plan,
    fact: Fact,
    edit: Edit,
    live: Sequence[LiveAward],
    dependence: Callable[[str], Dependence],
) -> list[Draft] | None:
    """The rows for the edit of one fact where only its own awards can differ, from what is live of these; else None."""
    if (
        edit.added
        or plan.start != fact.position
        or (edit.taken_out and fact.position == state.first_position)
    ):
        return None
    shares: dict[TriggerKey, int] = {}
    contribution = 0 if edit.taken_out else edit.contribution_micros
    if contribution is not None:
        delta = fact.contribution_micros - contribution
        for key in fact.triggers:
            timeline = state.points.timelines.get(key)
            if timeline is None:
                continue
            regular = not timeline.irregular and timeline.late_position < plan.start and contribution >= 0
            if not regular or delta < 0 or delta % timeline.every_micros:
                return None
            shares[key] = delta // timeline.every_micros
    drafts = []
    for award in live:
        if not award.due.times:
            continue
        identity = award.due.identity
        own = award.due.times if edit.drops(identity) else 0
        times = own if identity.is_given else shares.pop(award.due.key, 0)
        if times and times != award.due.times and award.product.amount != award.due.base_amount:
            return None
        if times:
            drafts.append(_taken_back(fact.position, award, times))
    if any(shares.values()) or any(abs(award.due.base_amount) >= _FAR for award in live):
        return None
    for system in {draft.due.key.points_system for draft in drafts}:
        account = state.points.accounts[system]
        gain = sum(draft.amount for draft in drafts if draft.due.key.points_system == system)
        moved = replace(account, balance=account.balance + gain)
        lost = sum(draft.earned for draft in drafts if draft.due.key.points_system == system)
        moved = replace(moved, lifetime=moved.lifetime + lost)
        if not _together(account, moved, account.cut_position < plan.start, dependence(system)):
            return None
    return drafts


def apart(
    state: UserState,
    plan: Plan,
    facts: Mapping[int, Fact],
    edits: Mapping[int, Edit],
    terms: Terms,
    dependence: Callable[[str], Dependence],
) -> list[Difference] | None:
    """Where awards differ by what is given with facts from now on, and taken back, where nothing else can differ; else
    None.
    """
    first = min(edits)
    if any(edit.taken_out or edit.contribution_micros is not None for edit in edits.values()):
        return None
    if not all(_is_independent(state, key, first, dependence) for key in plan.systems):
        return None
    differing = []
    for position, edit in sorted(edits.items()):
        alone = replace(facts[position], follows=True, triggers=())
        if any(due.base_amount < 0 for due in (*alone.given, *edit.added)):
            return None
        points, catalogue = Points(greeted=True), terms(alone.terms)
        before = _stepped(points, alone, catalogue, plan.systems)[1]
        after = _stepped(points, edited(alone, edit), catalogue, plan.systems)[1]
        if before != after:
            differing.append((position, before, after))
    return differing


def shifts(
    state: UserState,
    plan: Plan,
    fact: Fact,
    edit: Edit,
    terms: Terms,
    dependence: Callable[[str], Dependence],
) -> list[Shift] | None:
    """By how much the sums of triggers move with the edit of one fact, where nothing but their crossings can differ,
    and nothing depends on those; else None.

    Every fact since then came in the order of the events' times, no balance was cut since, nor can one be, and each
    system has at most one of these triggers.
    """
    contribution = 0 if edit.taken_out else edit.contribution_micros
    first = edit.taken_out and fact.position == state.first_position
    if contribution is None or contribution < 0 or edit.added or edit.dropped or first:
        return None
    if plan.late or plan.start != fact.position or any(due.key.trigger == GIFT for due in fact.given):
        return None
    found: dict[str, Shift] = {}
    for key in fact.triggers:
        trigger, timeline = terms(fact.terms).trigger(key), state.points.timelines.get(key)
        if trigger is None or not isinstance(trigger.cause, MetricCause):
            return None
        plain = (
            timeline is not None
            and trigger.amount > 0
            and not timeline.irregular
            and timeline.late_position < plan.start
            and (timeline.fractional or contribution % timeline.every_micros == 0)
            and _is_independent(state, key.points_system, plan.start, dependence)
        )
        if timeline is None or not plain or key.points_system in found:
            return None
        delta = fact.contribution_micros - contribution
        found[key.points_system] = Shift(key, timeline.accumulated_micros, timeline.every_micros, delta)
    return [shift for _, shift in sorted(found.items())]


def shifted(
    shift: Shift, crossing: Iterable[tuple[Fact, int]], fact: Fact, edit: Edit, terms: Terms
) -> list[Difference]:
    """Where the awards of a trigger differ whose sum has moved.

    `crossing`: the facts that cross more or less, each with what the sum was before it.
    """
    differing = []
    for each, sum_before in crossing:
        is_own = each.position == fact.position
        alone = replace(each, follows=True, triggers=(shift.key,), given=())
        grants = []
        for sum_micros, one in (
            (sum_before, alone),
            (
                sum_before if is_own else sum_before - shift.delta_micros,
                edited(alone, edit) if is_own else alone,
            ),
        ):
            count = sum_micros // shift.every_micros
            timeline = Timeline(sum_micros, sum_micros, count, count, shift.every_micros, fractional=True)
            points = Points(greeted=True, timelines={shift.key: timeline})
            systems = frozenset({shift.key.points_system})
            grants.append(_stepped(points, one, terms(each.terms), systems)[1])
        if grants[0] != grants[1]:
            differing.append((each.position, grants[0], grants[1]))
    return differing


def moved_by_shifts(state: UserState, shifts: Iterable[Shift]) -> UserState:
    """The state as it is stored, where only crossings differ."""
    timelines = dict(state.points.timelines)
    for shift in shifts:
        now = timelines[shift.key]
        left = now.accumulated_micros - shift.delta_micros
        count = left // now.every_micros - now.accumulated_micros // now.every_micros
        timelines[shift.key] = stored(
            replace(
                now,
                accumulated_micros=left,
                high_micros=now.high_micros - shift.delta_micros,
                due_count=now.due_count + count,
                granted_count=now.granted_count + count,
            )
        )
    return replace(state, points=replace(state.points, timelines=timelines))


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
    pair: Pair, facts: Sequence[Fact], edits: Mapping[int, Edit], terms: Terms, plan: Plan, *, settling: bool
) -> tuple[Pair, list[Difference]]:
    """The fold over more facts, both ways, and where their awards differ. Raises `HistoryNeeded`."""
    before, after = pair.before, pair.after
    differing = []
    oldest_to_come = _oldest_to_come(facts)
    for index, fact in enumerate(facts):
        catalogue = terms(fact.terms)
        changed = edited(fact, edits[fact.position]) if fact.position in edits else fact
        first = _stepped(before, fact, catalogue, plan.systems)
        same = before is after and changed is fact
        second = first if same else _stepped(after, changed, catalogue, plan.systems)
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
        points, grants = _stepped(points, fact, terms(fact.terms), None)
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
        _together(
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


def moved_by_shortcut(state: UserState, fact: Fact, edit: Edit) -> UserState:
    """The state as it is stored, where only the fact's own awards differ."""
    contribution = 0 if edit.taken_out else edit.contribution_micros
    if contribution is None:
        return state
    delta = contribution - fact.contribution_micros
    timelines = dict(state.points.timelines)
    for key in fact.triggers:
        if key in timelines:
            now = timelines[key]
            count = delta // now.every_micros
            timelines[key] = stored(
                replace(
                    now,
                    accumulated_micros=now.accumulated_micros + delta,
                    high_micros=now.high_micros + delta,
                    due_count=now.due_count + count,
                    granted_count=now.granted_count + count,
                )
            )
    return replace(state, points=replace(state.points, timelines=timelines))


def _makes_lateness_count(timelines: Iterable[Timeline], edits: Mapping[int, Edit]) -> bool:
    """Until now every event crossed its own multiples, late or not; a revised contribution ends that."""
    return any(
        edit.contribution_micros is not None
        and (edit.contribution_micros < 0 or edit.contribution_micros % timeline.every_micros != 0)
        for edit in edits.values()
        for timeline in timelines
        if timeline.every_micros and not timeline.fractional
    )


def _stepped(
    points: Points, fact: Fact, terms: Catalogue, systems: frozenset[str] | None
) -> tuple[Points, tuple[Grant, ...]]:
    stepped = step(points, fact, terms, systems=systems)
    if isinstance(stepped, InsufficientPoints):
        raise AssertionError("a fact is not refused again")
    return stepped.points, stepped.grants


def _taken_back(position: int, award: LiveAward, times: int) -> Draft:
    base = award.due.base_amount * times // award.due.times
    share = award.product.amount * times // award.due.times
    due = replace(award.due, times=-times, base_amount=-base)
    product = replace(award.product, amount=-share)
    return Draft(position, due, product, -share, -max(0, share), award.award_id, refolded=True)


def _together(account: Account, other: Account, no_cut_follows: bool, dependence: Dependence) -> bool:
    """Whether these balances make no difference to what follows."""
    if dependence.on_level and account.lifetime != other.lifetime:
        return False
    if dependence.expires and not no_cut_follows:
        return False
    if account.balance == other.balance:
        return True
    if dependence.on_level:
        return False
    if not no_cut_follows or not (_is_far_from_the_end(account) and _is_far_from_the_end(other)):
        return False
    # With less, nothing more is cut: what was spent stays spent. With more, a maximum could cut.
    return other.balance < account.balance or dependence.lowest_maximum > 2 * _FAR


def _is_independent(
    state: UserState, points_system: str, since: int, dependence: Callable[[str], Dependence]
) -> bool:
    """Whether what is given in a system is what it is, whatever else was given since a position, or was not."""
    account = state.points.accounts.get(points_system, EMPTY_ACCOUNT)
    is_uncut = account.cut_position < since and _is_far_from_the_end(account)
    return is_uncut and dependence(points_system).is_none


def _is_far_from_the_end(account: Account) -> bool:
    return abs(account.balance) < _FAR and account.lifetime < _FAR


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
