"""What can be wrong with a board's definition, and what is made of one that is right."""

from typing import Any

import pytest
from laurel.common.v1.date_pb2 import LocalDate
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb

from services.leaderboard.definitions import LEADERBOARD
from shared.errors import Violations

WEDNESDAY = LocalDate(year=2026, month=3, day=4)
WEEKLY = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_WEEK)
OFFICE_HOURS = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_WEEK, start_time="09:00", end_time="17:00")


GOLD = board_pb.Prize(key="gold", last_rank=1, achievement="champion")


DIVISIONS = [board_pb.Division(key="bronze"), board_pb.Division(key="silver")]
LEAGUE = board_pb.League(divisions=DIVISIONS)


def leagued(**fields: Any) -> board_pb.Leaderboard:
    return board(**{"schedule": WEEKLY, "league": LEAGUE, **fields})


def grouped(**fields: Any) -> board_pb.Leaderboard:
    return board(breakdown_attributes=["city"], groups=board_pb.GroupRanking(**fields))


def prized(**fields: Any) -> board_pb.Leaderboard:
    return board(schedule=WEEKLY, prizes=[board_pb.Prize(key="k", achievement="champion", **fields)])


def board(**fields: Any) -> board_pb.Leaderboard:
    defaults: dict[str, Any] = {"key": "all-time", "name": "All time", "metric": "commits"}
    return board_pb.Leaderboard(**{**defaults, **fields})


def test_defaults_are_made_explicit() -> None:
    made = LEADERBOARD.normalised(board(schedule=WEEKLY))
    assert made.order == board_pb.SORT_ORDER_DESC
    assert made.rank_mode == board_pb.RANK_MODE_ORDINAL
    assert made.aggregation == board_pb.SCORE_AGGREGATION_SUM
    assert made.status == board_pb.LEADERBOARD_STATUS_ACTIVE
    assert made.schedule.every == 1
    assert not LEADERBOARD.normalised(board(schedule=board_pb.RunSchedule())).HasField("schedule")


@pytest.mark.parametrize(
    ("definition", "field"),
    [
        (board(key="All Time"), "leaderboard.key"),
        (board(name="x" * 256), "leaderboard.name"),
        (board_pb.Leaderboard(key="a", name="a"), "leaderboard"),
        (board(metric="No"), "leaderboard.metric"),
        (
            board_pb.Leaderboard(
                key="a", name="a", streak="daily", aggregation=board_pb.SCORE_AGGREGATION_BEST
            ),
            "leaderboard.aggregation",
        ),
        (board(order=9), "leaderboard.order"),
        (board(rank_mode=9), "leaderboard.rank_mode"),
        (board(status=9), "leaderboard.status"),
        (board(schedule=board_pb.RunSchedule(unit=9)), "leaderboard.schedule.unit"),  # type: ignore[arg-type]
        (
            board(schedule=board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY, every=367)),
            "leaderboard.schedule.every",
        ),
        (board(schedule=board_pb.RunSchedule(every=2)), "leaderboard.schedule.every"),
        (
            board(
                schedule=board_pb.RunSchedule(
                    unit=board_pb.RUN_UNIT_DAY, end_date=LocalDate(year=1970, month=1, day=4)
                )
            ),
            "leaderboard.schedule.end_date",
        ),
        (board(schedule=board_pb.RunSchedule(start_time="09:00")), "leaderboard.schedule.end_time"),
        (board(tracked_depth=1_001), "leaderboard.tracked_depth"),
        (board(event_interval_seconds=60), "leaderboard.event_interval_seconds"),
        (board(tracked_depth=1, event_interval_seconds=-1), "leaderboard.event_interval_seconds"),
        (board(segment_limit=5), "leaderboard.segment_limit"),
        (board(schedule=board_pb.RunSchedule(end_time="17:00")), "leaderboard.schedule.start_time"),
        (
            board_pb.Leaderboard(key="a", points_system="xp", schedule=OFFICE_HOURS),
            "leaderboard.schedule.start_time",
        ),
        (
            board_pb.Leaderboard(key="a", streak="daily", schedule=OFFICE_HOURS),
            "leaderboard.schedule.start_time",
        ),
        (
            board(schedule=board_pb.RunSchedule(start_time="9:00", end_time="17:00")),
            "leaderboard.schedule.start_time",
        ),
        (
            board(schedule=board_pb.RunSchedule(start_time="09:00", end_time="09:00")),
            "leaderboard.schedule.end_time",
        ),
        (
            board(schedule=board_pb.RunSchedule(start_date=LocalDate(year=2026, month=13, day=1))),
            "leaderboard.schedule.start_date",
        ),
        (board(breakdown_attributes=list("abcde")), "leaderboard.breakdown_attributes"),
        (board(breakdown_attributes=["a", "a"]), "leaderboard.breakdown_attributes[1]"),
        (board(profile_attributes=list("abcdefghi")), "leaderboard.profile_attributes"),
        (board(profile_attributes=["a", "b", "a"]), "leaderboard.profile_attributes[2]"),
        (board(prizes=[GOLD]), "leaderboard.prizes"),
        (board(schedule=WEEKLY, prizes=[GOLD, GOLD]), "leaderboard.prizes[1].key"),
        (board(schedule=WEEKLY, prizes=[board_pb.Prize(key="k", last_rank=1)]), "leaderboard.prizes[0]"),
        (prized(first_rank=3, last_rank=2), "leaderboard.prizes[0].last_rank"),
        (prized(), "leaderboard.prizes[0].last_rank"),
        (prized(top_percent=5, last_rank=2), "leaderboard.prizes[0].top_percent"),
        (prized(top_percent=101), "leaderboard.prizes[0].top_percent"),
        (prized(top_percent=float("nan")), "leaderboard.prizes[0].top_percent"),
        (prized(last_rank=1, each_segment=True), "leaderboard.prizes[0].each_segment"),
        (
            prized(last_rank=1, points=[board_pb.PrizePoints(points_system="xp")]),
            "leaderboard.prizes[0].points[0].amount",
        ),
        (leagued(schedule=board_pb.RunSchedule()), "leaderboard.league"),
        (board_pb.Leaderboard(key="a", streak="daily", schedule=WEEKLY, league=LEAGUE), "leaderboard.league"),
        (leagued(breakdown_attributes=["region"]), "leaderboard.breakdown_attributes"),
        (leagued(participant_limit=3), "leaderboard.participant_limit"),
        (leagued(league=board_pb.League(divisions=DIVISIONS[:1])), "leaderboard.league.divisions"),
        (leagued(league=board_pb.League(divisions=DIVISIONS * 2)), "leaderboard.league.divisions[2].key"),
        (
            leagued(league=board_pb.League(divisions=DIVISIONS, cohort_size=1)),
            "leaderboard.league.cohort_size",
        ),
        *(
            (
                leagued(league=board_pb.League(divisions=DIVISIONS, zone_band_count=bands)),
                "leaderboard.league.zone_band_count",
            )
            for bands in (-1, 1, 10)
        ),
        (
            leagued(league=board_pb.League(divisions=DIVISIONS, promoted_count=31)),
            "leaderboard.league.promoted_count",
        ),
        (board(groups=board_pb.GroupRanking()), "leaderboard.groups"),
        (grouped(aggregation=board_pb.GROUP_AGGREGATION_BEST), "leaderboard.groups.best_count"),
        (grouped(best_count=3), "leaderboard.groups.best_count"),
        (grouped(aggregation=9), "leaderboard.groups.aggregation"),
        (grouped(least_member_count=-1), "leaderboard.groups.least_member_count"),
        (board(participant_limit=-1), "leaderboard.participant_limit"),
    ],
)
def test_what_is_wrong_with_a_board_is_named(definition: board_pb.Leaderboard, field: str) -> None:
    violations = Violations()
    LEADERBOARD.check(definition, "leaderboard", violations)
    assert field in {violation.field for violation in violations}


