"""Filters on attributes (RULES 2.3): equals, in, not in, and numeric ranges; several are ANDed."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

# float() reads more: `nan`, `infinity`, `1_000`, ` 7 `, digits of other scripts. Those are no numbers here.
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


class Equals(Struct, frozen=True):
    """The attribute is present and equals this."""

    value: str


class In(Struct, frozen=True):
    """The attribute is present and is one of these."""

    values: frozenset[str]


class NotIn(Struct, frozen=True):
    """The attribute is absent or none of these."""

    values: frozenset[str]


class Range(Struct, frozen=True):
    """The attribute is present, a number, and within these bounds, both inclusive; None: unbounded."""

    minimum: float | None
    maximum: float | None


class AttributeFilter(Struct, frozen=True):
    """One condition on one attribute."""

    attribute: str
    comparison: Equals | In | NotIn | Range


def matches(filters: Collection[AttributeFilter], attributes: Mapping[str, str]) -> bool:
    """Whether the attributes meet every filter; no filter is met by all."""
    if not filters:
        return True
    return all(_holds(condition, attributes.get(condition.attribute)) for condition in filters)


def _holds(condition: AttributeFilter, value: str | None) -> bool:
    match condition.comparison:
        case Equals(expected):
            return value == expected
        case In(values):
            return value in values
        case NotIn(values):
            return value not in values
        case Range(minimum, maximum):
            number = _number(value)
            return (
                number is not None
                and (minimum is None or number >= minimum)
                and (maximum is None or number <= maximum)
            )


def _number(value: str | None) -> float | None:
    return float(value) if value is not None and _NUMBER.fullmatch(value) else None
