"""Attempts, as they are shown."""

from typing import Final
from uuid import UUID

import asyncpg

from shared.postgres.pool import Pool

_COLUMNS: Final = (
    """attempt_id, event_id, type, number, attempt_time, latency_micros, outcome, status_code, detail"""
)
_LIST: Final = f"""
    SELECT {_COLUMNS} FROM webhook_attempts
     WHERE endpoint_id = $1 AND attempt_id < $2
     ORDER BY attempt_id DESC
     LIMIT $3
"""
_LIST_FAILED: Final = f"""
    SELECT {_COLUMNS} FROM webhook_attempts
     WHERE endpoint_id = $1 AND attempt_id < $2 AND outcome > 1
     ORDER BY attempt_id DESC
     LIMIT $3
"""
_LIST_OF_EVENT: Final = f"""
    SELECT {_COLUMNS} FROM webhook_attempts
     WHERE event_id = $4 AND endpoint_id = $1 AND attempt_id < $2 AND (outcome > 1 OR NOT $5)
     ORDER BY attempt_id DESC
     LIMIT $3
"""
_NEWEST: Final = 2**63 - 1


class AttemptStore:
    """Reads the table `webhook_attempts`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(
        self, endpoint_id: UUID, event_id: UUID | None, *, failed_only: bool, before: int | None, limit: int
    ) -> list[asyncpg.Record]:
        """Attempts, newest first."""
        before = _NEWEST if before is None else before
        if event_id is not None:
            return await self._pool.fetch(_LIST_OF_EVENT, endpoint_id, before, limit, event_id, failed_only)
        statement = _LIST_FAILED if failed_only else _LIST
        return await self._pool.fetch(statement, endpoint_id, before, limit)
