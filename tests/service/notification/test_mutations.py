"""A change that meets a deadlock is tried again, and is one change all the same."""

import asyncpg
import pytest
from laurel.notification.v1 import notification_service_pb2 as pb

from services.notification.mutations import mutate
from shared.clock import SystemClock
from shared.postgres.pool import Connection, create_pool
from tests.conftest import ServiceDatabase

MARK = "INSERT INTO reminded_streaks VALUES ($1, now())"


@pytest.mark.parametrize("deadlocks", [0, 2, 3])
async def test_a_change_is_made_once_however_many_deadlocks_it_meets_before(
    service_database: ServiceDatabase, deadlocks: int
) -> None:
    dsn = await service_database("notification")
    pool = await create_pool(dsn, application_name="test", size=2, statement_timeout_ms=10_000)
    request = pb.DeleteWebhookEndpointRequest(request_id="one", key="crm")
    tried = 0

    async def work(connection: Connection) -> pb.DeleteWebhookEndpointResponse:
        nonlocal tried
        tried += 1
        await connection.execute(MARK, f"try-{tried}")
        if tried <= deadlocks:
            raise asyncpg.DeadlockDetectedError
        return pb.DeleteWebhookEndpointResponse()

    async def change() -> None:
        response = pb.DeleteWebhookEndpointResponse()
        await mutate(pool, "delete", request, SystemClock().now(), work, response)

    if deadlocks == 3:
        with pytest.raises(asyncpg.DeadlockDetectedError):
            await change()
    else:
        await change()
        await change()
    made = await pool.fetch("SELECT streak FROM reminded_streaks")
    assert [row["streak"] for row in made] == ([] if deadlocks == 3 else [f"try-{deadlocks + 1}"])
    await pool.close()
