"""What a user sees of the achievements (RULES 4.5)."""

import pytest
from msgspec.structs import replace

from services.achievement.domain import Catalogue, Progress, Status, list_progress
from tests.unit.achievement.builders import (
    MERGED,
    NOON,
    UNIT,
    Player,
    achievement,
    api_achievement,
    call,
    event,
    player,
    streak_achievement,
    streak_closing,
    streak_correction,
    streak_event,
)


def seen(alice: Player, *, completed_only: bool = False) -> list[Progress]:
    return list_progress(alice.catalogue, alice.state, NOON, completed_only=completed_only)


def keys(progress: list[Progress]) -> list[str]:
    return [row.achievement.key for row in progress]


def test_progress_is_the_present_total_against_the_threshold() -> None:
    alice = player(achievement(threshold=40))
    alice.apply(event(1, 10, total=10))
    (progress,) = seen(alice)
    assert (progress.current, progress.percent) == (10 * UNIT, 25.0)


def test_progress_of_a_filtered_achievement_is_the_sum_of_matching_events() -> None:
    alice = player(achievement(threshold=40, event_filters=[MERGED]))
    alice.apply(event(1, 10, total=10), event(2, 4, total=14, attributes={"state": "merged"}))
    assert seen(alice)[0].percent == 10.0


def test_progress_of_a_streak_is_its_present_length() -> None:
    alice = player(streak_achievement(length=10))
    alice.apply(streak_event(1, length=2, longest=5))
    assert seen(alice)[0].percent == 20.0


def test_a_streak_that_breaks_at_midnight_takes_its_progress_back() -> None:
    alice = player(streak_achievement(length=10))
    alice.apply(streak_event(1, length=5, longest=5), streak_closing(2, length=0, longest=5))
    assert (seen(alice)[0].current, seen(alice)[0].percent) == (0, 0.0)


def test_a_correction_of_a_streak_corrects_its_progress() -> None:
    alice = player(streak_achievement(length=10))
    alice.apply(streak_event(1, length=5, longest=5), streak_correction(2, length=4, longest=4))
    assert seen(alice)[0].current == 4


def test_a_closing_that_is_overtaken_by_an_event_leaves_its_progress() -> None:
    alice = player(streak_achievement(length=10))
    alice.apply(streak_event(3, length=1, longest=5), streak_closing(2, length=0, longest=5))
    assert seen(alice)[0].current == 1


def test_progress_of_a_completed_streak_stays_where_it_was_completed() -> None:
    alice = player(streak_achievement(length=3))
    alice.apply(streak_event(1, length=3, longest=3))
    decision = alice.apply(streak_closing(2, length=0, longest=3))
    assert decision.changes == ()
    (progress,) = seen(alice)
    assert (progress.completion is not None, progress.current, progress.percent) == (True, 3, 100.0)


def test_progress_is_never_below_zero_nor_above_a_hundred_percent() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, -5, total=-5, peak=0))
    assert seen(alice)[0].percent == 0.0
    alice.apply(event(2, 500, total=495), event(3, -490, total=5, peak=495))
    assert seen(alice)[0].percent == 100.0


def test_a_user_without_events_sees_what_can_be_earned() -> None:
    assert [
        progress.percent for progress in seen(player(achievement(), streak_achievement(), api_achievement()))
    ] == [
        0.0,
        0.0,
        0.0,
    ]


def test_earned_ones_come_first_newest_first_then_the_others_by_group_tier_and_key() -> None:
    alice = player(
        replace(achievement("third", 900), tier_group="b", tier=1),
        replace(achievement("second", 800), tier_group="a", tier=2),
        replace(achievement("first", 999), tier_group="a", tier=1),
        achievement("old", 1),
        achievement("new", 5),
    )
    alice.apply(event(1, 1, total=1), event(2, 4, total=5))
    assert keys(seen(alice)) == ["new", "old", "first", "second", "third"]


def test_only_earned_ones_are_listed_when_that_is_asked_for() -> None:
    alice = player(achievement("low", 1), achievement("high", 10))
    alice.apply(event(1, 1, total=1))
    assert keys(seen(alice, completed_only=True)) == ["low"]


@pytest.mark.parametrize(
    ("status", "by_others", "by_holders"),
    [
        (Status.ACTIVE, True, True),
        (Status.LOCKED, False, True),
        (Status.INACTIVE, False, False),
        (Status.ARCHIVED, False, False),
    ],
)
def test_the_status_decides_who_sees_an_achievement(
    status: Status, by_others: bool, by_holders: bool
) -> None:
    holder, other = player(api_achievement()), player(api_achievement())
    holder.apply(call("c1"))
    for someone in (holder, other):
        someone.catalogue = Catalogue([replace(api_achievement(), status=status)])
    assert (bool(seen(other)), bool(seen(holder))) == (by_others, by_holders)


def test_a_hidden_achievement_is_shown_once_it_is_earned() -> None:
    alice = player(replace(api_achievement(), hidden=True))
    assert seen(alice) == []
    alice.apply(call("c1"))
    assert keys(seen(alice)) == ["founder"]
