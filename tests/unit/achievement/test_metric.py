"""Achievements by a metric (RULES 2.2, 2.5, 4.1, 4.2, 4.4)."""

import itertools

import pytest
from msgspec.structs import replace

from services.achievement.domain import (
    Accumulator,
    Achievement,
    Catalogue,
    ChangeKind,
    Command,
    Decision,
    Past,
    SourceKey,
    SourceKind,
    Status,
    Wanted,
    decide,
)
from shared.entries import ContributionRevision
from tests.unit.achievement.builders import (
    MERGED,
    NOON,
    UNIT,
    Player,
    achievement,
    call,
    completed,
    correction,
    entry_id,
    event,
    for_pros,
    player,
    revoked,
    streak_achievement,
)

PRO_USER = {"plan": "pro"}
FREE_USER = {"plan": "free"}
IS_MERGED = {"state": "merged"}


def test_a_total_that_reaches_the_threshold_completes_the_achievement() -> None:
    alice = player(achievement(threshold=100))
    assert completed(alice.apply(event(1, 99, total=99))) == []
    assert completed(alice.apply(event(2, 1, total=100))) == ["centurion"]


def test_a_completion_names_the_entry_that_caused_it_and_when_that_occurred() -> None:
    alice = player(achievement(threshold=1))
    completion = alice.apply(event(3, 1, total=1)).changes[0].completion
    assert completion.entry_id == entry_id(3)
    assert (completion.reach.occur_time - NOON).seconds == 180
    assert completion.reach.local_date == NOON.date()


def test_a_completion_of_the_same_entry_always_has_the_same_id() -> None:
    first, second = (player(achievement(threshold=1)).apply(event(1, 1, total=1)) for _ in range(2))
    assert first.changes == second.changes


def test_one_event_completes_every_tier_that_it_crosses_lowest_first() -> None:
    alice = player(achievement("gold", 100), achievement("bronze", 1), achievement("silver", 10))
    assert completed(alice.apply(event(1, 50, total=50))) == ["bronze", "silver"]


def test_an_achievement_is_completed_only_once() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 10, total=10))
    assert alice.apply(event(2, 10, total=20)).changes == ()


def test_a_negative_event_revokes_nothing() -> None:
    alice = player(achievement(threshold=10))
    assert alice.apply(event(1, 10, total=10), event(2, -5, total=5, peak=10)).changes == ()
    assert alice.held == {"centurion"}


@pytest.mark.parametrize("status", [Status.INACTIVE, Status.LOCKED, Status.ARCHIVED])
def test_only_an_active_achievement_can_be_earned(status: Status) -> None:
    alice = player(replace(achievement(threshold=1), status=status))
    assert alice.apply(event(1, 1, total=1)).changes == ()


def test_events_of_another_metric_touch_nothing() -> None:
    catalogue = Catalogue([achievement(), streak_achievement()])
    assert catalogue.following([SourceKey(SourceKind.METRIC, "lines")]) == []
    assert catalogue.following([SourceKey(SourceKind.METRIC, "daily")]) == []


def test_an_older_total_never_replaces_a_newer_one() -> None:
    alice = player(achievement(threshold=100))
    alice.apply(event(2, 30, total=50), event(1, 20, total=20))
    source = alice.state.sources[SourceKey(SourceKind.METRIC, "commits")]
    assert (source.version, source.current) == (2, 50 * UNIT)


def test_events_that_arrive_in_another_order_complete_the_same() -> None:
    alice = player(achievement("low", 20), achievement("high", 50), achievement("beyond", 51))
    alice.apply(event(2, 30, total=50), event(1, 20, total=20))
    assert alice.held == {"low", "high"}


def test_only_an_event_of_an_eligible_user_completes() -> None:
    alice = player(for_pros(achievement(threshold=10)))
    assert completed(alice.apply(event(1, 10, total=10, user=FREE_USER))) == []
    assert completed(alice.apply(event(2, 1, total=11, user=PRO_USER))) == ["centurion"]


def test_a_late_event_earns_no_more_than_it_would_have_earned_in_time() -> None:
    """Eligible at the first event, which did not reach the threshold, and no longer at the second."""
    alice = player(for_pros(achievement(threshold=10)))
    alice.apply(event(2, 5, total=10, user=FREE_USER), event(1, 5, total=5, user=PRO_USER))
    assert alice.held == set()


def test_a_late_event_does_not_count_what_was_undone_meanwhile() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(correction(3, total=4), event(2, 4, total=12))
    assert alice.held == set()


# Event filters


