"""What an admin takes away is earned by nothing, until that is undone (RULES 4.1)."""

from msgspec.structs import replace

from services.achievement.domain import Command, Refusal, Status
from shared.entries import EntryKind
from tests.unit.achievement.builders import (
    Player,
    achievement,
    api_achievement,
    call,
    completed,
    composite,
    correction,
    entry,
    event,
    player,
    revoked,
    streak_achievement,
    streak_event,
)


def revocation(name: str, key: str, minutes: int = 0) -> Command:
    return Command(
        entry(("revocation", name), EntryKind.ACHIEVEMENT_REVOCATION, minutes=minutes), achievement=key
    )


def test_it_goes_with_the_composites_that_hung_on_it_alone() -> None:
    alice = player(achievement(threshold=10), composite("top", "centurion"))
    alice.apply(event(1, 10, total=10))
    decision = alice.apply(revocation("r", "centurion"))
    assert revoked(decision.changes) == ["centurion", "top"]
    assert alice.held == set()
    assert [taken.achievement for taken in decision.taken] == ["centurion"]


def test_nothing_earns_it_again() -> None:
    alice = player(
        achievement(threshold=10),
        streak_achievement(length=2),
        api_achievement(),
        composite("top", "founder"),
    )
    alice.apply(event(1, 10, total=10), streak_event(2, length=2, longest=2), call("c"))
    for key in ("top", "centurion", "fortnight", "founder"):
        alice.apply(revocation(key, key))
    assert completed(alice.apply(event(3, 10, total=20))) == []
    assert completed(alice.apply(streak_event(4, length=3, longest=3))) == []
    assert alice.apply(call("again")).refusal is Refusal.REVOKED
    undone = event(5, -3, total=17)
    alice.apply(undone)
    assert alice.void(undone, correction(6, undone, total=20)).changes == ()
    assert alice.held == set()


def test_of_a_repeatable_one_each_time_goes() -> None:
    again = replace(achievement(threshold=5), repeatable=True)
    alice = player(again)
    alice.apply(event(1, 12, total=12))
    assert len(alice.apply(revocation("r", "centurion")).taken) == 2
    assert alice.held == set()


def test_what_is_not_held_and_what_does_not_exist_is_refused() -> None:
    alice = player(achievement())
    assert alice.apply(revocation("r", "centurion")).refusal is Refusal.NOT_HELD
    assert alice.apply(revocation("s", "unknown")).refusal is Refusal.NOT_FOUND


def test_what_nobody_can_earn_any_more_can_be_taken_away() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 10, total=10))
    locked = Player(player(replace(achievement(threshold=10), status=Status.LOCKED)).catalogue, alice.state)
    assert revoked(locked.apply(revocation("r", "centurion")).changes) == ["centurion"]
