"""The command against the whole system, started as a user starts it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import DEMO_CONFIGURATION, Laurel, stack_of


@pytest.fixture(scope="package")
def laurel(server_directory: Path) -> Iterator[Laurel]:
    """A system that is up and has the demo's configuration."""
    yield from started(server_directory / "cli")


@pytest.fixture
def other_laurel(server_directory: Path) -> Iterator[Laurel]:
    """Another one, for what cannot be taken back: achievements that users hold stay."""
    yield from started(server_directory / "other")


def started(home: Path) -> Iterator[Laurel]:
    """A system with the demo's configuration, until it is not needed any more."""
    laurel = Laurel(home)
    try:
        up = laurel.shell("up")
        assert up.returncode == 0, up.stdout + up.stderr
        laurel.run("apply", "-f", str(DEMO_CONFIGURATION))
        yield laurel
    finally:
        stack_of(laurel).erase()
