"""When triggers are due (RULES 5.2)."""

from msgspec.structs import replace

from services.points.domain import (
    AchievementCause,
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
    TriggerKey,
    UserCreatedCause,
)
from shared.entries import EntryKind
from shared.filters import AttributeFilter, Equals
from tests.unit.points.account import UNIT, Account, amounts, only_change

TEN_PER_THREE = Trigger("commits", 10, MetricCause("commits", 3 * UNIT))
WEEKLY = Trigger("week", 50, StreakCause("daily", 7))
FIRST_WEEK = Trigger("first_week", 50, StreakCause("daily", 7, once=True))
BADGE = Trigger("badge", 100, AchievementCause("first_commit"))
WELCOME = Trigger("welcome", 25, UserCreatedCause())


def account(*triggers: Trigger) -> Account:
    return Account([PointsSystem("xp", triggers)])


def test_a_metric_trigger_awards_for_each_multiple_that_is_crossed_and_carries_the_remainder() -> None:
    alice = account(TEN_PER_THREE)
    assert [amounts(alice.earn(value)) for value in (2, 1, 7, 1.5, 0.5)] == [[], [10], [20], [], [10]]
    assert alice.balance == 40


def test_one_event_over_several_multiples_is_one_row_of_the_ledger() -> None:
    change = only_change(account(TEN_PER_THREE).earn(10))
    assert [(award.times, award.base_amount) for award in change.awards] == [(3, 30)]


def test_a_negative_event_claws_nothing_back_and_the_way_up_again_earns_nothing_twice() -> None:
    alice = account(TEN_PER_THREE)
    assert [amounts(alice.earn(value)) for value in (6, -4, 4, 3)] == [[20], [], [], [10]]


def test_a_negative_start_has_to_be_made_up_for_first() -> None:
    alice = account(TEN_PER_THREE)
    assert [amounts(alice.earn(value)) for value in (-5, 5, 3)] == [[], [], [10]]


def test_micro_units_are_counted_exactly() -> None:
    alice = account(Trigger("tenth", 1, MetricCause("commits", 100_000)))
    for _ in range(30):
        alice.earn(0.01)
    assert alice.balance == 3


def test_only_events_whose_attributes_and_user_match_are_accumulated() -> None:
    merged = MetricCause("commits", 3 * UNIT, (AttributeFilter("kind", Equals("merge")),))
    alice = account(Trigger("merges", 10, merged, (AttributeFilter("plan", Equals("pro")),)))
    alice.attributes = {"plan": "pro"}
    assert amounts(alice.earn(2, kind="merge")) == []
    assert amounts(alice.earn(2, kind="push")) == []
    alice.attributes = {"plan": "free"}
    assert amounts(alice.earn(2, kind="merge")) == []
    alice.attributes = {"plan": "pro"}
    assert amounts(alice.earn(1, kind="merge")) == [10]


def test_another_metric_touches_nothing() -> None:
    alice = account(TEN_PER_THREE)
    decided = alice.earn(30, metric="lines")
    assert (decided.changes, decided.metric_triggers) == ((), ())


def test_a_trigger_counts_from_when_it_was_added() -> None:
    alice = account()
    alice.earn(100)
    alice.systems = [PointsSystem("xp", (TEN_PER_THREE,))]
    assert amounts(alice.earn(2)) == []
    assert amounts(alice.earn(1)) == [10]


def test_a_changed_x_keeps_what_was_accumulated_and_awards_nothing_for_the_past() -> None:
    alice = account(TEN_PER_THREE)
    alice.earn(10)
    alice.systems = [PointsSystem("xp", (replace(TEN_PER_THREE, cause=MetricCause("commits", UNIT)),))]
    assert amounts(alice.earn(1)) == [10]


def test_an_archived_system_awards_nothing_and_counts_no_metric() -> None:
    alice = Account([PointsSystem("xp", (TEN_PER_THREE, WELCOME, BADGE), active=False)])
    assert alice.earn(30).changes == ()
    assert alice.applied(alice.achievement_event(("first_commit", True))).changes == ()


def test_a_streak_trigger_awards_at_each_multiple_of_its_length() -> None:
    alice = account(WEEKLY)
    earned = [amounts(alice.applied(alice.streak_event((n, n + 1)))) for n in range(15)]
    assert [day + 1 for day, award in enumerate(earned) if award] == [7, 14]


def test_a_streak_trigger_that_fires_once_does_so_in_each_run() -> None:
    alice = account(FIRST_WEEK)
    for run in ((0, 7), (7, 14), (0, 6), (6, 7)):
        alice.applied(alice.streak_event(run))
    assert alice.balance == 100


def test_a_long_extension_crosses_several_multiples_at_once() -> None:
    alice = account(WEEKLY)
    assert amounts(alice.applied(alice.streak_event((6, 21)))) == [150]


