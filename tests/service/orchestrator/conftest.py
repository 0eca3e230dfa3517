"""The orchestrator's stores on a fresh database."""

from collections.abc import AsyncIterator

import pytest

from shared.postgres.pool import Pool, create_pool
from tests.conftest import ServiceDatabase


@pytest.fixture
async def pool(service_database: ServiceDatabase) -> AsyncIterator[Pool]:
    """A pool as the orchestrator makes it."""
    dsn = await service_database("orchestrator")
    pool = await create_pool(dsn, application_name="test", size=8, statement_timeout_ms=10_000)
    yield pool
    await pool.close()