def test_with_event_filters_the_sum_of_the_matching_events_counts() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    alice.apply(event(1, 50, total=50), event(2, 9, total=59, attributes=IS_MERGED))
    assert alice.held == set()
    assert completed(alice.apply(event(3, 1, total=60, attributes=IS_MERGED))) == ["centurion"]


def test_a_matching_negative_event_lowers_the_sum_and_revokes_nothing() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    alice.apply(event(1, 10, total=10, attributes=IS_MERGED))
    alice.apply(event(2, -4, total=6, peak=10, attributes=IS_MERGED))
    assert alice.held == {"centurion"}
    assert alice.state.accumulators["centurion"].sum_micros == 6 * UNIT


def test_an_event_that_does_not_match_completes_nothing_of_its_metric() -> None:
    alice = player(for_pros(achievement(threshold=10, event_filters=[MERGED])))
    alice.apply(event(1, 10, total=10, attributes=IS_MERGED, user=FREE_USER))
    assert alice.apply(event(2, 1, total=11, user=PRO_USER)).changes == ()


# Corrections


def test_a_correction_revokes_what_no_longer_holds() -> None:
    alice = player(achievement("low", 5), achievement("high", 10))
    second = event(2, 6, total=11)
    alice.apply(event(1, 5, total=5), second)
    assert revoked(alice.void(second, correction(3, second, total=5)).changes) == ["high"]
    assert alice.held == {"low"}


def test_a_correction_completes_what_holds_without_the_undone_event() -> None:
    """+6, -5, +5 never reached 10; without the -5 it did, with the last of them."""
    alice = player(achievement(threshold=10))
    negative = event(2, -5, total=1, peak=6)
    alice.apply(event(1, 6, total=6), negative, event(3, 5, total=6))
    change = alice.void(negative, correction(4, negative, total=11)).changes[0]
    assert (change.kind, change.completion.entry_id) == (ChangeKind.COMPLETED, entry_id(3))


def test_a_correction_of_an_event_that_never_came_only_tells_the_total() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 10, total=10))
    assert alice.apply(correction(3, event(2, 2, total=12), total=4)).changes == ()
    assert alice.state.sources[SourceKey(SourceKind.METRIC, "commits")].current == 4 * UNIT


def test_a_revoked_achievement_can_be_earned_again() -> None:
    alice = player(achievement(threshold=10))
    first = event(1, 10, total=10)
    alice.apply(first)
    alice.void(first, correction(2, first, total=0))
    again = alice.apply(event(3, 10, total=10)).changes[0].completion
    assert again.entry_id == entry_id(3)


def test_a_raised_threshold_takes_nothing_from_those_who_reached_the_old_one() -> None:
    alice = player(achievement(threshold=10))
    first, second, third = event(1, 3, total=3), event(2, 3, total=6), event(3, 10, total=16)
    alice.apply(first, second, third)
    alice.catalogue = Catalogue([achievement(threshold=100)])
    assert alice.void(first, correction(4, first, total=13)).changes == ()
    assert revoked(alice.void(third, correction(5, third, total=3)).changes) == ["centurion"]


# Late events, and what is undone (RULES 2.5)


def commit(name: int, hours: int, value: int = 5, *, plan: str = "") -> Command:
    return event(name, value, total=value, minutes=hours * 60, user={"plan": plan} if plan else {})


def first_and_ten() -> tuple[Achievement, Achievement]:
    return achievement("first-commit", 1), achievement("ten-commits", 10)


def owners(alice: Player) -> dict[str, int]:
    """Hours before noon, by achievement."""
    return {
        key: round((live.reach.occur_time - NOON).total_seconds() / 3600)
        for key, live in sorted(alice.state.completions.items())
    }


def test_without_the_first_of_three_both_achievements_pass_on() -> None:
    alice = player(*first_and_ten())
    commits = [commit(1, -96), commit(2, -72), commit(3, -24)]
    alice.apply(*commits)
    assert owners(alice) == {"first-commit": -96, "ten-commits": -72}
    ids = {live.completion_id for live in alice.state.completions.values()}
    changes = alice.void(commits[0], correction(4, commits[0], total=10)).changes
    assert [(change.kind, change.completion.achievement) for change in changes] == [
        (ChangeKind.REVOKED, "first-commit"),
        (ChangeKind.COMPLETED, "first-commit"),
        (ChangeKind.REVOKED, "ten-commits"),
        (ChangeKind.COMPLETED, "ten-commits"),
    ]
    assert owners(alice) == {"first-commit": -72, "ten-commits": -24}
    assert not ids & {live.completion_id for live in alice.state.completions.values()}


