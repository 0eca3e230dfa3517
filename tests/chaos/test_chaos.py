"""A short storm in every test run; `make chaos` makes longer ones."""

from pathlib import Path

import pytest

from tests.chaos.run import storm

EVENTS = 1_500


@pytest.mark.timeout(400)
async def test_nothing_is_lost_doubled_or_partial_while_everything_is_broken_at_random(
    quick_directory: Path,
) -> None:
    report = await storm(quick_directory / "chaos", seed=7, events=EVENTS)
    assert report.wrong == [], report.text()
    assert len(report.deeds) >= 3
    assert report.counts["voids"] > EVENTS / 20
    assert report.told["e-mails that came"] > 0
