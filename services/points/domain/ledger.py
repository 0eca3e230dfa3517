"""The ledger and what follows from it: balance, lifetime, level, reach time (RULES 5.1, 5.5).

The ledger is only ever added to. A row counts at the place in the order of arrival of the fact that it was granted
with (`position`), belongs to the entry with which its condition was met, and names as its cause the entry whose
arrival or undoing wrote it. All rows with one position and one identity together are one award: the first is the
award, the others name it and say by how much a refold changed it, up or down.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.definitions import EXPIRED, Catalogue, TriggerKey
from services.points.domain.facts import Due, Identity
from services.points.domain.limits import Grant
from services.points.domain.multipliers import Product
from services.points.domain.state import UserState
from shared.ids import DerivedIds


class Award(Struct, frozen=True):
    """One row of the ledger."""

    award_id: UUID
    sequence: int
    """Place in the user's ledger, from 1, over all systems."""
    position: int
    """The place in the order of arrival at which it counts."""
    key: TriggerKey
    times: int
    """How often the trigger awards in this row; negative where it is taken back."""
    base_amount: int
    """What the trigger says, before it is multiplied, and before any limit."""
    product: Product
    """The same multiplied, before any limit; the multiplier is that of the award with this row."""
    amount: int
    """What was added to the balance."""
    entry_id: UUID
    """That it belongs to."""
    occur_time: datetime
    """When that entry occurred."""
    local_date: date
    """The date of that, in the entry's zone."""
    cause_entry_id: UUID
    """Whose arrival or undoing wrote it."""
    refolded: bool = False
    """A refold wrote it."""
    completion_id: UUID | None = None
    """Of an achievement trigger: the completion that is rewarded."""
    period: date | None = None
    """Of a streak trigger: the first date of the period that is rewarded."""
    reversed_award_id: UUID | None = None
    """The award that it changes: reverses, or cuts more or less of."""
    expire_date: date | None = None
    """The first date on which what it left is gone; None: never, or it is said by the award that it changes."""

    @property
    def clipped_amount(self) -> int:
        """What a limit cut."""
        return self.product.amount - self.amount

    @property
    def identity(self) -> Identity:
        """The award's name within its fact."""
        return Identity(self.key, self.entry_id, self.completion_id, self.period)


class Draft(Struct, frozen=True):
    """A row that has no place in the ledger yet."""

    position: int
    due: Due
    """What is added to what is due; all zero where only a limit cuts otherwise."""
    product: Product
    """What is added to what is due multiplied; the multiplier is that of the award with this row."""
    amount: int
    earned: int
    """What it adds to the lifetime."""
    reversed_award_id: UUID | None = None
    refolded: bool = False
    expire_date: date | None = None

    @staticmethod
    def of(position: int, grant: Grant) -> "Draft":
        """The row of an award."""
        expire_date = grant.expire_date
        return Draft(position, grant.due, grant.product, grant.amount, grant.earned, expire_date=expire_date)


class Change(Struct, frozen=True):
    """What happened to a user's points in one system."""

    points_system: str
    before: Account
    after: Account
    awards: tuple[Award, ...]

    @property
    def added(self) -> int:
        """The sum of the amounts."""
        return self.after.balance - self.before.balance


def write(
    catalogue: Catalogue, state: UserState, drafts: Sequence[Draft], cause_entry_id: UUID
) -> tuple[UserState, tuple[Change, ...]]:
    """The state with these rows, and the changes by key of the system.

    A reach time can only grow here: where awards are taken back, `reached` follows.
    """
    changes = []
    accounts = dict(state.points.accounts)
    sequence = state.award_count
    award_ids = DerivedIds("award", state.user_id, str(cause_entry_id))
    by_system: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_system.setdefault(draft.due.key.points_system, []).append(draft)
    for key, own in sorted(by_system.items()):
        before = accounts.get(key, EMPTY_ACCOUNT)
        awards = tuple(
            _row(award_ids.id(str(number)), draft, cause_entry_id, number)
            for number, draft in enumerate(own, start=sequence + 1)
        )
        sequence += len(awards)
        accounts[key] = _after(catalogue, key, before, own)
        changes.append(Change(key, before, accounts[key], awards))
    points = replace(state.points, accounts=accounts)
    return replace(state, points=points, award_count=sequence), tuple(changes)