def test_without_the_last_of_three_nothing_is_touched() -> None:
    alice = player(*first_and_ten())
    commits = [commit(1, -96), commit(2, -72), commit(3, -24)]
    alice.apply(*commits)
    assert alice.void(commits[2], correction(4, commits[2], total=10)).changes == ()


def test_a_completion_that_comes_back_to_an_event_is_another_one() -> None:
    alice = player(achievement(threshold=10))
    negative, first = commit(2, -80, -5), commit(1, -96)
    alice.apply(first, negative, commit(3, -72), commit(4, -24))
    assert owners(alice) == {"centurion": -24}
    there = alice.state.completions["centurion"].completion_id
    alice.void(negative, correction(5, negative, total=15))
    assert owners(alice) == {"centurion": -72}
    alice.void(first, correction(6, first, total=10))
    assert owners(alice) == {"centurion": -24}
    assert alice.state.completions["centurion"].completion_id != there


@pytest.mark.parametrize("order", [*itertools.permutations([-72, -48, -24])])
def test_whichever_of_three_comes_last_the_third_date_reaches_ten(order: tuple[int, ...]) -> None:
    alice = player(achievement(threshold=10))
    alice.apply(*(commit(hours, hours, 4) for hours in order))
    assert owners(alice) == {"centurion": -24}


def test_a_late_event_moves_nothing_that_had_been_granted() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(commit(1, -48, 10))
    assert alice.apply(commit(2, -96, 10)).changes == ()
    assert owners(alice) == {"centurion": -48}


def test_a_late_negative_event_comes_too_late_to_prevent() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(commit(1, -48, 10))
    assert alice.apply(commit(2, -96, -5)).changes == ()
    assert alice.held == {"centurion"}


def test_a_late_event_asks_for_facts_only_where_a_sum_has_come_to_a_threshold() -> None:
    alice = player(achievement("low", 5), achievement("high", 20))
    alice.apply(commit(1, -24), commit(2, -48), commit(3, -12))
    assert alice.asked == []
    alice.apply(commit(4, -36))
    assert {start.key and start.key.entry_id for start in alice.asked} == {entry_id(4)}
    assert owners(alice) == {"high": -12, "low": -24}


def test_undoing_what_came_after_a_completion_asks_for_no_facts() -> None:
    alice = player(achievement("low", 5), achievement("high", 100))
    last = commit(3, -24)
    alice.apply(commit(1, -96), commit(2, -72), last)
    alice.void(last, correction(4, last, total=10))
    assert alice.asked == []


def test_a_completion_passes_on_only_to_an_event_whose_user_could_earn_it() -> None:
    """What counts is the user as of that event, whoever the user is when the other one is undone (RULES 4.2)."""
    alice = player(for_pros(achievement(threshold=10)))
    first = commit(1, -96, 10, plan="pro")
    alice.apply(first, commit(2, -72, 10, plan="free"), commit(3, -24, 10, plan="pro"))
    assert owners(alice) == {"centurion": -96}
    alice.void(first, correction(4, first, total=20, user={"plan": "free"}))
    assert owners(alice) == {"centurion": -24}


def test_what_a_late_event_of_another_plan_brings_about_belongs_to_who_could_earn_it() -> None:
    alice = player(for_pros(achievement(threshold=10)))
    alice.apply(commit(1, -24, 6, plan="pro"), commit(2, -48, 6, plan="free"))
    assert owners(alice) == {"centurion": -24}


def last_value(name: int, hours: int, value: int, contribution: int, *revisions: tuple[int, int]) -> Command:
    """An event of a metric that is the last of its values."""
    told = event(name, value, total=value, minutes=hours * 60)
    metric = told.entry.metric
    assert metric is not None
    metric = replace(
        metric,
        revisable=True,
        revisable_contribution_micros=contribution * UNIT,
        revisions=tuple(ContributionRevision(entry_id(one), micros * UNIT) for one, micros in revisions),
    )
    return replace(told, entry=replace(told.entry, metric=metric))


@pytest.mark.parametrize("late", [False, True])
def test_a_last_value_that_was_high_enough_once_completes_in_both_orders(late: bool) -> None:
    alice = player(achievement(threshold=100))
    if late:
        alice.apply(last_value(1, -1, 5, 5), last_value(2, -30, 150, 150, (1, -145)))
    else:
        alice.apply(last_value(1, -30, 150, 150), last_value(2, -1, 5, -145))
    assert owners(alice) == {"centurion": -30}


