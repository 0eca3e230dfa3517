"""RULES 6.1 to 6.5: what an entry does to its user's scores."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec.structs import replace

from services.leaderboard.domain.boards import Board, Boards, ScoreRule, Source, SourceKind, segment_values
from services.leaderboard.domain.entries import decide, keeps_rank_history, undone
from services.leaderboard.domain.facts import Command, PointsChange, command_of
from services.leaderboard.domain.lengths import StreakChange
from services.leaderboard.domain.past import wanted
from services.leaderboard.domain.ranks import member_of
from services.leaderboard.domain.runs import Run, RunState, RunUnit, Schedule, finalize_time
from services.leaderboard.domain.scores import Fact, folded
from services.leaderboard.domain.states import Decision, Move, Past, Runs, UserState
from shared.entries import EntryKind
from tests.unit.leaderboard.worlds import (
    ALL_TIME,
    COMMITS,
    GRACE,
    NOON,
    award,
    command,
    entry,
    entry_id,
    fact,
)

WEEKLY = Board("weekly", COMMITS, schedule=Schedule(unit=RunUnit.WEEK))
BY_REGION = Board("by-region", COMMITS, breakdown=("region",))
STREAKS = Board("streaks", Source(SourceKind.STREAK, "daily"), ScoreRule.NEWEST)
WEEKLY_STREAKS = Board(
    "weekly-streaks",
    Source(SourceKind.PERIODS, "daily"),
    ScoreRule.LENGTH,
    schedule=Schedule(unit=RunUnit.WEEK),
)
BALANCES = Board("rich", Source(SourceKind.BALANCE, "xp"), ScoreRule.NEWEST)
WEEKLY_XP = Board(
    "weekly-xp", Source(SourceKind.POINTS, "xp"), ScoreRule.NET, schedule=Schedule(unit=RunUnit.WEEK)
)
THIS_WEEK = Run(date(2026, 3, 2), date(2026, 3, 8))
ADA = UserState("ada")


def applied(
    boards: Sequence[Board],
    commands: Sequence[Command],
    user: UserState = ADA,
    runs: Runs | None = None,
    past: Past | None = None,
) -> list[Decision]:
    """The decisions on these entries, one after the other, as in one batch."""
    decisions: list[Decision] = []
    known = dict(runs or {})
    for sent in commands:
        decisions.append(decide(Boards.of(boards), user, sent, known, past or Past(), GRACE))
        user = decisions[-1].user
        known |= decisions[-1].runs
    return decisions


def moves(decision: Decision) -> list[Move]:
    return [move for change in decision.changes for move in change.moves()]


def scores(decision: Decision) -> dict[str, int | None]:
    return {key: held.score.amount for (key, _), held in decision.user.held.items()}


def open_run(board: Board, run: Run) -> RunState:
    return RunState(board.key, run, finalize_time(run, GRACE))


def test_an_event_counts_on_every_board_of_its_metric() -> None:
    (decision,) = applied([ALL_TIME, WEEKLY, STREAKS], [command(entry(1, value=5))])
    assert scores(decision) == {"all-time": 5, "weekly": 5}


def test_an_event_counts_in_the_run_of_its_local_date() -> None:
    sunday_night = datetime(2026, 3, 8, 23, tzinfo=UTC)
    in_london = command(entry(1, value=1, at=sunday_night, time_zone="Europe/London"))
    in_tokyo = command(entry(2, value=1, at=sunday_night, time_zone="Asia/Tokyo"))
    *_, decision = applied([WEEKLY], [in_london, in_tokyo])
    assert {start for _, start in decision.user.held} == {date(2026, 3, 2), date(2026, 3, 9)}


def test_an_archived_board_takes_no_part() -> None:
    (decision,) = applied([replace(ALL_TIME, active=False)], [command(entry(1, value=5))])
    assert not decision.changed
    assert not moves(decision)


def test_an_entry_after_the_finalisation_does_not_count_and_is_told_so() -> None:
    run = open_run(WEEKLY, THIS_WEEK)
    assert run.finalize_time is not None
    late = command(entry(1, value=5, now=run.finalize_time))
    (decision,) = applied([WEEKLY], [late])
    assert not decision.changed
    assert decision.closed == (replace(run, finalized=True),)


def test_what_the_archive_says_outweighs_the_time_of_the_entry() -> None:
    archived = replace(open_run(WEEKLY, THIS_WEEK), finalized=True)
    (decision,) = applied(
        [WEEKLY], [command(entry(1, value=5))], runs={("weekly", THIS_WEEK.start): archived}
    )
    assert not decision.changed
    assert decision.closed == (archived,)


def test_a_move_leads_from_the_old_position_to_the_new_one() -> None:
    first, second = applied([ALL_TIME], [command(entry(1, value=5)), command(entry(2, value=2))])
    assert moves(first)[0].before is None
    (move,) = moves(second)
    assert move.before == moves(first)[0].after
    assert move.after is not None
    assert member_of(ALL_TIME.order, move.after).amount == 7


def test_a_user_is_in_the_whole_board_and_in_the_segment_of_their_attributes() -> None:
    (decision,) = applied([BY_REGION], [command(entry(1, value=5, attributes={"region": "EU", "x": "y"}))])
    assert [segment_values(move.segment) for move in moves(decision)] == [{}, {"region": "EU"}]


def test_a_user_without_a_breakdown_attribute_is_in_the_whole_board_only() -> None:
    both = replace(BY_REGION, breakdown=("region", "team"))
    (decision,) = applied([both], [command(entry(1, value=5, attributes={"region": "EU"}))])
    assert [segment_values(move.segment) for move in moves(decision)] == [{}]


def test_equal_attribute_values_in_any_order_are_one_segment() -> None:
    both = replace(BY_REGION, breakdown=("region", "team"))
    turned = replace(BY_REGION, breakdown=("team", "region"))
    attributes = {"team": "a", "region": "EU"}
    (decision,) = applied([both], [command(entry(1, value=5, attributes=attributes))])
    (other,) = applied([turned], [command(entry(1, value=5, attributes=attributes))])
    assert moves(decision)[1].segment == moves(other)[1].segment


def moved_to_asia(number: int, snapshot_version: int) -> Command:
    update = entry(
        number,
        kind=EntryKind.USER_UPDATE,
        attributes={"region": "AS"},
        snapshot_version=snapshot_version,
    )
    return command(update)


def european() -> UserState:
    (first,) = applied([BY_REGION], [command(entry(1, value=5, attributes={"region": "EU"}))])
    return first.user


def test_when_the_attributes_change_the_whole_score_moves_to_the_new_segment() -> None:
    runs = {("by-region", date.min): RunState("by-region", Run(date.min, date.max), None)}
    (decision,) = applied([BY_REGION], [moved_to_asia(2, 2)], user=european(), runs=runs)
    left, entered = moves(decision)
    assert (segment_values(left.segment), left.after, left.reported) == ({"region": "EU"}, None, False)
    assert (segment_values(entered.segment), entered.before) == ({"region": "AS"}, None)
    assert entered.after is not None
    assert member_of(BY_REGION.order, entered.after).amount == 5


def test_an_older_snapshot_of_the_user_moves_nothing() -> None:
    runs = {("by-region", date.min): RunState("by-region", Run(date.min, date.max), None)}
    user = european()
    stale = replace(user, profile=replace(user.profile, version=9))
    (decision,) = applied([BY_REGION], [moved_to_asia(2, 2)], user=stale, runs=runs)
    assert not moves(decision)


def test_a_score_in_a_finalised_run_does_not_move() -> None:
    weekly_by_region = replace(BY_REGION, schedule=Schedule(unit=RunUnit.WEEK))
    (first,) = applied([weekly_by_region], [command(entry(1, value=5, attributes={"region": "EU"}))])
    archived = replace(open_run(weekly_by_region, THIS_WEEK), finalized=True)
    (decision,) = applied(
        [weekly_by_region],
        [moved_to_asia(2, 2)],
        user=first.user,
        runs={("by-region", THIS_WEEK.start): archived},
    )
    assert not moves(decision)


def length(version: int, days: int, longest: int, at: datetime | None = NOON) -> StreakChange:
    return StreakChange("daily", version, days, longest, at)


def streak_entry(
    number: int, change: StreakChange, at: datetime = NOON, corrects: int | None = None
) -> Command:
    kind = EntryKind.STREAK_CLOSING if corrects is None else EntryKind.CORRECTION
    return command(entry(number, kind=kind, at=at, corrects=corrects), streak=change)


def test_a_streak_board_follows_the_length_also_when_it_breaks() -> None:
    gained, lost = applied([STREAKS], [streak_entry(1, length(1, 4, 4)), streak_entry(2, length(2, 0, 4))])
    assert (scores(gained), scores(lost)) == ({"streaks": 4}, {"streaks": 0})


def test_a_stale_length_never_overwrites_a_newer_one() -> None:
    _, second = applied([STREAKS], [streak_entry(1, length(2, 5, 5)), streak_entry(2, length(1, 4, 4))])
    assert scores(second) == {"streaks": 5}


def test_who_turns_out_never_to_have_had_a_streak_leaves_the_board() -> None:
    _, undone_all = applied(
        [STREAKS], [streak_entry(1, length(1, 1, 1)), streak_entry(2, length(2, 0, 0, None), corrects=1)]
    )
    assert [move.after for move in moves(undone_all)] == [None]


def points(
    version: int, added: int, balance: int, lifetime: int = 99, belongs_to: int | None = None
) -> PointsChange:
    given = award(version if belongs_to is None else belongs_to, added)
    return PointsChange("xp", version, balance, lifetime, NOON, (given,))


def points_entry(number: int, change: PointsChange, corrects: int | None = None) -> Command:
    kind = EntryKind.ACHIEVEMENT_CALL if corrects is None else EntryKind.CORRECTION
    return command(entry(number, kind=kind, corrects=corrects), points=change)


def test_a_perpetual_points_board_shows_the_balance_and_a_repeating_one_the_net_change() -> None:
    _, second = applied(
        [BALANCES, WEEKLY_XP], [points_entry(1, points(8, 10, 110)), points_entry(2, points(9, -4, 106))]
    )
    assert scores(second) == {"rich": 106, "weekly-xp": 6}


def test_points_taken_back_by_a_correction_take_the_user_off_the_board() -> None:
    _, corrected = applied(
        [BALANCES, WEEKLY_XP],
        [
            points_entry(1, points(1, 10, 10, 10)),
            points_entry(2, points(2, -10, 0, 0, belongs_to=1), corrects=1),
        ],
    )
    assert scores(corrected) == {"rich": None, "weekly-xp": None}
    assert [move.after for move in moves(corrected)] == [None, None]


def test_only_boards_with_runs_have_points_and_lengths_kept() -> None:
    (perpetual,) = applied([BALANCES, STREAKS], [points_entry(1, points(1, 10, 10))])
    (repeating,) = applied([BALANCES, WEEKLY_XP], [points_entry(1, points(1, 10, 10))])
    assert not perpetual.awards
    assert [kept.amount for kept in repeating.awards] == [10]
    change = streak_entry(1, length(1, 1, 1))
    assert not applied([STREAKS], [change])[0].lengths
    assert list(applied([WEEKLY_STREAKS], [change])[0].lengths) == ["daily"]


def test_changes_of_one_system_in_one_entry_count_once_with_the_newest_balance() -> None:
    boards = Boards.of([BALANCES, WEEKLY_XP])
    both = entry(1, kind=EntryKind.ACHIEVEMENT_CALL)
    merged = command_of(both, (), (points(2, 3, 13), points(1, 10, 10)))
    decision = decide(boards, ADA, merged, {}, Past(), GRACE)
    assert scores(decision) == {"rich": 13, "weekly-xp": 13}


def test_a_board_that_is_newer_than_the_facts_takes_them_in() -> None:
    known = replace(ADA, version=3)
    sent = command(entry(4, value=5))
    (history,) = wanted(Boards.of([ALL_TIME]), {"ada": known}, {}, [sent], GRACE, careful=False).histories
    assert (history.board, history.source) == ("all-time", COMMITS)
    earlier = Past({("ada", "all-time", date.min): [fact(1, 2), fact(2, 3)]})
    (decision,) = applied([ALL_TIME], [sent], user=known, past=earlier)
    assert scores(decision) == {"all-time": 10}


def test_a_user_who_was_never_seen_needs_no_history() -> None:
    sent = command(entry(1, value=5))
    assert not wanted(Boards.of([ALL_TIME]), {"ada": ADA}, {}, [sent], GRACE, careful=False).histories


def test_the_version_of_a_user_grows_by_one_with_every_entry() -> None:
    decisions = applied([ALL_TIME], [command(entry(number, value=1)) for number in (1, 2, 3)])
    assert [decision.user.version for decision in decisions] == [1, 2, 3]


def undo(user: UserState, board: Board, run: Run, remaining: Sequence[Fact]) -> Decision:
    key = (board.key, run.start)
    return undone(Boards.of([board]), user, {key: folded(board, remaining)}, {key: open_run(board, run)})


def test_undoing_an_entry_leaves_the_score_of_what_remains() -> None:
    perpetual = Run(date.min, date.max)
    _, second = applied([ALL_TIME], [command(entry(1, value=5)), command(entry(2, value=2))])
    decision = undo(second.user, ALL_TIME, perpetual, [fact(2, 2)])
    assert scores(decision) == {"all-time": 2}
    assert decision.user.version == 3


def test_undoing_the_only_entry_takes_the_user_off_the_board() -> None:
    (first,) = applied([ALL_TIME], [command(entry(1, value=5))])
    decision = undo(first.user, ALL_TIME, Run(date.min, date.max), [])
    assert [move.after for move in moves(decision)] == [None]


def test_undoing_an_entry_that_made_no_difference_changes_nothing() -> None:
    best = replace(ALL_TIME, rule=ScoreRule.BEST)
    _, second = applied([best], [command(entry(1, value=5)), command(entry(2, value=2))])
    decision = undo(second.user, best, Run(date.min, date.max), [fact(1, 5)])
    assert not decision.changed
    assert not moves(decision)


def test_a_correction_leaves_no_rank_history() -> None:
    assert keeps_rank_history(EntryKind.METRIC_EVENT)
    assert not keeps_rank_history(EntryKind.CORRECTION)


def test_the_newest_event_of_an_instant_is_the_one_with_the_greater_id() -> None:
    last = replace(ALL_TIME, rule=ScoreRule.LAST)
    _, second = applied([last], [command(entry(2, value=5)), command(entry(1, value=7))])
    held = second.user.held["all-time", date.min]
    assert (held.score.amount, held.score.entry_id) == (5, entry_id(2))


def test_a_week_is_over_for_an_entry_an_hour_after_its_last_date_has_ended_everywhere() -> None:
    run = open_run(WEEKLY, THIS_WEEK)
    assert run.finalize_time is not None
    just_in_time = command(entry(1, value=5, now=run.finalize_time - timedelta(seconds=1)))
    (decision,) = applied([WEEKLY], [just_in_time])
    assert scores(decision) == {"weekly": 5}
