"""Attribute filters from their messages, with every violation (RULES 2.3)."""

import math
from collections.abc import Sequence
from typing import Final

from laurel.common.v1 import filter_pb2

from shared.errors import Violations
from shared.filters import AttributeFilter, Equals, In, NotIn, Range
from shared.rpc.convert import MAX_ATTRIBUTE_NAME_CHARS, MAX_TEXT_CHARS, check_text

MAX_FILTERS: Final = 32
"""Filters of one list."""
MAX_VALUES: Final = 100
"""Values of one `in` or `not_in`."""


def filters_from_proto(
    messages: Sequence[filter_pb2.AttributeFilter], path: str, violations: Violations
) -> tuple[AttributeFilter, ...]:
    """The valid filters of the repeated field at `path`; what is wrong with others goes to `violations`."""
    if len(messages) > MAX_FILTERS:
        violations.add(path, f"must have at most {MAX_FILTERS} filters")
        return ()
    found = [_filter(message, f"{path}[{index}]", violations) for index, message in enumerate(messages)]
    return tuple(condition for condition in found if condition is not None)


def _filter(message: filter_pb2.AttributeFilter, path: str, violations: Violations) -> AttributeFilter | None:
    before = len(violations)
    check_text(message.attribute, f"{path}.attribute", violations, max_chars=MAX_ATTRIBUTE_NAME_CHARS)
    comparison = _comparison(message, path, violations)
    if comparison is None or len(violations) > before:
        return None
    return AttributeFilter(message.attribute, comparison)


def _comparison(
    message: filter_pb2.AttributeFilter, path: str, violations: Violations
) -> Equals | In | NotIn | Range | None:
    match message.WhichOneof("comparison"):
        case "equals":
            check_text(message.equals, f"{path}.equals", violations, min_chars=0)
            return Equals(message.equals)
        case "in":
            # `in` is a word of Python, so the generated class has no attribute that could be written so.
            return In(_values(getattr(message, "in"), f"{path}.in", violations))
        case "not_in":
            return NotIn(_values(message.not_in, f"{path}.not_in", violations))
        case "range":
            return _range(message.range, f"{path}.range", violations)
        case None:
            violations.add(path, "must have one of equals, in, not_in, range")
            return None


def _values(message: filter_pb2.AttributeFilter.Values, path: str, violations: Violations) -> frozenset[str]:
    if not 1 <= len(message.values) <= MAX_VALUES:
        violations.add(f"{path}.values", f"must have 1 to {MAX_VALUES} values")
        return frozenset()
    for index, value in enumerate(message.values):
        check_text(value, f"{path}.values[{index}]", violations, min_chars=0, max_chars=MAX_TEXT_CHARS)
    return frozenset(message.values)


def _range(message: filter_pb2.AttributeFilter.Range, path: str, violations: Violations) -> Range:
    minimum = message.min if message.HasField("min") else None
    maximum = message.max if message.HasField("max") else None
    for name, bound in (("min", minimum), ("max", maximum)):
        if bound is not None and not math.isfinite(bound):
            violations.add(f"{path}.{name}", "must be a number, not NaN or infinite")
    if minimum is None and maximum is None:
        violations.add(path, "must have a min, a max, or both")
    elif minimum is not None and maximum is not None and minimum > maximum:
        violations.add(f"{path}.min", "must not be above max")
    return Range(minimum, maximum)
