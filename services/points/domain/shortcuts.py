"""What an edit changes, found without the fold where little can differ.

Where nothing but the fact's own awards can differ, no other fact is looked at (`shortcut`). Where awards that are given
with facts change and nothing depends on them, only those facts are (`apart`). Where the edit moves the crossings of
triggers and nothing depends on those, only the facts are that cross more or less than before (`shifts`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.counting import Timeline, stored
from services.points.domain.definitions import GIFT, BoostKey, MetricCause, TriggerKey
from services.points.domain.dependence import FAR, Dependence, balances_agree, is_independent
from services.points.domain.edits import Difference, Edit, LiveAward, Terms, edited
from services.points.domain.facts import Fact
from services.points.domain.fold import Points
from services.points.domain.ledger import Draft
from services.points.domain.limits import Grant
from services.points.domain.refold import Plan, stepped
from services.points.domain.state import UserState


class Shift(Struct, frozen=True):
    """The sum of a trigger is less from a fact on."""

    key: TriggerKey
    accumulated_micros: int
    """What it was in the end."""
    every_micros: int
    delta_micros: int
    """How much less; below zero where it is more."""


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
    if any(shares.values()) or any(abs(award.due.base_amount) >= FAR for award in live):
        return None
    for system in {draft.due.key.points_system for draft in drafts}:
        account = state.points.accounts[system]
        gain = sum(draft.amount for draft in drafts if draft.due.key.points_system == system)
        moved = replace(account, balance=account.balance + gain)
        lost = sum(draft.earned for draft in drafts if draft.due.key.points_system == system)
        moved = replace(moved, lifetime=moved.lifetime + lost)
        if not balances_agree(account, moved, account.cut_position < plan.start, dependence(system)):
            return None
    return drafts


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
    if not all(is_independent(state, key, first, dependence) for key in plan.systems):
        return None
    differing = []
    for position, edit in sorted(edits.items()):
        alone = replace(facts[position], follows=True, triggers=())
        if any(due.base_amount < 0 for due in (*alone.given, *edit.added)):
            return None
        points, catalogue = Points(greeted=True), terms(alone.terms)
        before = stepped(points, alone, catalogue, plan.systems)[1]
        after = stepped(points, edited(alone, edit), catalogue, plan.systems)[1]
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
            and is_independent(state, key.points_system, plan.start, dependence)
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
    crossed = _Crossed(shift, terms)
    for each, sum_before in crossing:
        is_own = each.position == fact.position
        before = crossed.grants(each, sum_before)
        after = (
            crossed.grants(edited(each, edit), sum_before)
            if is_own
            else crossed.grants(each, sum_before - shift.delta_micros)
        )
        if before != after:
            differing.append((each.position, before, after))
    return differing


class _Crossed:
    """What a trigger gives with facts that cross its multiples. Where terms and boosts are the same it is the same for
    as many of them, but for whom it belongs to, and the fold is asked once.
    """

    def __init__(self, shift: Shift, terms: Terms) -> None:
        self._shift = shift
        self._terms = terms
        self._known: dict[tuple[int, tuple[BoostKey, ...], int], tuple[Grant, ...]] = {}

    def grants(self, fact: Fact, sum_micros: int) -> tuple[Grant, ...]:
        """What it gives with a fact, before which the sum was this. What else is given with the fact is not asked."""
        every = self._shift.every_micros
        count = sum_micros // every
        times = (sum_micros + fact.contribution_micros) // every - count
        if fact.contribution_micros < 0 or self._shift.key not in fact.triggers or times == 0:
            return ()
        name = fact.terms, fact.boosts, times
        if name not in self._known:
            timeline = Timeline(sum_micros, sum_micros, count, count, every, fractional=True)
            points = Points(greeted=True, timelines={self._shift.key: timeline})
            systems = frozenset({self._shift.key.points_system})
            alone = replace(fact, follows=True, triggers=(self._shift.key,), given=())
            self._known[name] = stepped(points, alone, self._terms(fact.terms), systems)[1]
        return tuple(
            [replace(grant, due=replace(grant.due, owner=fact.instant)) for grant in self._known[name]]
        )


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


def _taken_back(position: int, award: LiveAward, times: int) -> Draft:
    base = award.due.base_amount * times // award.due.times
    share = award.product.amount * times // award.due.times
    due = replace(award.due, times=-times, base_amount=-base)
    product = replace(award.product, amount=-share)
    return Draft(position, due, product, -share, -max(0, share), award.award_id, refolded=True)
