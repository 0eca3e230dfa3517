"""The clock of the host, and the one that a test sets."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.clock import TEST_CLOCK_VARIABLE, SystemClock
from shared.config import ConfigurationError
from tests.fixtures import clock

NOON = datetime(2025, 3, 30, 12, tzinfo=UTC)
A_WHILE = timedelta(minutes=5)


def test_it_is_what_the_host_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TEST_CLOCK_VARIABLE, raising=False)
    before = datetime.now(UTC)
    assert before <= SystemClock().now() <= datetime.now(UTC)


def test_a_test_sets_it_and_sets_it_again_while_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ahead"
    monkeypatch.setenv(TEST_CLOCK_VARIABLE, str(file))
    clock.set_to(NOON, file)
    running = SystemClock()
    assert NOON <= running.now() < NOON + A_WHILE
    clock.set_to(NOON + timedelta(days=1), file)
    assert NOON + timedelta(days=1) <= running.now() < NOON + timedelta(days=1) + A_WHILE


@pytest.mark.parametrize("content", [None, "", "soon", "nan", "inf"])
def test_a_process_does_not_start_with_a_clock_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "ahead"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv(TEST_CLOCK_VARIABLE, str(file))
    with pytest.raises(ConfigurationError, match=TEST_CLOCK_VARIABLE):
        SystemClock()
