"""A system of its own for tests that kill its processes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from tests.fixtures.system import System, connect
from tests.fixtures.world import CONFIGURATION

SETTINGS = {
    # Recovery as in production, but quicker, so that a test does not wait for leases to run out.
    "LAUREL_LEASE_SECONDS": "2",
    "LAUREL_RECOVERY_INTERVAL_SECONDS": "0.2",
    "LAUREL_PARTICIPANT_TIMEOUT_SECONDS": "2",
    "LAUREL_LONGEST_RETRY_PAUSE_SECONDS": "1",
    "LAUREL_WEBHOOK_LEASE_SECONDS": "2",
    "LAUREL_WEBHOOK_TIMEOUT_SECONDS": "1",
    "LAUREL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "LAUREL_WEBHOOK_ALLOW_HTTP": "true",
}


@pytest.fixture(scope="module")
def stack(quick_directory: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """All services on servers of their own, with fsync on: what is killed here has to be durable.

    Their data may be in memory: what processes wrote outlives them there as it does on a disk.
    """
    home = quick_directory / request.module.__name__.rpartition(".")[2]
    with Stack(StackConfig(home=home, port_base=0, settings=SETTINGS)) as running:
        running.up()
        yield running


@pytest.fixture(scope="module")
async def system(stack: Stack) -> AsyncIterator[System]:
    """Stubs of the system, with the world of tests/fixtures/world.py in it."""
    connected = connect(stack)
    await connected.orchestrator.ApplyConfiguration(CONFIGURATION)
    yield connected
    await connected.close()
