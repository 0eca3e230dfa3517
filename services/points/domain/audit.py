"""Whether what is stored of a user is what the facts give: the ledger, and what is derived from it (RULES 5.1).

The fold of all facts says which awards there have to be. Balance and lifetime have to be the sums of the ledger, the
level the one that they reach.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from services.points.domain.account import EMPTY_ACCOUNT
from services.points.domain.definitions import Catalogue
from services.points.domain.edits import LiveAward
from services.points.domain.facts import Fact, Identity
from services.points.domain.limits import Grant
from services.points.domain.state import UserState

Ledger = Mapping[tuple[int, Identity], LiveAward]


class Difference(Struct, frozen=True):
    """Something that is stored and should be something else."""

    user_id: str
    points_system: str
    what: str
    """Such as `balance`, or the award's trigger and entry."""
    stored: str
    expected: str


def wrong_awards(
    user_id: str, granted: Iterable[tuple[Fact, Sequence[Grant]]], ledger: Ledger
) -> list[Difference]:
    """Where the ledger is not what the fold of all facts grants."""
    expected = {
        (fact.position, grant.due.identity): (grant.due.times, grant.product.amount, grant.amount)
        for fact, grants in granted
        for grant in grants
    }
    stored = {
        name: (award.due.times, award.product.amount, award.amount)
        for name, award in ledger.items()
        if award.due.times or award.product.amount or award.amount
    }
    return [
        Difference(
            user_id,
            name[1].key.points_system,
            f"award of {name[1].key.trigger or 'a call'} for {name[1].entry_id}",
            _award(stored.get(name)),
            _award(expected.get(name)),
        )
        for name in sorted({*stored, *expected}, key=lambda name: (name[0], str(name[1])))
        if stored.get(name) != expected.get(name)
    ]


def wrong_accounts(state: UserState, ledger: Ledger, versions: Sequence[Catalogue]) -> list[Difference]:
    """Where balance, lifetime or level are not what the ledger makes of them.

    `versions`: of the definitions. A level that a change of thresholds made another is that until the next award.
    """
    balances: dict[str, int] = {}
    lifetimes: dict[str, int] = {}
    for (_, identity), award in ledger.items():
        system = identity.key.points_system
        balances[system] = balances.get(system, 0) + award.amount
        lifetimes[system] = lifetimes.get(system, 0) + max(0, award.amount)
    wrong: list[Difference] = []
    for key in sorted({*balances, *state.points.accounts}):
        account = state.points.accounts.get(key, EMPTY_ACCOUNT)
        balance, lifetime = balances.get(key, 0), lifetimes.get(key, 0)
        if account.balance != balance:
            wrong.append(Difference(state.user_id, key, "balance", str(account.balance), str(balance)))
        if account.lifetime != lifetime:
            wrong.append(Difference(state.user_id, key, "lifetime", str(account.lifetime), str(lifetime)))
        levels = [version.system(key).level_at(balance, lifetime) for version in versions]
        keys = [level.key if level else "" for level in levels]
        if account.level not in keys:
            wrong.append(Difference(state.user_id, key, "level", account.level, keys[-1] if keys else ""))
    return wrong


def _award(award: tuple[int, int, int] | None) -> str:
    if award is None:
        return "none"
    times, due, amount = award
    return f"{amount} of {due}, {times} times"
