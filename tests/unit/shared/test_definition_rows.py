"""How two definitions differ."""

from laurel.streak.v1.streak_pb2 import FreezeSettings, MetricThreshold, Streak

from shared.postgres.definition_rows import changed_fields


def test_equal_definitions_have_no_changed_fields() -> None:
    one = Streak(key="a", metrics=[MetricThreshold(metric="m")])
    other = Streak(key="a", metrics=[MetricThreshold(metric="m")])
    assert changed_fields(one, other) == []


def test_changed_fields_are_top_level_names_in_the_order_of_the_definition() -> None:
    before = Streak(key="a", name="A", metrics=[MetricThreshold(metric="m", threshold=1)])
    after = Streak(
        key="a",
        metrics=[MetricThreshold(metric="m", threshold=2)],
        freezes=FreezeSettings(initial_count=1),
    )
    assert changed_fields(before, after) == ["name", "metrics", "freezes"]
