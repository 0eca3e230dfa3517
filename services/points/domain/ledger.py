"""What a system's dues do to its ledger and balance: reversal, limits, refusal, level (RULES 5.1, 5.4, 5.5).

The balance is the sum of the ledger, the lifetime the sum of what awards gave and no reversal took back. Both
are exact: what a limit cuts is not in the ledger's amounts. What a limit has cut once stays cut when the
entry that filled the balance is undone later.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.definitions import POINTS_LIMIT, PointsSystem, Trigger, TriggerKey
from services.points.domain.state import NO_STANDING, Award, LiveAward, Standing, UserState
from services.points.domain.triggers import Due
from shared.ids import derived_id


class Source(Struct, frozen=True):
    """Why rows are written."""

    entry_id: UUID
    occur_time: datetime
    local_date: date
    """The local date of `occur_time`, in the entry's zone."""
    refusable: bool = False
    """A blocking deduction that is not covered refuses the entry. What follows from other entries has to go
    through.
    """
    exact: bool = False
    """Of corrections and reverts: deductions are not cut at the minimum."""
    undoing: bool = False
    """The entry is being undone; its rows then have ids of their own."""
    undone_entry_id: UUID | None = None
    """The entry that is undone or corrected: its own awards are taken back before others."""


class Change(Struct, frozen=True):
    """What happened to a user's points in one system."""

    points_system: str
    before: Standing
    after: Standing
    awards: tuple[Award, ...]

    @property
    def added(self) -> int:
        """The sum of the amounts."""
        return self.after.balance - self.before.balance


class InsufficientPoints(Struct, frozen=True):
    """A blocking deduction is not covered: `balance - required` would be below `min_balance`."""

    points_system: str
    trigger: str
    balance: int
    required: int
    """What the entry as a whole takes from the balance."""
    min_balance: int


class _Draft(Struct, frozen=True):
    """A row that has no place in the ledger yet."""

    key: TriggerKey
    times: int
    base_amount: int
    amount: int
    earned: int
    """What it adds to the lifetime."""
    completion_id: UUID | None
    reversed_award: Award | None = None


def post(
    system: PointsSystem, state: UserState, dues: Sequence[Due], source: Source
) -> tuple[UserState, Change] | InsufficientPoints:
    """The state and the change after a system's dues (at least one): first reversals, then awards."""
    before = state.standings.get(system.key, NO_STANDING)
    live_awards, reversals = _take_back(state.live_awards, system, before.balance, dues, source)
    grants = _grants(system, before, reversals, dues, source)
    if isinstance(grants, InsufficientPoints):
        return grants
    awards = _rows(system, state, (*reversals, *grants), source)
    live_awards += tuple(LiveAward(award, award.times) for award in awards if award.times > 0)
    balance = before.balance + sum(award.amount for award in awards)
    lifetime = before.lifetime + sum(draft.earned for draft in (*reversals, *grants))
    level = system.level_at(balance, lifetime)
    after = Standing(
        balance=balance,
        lifetime=lifetime,
        level=level.key if level else "",
        version=before.version + 1,
        reach_time=_reach_time(system.key, before, live_awards, reversed_any=bool(reversals)),
    )
    moved = replace(
        state,
        award_count=state.award_count + len(awards),
        standings={**state.standings, system.key: after},
        live_awards=live_awards,
    )
    return moved, Change(system.key, before, after, awards)


def clip(system: PointsSystem, standing: Standing, amounts: Sequence[int], floor: int) -> list[int]:
    """The amounts of one entry as the limits leave them (RULES 5.4): added up first, then cut.

    What would exceed the maximum is cut from what is given, what would fall below `floor` from what is taken;
    in both cases the last trigger's share goes first. A balance that is beyond a limit already (a definition
    changed, an award was undone) is not moved by the limit itself.
    """
    excess = standing.balance + sum(amounts) - system.max_balance
    given = sum(amount for amount in amounts if amount > 0)
    amounts = _cut(amounts, max(excess, standing.lifetime + given - POINTS_LIMIT), sign=1)
    shortage = floor - standing.balance - sum(amounts)
    return _cut(amounts, shortage, sign=-1)


def _cut(amounts: Iterable[int], surplus: int, *, sign: int) -> list[int]:
    """The amounts with `surplus` taken off those with this sign, the last ones first, none beyond zero."""
    kept = list(amounts)
    for index in reversed(range(len(kept))):
        if surplus > 0 and kept[index] * sign > 0:
            cut = min(surplus, abs(kept[index]))
            kept[index] -= sign * cut
            surplus -= cut
    return kept


