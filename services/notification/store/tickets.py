"""What a provider of push has taken, of which it says later what became of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from services.notification.domain.contacts import Device, PushProvider, Ticket
from shared.postgres.pool import Connection, Pool

# A device that is being removed meanwhile is waited for, and then has no ticket.
_ADD: Final = """
    INSERT INTO push_tickets (ticket_id, provider, token, create_time, ask_time)
    SELECT ticket.ticket_id, devices.provider, devices.token, ticket.create_time, ticket.create_time
      FROM unnest($1::text[], $2::smallint[], $3::text[], $4::timestamptz[])
               AS ticket (ticket_id, provider, token, create_time)
      JOIN devices USING (provider, token)
       FOR KEY SHARE OF devices
        ON CONFLICT (ticket_id) DO NOTHING
"""
_DUE: Final = """
    SELECT ticket_id, provider, token, create_time
      FROM push_tickets
     WHERE ask_time <= $1
     ORDER BY ask_time
     LIMIT $2
"""
_SETTLE: Final = "DELETE FROM push_tickets WHERE ticket_id = ANY ($1::text[])"
_ASKED: Final = "UPDATE push_tickets SET ask_time = $2 WHERE ticket_id = ANY ($1::text[])"


class TicketStore:
    """The table `push_tickets`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, connection: Connection, tickets: Sequence[Ticket]) -> None:
        """Keep these, of devices that are still there."""
        if tickets:
            await connection.execute(
                _ADD,
                [ticket.ticket_id for ticket in tickets],
                [ticket.device.provider for ticket in tickets],
                [ticket.device.token for ticket in tickets],
                [ticket.time for ticket in tickets],
            )

    async def due(self, before: datetime, limit: int) -> list[Ticket]:
        """Those that nobody has asked about since."""
        return [
            Ticket(row["ticket_id"], Device(PushProvider(row["provider"]), row["token"]), row["create_time"])
            for row in await self._pool.fetch(_DUE, before, limit)
        ]

    async def settle(self, connection: Connection, tickets: Sequence[Ticket]) -> None:
        """Nothing more is to be heard of these."""
        await connection.execute(_SETTLE, [ticket.ticket_id for ticket in tickets])

    async def asked(self, connection: Connection, tickets: Sequence[Ticket], now: datetime) -> None:
        """Of these nothing is known yet."""
        await connection.execute(_ASKED, [ticket.ticket_id for ticket in tickets], now)
