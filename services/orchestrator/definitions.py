"""Definitions of metrics: what is wrong with a message, and what it means to the domain."""

from collections.abc import Mapping
from typing import Final

from laurel.orchestrator.v1 import metric_pb2

from services.orchestrator.domain import Aggregation, Metric
from shared.definition_plan import StoredDefinitions
from shared.definitions import DefinitionKind
from shared.errors import Violations
from shared.rpc.convert import MAX_ATTRIBUTE_NAME_CHARS, check_text


def check_metric(message: metric_pb2.Metric, path: str, violations: Violations) -> None:
    """Everything that is wrong with a definition, besides its key."""
    check_text(message.name, f"{path}.name", violations, min_chars=0)
    check_text(message.unit, f"{path}.unit", violations, min_chars=0)
    if message.aggregation not in metric_pb2.MetricAggregation.values():
        violations.add(f"{path}.aggregation", "is not an aggregation")
    if message.aggregation == metric_pb2.METRIC_AGGREGATION_UNIQUE:
        where = f"{path}.unique_attribute"
        check_text(message.unique_attribute, where, violations, max_chars=MAX_ATTRIBUTE_NAME_CHARS)
    elif message.unique_attribute:
        violations.add(f"{path}.unique_attribute", "is only for the aggregation UNIQUE")


def normalised(message: metric_pb2.Metric) -> metric_pb2.Metric:
    """With its defaults made explicit."""
    message.aggregation = message.aggregation or metric_pb2.METRIC_AGGREGATION_SUM
    return message


METRIC: Final = DefinitionKind(
    name="metric",
    message_type=metric_pb2.Metric,
    validate=check_metric,
    normalise=normalised,
    immutable_fields=("aggregation", "unique_attribute"),
    not_found="METRIC_NOT_FOUND",
    exists="METRIC_EXISTS",
    in_use="METRIC_IN_USE",
)

KINDS: Final = (METRIC,)
"""What this service owns."""


def catalogue_of(stored: StoredDefinitions) -> Mapping[str, Metric]:
    """All definitions as the domain sees them."""
    return {
        message.key: Metric(
            message.key, Aggregation(message.aggregation), message.unique_attribute, message.user_writable
        )
        for message in stored.of(METRIC)
    }