def test_two_runs_that_join_keep_one_award_where_the_trigger_fires_once_in_each_run() -> None:
    alice = account(FIRST_WEEK)
    for run in ((0, 7), (0, 8)):
        alice.applied(alice.streak_event(run))
    joined = only_change(alice.applied(alice.streak_event((7, 0), (8, 16))))
    assert [(award.amount, award.times) for award in joined.awards] == [(-50, -1)]
    assert joined.awards[0].reversed_award_id == alice.ledger[1].award_id
    assert alice.balance == 50


def test_a_correction_that_comes_before_what_it_corrects_gives_the_same_in_the_end() -> None:
    alice = account(WEEKLY)
    assert alice.applied(alice.streak_event((7, 6), kind=EntryKind.CORRECTION)).changes == ()
    assert alice.applied(alice.streak_event((6, 7))).changes == ()
    assert amounts(alice.applied(alice.streak_event((6, 7)))) == [50]


def test_what_was_due_while_the_user_did_not_match_is_neither_awarded_later_nor_taken_back() -> None:
    alice = account(replace(WEEKLY, user_filters=(AttributeFilter("plan", Equals("pro")),)))
    alice.attributes = {"plan": "pro"}
    alice.applied(alice.streak_event((0, 7)))
    alice.attributes = {"plan": "free"}
    alice.applied(alice.streak_event((7, 14)))
    alice.attributes = {"plan": "pro"}
    assert alice.applied(alice.streak_event((14, 15))).changes == ()
    assert alice.applied(alice.streak_event((15, 13), kind=EntryKind.CORRECTION)).changes == ()
    assert amounts(alice.applied(alice.streak_event((13, 14)))) == [50]
    assert alice.balance == 100


def test_several_changes_of_one_streak_in_an_entry_add_up() -> None:
    alice = account(WEEKLY)
    command = alice.streak_event((6, 7))
    both = replace(command, streak_changes=command.streak_changes + alice.streak_event((7, 6)).streak_changes)
    assert alice.applied(both).changes == ()


def test_a_completion_is_rewarded_once_and_its_revocation_takes_that_award_back() -> None:
    alice = account(BADGE)
    alice.applied(alice.achievement_event(("first_commit", True)))
    revoked = only_change(
        alice.applied(alice.achievement_event(("first_commit", False), kind=EntryKind.CORRECTION))
    )
    assert [award.reversed_award_id for award in revoked.awards] == [alice.ledger[0].award_id]
    assert alice.balance == 0


def test_a_revocation_that_comes_first_keeps_the_completion_from_being_rewarded() -> None:
    alice = account(BADGE)
    alice.applied(alice.achievement_event(("first_commit", False), kind=EntryKind.CORRECTION))
    assert alice.applied(alice.achievement_event(("first_commit", True))).changes == ()


def test_a_trigger_for_any_achievement_rewards_each_completion_and_revocation_finds_the_right_one() -> None:
    alice = account(Trigger("any", 5, AchievementCause(None)), BADGE)
    first = only_change(alice.applied(alice.achievement_event(("first_commit", True), ("night_owl", True))))
    assert [(award.key.trigger, award.amount) for award in first.awards] == [
        ("any", 5),
        ("any", 5),
        ("badge", 100),
    ]
    alice.applied(alice.achievement_event(("first_commit", False), kind=EntryKind.CORRECTION))
    assert alice.balance == 5
    assert {live.award.completion_id for live in alice.state.live_awards if live.live_times} == {
        first.awards[1].completion_id
    }


def test_the_first_entry_of_a_user_fires_the_trigger_for_new_users_once() -> None:
    alice = account(WELCOME)
    assert [amounts(alice.earn(1)) for _ in range(3)] == [[25], [], []]


def test_a_correction_is_nobodys_first_entry() -> None:
    alice = account(WELCOME)
    assert alice.applied(alice.streak_event(kind=EntryKind.CORRECTION)).changes == ()
    assert amounts(alice.earn(1)) == [25]


def test_a_streak_that_closes_is_nobodys_first_entry() -> None:
    alice = account(WELCOME)
    assert alice.applied(alice.streak_event(kind=EntryKind.STREAK_CLOSING)).changes == ()
    assert amounts(alice.earn(1)) == [25]


def test_a_streak_that_breaks_at_midnight_keeps_what_it_gave() -> None:
    alice = account(WEEKLY)
    alice.applied(alice.streak_event((6, 7)))
    assert alice.applied(alice.streak_event(kind=EntryKind.STREAK_CLOSING)).changes == ()
    assert alice.balance == 50


def test_awards_of_one_entry_come_in_the_order_of_the_triggers() -> None:
    alice = account(TEN_PER_THREE, WELCOME)
    change = only_change(alice.earn(3))
    assert [award.key for award in change.awards] == [
        TriggerKey("xp", "commits"),
        TriggerKey("xp", "welcome"),
    ]
    assert [award.sequence for award in change.awards] == [1, 2]