def _grants(
    system: PointsSystem, before: Standing, reversals: Sequence[_Draft], dues: Sequence[Due], source: Source
) -> list[_Draft] | InsufficientPoints:
    """What the system's triggers award, in the order of their definition."""
    order = {trigger.key: index for index, trigger in enumerate(system.triggers)}
    due = sorted((one for one in dues if one.times > 0), key=lambda one: order[one.key.trigger])
    triggers = [system.triggers[order[one.key.trigger]] for one in due]
    bases = [_base_amount(trigger, one.times) for trigger, one in zip(triggers, due, strict=True)]
    standing = replace(
        before,
        balance=before.balance + sum(draft.amount for draft in reversals),
        lifetime=before.lifetime + sum(draft.earned for draft in reversals),
    )
    if source.refusable:
        blocking = next((one for one in triggers if one.block and one.amount < 0), None)
        if blocking and standing.balance + sum(bases) < system.min_balance:
            return InsufficientPoints(
                system.key, blocking.key, standing.balance, -sum(bases), system.min_balance
            )
    amounts = clip(system, standing, bases, -POINTS_LIMIT if source.exact else system.min_balance)
    return [
        _Draft(one.key, one.times, base, amount, max(0, amount), one.completion_id)
        for one, base, amount in zip(due, bases, amounts, strict=True)
    ]


def _take_back(
    live_awards: tuple[LiveAward, ...],
    system: PointsSystem,
    balance: int,
    dues: Iterable[Due],
    source: Source,
) -> tuple[tuple[LiveAward, ...], list[_Draft]]:
    """The reversals for every due below zero, and the awards that are left.

    A reversal is exact and may take the balance below the minimum. Points that it gives back (it reverses a
    deduction) end at the maximum, like any others.
    """
    left = list(live_awards)
    drafts: list[_Draft] = []
    for due in dues:
        wanted = -due.times
        for index in _in_turn(left, due, source):
            live = left[index]
            if wanted > 0:
                times = min(wanted, live.live_times)
                wanted -= times
                left[index] = replace(live, live_times=live.live_times - times)
                drafts.append(_reversal(live, left[index], system, balance))
                balance += drafts[-1].amount
    return tuple(left), drafts


def _in_turn(live_awards: Sequence[LiveAward], due: Due, source: Source) -> list[int]:
    """Which awards answer a due below zero, the first to be taken back first: the newest.

    But the undone entry's own go before them, so that what is taken back is missing on the date on which it was
    given (RULES 6.3, 7.3); unless a limit has cut one of the newest, for what was cut is the first to go.
    """
    newest = [
        index
        for index in reversed(range(len(live_awards)))
        if live_awards[index].live_times and _answers(live_awards[index].award, due)
    ]
    wanted = -due.times
    for live in (live_awards[index] for index in newest):
        if wanted > 0 and live.live_amount != live.live_base_amount:
            return newest
        wanted -= live.live_times
    return sorted(newest, key=lambda index: live_awards[index].award.entry_id != source.undone_entry_id)


def _answers(award: Award, due: Due) -> bool:
    return (award.key, award.completion_id) == (due.key, due.completion_id)


def _reversal(before: LiveAward, after: LiveAward, system: PointsSystem, balance: int) -> _Draft:
    """The row that takes an award back from one number of times to another, usually zero."""
    amount = after.live_amount - before.live_amount
    given_back = min(max(amount, 0), max(0, system.max_balance - balance))
    taken = max(min(amount, 0), -POINTS_LIMIT - balance)
    return _Draft(
        key=before.award.key,
        times=after.live_times - before.live_times,
        base_amount=after.live_base_amount - before.live_base_amount,
        amount=given_back + taken,
        earned=min(amount, 0),
        completion_id=before.award.completion_id,
        reversed_award=before.award,
    )


def _rows(
    system: PointsSystem, state: UserState, drafts: Iterable[_Draft], source: Source
) -> tuple[Award, ...]:
    step = "undo" if source.undoing else "apply"
    return tuple(
        Award(
            award_id=derived_id("award", str(source.entry_id), step, *draft.key, str(number)),
            sequence=state.award_count + number,
            key=TriggerKey(system.key, draft.key.trigger),
            times=draft.times,
            base_amount=draft.base_amount,
            amount=draft.amount,
            entry_id=source.entry_id,
            occur_time=source.occur_time,
            local_date=draft.reversed_award.local_date if draft.reversed_award else source.local_date,
            completion_id=draft.completion_id,
            reversed_award_id=draft.reversed_award.award_id if draft.reversed_award else None,
        )
        for number, draft in enumerate(drafts, start=1)
    )


def _base_amount(trigger: Trigger, times: int) -> int:
    return max(-POINTS_LIMIT, min(POINTS_LIMIT, trigger.amount * times))


def _reach_time(
    points_system: str, before: Standing, live_awards: Iterable[LiveAward], *, reversed_any: bool
) -> datetime | None:
    """When the newest award occurred that is live and moved the balance."""
    times = [
        live.award.occur_time
        for live in live_awards
        if live.award.key.points_system == points_system and live.live_times and live.award.amount
    ]
    if before.reach_time is not None and not reversed_any:
        times.append(before.reach_time)
    return max(times, default=None)