def test_a_revision_that_comes_before_its_event_is_used_when_that_comes() -> None:
    alice = player(achievement(threshold=100))
    alice.apply(last_value(2, -30, 90, 90, (1, 20)), last_value(1, -1, 110, 110))
    total = alice.state.totals["commits"]
    assert total.sums.sum_micros == 110 * UNIT
    assert owners(alice) == {"centurion": -1}


def test_a_revision_of_an_undone_event_changes_nothing() -> None:
    alice = player(achievement(threshold=100))
    first = last_value(1, -1, 5, 5)
    alice.apply(first)
    alice.revert(first)
    alice.apply(last_value(2, -30, 50, 50, (1, -45)))
    assert alice.state.totals["commits"].sums == Accumulator(50 * UNIT, 50 * UNIT)


def best_without(version: int, gone: Command, peak: int, *revisions: tuple[int, int]) -> Command:
    """The correction that follows when a result is undone; `peak`: the best of the others."""
    told = correction(version, gone, total=peak, peak=peak)
    metric = told.entry.metric
    assert metric is not None
    metric = replace(
        metric,
        revisable=True,
        one_value=True,
        revisions=tuple(ContributionRevision(entry_id(one), micros * UNIT) for one, micros in revisions),
    )
    return replace(told, entry=replace(told.entry, metric=metric))


def decided_from_what_is_at_hand(alice: Player, told: Command) -> Decision:
    """Raises `Wanted` where other facts of the metric have to be read."""
    return decide(alice.catalogue, alice.state, told, Past(dict(alice.facts)))


def test_only_what_the_undone_result_owns_hangs_on_it_and_else_no_other_is_looked_at() -> None:
    alice = player(achievement(threshold=100), achievement("legend", threshold=500))
    first, second = last_value(1, -60, 90, 90), last_value(2, -30, 130, 40)
    alice.apply(first, second, last_value(3, -1, 150, 20))
    alice.revert(first)
    told = best_without(4, first, 150, (2, 130))
    assert decided_from_what_is_at_hand(alice, told).changes == ()
    alice.apply(told)
    assert owners(alice) == {"centurion": -30}
    assert alice.state.totals["commits"].sums.sum_micros == 150 * UNIT
    alice.void(second, best_without(5, second, 150, (3, 150)))
    assert owners(alice) == {"centurion": -1}


def test_what_no_other_result_reaches_goes_and_none_is_looked_at() -> None:
    alice = player(achievement(threshold=100))
    best = last_value(2, -30, 130, 40)
    alice.apply(last_value(1, -60, 90, 90), best, last_value(3, -1, 95, 0))
    alice.revert(best)
    told = best_without(4, best, 95, (3, 5))
    assert revoked(decided_from_what_is_at_hand(alice, told).changes) == ["centurion"]


def test_a_result_that_came_between_an_undoing_and_its_correction_earns_what_its_value_reaches() -> None:
    """What it contributed by the ledger, which had the undone one until the correction, did not reach it."""
    alice = player(achievement(threshold=120))
    first = last_value(1, -60, 100, 100)
    alice.apply(first)
    alice.revert(first)
    alice.apply(last_value(2, -30, 150, 50))
    assert alice.held == set()
    alice.apply(best_without(3, first, 150, (2, 150)))
    assert owners(alice) == {"centurion": -30}


def test_what_the_others_reach_is_looked_up_where_results_came_that_the_correction_did_not_know() -> None:
    alice = player(achievement(threshold=100))
    best = last_value(2, -30, 130, 40)
    alice.apply(last_value(1, -60, 90, 90), best)
    alice.revert(best)
    alice.apply(last_value(4, -1, 110, 20))
    told = best_without(3, best, 90)
    with pytest.raises(Wanted):
        decided_from_what_is_at_hand(alice, told)
    alice.apply(told)
    assert owners(alice) == {"centurion": -1}


def test_who_owns_it_instead_is_looked_for_among_the_results_that_beat_others() -> None:
    """However many others there were meanwhile."""
    alice = player(achievement(threshold=100))
    best = last_value(1, -60, 130, 130)
    others = [last_value(number, number - 60, 90, 0) for number in range(2, 50)]
    alice.apply(best, *others, last_value(50, -1, 140, 10))
    alice.void(best, best_without(51, best, 140, (2, 90), (50, 50)))
    assert owners(alice) == {"centurion": -1}
    assert len(alice.asked) == 1


def test_a_call_for_an_achievement_by_metric_is_refused() -> None:
    decision = player(achievement()).apply(call("c1", "centurion"))
    assert decision.refusal is not None
    assert decision.refusal.value == "TRIGGER_NOT_API"
