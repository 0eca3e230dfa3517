"""From an entry to its answer: through the intake, or, where others have it in hand, from the database."""

import asyncio
from typing import Final
from uuid import UUID

from services.orchestrator import replies
from services.orchestrator.active_sagas import Answer, StillRunning, pending
from services.orchestrator.config import Settings
from services.orchestrator.instrumentation import Instrumentation
from services.orchestrator.intake import Intake
from services.orchestrator.participants import Participants
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import State
from services.orchestrator.store.ledger import LedgerStore
from shared.errors import LaurelError, Unavailable
from shared.rpc.deadline import time_remaining

_LONGEST_POLL_FACTOR: Final = 16
_ANSWER_MARGIN_SECONDS: Final = 0.1
"""An answer is on its way this long before the caller's deadline: UNAVAILABLE tells more than silence."""


class Submissions:
    """Gives every caller the one answer to an entry."""

    def __init__(
        self,
        intake: Intake,
        ledger: LedgerStore,
        participants: Participants,
        settings: Settings,
        instruments: Instrumentation,
    ) -> None:
        self._instruments = instruments
        self._intake = intake
        self._ledger = ledger
        self._participants = participants
        self._poll_seconds = settings.settle_poll_seconds

    async def submit(self, incoming: Incoming) -> Answer:
        """The answer, or `UNAVAILABLE` (`ENTRY_PENDING`) shortly before the caller's deadline (RULES 7.8).

        The caller may be cancelled; the entry goes on. Raises `LaurelError`.
        """
        try:
            answer = await self._answer(incoming)
        except LaurelError as error:
            self._instruments.answered(error.reason)
            raise
        self._instruments.answered("replayed" if answer.replayed else "done")
        return answer

    async def _answer(self, incoming: Incoming) -> Answer:
        coming = self._intake.submit(incoming)
        try:
            async with asyncio.timeout(_patience_seconds()):
                try:
                    return await asyncio.shield(coming)
                except StillRunning as elsewhere:
                    return await self._settled(elsewhere.entry_id)
        except TimeoutError:
            raise pending(Unavailable("not done within the deadline", reason="ENTRY_PENDING")) from None

    async def _settled(self, entry_id: UUID) -> Answer:
        """Waits until whoever has the entry in hand has settled it; not for a participant that is away."""
        pause = self._poll_seconds
        while True:
            known = await self._ledger.known_entry(entry_id)
            if known is None:
                raise Unavailable("the entry is not known any more", reason="DEPENDENCY_UNAVAILABLE")
            if known.state is None:
                raise replies.reply_expired()
            if known.reply is not None:
                return Answer(known.reply, replayed=True)
            if known.state is State.REJECTED and known.rejection is not None:
                raise replies.rejection_from_bytes(known.rejection)
            if known.state is State.PARKED:
                raise pending(Unavailable("it waits for an operator", reason="SAGA_PARKED"))
            if (away := self._participants.away()) is not None:
                raise pending(
                    Unavailable(f"the {away.value} service is away", reason="DEPENDENCY_UNAVAILABLE")
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._poll_seconds * _LONGEST_POLL_FACTOR)


def _patience_seconds() -> float | None:
    """How long to wait for an answer; None without a deadline."""
    remaining = time_remaining()
    return None if remaining is None else max(remaining - _ANSWER_MARGIN_SECONDS, remaining / 2)
