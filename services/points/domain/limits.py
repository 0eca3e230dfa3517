"""What limits of the balance leave of what is due in one system with one fact (RULES 5.4).

Everything that is due with the fact is added up first, then cut: what would exceed the maximum is cut from what is
given, what would fall below the minimum from what is taken; in both cases the last trigger's share goes first. A
balance that is beyond a limit already (a definition changed, an earlier fact was taken out) is not moved by the limit
itself.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

from msgspec import Struct

from services.points.domain.definitions import GIFT, POINTS_LIMIT, PointsSystem
from services.points.domain.facts import Due, Identity
from services.points.domain.multipliers import Product


class Grant(Struct, frozen=True):
    """What is due, as limits leave it: an award."""

    due: Due
    product: Product
    amount: int
    expire_date: date | None = None
    """The first date on which what it left is gone; None: never."""

    @property
    def is_cut(self) -> bool:
        """A limit acted."""
        return self.amount != self.product.amount

    @property
    def earned(self) -> int:
        """What it adds to the lifetime."""
        return max(0, self.amount)


class InsufficientPoints(Struct, frozen=True):
    """A blocking deduction is not covered: `balance - required` would be below `min_balance`."""

    points_system: str
    trigger: str
    """Key of the deduction; `GIFT` where the entry takes them by itself."""
    balance: int
    required: int
    """What the entry as a whole takes from the balance."""
    min_balance: int
    held: int = 0
    """What of the balance is held."""


class NotGiven(Struct, frozen=True):
    """An entry gives or takes points of a system that there is not, or that is archived."""

    points_system: str
    archived: bool


class NoRoom(Struct, frozen=True):
    """Points that pass to a user do not fit below `max_balance`: none do (RULES 5.7)."""

    points_system: str
    balance: int
    amount: int
    max_balance: int


class HoldEnded(Struct, frozen=True):
    """Nothing is held under this name any more."""

    hold_id: UUID


class HoldTooSmall(Struct, frozen=True):
    """More is to be captured than is held."""

    hold_id: UUID
    held: int
    amount: int


class TooManyHolds(Struct, frozen=True):
    """No more can be held at once."""

    points_system: str


Refusal = InsufficientPoints | NotGiven | NoRoom | HoldEnded | HoldTooSmall | TooManyHolds
"""Why an entry changes nothing at all."""


def base_amount(amount: int, times: int) -> int:
    """So many points so many times, before any limit of a system."""
    return max(-POINTS_LIMIT, min(POINTS_LIMIT, amount * times))


def in_order(system: PointsSystem, dues: Sequence[Due]) -> Sequence[Due]:
    """In the order in which the triggers are defined; those of one trigger in the order of the events' times."""
    if len(dues) < 2:
        return dues
    place = {trigger.key: index for index, trigger in enumerate(system.triggers)}
    return sorted(dues, key=lambda due: (place.get(due.key.trigger, len(place)), due.key, due.owner.order))


def uncovered(
    system: PointsSystem, balance: int, held: int, dues: Sequence[Due], amounts: Sequence[int]
) -> InsufficientPoints | None:
    """Why the fact is refused: it takes more than there is, and spends, or one of its deductions says `block`.

    `held`: so much of the balance is held.
    """
    total = sum(amounts)
    if balance + total - (held if total < 0 else 0) >= system.min_balance:
        return None
    blocks = {trigger.key for trigger in system.triggers if trigger.amount < 0 and trigger.block}
    blocking = next((due for due in dues if due.key.trigger in blocks or _is_spent(due)), None)
    if blocking is None:
        return None
    return InsufficientPoints(system.key, blocking.key.trigger, balance, -total, system.min_balance, held)


def limited(
    system: PointsSystem,
    balance: int,
    lifetime: int,
    dues: Sequence[Due],
    products: Sequence[Product],
    amounts: Sequence[int],
    spent: Mapping[Identity, int],
) -> tuple[Grant, ...]:
    """The awards for what is due, with these amounts before the limits of the balance.

    A deduction that is still due takes what it took when it came (`spent`), or more.
    """
    total = given = 0
    for amount in amounts:
        total += amount
        if amount > 0:
            given += amount
    excess = max(balance + total - system.max_balance, lifetime + given - POINTS_LIMIT)
    if excess > 0:
        amounts = _cut(amounts, excess, sign=1, kept=[0] * len(dues))
    shortage = system.min_balance - balance - sum(amounts)
    if shortage > 0:
        kept = [-spent.get(due.identity, 0) for due in dues] if spent else [0] * len(dues)
        amounts = _cut(amounts, shortage, sign=-1, kept=kept)
        # What was spent may take the balance below the minimum, never out of the numbers.
        beyond = -POINTS_LIMIT - balance - sum(amounts)
        if beyond > 0:
            amounts = _cut(amounts, beyond, sign=-1, kept=[0] * len(dues))
    return tuple(map(Grant, dues, products, amounts))


def _cut(amounts: Sequence[int], surplus: int, *, sign: int, kept: Sequence[int]) -> list[int]:
    """The amounts with `surplus` taken off those with this sign, the last ones first, none below what is kept of it."""
    left = list(amounts)
    for index in reversed(range(len(left))):
        cut = min(surplus, left[index] * sign - kept[index])
        if surplus > 0 and left[index] * sign > 0 and cut > 0:
            left[index] -= sign * cut
            surplus -= cut
    return left


def _is_spent(due: Due) -> bool:
    """What an entry takes by itself is taken whole or not at all (RULES 5.7)."""
    return due.key.trigger == GIFT and due.base_amount < 0
