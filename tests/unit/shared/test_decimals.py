"""Values as micro-units (RULES 2.1)."""

import math
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.decimals import InvalidValue, NotFinite, TooLarge, ZeroValue, from_micros, to_micros


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (1, 1_000_000),
        (0.1, 100_000),
        (-0.1, -100_000),
        (2.5, 2_500_000),
        (1e-6, 1),
        (1e12, 10**18),
        (-1e12, -(10**18)),
        (0.0000015, 2),
        (0.0000025, 2),
        (-0.0000015, -2),
        (0.00000051, 1),
        (1.0000005, 1_000_000),
        (1.0000015, 1_000_002),
        (123456.789012, 123_456_789_012),
    ],
)
def test_a_value_is_rounded_half_even_as_the_decimal_a_person_reads(value: float, micros: int) -> None:
    assert to_micros(value) == micros


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0.0, ZeroValue),
        (-0.0, ZeroValue),
        (0.0000005, ZeroValue),
        (5e-324, ZeroValue),
        (math.nan, NotFinite),
        (math.inf, NotFinite),
        (-math.inf, NotFinite),
        (math.nextafter(1e12, math.inf), TooLarge),
        (-1e300, TooLarge),
    ],
)
def test_a_value_that_cannot_be_counted_is_refused(value: float, error: type[InvalidValue]) -> None:
    with pytest.raises(error, match="must"):
        to_micros(value)


@given(st.integers(-(10**15) + 1, 10**15 - 1).filter(bool))
def test_micro_units_survive_the_way_over_a_double(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


@given(st.floats(-1e12, 1e12))
def test_the_rounding_is_that_of_the_shortest_decimal(value: float) -> None:
    expected = int((Decimal(repr(value)) * 1_000_000).quantize(Decimal(1), ROUND_HALF_EVEN))
    if expected:
        assert to_micros(value) == expected
    else:
        with pytest.raises(ZeroValue):
            to_micros(value)
