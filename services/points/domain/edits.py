"""What becomes of a fact that is taken out or changed, and what is known of the awards that were given with it."""

from collections.abc import Callable, Mapping
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.definitions import GIFT, BoostKey, Catalogue
from services.points.domain.facts import Due, Fact, Identity
from services.points.domain.limits import Grant
from services.points.domain.multipliers import Product

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


def edited(fact: Fact, edit: Edit) -> Fact:
    """The fact as it is from now on."""
    given = tuple(due for due in fact.given if not edit.drops(due.identity))
    fact = replace(fact, given=given + edit.added)
    if edit.taken_out:
        return replace(fact, follows=True, contribution_micros=0, triggers=())
    if edit.contribution_micros is not None:
        return replace(fact, contribution_micros=edit.contribution_micros)
    return fact
