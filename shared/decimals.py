"""Values between their double on the wire and the integer micro-units in which they are summed (RULES 2.1).

A double stands here for the decimal that a person would read: its shortest representation that reads back as
the same double (`repr`). So 0.1 is one tenth, not 0.1000000000000000055…; "rounded half-even to micro-units"
is a rounding of that decimal, and 0.0000005 is an exact tie that rounds to zero.
"""

import math
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

MICROS_PER_UNIT: Final = 1_000_000
MAX_MAGNITUDE: Final = 1e12
"""The largest magnitude of a single value, in units."""


class InvalidValue(ValueError):
    """The value cannot be counted; the text says why."""


class ZeroValue(InvalidValue):
    """The value is zero, or is so in micro-units."""


class NotFinite(InvalidValue):
    """The value is NaN or infinite."""


class TooLarge(InvalidValue):
    """The magnitude is above `MAX_MAGNITUDE`."""


def to_micros(value: float) -> int:
    """The value in micro-units, rounded half-even. Raises `ZeroValue`, `NotFinite` or `TooLarge`."""
    if not math.isfinite(value):
        raise NotFinite("must be a number, not NaN or infinite")
    if abs(value) > MAX_MAGNITUDE:
        raise TooLarge("must have a magnitude of at most 1e12")
    if value == 0:
        raise ZeroValue("must not be zero")
    if float(value).is_integer():
        return int(value) * MICROS_PER_UNIT
    scaled = Decimal(repr(float(value))).scaleb(6).to_integral_value(ROUND_HALF_EVEN)
    if not scaled:
        raise ZeroValue("must not round to zero at 6 fractional digits")
    return int(scaled)


def from_micros(micros: int) -> float:
    """The nearest double, in units. Exact up to a magnitude of 1e9 units (`to_micros` gives the same integer
    back).
    """
    return micros / MICROS_PER_UNIT
