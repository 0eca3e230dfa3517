"""RULES 6.3: how facts make a score."""

from datetime import timedelta
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from services.leaderboard.domain.boards import Board, Order, ScoreRule, Source, SourceKind
from services.leaderboard.domain.scores import (
    MAX_SCORE,
    NO_SCORE,
    Fact,
    Score,
    extended,
    folded,
    lessened,
    without,
)
from tests.unit.leaderboard.worlds import ALL_TIME, COMMITS, NOON, fact

XP_NET = Board("weekly-xp", Source(SourceKind.POINTS, "xp"), ScoreRule.NET)
LENGTHS = Board("streaks", Source(SourceKind.STREAK, "daily"), ScoreRule.NEWEST)
MINUTE = timedelta(minutes=1)


RULES = st.sampled_from([rule for rule in ScoreRule if rule is not ScoreRule.LENGTH])


def board(rule: ScoreRule, order: Order = Order.DESC) -> Board:
    return Board("b", COMMITS, rule, order)


def fact_lists() -> st.SearchStrategy[list[Fact]]:
    strategy = st.tuples(st.integers(-5, 5).filter(bool), st.integers(0, 6))
    return st.lists(strategy, max_size=12).map(
        lambda drawn: [
            fact(number, amount, NOON + minute * MINUTE, version=number)
            for number, (amount, minute) in enumerate(drawn, start=1)
        ]
    )


def test_a_sum_is_reached_when_the_latest_contribution_happened() -> None:
    score = folded(ALL_TIME, [fact(1, 3, NOON + MINUTE), fact(2, 4, NOON)])
    assert (score.amount, score.reach_time) == (7, NOON + MINUTE)


def test_the_best_value_is_the_largest_and_counts_from_its_first_occurrence() -> None:
    score = folded(board(ScoreRule.BEST), [fact(1, 5, NOON + MINUTE), fact(2, 3, NOON), fact(3, 5, NOON)])
    assert (score.amount, score.reach_time) == (5, NOON)


def test_the_best_value_of_an_ascending_board_is_the_smallest() -> None:
    assert folded(board(ScoreRule.BEST, Order.ASC), [fact(1, 5), fact(2, 3)]).amount == 3


def test_the_last_value_is_that_of_the_newest_event_not_of_the_latest_arrival() -> None:
    assert folded(board(ScoreRule.LAST), [fact(1, 5, NOON + MINUTE), fact(2, 3, NOON)]).amount == 5


def test_of_absolute_values_the_newest_version_wins_in_any_order() -> None:
    newest, stale = fact(1, 7, version=2), fact(2, 9, version=1)
    assert folded(LENGTHS, [newest, stale]).amount == folded(LENGTHS, [stale, newest]).amount == 7


def test_who_has_nothing_any_more_is_no_member_and_a_stale_value_does_not_bring_them_back() -> None:
    score = folded(LENGTHS, [fact(1, 3, version=1), fact(2, None, version=3), fact(3, 2, version=2)])
    assert not score.is_member


def test_what_adds_nothing_leaves_no_member_and_holds_no_time_of_reaching() -> None:
    assert folded(XP_NET, [fact(1, 0)]) == NO_SCORE
    score = folded(XP_NET, [fact(1, 10, NOON), fact(2, 0, NOON + MINUTE)])
    assert (score.amount, score.reach_time) == (10, NOON)


def test_a_sum_counts_contributions_and_a_best_value_looks_at_values() -> None:
    facts = [fact(1, 5, contribution=5), fact(2, 3, NOON + MINUTE, contribution=0)]
    score = folded(ALL_TIME, facts)
    assert (score.amount, score.reach_time) == (5, NOON)
    assert folded(board(ScoreRule.BEST, Order.ASC), facts).amount == 3


def test_points_earned_and_spent_leave_a_member_with_nothing() -> None:
    assert folded(XP_NET, [fact(1, 10), fact(2, -10)]).amount == 0


def test_a_sum_beyond_64_bits_stops_at_the_bound() -> None:
    assert folded(ALL_TIME, [fact(1, MAX_SCORE), fact(2, MAX_SCORE)]).amount == MAX_SCORE


def seen(score: Score) -> object:
    return score.amount, score.reach_time, score.source_version


@given(RULES, st.sampled_from(Order), fact_lists(), st.randoms(use_true_random=False))
def test_the_score_does_not_depend_on_the_order_of_arrival(
    rule: ScoreRule, order: Order, facts: list[Fact], random: object
) -> None:
    shuffled = list(facts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert seen(folded(board(rule, order), shuffled)) == seen(folded(board(rule, order), facts))


@given(RULES, st.sampled_from(Order), fact_lists())
def test_extending_fact_by_fact_gives_the_fold_over_all(
    rule: ScoreRule, order: Order, facts: list[Fact]
) -> None:
    ranked = board(rule, order)
    assert reduce(lambda score, one: extended(ranked, score, one), facts, NO_SCORE) == folded(ranked, facts)


@given(fact_lists())
def test_the_fold_gives_what_an_obvious_recomputation_gives(facts: list[Fact]) -> None:
    total = folded(ALL_TIME, facts)
    best = folded(board(ScoreRule.BEST), facts)
    last = folded(board(ScoreRule.LAST), facts)
    if not facts:
        assert total == best == last == NO_SCORE
        return
    amounts = [event.amount or 0 for event in facts]
    assert (total.amount, total.reach_time) == (sum(amounts), max(event.reach_time for event in facts))
    assert (best.amount, best.reach_time) == (
        max(amounts),
        min(event.reach_time for event in facts if event.amount == max(amounts)),
    )
    assert last.amount == max(facts, key=lambda one: (one.reach_time, one.entry_id)).amount


@given(
    st.sampled_from([ScoreRule.SUM, ScoreRule.NET, ScoreRule.BEST, ScoreRule.LAST]),
    st.sampled_from(Order),
    fact_lists().filter(bool),
    st.randoms(use_true_random=False),
)
def test_taking_one_fact_out_gives_what_the_others_give(
    rule: ScoreRule, order: Order, facts: list[Fact], random: object
) -> None:
    ranked, gone = board(rule, order), random.choice(facts)  # type: ignore[attr-defined]
    others = [event for event in facts if event is not gone]
    score = without(ranked, folded(ranked, facts), gone)
    if score is None and rule.adds:
        newest = max((other.reach_time for other in others), default=None)
        score = lessened(folded(ranked, facts), gone, newest)
    if score is not None:
        assert seen(score) == seen(folded(ranked, others))
