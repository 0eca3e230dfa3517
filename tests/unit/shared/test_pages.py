"""Page sizes and tokens."""

import base64
import json
import uuid
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidArgument
from shared.pages import Key, Page, read_page

TYPES: list[type[Key]] = [str, int, datetime, date, uuid.UUID]
KEYSETS = st.tuples(
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
    st.datetimes(timezones=st.just(UTC)),
    st.dates(),
    st.uuids(),
)


def first_page(page_size: int = 0) -> Page:
    return read_page(page_size, "", keyset=TYPES, query=["ListThings", "a"])


@pytest.mark.parametrize(("asked", "given_size"), [(0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000)])
def test_a_page_size_is_clamped(asked: int, given_size: int) -> None:
    assert first_page(asked).size == given_size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        first_page(-1)
    assert [violation.field for violation in refusal.value.violations] == ["page_size"]


@given(KEYSETS)
def test_a_token_carries_the_keyset_of_the_last_row(keyset: tuple[Any, ...]) -> None:
    token = first_page().next_token(*keyset)
    assert read_page(0, token, keyset=TYPES, query=["ListThings", "a"]).after == keyset


def forged(*values: object) -> str:
    tag = json.loads(base64.urlsafe_b64decode(first_page().next_token() + "=="))[0]
    return base64.urlsafe_b64encode(json.dumps([tag, *values]).encode()).decode()


NOW, TODAY, ID = "2026-01-01T00:00:00+00:00", "2026-01-01", str(uuid.UUID(int=1))


def test_a_forged_token_of_the_right_shape_grants_nothing_new() -> None:
    assert read_page(0, forged("a", 1, NOW, TODAY, ID), keyset=TYPES, query=["ListThings", "a"]).after


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "ümlaut",
        "A" * 10_000,
        base64.urlsafe_b64encode(b"[" * 3_000).decode(),
        base64.urlsafe_b64encode(b"\xff").decode(),
        base64.urlsafe_b64encode(b"{}").decode(),
        read_page(0, "", keyset=TYPES, query=["ListThings", "b"]).next_token("a", 1),
        read_page(0, "", keyset=[str], query=["ListThings", "a"]).next_token("a"),
        forged("a", 1, NOW, TODAY),
        forged(1, 1, NOW, TODAY, ID),
        forged("\x00", 1, NOW, TODAY, ID),
        forged("\ud800", 1, NOW, TODAY, ID),
        forged("a", 2**63, NOW, TODAY, ID),
        forged("a", True, NOW, TODAY, ID),
        forged("a", 1.5, NOW, TODAY, ID),
        forged("a", None, NOW, TODAY, ID),
        forged("a", 1, "2026-01-01T00:00:00", TODAY, ID),
        forged("a", 1, NOW, "yesterday", ID),
        forged("a", 1, NOW, TODAY, "me"),
    ],
)
def test_a_token_that_this_query_did_not_give_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        read_page(0, token, keyset=TYPES, query=["ListThings", "a"])
    assert [violation.field for violation in refusal.value.violations] == ["page_token"]