@pytest.mark.parametrize("source", ["metric", "points_system", "streak"])
def test_a_board_mentions_what_it_ranks_by(source: str) -> None:
    message = board_pb.Leaderboard(key="a", **{source: "something"})  # type: ignore[arg-type]
    assert [(path, *name) for path, name in LEADERBOARD.references(message)] == [
        (source, source, "something")
    ]


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        (board(metric="lines"), "metric"),
        (board(order=board_pb.SORT_ORDER_ASC), "order"),
        (board(rank_mode=board_pb.RANK_MODE_DENSE), "rank_mode"),
        (board(aggregation=board_pb.SCORE_AGGREGATION_LAST), "aggregation"),
        (board(schedule=WEEKLY), "schedule"),
        (board(breakdown_attributes=["region"]), "breakdown_attributes"),
    ],
)
def test_what_scores_are_made_of_cannot_be_changed(definition: board_pb.Leaderboard, path: str) -> None:
    violations = Violations()
    before, after = LEADERBOARD.normalised(board()), LEADERBOARD.normalised(definition)
    LEADERBOARD.check_update(before, after, "leaderboard", violations)
    assert [violation.field for violation in violations] == [f"leaderboard.{path}"]


def test_what_is_shown_and_who_takes_part_can_be_changed() -> None:
    violations = Violations()
    after = board(name="New", participant_limit=5, status=board_pb.LEADERBOARD_STATUS_ARCHIVED)
    LEADERBOARD.check_update(
        LEADERBOARD.normalised(board()), LEADERBOARD.normalised(after), "leaderboard", violations
    )
    assert not len(violations)


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        (leagued(league=board_pb.League(divisions=[*DIVISIONS, board_pb.Division(key="gold")])), []),
        (leagued(league=board_pb.League(divisions=DIVISIONS, cohort_size=9, zone_band_count=3)), []),
        (leagued(league=board_pb.League(divisions=DIVISIONS[::-1])), ["leaderboard.league.divisions"]),
        (board(schedule=WEEKLY), ["leaderboard.league", "leaderboard.league.divisions"]),
    ],
)
def test_divisions_come_on_top_and_a_league_stays_one(after: board_pb.Leaderboard, wrong: list[str]) -> None:
    violations = Violations()
    LEADERBOARD.check_change(leagued(), after, "leaderboard", violations)
    assert [violation.field for violation in violations] == wrong
