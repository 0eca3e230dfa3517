"""What can be wrong with a metric's definition, and who owns which kind."""

from laurel.orchestrator.v1 import metric_pb2
from laurel.orchestrator.v1.definition_pb2 import Definition

from services.orchestrator.configuration.owners import OWNERS
from services.orchestrator.definitions import METRIC
from shared.definitions import KINDS
from shared.errors import Violations

UNIQUE = metric_pb2.METRIC_AGGREGATION_UNIQUE


def wrong(message: metric_pb2.Metric) -> list[str]:
    violations = Violations()
    METRIC.check(message, "metric", violations)
    return [violation.field for violation in violations]


def test_what_is_wrong_with_a_metric_is_named() -> None:
    assert wrong(metric_pb2.Metric(key="No Key", name="x" * 256, unit="x" * 256, aggregation=9)) == [  # type: ignore[arg-type]
        "metric.key",
        "metric.name",
        "metric.unit",
        "metric.aggregation",
    ]
    assert wrong(metric_pb2.Metric(key="a", aggregation=UNIQUE)) == ["metric.unique_attribute"]
    assert wrong(metric_pb2.Metric(key="a", unique_attribute="b")) == ["metric.unique_attribute"]
    assert wrong(metric_pb2.Metric(key="a", aggregation=UNIQUE, unique_attribute="b")) == []


def test_the_default_aggregation_is_made_explicit() -> None:
    made = METRIC.normalised(metric_pb2.Metric(key="steps"))
    assert (made.name, made.aggregation) == ("steps", metric_pb2.METRIC_AGGREGATION_SUM)


def test_how_values_are_counted_never_changes() -> None:
    violations = Violations()
    before = metric_pb2.Metric(key="a", aggregation=UNIQUE, unique_attribute="b")
    after = metric_pb2.Metric(key="a", aggregation=metric_pb2.METRIC_AGGREGATION_MAX, unit="x")
    METRIC.check_update(before, after, "metric", violations)
    assert [violation.field for violation in violations] == ["metric.aggregation", "metric.unique_attribute"]


def test_every_kind_has_an_owner_and_they_write_in_the_order_of_the_kinds() -> None:
    assert tuple(kind for kind in OWNERS if kind in KINDS) == KINDS
    assert set(OWNERS) == {field.name for field in Definition.DESCRIPTOR.fields}
