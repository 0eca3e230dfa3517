"""A configuration file is read strictly, and every mistake is found with its place."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laurel.achievement.v1 import achievement_pb2
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.cli.configuration import SECTIONS, ConfigurationMistakes, read_configuration
from shared.errors import FieldViolation


def mistakes_of(text: str | bytes) -> list[tuple[int, int, str, str]]:
    with pytest.raises(ConfigurationMistakes) as caught:
        read_configuration(text)
    return [(each.place.line, each.place.column, each.path, each.what) for each in caught.value.mistakes]


def test_a_complete_file_becomes_one_request() -> None:
    request = read_configuration(
        """
        metrics: [{key: lessons, name: Lessons, unit: lessons, aggregation: sum}]
        streaks:
          - {key: daily, frequency: daily, metrics: [{metric: lessons, threshold: 2.5}], days_off: [sunday]}
        achievements:
          - {key: ten, metric: {metric: lessons, threshold: 10}}
          - {key: called, api: {}}
        points_systems:
          - {key: xp, max_balance: 1_000, triggers: [{key: new, amount: -5, user_created: {}, block: true}]}
        leaderboards:
          - {key: best, metric: lessons, order: asc, schedule: {unit: week, every: 2, start_date: 2024-01-01}}
        """
    ).request
    assert request.streaks[0] == streak_pb2.Streak(
        key="daily",
        frequency=streak_pb2.FREQUENCY_DAILY,
        metrics=[streak_pb2.MetricThreshold(metric="lessons", threshold=2.5)],
        days_off=[streak_pb2.WEEKDAY_SUNDAY],
    )
    assert request.achievements[1] == achievement_pb2.Achievement(
        key="called", api=achievement_pb2.ApiTrigger()
    )
    assert request.points_systems[0].max_balance == 1000
    assert request.points_systems[0].triggers[0] == points_pb2.PointsTrigger(
        key="new", amount=-5, user_created=points_pb2.UserCreatedPointsTrigger(), block=True
    )
    assert request.leaderboards[0].schedule == leaderboard_pb2.RunSchedule(
        unit=leaderboard_pb2.RUN_UNIT_WEEK,
        every=2,
        start_date=date_pb2.LocalDate(year=2024, month=1, day=1),
    )


def test_an_instant_is_written_with_its_offset_with_or_without_quotes() -> None:
    boosts = "[{start_time: 2026-02-03T08:15:00+09:00}, {start_time: '2026-02-02T23:15:00Z'}]"
    request = read_configuration(f"points_systems: [{{key: xp, boosts: {boosts}}}]").request
    assert [boost.start_time.ToJsonString() for boost in request.points_systems[0].boosts] == [
        "2026-02-02T23:15:00Z",
        "2026-02-02T23:15:00Z",
    ]
    assert mistakes_of("points_systems: [{key: xp, boosts: [{start_time: tomorrow}]}]") == [
        (
            1,
            50,
            "points_systems[0].boosts[0].start_time",
            "'tomorrow' is not an instant such as 2026-02-03T08:15:00+09:00",
        )
    ]


def test_names_may_be_written_as_in_json_too() -> None:
    request = read_configuration(
        "pointsSystems: [{key: xp, maxBalance: 5, levelBasis: LEVEL_BASIS_LIFETIME}]"
    ).request
    assert request.points_systems[0].max_balance == 5
    assert request.points_systems[0].level_basis == points_pb2.LEVEL_BASIS_LIFETIME


def test_a_filter_takes_its_values_as_a_plain_list() -> None:
    text = "streaks: [{key: s, user_filters: [{attribute: region, in: [europe, asia]}]}]"
    (found,) = read_configuration(text).request.streaks[0].user_filters
    assert found.WhichOneof("comparison") == "in"
    assert list(getattr(found, "in").values) == ["europe", "asia"]


def test_a_trigger_without_settings_may_be_left_empty() -> None:
    request = read_configuration("achievements:\n  - key: called\n    api:\n").request
    assert request.achievements[0].HasField("api")


def test_every_mistake_of_a_file_is_listed_in_its_order_with_line_and_column() -> None:
    found = mistakes_of(
        """\
metrics:
  - {key: a, aggregation: summ, unit: 5}
  - {key: a, nmae: x}
streakz: []
streaks:
  - key: s
    frequency: dayly
    metrics: [{metric: a, threshold: lots}, 5]
    freezes: {initial_count: 1.5, max_count: 99999999999}
    create_time: 2024-01-01
achievements:
  - key: x
    metric: {metric: a}
    api: {}
    hidden: 1
points_systems: nothing
leaderboards:
  - schedule: {start_date: 2024-13-01}
    name:
