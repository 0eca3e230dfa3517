"""The command against the whole system, started as a user starts it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import DEMO_CONFIGURATION, Laurel, stack_of


@pytest.fixture(scope="package")
def laurel(server_directory: Path) -> Iterator[Laurel]:
    """A system that is up and has the demo's configuration."""
    laurel = Laurel(server_directory / "cli")
    try:
        started = laurel.shell("up")
        assert started.returncode == 0, started.stdout + started.stderr
        laurel.run("apply", "-f", str(DEMO_CONFIGURATION))
        yield laurel
    finally:
        stack_of(laurel).erase()
