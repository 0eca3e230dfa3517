"""The whole system, started as a user starts it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from tests.fixtures.system import System, connect
from tests.fixtures.world import CONFIGURATION


@pytest.fixture(scope="session")
def stack(quick_directory: Path) -> Iterator[Stack]:
    """All services on servers of their own; tests must leave every process running."""
    with Stack(StackConfig(home=quick_directory / "stack", port_base=0, fsync=False)) as running:
        running.up()
        yield running


@pytest.fixture(scope="session")
async def system(stack: Stack) -> AsyncIterator[System]:
    """Stubs of the running system, with the world of tests/fixtures/world.py in it."""
    connected = connect(stack)
    await connected.orchestrator.ApplyConfiguration(CONFIGURATION)
    yield connected
    await connected.close()
