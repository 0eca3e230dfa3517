"""What `laurel export` writes is what `laurel apply` reads."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laurel.achievement.v1 import achievement_pb2 as achievement
from laurel.common.v1.date_pb2 import LocalDate
from laurel.common.v1.filter_pb2 import AttributeFilter
from laurel.leaderboard.v1 import leaderboard_pb2 as leaderboard
from laurel.orchestrator.v1 import metric_pb2 as metric
from laurel.orchestrator.v1.definition_pb2 import Definition
from laurel.points.v1 import points_pb2 as points
from laurel.streak.v1 import streak_pb2 as streak

from services.cli.configuration import configuration_text, read_configuration
from services.cli.kinds import OWNED
from shared.definitions import KINDS, definition_of, list_of, message_of, name_of

DEMO = Path(__file__).parents[3] / "deploy" / "demo" / "laurel.yaml"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
awkward = st.sampled_from(
    [
        "",
        "yes",
        "null",
        "~",
        "0x1f",
        "010",
        "1_000",
        "1e3",
        ".inf",
        "2026-01-01",
        "12:30:45",
        "- a",
        "a: b",
        "#no comment",
        "'",
        '"',
        "*alias",
        "&anchor",
        "!tag",
        "<<",
        "=",
        "line\nbreak\n\n",
        "\ttab ",
        " padded ",
        "\x85\u2028\ufeff",
        "\U0001f3c6",
        "a" * 150,
        "word " * 40,
    ]
)
words = texts | awkward
numbers = st.floats(allow_nan=False, allow_infinity=False)
int64 = st.integers(-(2**63), 2**63 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)


@st.composite
def filters(draw: st.DrawFn) -> AttributeFilter:
    found = AttributeFilter(attribute=draw(words))
    match draw(st.sampled_from(["equals", "in", "not_in", "range"])):
        case "equals":
            found.equals = draw(words)
        case "in":
            getattr(found, "in").values.extend(draw(st.lists(words, min_size=1, max_size=3)))
        case "not_in":
            found.not_in.values.extend(draw(st.lists(words, min_size=1, max_size=3)))
        case _:
            found.range.min = draw(numbers)
            if draw(st.booleans()):
                found.range.max = draw(numbers)
    return found


some_filters = st.lists(filters(), max_size=2)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Messages with odd values in every kind of field; whether they make sense is for others to say."""
    key, name = draw(words), draw(words)
    match draw(st.sampled_from(KINDS)):
        case "metric":
            aggregation = draw(st.sampled_from(metric.MetricAggregation.values()))
            return Definition(
                metric=metric.Metric(key=key, name=name, unit=draw(words), aggregation=aggregation)
            )
        case "streak":
            return Definition(
                streak=streak.Streak(
                    key=key,
                    name=name,
                    frequency=draw(st.sampled_from(streak.Frequency.values())),
                    metrics=[streak.MetricThreshold(metric=draw(words), threshold=draw(numbers))],
                    days_off=draw(st.lists(st.sampled_from(streak.Weekday.values()[1:]), max_size=3)),
                    freezes=draw(
                        st.none() | st.builds(streak.FreezeSettings, initial_count=int32, max_count=int32)
                    ),
                    user_filters=draw(some_filters),
                )
            )
        case "achievement":
            found = achievement.Achievement(
                key=key, name=name, description=draw(words), tier=draw(int32), hidden=draw(st.booleans())
            )
            if draw(st.booleans()):
                found.api.SetInParent()
            else:
                found.metric.threshold = draw(numbers)
                found.metric.event_filters.extend(draw(some_filters))
            return Definition(achievement=found)
        case "points_system":
            system = points.PointsSystem(key=key, name=name, min_balance=draw(int64))
            if draw(st.booleans()):
                system.max_balance = draw(int64)
            system.levels.add(key=draw(words), threshold=draw(int64))
            boost = system.boosts.add(key=draw(words), multiplier=draw(numbers))
            boost.start_time.FromDatetime(draw(st.datetimes()))
            system.triggers.add(key=draw(words), amount=draw(int64)).achievement.SetInParent()
            system.triggers.add(user_filters=draw(some_filters)).streak.once = draw(st.booleans())
            return Definition(points_system=system)
        case _:
            board = leaderboard.Leaderboard(key=key, name=name, streak=draw(words))
            day = draw(st.dates())
            board.schedule.start_date.CopyFrom(LocalDate(year=day.year, month=day.month, day=day.day))
            board.schedule.unit = draw(st.sampled_from(leaderboard.RunUnit.values()))
            board.breakdown_attributes.extend(draw(st.lists(words, max_size=3)))
            return Definition(leaderboard=board)


def read_back(text: str) -> list[Definition]:
    request = read_configuration(text).request
    return [definition_of(kind, one) for kind in KINDS for one in getattr(request, list_of(kind))]


@settings(deadline=None)
@given(st.lists(definitions(), max_size=4, unique_by=name_of))
def test_every_value_is_read_back_as_it_was_written(wanted: list[Definition]) -> None:
    in_order = sorted(wanted, key=lambda one: KINDS.index(name_of(one).kind))
    assert read_back(configuration_text(wanted)) == in_order


def test_times_are_left_out() -> None:
    definition = Definition(metric=metric.Metric(key="a"))
    definition.metric.create_time.seconds = 1
    assert read_back(configuration_text([definition])) == [Definition(metric=metric.Metric(key="a"))]


def test_nothing_is_a_file_too() -> None:
    assert read_back(configuration_text([])) == []


def test_the_text_reads_like_what_people_write() -> None:
    assert configuration_text(
        [
            Definition(leaderboard=leaderboard.Leaderboard(key="b", metric="a")),
            Definition(metric=metric.Metric(key="a", aggregation=metric.METRIC_AGGREGATION_MAX)),
            Definition(
                streak=streak.Streak(
                    key="s",
                    frequency=streak.FREQUENCY_DAILY,
                    metrics=[streak.MetricThreshold(metric="a", threshold=2)],
                    days_off=[streak.WEEKDAY_SUNDAY],
                )
            ),
        ]
    ) == (
        "metrics:\n- {key: a, aggregation: max}\n"
        "\nstreaks:\n- key: s\n  frequency: daily\n  metrics:\n  - {metric: a, threshold: 2}\n"
        "  days_off: [sunday]\n"
        "\nleaderboards:\n- {key: b, metric: a}\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_demo_reads_back_as_services_store_it(kind: str) -> None:
    request = read_configuration(DEMO.read_bytes()).request
    stored = [definition_of(kind, OWNED[kind].normalised(one)) for one in getattr(request, list_of(kind))]
    again = read_back(configuration_text(stored))
    assert again == stored
    assert [OWNED[kind].normalised(message_of(definition)) for definition in again] == [
        message_of(definition) for definition in stored
    ]
