"""What is left of awards, and expires (RULES 5.7)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import permutations
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.points.domain.audit import wrong_awards
from services.points.domain.decisions import Applied
from services.points.domain.definitions import Expiry, MetricCause, PointsSystem, Trigger, TriggerKey
from services.points.domain.facts import Command, Due, Instant
from services.points.domain.limits import Grant
from services.points.domain.lots import NEVER, Lots, expired, granted, moved
from services.points.domain.multipliers import Product
from services.points.domain.refold import folded
from shared.entries import EntryKind, PointsGift, PointsSpend
from tests.unit.points.user import START, UNIT, User

DAY = 24 * 60
"""Minutes."""
TODAY = START.date()
SYSTEM = PointsSystem(
    "xp", (Trigger("commit", 1, MetricCause("commits", UNIT)),), expiry=Expiry(after_days=10)
)


def user(system: PointsSystem = SYSTEM) -> User:
    return User([system])


def spend(alice: User, amount: int) -> Command:
    return Command(
        replace(alice.entry(EntryKind.POINTS_SPEND), content=PointsSpend(PointsGift("xp", -amount)))
    )


def test_a_date_of_expiry_follows_from_the_date_of_the_award() -> None:
    assert Expiry(after_days=30).of(date(2025, 1, 31)) == date(2025, 3, 2)
    at_the_end_of_the_next_year = Expiry(after_days=366, yearly=(1, 1))
    assert at_the_end_of_the_next_year.of(date(2025, 1, 1)) == date(2027, 1, 1)
    assert at_the_end_of_the_next_year.of(date(2025, 12, 31)) == date(2027, 1, 1)
    assert Expiry(yearly=(1, 1)).of(date(2025, 1, 1)) == date(2026, 1, 1)
    assert Expiry(yearly=(2, 29)).of(date(2025, 2, 1)) == date(2025, 3, 1)
    assert Expiry(yearly=(2, 29)).of(date(2027, 12, 1)) == date(2028, 2, 29)
    assert Expiry(on_date=date(2025, 6, 1)).of(date(2025, 5, 31)) == date(2025, 6, 1)
    assert Expiry(on_date=date(2025, 6, 1)).of(date(2025, 6, 1)) is None


def test_what_expires_soonest_is_spent_first_and_what_never_expires_last() -> None:
    june, july = date(2025, 6, 1), date(2025, 7, 1)
    lots = moved(Lots(), "xp", [(10, None), (20, july), (30, june)])
    lots = moved(lots, "xp", [(-45, None)])
    assert expired(lots, "xp", june) == 0
    assert expired(lots, "xp", july) == 5
    lots = moved(lots, "xp", [(-20, None)])
    assert (lots.left["xp"][july], lots.owed["xp"]) == (0, 5)
    assert moved(lots, "xp", [(12, july)]).left["xp"][july] == 7


def test_of_what_comes_together_what_expires_soonest_pays_for_what_is_owed() -> None:
    june = date(2025, 6, 1)
    owing = moved(Lots(), "xp", [(-7, None)])
    key, owner = TriggerKey("xp", "any"), Instant(UUID(int=1), START, TODAY)
    grants = [
        Grant(Due(key, owner, 1, amount), Product(amount), amount, end)
        for amount, end in ((23, None), (5, june), (-3, None))
    ]
    for order in permutations(grants):
        lots = granted(owing, "xp", order)
        assert (expired(lots, "xp", june), lots.left["xp"][NEVER]) == (0, 18)


def test_what_is_left_is_gone_with_the_midnight_and_a_level_with_it() -> None:
    alice = user()
    alice.earn(7)
    alice.applied(spend(alice, 3))
    alice.earn(5, at=2 * DAY)
    alice.pass_time(START + timedelta(days=9))
    assert alice.balance == 9
    alice.pass_time(START + timedelta(days=10))
    assert alice.balance == 5
    assert [(award.key.trigger, award.amount) for award in alice.ledger][-1] == ("(expired)", -4)
    assert alice.ledger[-1].local_date == TODAY + timedelta(days=10)
    alice.pass_time(START + timedelta(days=30))
    assert (alice.balance, alice.points().lifetime) == (0, 12)


def test_what_comes_too_late_for_its_date_is_gone_with_the_next_pass() -> None:
    alice = user()
    alice.earn(7, at=20 * DAY)
    alice.earn(4, at=0)
    assert alice.balance == 11
    alice.pass_time(START + timedelta(days=20))
    assert alice.balance == 7


def test_a_spending_that_is_undone_gives_back_what_has_not_expired_without_it() -> None:
    alice = user()
    alice.earn(50)
    spent = spend(alice, 50)
    alice.applied(spent)
    alice.earn(50, at=8 * DAY)
    alice.pass_time(START + timedelta(days=12))
    alice.applied(spend(alice, 20))
    alice.undo(spent.entry.entry_id)
    alice.pass_time(START + timedelta(days=12))
    assert alice.balance == 30


@dataclass
class Naive:
    """Lots in a list, each on its own."""

    lots: list[list[int]] = field(default_factory=list)
    debt: int = 0

    @property
    def balance(self) -> int:
        return sum(amount for _, amount in self.lots) - self.debt

    def earn(self, day: int, amount: int) -> None:
        paid = min(self.debt, amount)
        self.debt -= paid
        self.lots.append([day + 10, amount - paid])
        self.lots.sort(key=lambda lot: lot[0])

    def take(self, amount: int) -> None:
        for lot in self.lots:
            taken = min(amount, lot[1])
            lot[1] -= taken
            amount -= taken
        self.debt += amount

    def pass_to(self, day: int) -> None:
        self.lots = [lot for lot in self.lots if lot[0] > day]


def replayed(ops: Sequence[tuple[str, int, int, int]]) -> int:
    """The balance that operations give: what, on which day, of which day, how many."""
    naive = Naive()
    for what, today, day, amount in ops:
        naive.pass_to(today)
        if what == "earn":
            naive.earn(day, amount)
        elif what == "spend":
            naive.take(amount)
    return naive.balance


OPS = st.lists(
    st.tuples(
        st.sampled_from(["earn", "earn", "spend", "pass"]),
        st.integers(0, 6),
        st.integers(0, 14),
        st.integers(1, 30),
    ),
    max_size=14,
)


@given(OPS, st.lists(st.integers(0, 13), max_size=4))
@settings(deadline=None)
def test_any_history_leaves_what_single_lots_would_also_after_voids(
    drawn: list[tuple[str, int, int, int]], voided: list[int]
) -> None:
    alice, today = user(), 0
    done: list[tuple[str, int, int, int]] = []
    entries = {}
    for what, later, late, amount in drawn:
        today += later
        alice.pass_time(START + timedelta(days=today))
        day = max(0, today - late)
        if what == "earn":
            command = alice.metric_event(amount * UNIT, at=day * DAY + len(done))
        else:
            command = spend(alice, amount)
            command = replace(command, entry=replace(command.entry, occur_time=START + timedelta(days=today)))
        if what == "pass" or not isinstance(alice.apply(command), Applied):
            what = "pass"
        else:
            entries[len(done)] = command.entry.entry_id
        done.append((what, today, day, amount))
        assert alice.balance == replayed(done)
    for index in dict.fromkeys(voided):
        if index in entries:
            alice.undo(entries.pop(index))
            done[index] = ("pass", *done[index][1:])
            # What is given back of dates that are over expires with the next pass.
            alice.pass_time(START + timedelta(days=today))
            assert alice.balance == replayed([*done, ("pass", today, 0, 0)])
    facts = [alice.past.complete(fact) for _, fact in sorted(alice.past.facts.items())]
    granted = list(folded(facts, lambda version: alice.past.catalogues[version], settling=False))
    assert wrong_awards("alice", granted, alice.past.live_awards()) == []
    alice.pass_time(START + timedelta(days=today + 100))
    assert alice.balance == min(0, replayed([*done, ("pass", today + 100, 0, 0)]))
