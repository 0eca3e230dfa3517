"""Expo takes a push at once, and says a while later whether it was brought: a token that is dead is removed then.

Asking changes nothing, so what a process did not live to note is asked again. One replica at a time asks.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from services.notification.domain.contacts import Ticket
from services.notification.push_providers import MOST_RECEIPTS, Expo
from services.notification.store.contacts import ContactStore
from services.notification.store.tickets import TicketStore
from shared.clock import Clock
from shared.postgres.pool import Pool

_LOGGER: Final = logging.getLogger(__name__)
_KEPT: Final = timedelta(days=1)
"""For so long Expo has receipts."""


class Receipts:
    """Asks for what is due."""

    def __init__(
        self,
        pool: Pool,
        expo: Expo,
        tickets: TicketStore,
        contacts: ContactStore,
        wait_seconds: float,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._expo = expo
        self._tickets = tickets
        self._contacts = contacts
        self._wait = timedelta(seconds=wait_seconds)
        self._clock = clock

    async def run(self) -> None:
        """Ask about all whose time has come; where Expo does not say, they stay due."""
        while due := await self._tickets.due(self._clock.now() - self._wait, MOST_RECEIPTS):
            if not await self._ask(due):
                _LOGGER.warning("the receipts of push cannot be read")
                return

    async def _ask(self, due: Sequence[Ticket]) -> bool:
        found = await self._expo.receipts([ticket.ticket_id for ticket in due])
        if found is None:
            return False
        now = self._clock.now()
        told = [ticket for ticket in due if ticket.ticket_id in found]
        silent = [ticket for ticket in due if ticket.ticket_id not in found]
        async with self._pool.acquire() as connection, connection.transaction():
            await self._tickets.settle(
                connection, [*told, *(ticket for ticket in silent if ticket.time <= now - _KEPT)]
            )
            await self._tickets.asked(connection, silent, now)
            for ticket in told:
                receipt = found[ticket.ticket_id]
                if receipt.is_dead:
                    # Unless it was added again since: then it is alive.
                    await self._contacts.forget_device(connection, ticket.device, ticket.time)
                elif receipt.failure:
                    _LOGGER.warning("a device was not reached", extra={"reason": receipt.failure})
        return True