"""
    )
    assert [(line, column, path) for line, column, path, _ in found] == [
        (2, 27, "metrics[0].aggregation"),
        (2, 39, "metrics[0].unit"),
        (3, 11, "metrics[1].key"),
        (3, 14, "metrics[1].nmae"),
        (4, 1, "streakz"),
        (7, 16, "streaks[0].frequency"),
        (8, 38, "streaks[0].metrics[0].threshold"),
        (8, 45, "streaks[0].metrics[1]"),
        (9, 30, "streaks[0].freezes.initial_count"),
        (9, 46, "streaks[0].freezes.max_count"),
        (10, 5, "streaks[0].create_time"),
        (14, 5, "achievements[0].api"),
        (15, 13, "achievements[0].hidden"),
        (16, 17, "points_systems"),
        (18, 28, "leaderboards[0].schedule.start_date"),
        (19, 10, "leaderboards[0].name"),
    ]
    texts = [what for *_, what in found]
    assert texts[0] == "unknown value 'summ'; did you mean sum?"
    assert texts[1] == "must be text, not a number: put 5 in quotes"
    assert texts[2] == "'a' is defined twice; first in line 2"
    assert texts[11] == "cannot stand beside metric: only one trigger"


@pytest.mark.parametrize("value", ["no", "2024-01-01", "1.0", "true", "0x10", "null"])
def test_text_that_yaml_takes_for_something_else_must_be_quoted(value: str) -> None:
    filters = "user_filters: [{attribute: a, equals: %s}]"
    text = "streaks: [{key: s, " + filters + "}]"
    assert [path for _, _, path, _ in mistakes_of(text % value)] == ["streaks[0].user_filters[0].equals"]
    quoted = read_configuration(text % f'"{value}"').request
    assert quoted.streaks[0].user_filters[0].equals == value


@pytest.mark.parametrize("value", ["010", "0x10", "1:30", "'5'", "1.0", "1e3", "true", "[]", "9" * 5000])
def test_a_whole_number_is_written_in_decimal_digits(value: str) -> None:
    (mistake,) = mistakes_of(f"points_systems: [{{key: p, max_balance: {value}}}]")
    assert mistake[2] == "points_systems[0].max_balance"


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e999", "nan", "'5'", "ten"])
def test_a_number_is_finite(value: str) -> None:
    (mistake,) = mistakes_of(f"achievements: [{{key: a, metric: {{metric: m, threshold: {value}}}}}]")
    assert mistake[2] == "achievements[0].metric.threshold"


def test_numbers_may_have_an_exponent_and_underscores() -> None:
    text = "achievements: [{key: a, metric: {threshold: 1e3}}, {key: b, metric: {threshold: 1_000.5}}]"
    thresholds = [each.metric.threshold for each in read_configuration(text).request.achievements]
    assert thresholds == [1000.0, 1000.5]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "a: [",
        "5",
        "- a",
        "\t",
        '"a: b',
        "metrics: []\n---\nstreaks: []",
        "metrics: &a [*a]",
        "metrics:",
        "metrics: [{<<: {key: a}}]",
        "metrics: [null]",
        "? [a]\n: b",
        "metrics: !!python/object/apply:os.system [x]",
        "[" * 1_000,
        b"\xff\xfe\x00",
        b"\x80abc",
    ],
)
def test_what_is_no_configuration_is_a_mistake_and_no_crash(text: str | bytes) -> None:
    assert mistakes_of(text)


@given(st.text(alphabet="abk:[]{}-,#&*!|>'\"\n \t0.", max_size=60))
def test_any_text_is_either_read_or_has_mistakes(text: str) -> None:
    for prefix in ("", *(f"{section}: [{{" for section in SECTIONS)):
        with suppress(ConfigurationMistakes):
            read_configuration(prefix + text)


def test_what_the_server_finds_is_shown_at_its_place_in_the_file() -> None:
    configuration = read_configuration(
        """\
metrics:
  - {key: a}
streaks:
  - key: s
    metrics:
      - metric: a
      - metric: b
  - key: t
"""
    )
    found = configuration.locate(
        [
            FieldViolation("streaks[1].frequency", "must be given"),
            FieldViolation("streaks[0].metrics[1].metric", "no such metric"),
            FieldViolation("leaderboards[7].key", "unheard of"),
            FieldViolation("", "and 3 more"),
        ]
    )
    assert [(each.place.line, each.place.column, each.path) for each in found] == [
        (1, 1, ""),
        (1, 1, "leaderboards[7].key"),
        (7, 17, "streaks[0].metrics[1].metric"),
        (8, 5, "streaks[1].frequency"),
    ]
