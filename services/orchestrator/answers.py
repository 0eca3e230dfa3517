"""From an entry to its answer: through the door, or, where others have it in hand, from the database."""

import asyncio
from typing import Final
from uuid import UUID

from services.orchestrator import replies
from services.orchestrator.config import OrchestratorSettings
from services.orchestrator.door import Door
from services.orchestrator.recording import Incoming
from services.orchestrator.runner import Answer, StillRunning, pending
from services.orchestrator.saga import State
from services.orchestrator.store.ledger import LedgerStore
from shared.errors import Unavailable

_LONGEST_POLL_FACTOR: Final = 16


class Answers:
    """Gives every caller the one answer to an entry."""

    def __init__(self, door: Door, ledger: LedgerStore, settings: OrchestratorSettings) -> None:
        self._door = door
        self._ledger = ledger
        self._poll_seconds = settings.settle_poll_seconds

    async def answer(self, incoming: Incoming) -> Answer:
        """The answer. The caller may be cancelled; the entry goes on. Raises `LaurelError`."""
        coming = self._door.submit(incoming)
        try:
            return await asyncio.shield(coming)
        except StillRunning as elsewhere:
            return await self.settled(elsewhere.entry_id)

    async def settled(self, entry_id: UUID) -> Answer:
        """Waits until whoever has the entry in hand has settled it."""
        pause = self._poll_seconds
        while True:
            known = (await self._ledger.known([entry_id])).get(entry_id)
            if known is None:
                raise Unavailable("the event is not known any more", reason="DEPENDENCY_UNAVAILABLE")
            if known.reply is not None:
                return Answer(known.reply, replayed=True)
            if known.state is State.REJECTED and known.rejection is not None:
                raise replies.rejection_from_bytes(known.rejection)
            if known.state is State.PARKED:
                raise pending(Unavailable("it waits for an operator", reason="SAGA_PARKED"))
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._poll_seconds * _LONGEST_POLL_FACTOR)