def relevelled(catalogue: Catalogue, state: UserState, key: str) -> tuple[UserState, Change] | None:
    """The state with the level that the user has in a system by now, where the stored one is another (RULES 5.5)."""
    before = state.points.accounts.get(key, EMPTY_ACCOUNT)
    level = catalogue.system(key).level_at(before.balance, before.lifetime)
    after = replace(before, level=level.key if level else "", version=before.version + 1)
    if after.level == before.level:
        return None
    points = replace(state.points, accounts={**state.points.accounts, key: after})
    return replace(state, points=points), Change(key, before, after, ())


def retaken(changes: Iterable[Change]) -> frozenset[str]:
    """The systems in which an award changed that may have been the newest: their reach time has to be asked for."""
    return frozenset(
        change.points_system
        for change in changes
        for award in change.awards
        if award.reversed_award_id is not None
        and change.before.reach_time is not None
        and award.occur_time >= change.before.reach_time
    )


def reached(
    state: UserState, changes: Iterable[Change], times: Mapping[str, datetime | None]
) -> tuple[UserState, tuple[Change, ...]]:
    """The same with these reach times, by key of the system."""
    accounts = dict(state.points.accounts)
    for key, time in times.items():
        accounts[key] = replace(accounts[key], reach_time=time)
    found = tuple(
        replace(change, after=replace(change.after, reach_time=times[change.points_system]))
        if change.points_system in times
        else change
        for change in changes
    )
    return replace(state, points=replace(state.points, accounts=accounts)), found


def merged(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Changes one after the other as one for each system."""
    by_system: dict[str, Change] = {}
    for change in changes:
        known = by_system.get(change.points_system)
        by_system[change.points_system] = (
            Change(change.points_system, known.before, change.after, known.awards + change.awards)
            if known
            else change
        )
    return tuple(by_system[key] for key in sorted(by_system))


def _after(catalogue: Catalogue, key: str, before: Account, drafts: Sequence[Draft]) -> Account:
    balance, lifetime = before.balance, before.lifetime
    reach_time, cut_position = before.reach_time, before.cut_position
    for draft in drafts:
        balance += draft.amount
        lifetime += draft.earned
        due = draft.due
        if draft.amount and due.times >= 0:
            time = due.owner.occur_time
            reach_time = time if reach_time is None else max(reach_time, time)
        if _may_be_cut(draft):
            cut_position = max(cut_position, draft.position)
    level = catalogue.system(key).level_at(balance, lifetime)
    return Account(
        balance=balance,
        lifetime=lifetime,
        level=level.key if level else "",
        version=before.version + 1,
        reach_time=reach_time,
        cut_position=cut_position,
    )


def _may_be_cut(draft: Draft) -> bool:
    """A limit cut it, or would with less. What a refold takes was not spent when its fact came."""
    return (
        draft.amount != draft.product.amount
        or draft.due.key.trigger == EXPIRED
        or (draft.refolded and draft.due.times > 0 and draft.amount < 0)
    )


def _row(award_id: UUID, draft: Draft, cause_entry_id: UUID, sequence: int) -> Award:
    due, owner = draft.due, draft.due.owner
    return Award(
        award_id=award_id,
        sequence=sequence,
        position=draft.position,
        key=due.key,
        times=due.times,
        base_amount=due.base_amount,
        product=draft.product,
        amount=draft.amount,
        entry_id=owner.entry_id,
        occur_time=owner.occur_time,
        local_date=owner.local_date,
        cause_entry_id=cause_entry_id,
        refolded=draft.refolded,
        completion_id=due.completion_id,
        period=due.period,
        reversed_award_id=draft.reversed_award_id,
        expire_date=draft.expire_date,
    )
