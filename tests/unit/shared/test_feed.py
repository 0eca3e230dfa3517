"""Cursors of feeds: what was given comes back, anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidArgument
from shared.postgres.feed import Place, place_of

PLACES = st.builds(
    Place,
    life=st.integers(0, 2**31 - 1),
    xid=st.integers(0, 2**64 - 1),
    sequence=st.integers(0, 2**63 - 1),
)


@given(PLACES)
def test_a_cursor_says_where_its_follower_has_come_to(place: Place) -> None:
    assert place_of(place.cursor, "after_cursor") == place


def test_no_cursor_is_the_beginning() -> None:
    assert place_of("", "after_cursor") == Place()
    assert Place().cursor == ""


@pytest.mark.parametrize(
    "cursor",
    [
        "7",
        "1.2",
        "1.2.3.4",
        "1.2.",
        "-1.2.3",
        "1.2.x",
        "1.02.3",
        "1.2.3\n",
        "1.2.٣",
        " 1.2.3",
        f"{2**31}.1.1",
        f"1.{2**64}.1",
        f"1.1.{2**63}",
        "1" * 5_000,
        "\x00",
    ],
)
def test_what_is_no_cursor_is_refused_by_the_name_of_its_field(cursor: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        place_of(cursor, "after_cursor")
    assert [violation.field for violation in refusal.value.violations] == ["after_cursor"]
