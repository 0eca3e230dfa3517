"""From an entry to its answer: through the intake, or, where others have it in hand, from the database."""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from services.orchestrator import moving, replies
from services.orchestrator.active_sagas import Answer, StillRunning, pending
from services.orchestrator.config import Settings
from services.orchestrator.instrumentation import Instrumentation
from services.orchestrator.intake import Intake
from services.orchestrator.participants import Participants
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import State
from services.orchestrator.store.ledger import LedgerStore
from shared.errors import LaurelError, Unavailable
from shared.postgres.errors import translate
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
        """The answer to one entry. Raises `LaurelError`, as in `submit_all`."""
        [answer] = await self.submit_all([incoming])
        if isinstance(answer, LaurelError):
            raise answer
        return answer

    async def submit_all(self, entries: Sequence[Incoming]) -> list[Answer | LaurelError]:
        """The answers in order, or `UNAVAILABLE` (`ENTRY_PENDING`) shortly before the caller's deadline (RULES 7.8).

        All are waited for at once. The caller may be cancelled; the entries go on.
        """
        deadline = _deadline()
        coming = [self._submitted(incoming) for incoming in entries]
        waited = [future for future in coming if not isinstance(future, LaurelError)]
        if waited:
            await asyncio.wait(
                waited, timeout=None if deadline is None else deadline - asyncio.get_running_loop().time()
            )
        answers = [
            future if isinstance(future, LaurelError) else await self._outcome(future, deadline)
            for future in coming
        ]
        for place, answer in enumerate(answers):
            if isinstance(answer, LaurelError) and moving.leads_on(entries[place], answer):
                answers[place] = await self._led_on(entries[place], answer)
            else:
                self._count(answer)
        return answers

    async def _led_on(self, incoming: Incoming, refusal: LaurelError) -> Answer | LaurelError:
        """The answer to what is asked of a user who was merged: that of whom the id leads to (RULES 2.7)."""
        hold = moving.hold_of(incoming)
        hold_moved = hold is not None and await self._ledger.known_entry(moving.moved_id(hold)) is not None
        user_id, into = refusal.metadata["user_id"], refusal.metadata["into_user_id"]
        try:
            led = moving.led_on(incoming, user_id, into, hold_moved=hold_moved)
        except LaurelError as error:
            return error
        [answer] = await self.submit_all([led])
        return answer

    def _submitted(self, incoming: Incoming) -> "asyncio.Future[Answer] | LaurelError":
        try:
            return self._intake.submit(incoming)
        except LaurelError as error:
            return error

    async def _outcome(
        self, coming: "asyncio.Future[Answer]", deadline: float | None
    ) -> Answer | LaurelError:
        """What an entry has come to that was waited for."""
        if not coming.done():
            return _still_pending()
        if coming.cancelled():
            return Unavailable("the orchestrator is going down", reason="ENTRY_PENDING")
        error = coming.exception()
        if error is None:
            return coming.result()
        if isinstance(error, LaurelError):
            return error
        if isinstance(error, StillRunning):
            return await self._elsewhere(error.entry_id, deadline)
        raise error

    async def _elsewhere(self, entry_id: UUID, deadline: float | None) -> Answer | LaurelError:
        """What comes of an entry that others have in hand."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._settled(entry_id)
        except TimeoutError:
            return _still_pending()
        except Exception as failure:
            error = failure if isinstance(failure, LaurelError) else translate(failure)
            if error is None:
                raise
            return error

    def _count(self, answer: Answer | LaurelError) -> None:
        if isinstance(answer, LaurelError):
            self._instruments.answered(answer.reason)
        else:
            self._instruments.answered("replayed" if answer.replayed else "done")

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


def _still_pending() -> Unavailable:
    return pending(Unavailable("not done within the deadline", reason="ENTRY_PENDING"))


def _deadline() -> float | None:
    """Until when to wait for an answer, by the loop's clock; None without a deadline."""
    remaining = time_remaining()
    if remaining is None:
        return None
    return asyncio.get_running_loop().time() + max(remaining - _ANSWER_MARGIN_SECONDS, remaining / 2)
