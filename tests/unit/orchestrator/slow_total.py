"""A total as an obvious fold over all events."""

from collections.abc import Sequence

from msgspec.structs import replace

from services.orchestrator.domain import Aggregation, Fact, Total, add_fact, in_time


def fold_total(version: int, aggregation: Aggregation, facts: Sequence[Fact]) -> Total:
    """The total of these events, as a change that follows `version`. A sum goes by their order of arrival."""
    total = Total()
    seen: set[str] = set()
    arrival = aggregation is Aggregation.SUM
    for fact in sorted(facts, key=(lambda fact: fact.position) if arrival else in_time):
        value = fact.unique_value or ""
        total = add_fact(total, aggregation, fact, seen_before=value in seen)
        seen.add(value)
    return replace(total, version=version + 1)
