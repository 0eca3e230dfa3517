"""On what of the facts before them awards depend, and when what came before makes no difference any more."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from msgspec import Struct

from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.days import reach
from services.points.domain.definitions import POINTS_LIMIT, PointsSystem
from services.points.domain.state import UserState

FAR: Final = POINTS_LIMIT // 4
"""Below it, no balance or lifetime comes near the end of the numbers."""


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
        limitless = self.lowest_maximum > 2 * FAR
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


def balances_agree(account: Account, other: Account, no_cut_follows: bool, dependence: Dependence) -> bool:
    """Whether these balances make no difference to what follows."""
    if dependence.on_level and account.lifetime != other.lifetime:
        return False
    if dependence.expires and not no_cut_follows:
        return False
    if account.balance == other.balance:
        return True
    if dependence.on_level:
        return False
    if not no_cut_follows or not (is_far_from_the_end(account) and is_far_from_the_end(other)):
        return False
    # With less, nothing more is cut: what was spent stays spent. With more, a maximum could cut.
    return other.balance < account.balance or dependence.lowest_maximum > 2 * FAR


def is_independent(
    state: UserState, points_system: str, since: int, dependence: Callable[[str], Dependence]
) -> bool:
    """Whether what is given in a system is what it is, whatever else was given since a position, or was not."""
    account = state.points.accounts.get(points_system, EMPTY_ACCOUNT)
    is_uncut = account.cut_position < since and is_far_from_the_end(account)
    return is_uncut and dependence(points_system).is_none


def is_far_from_the_end(account: Account) -> bool:
    """Whether its numbers cannot reach the end of their range, where awards would be cut."""
    return abs(account.balance) < FAR and account.lifetime < FAR
