"""The merge of a user into another (RULES 2.7): since it was recorded the id leads to the other. Every entry goes the
one road again for the other user, as of its own time, in the order in which they came; then each is undone for the
merged user, and what is left of that one in the services goes.

An entry keeps one name through every attempt, and what is undone stays so: whoever goes on after a crash begins at the
beginning. An entry is undone only after it has been moved, so at no instant does it count for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from laurel.ledger.v1 import entry_pb2

from services.orchestrator.active_sagas import ActiveSaga, Answer, StillRunning, resumed
from services.orchestrator.domain_events import told_of
from services.orchestrator.erasing import Erasing
from services.orchestrator.moving import MOVED, UNDONE, moved
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import State, Step
from services.orchestrator.store.merging import MergeStore, Movable
from services.orchestrator.store.reads import LOWEST_ID
from services.orchestrator.store.sagas import SagaStore
from shared import faults
from shared.clock import Clock
from shared.errors import (
    Aborted,
    DeadlineExceeded,
    Internal,
    LaurelError,
    ResourceExhausted,
    Unavailable,
)
from shared.tenants import stored, tenant_of

_MOVED_AT_ONCE: Final = 200
_UNDONE_AT_ONCE: Final = 100
_LONG_AGO: Final = datetime(1, 1, 2, tzinfo=UTC)
_UNKNOWN: Final = (Unavailable, ResourceExhausted, DeadlineExceeded, Aborted, Internal)
"""Answers that leave open what has become of an entry, or say that it may be asked again."""
_SERVICES: Final = [step.value for step in Step]
"""Where something may be left of a user who has no entries: not in the notification service, whose contacts the
application moves, and whose deliveries tell others of the merge.
"""

BEFORE_MOVE: Final = faults.declare(
    "orchestrator.merge.move.before", "the id leads to the other user, whose entries are to come"
)
AFTER_MOVE: Final = faults.declare(
    "orchestrator.merge.move.after", "entries count for both users, none is undone"
)
AFTER_UNDO: Final = faults.declare("orchestrator.merge.undo.after", "one entry is undone, others are not")
BEFORE_END: Final = faults.declare(
    "orchestrator.merge.end.before_commit", "nothing is left of the merged user, the merge is open"
)
AFTER_END: Final = faults.declare(
    "orchestrator.merge.end.after_commit", "the user is merged, the caller has no answer"
)


class Merging:
    """Merges users."""

    def __init__(
        self,
        store: MergeStore,
        sagas: SagaStore,
        erasing: Erasing,
        submit: Callable[[Sequence[Incoming]], Awaitable[list[Answer | LaurelError]]],
        start: Callable[[ActiveSaga], "asyncio.Future[Answer]"],
        clock: Clock,
    ) -> None:
        """`submit` is the door of all entries, `start` the runner of sagas."""
        self._store = store
        self._sagas = sagas
        self._erasing = erasing
        self._submit = submit
        self._start = start
        self._clock = clock

    async def merge(self, active: ActiveSaga) -> None:
        """All but that it was asked for; says in the entry what has come of it. Raises `LaurelError` where it has to go
        on later.
        """
        user_id = active.entry.user.user_id
        await self._erasing.quiet(user_id, active.entry_id)
        await BEFORE_MOVE.reach()
        moved_count, refused_count = await self._move(active)
        await AFTER_MOVE.reach()
        await self._undo(active)
        # It stands where nothing may go: in archives.
        pseudonym = stored(tenant_of(user_id), f"merged-{active.entry.entry_id}")
        await self._erasing.everywhere(user_id, pseudonym, [], _SERVICES)
        active.entry.user_merge.moved_count = moved_count
        active.entry.user_merge.refused_count = refused_count

    async def complete(self, active: ActiveSaga, reply: bytes, now: datetime) -> bool:
        """Ends the merge and tells of it. False where another replica was first."""
        told = told_of(active.entry, active.entry.SerializeToString(), b"")
        assert told is not None
        await BEFORE_END.reach()
        first = await self._store.complete(active.entry_id, active.entry.user.user_id, reply, told, now)
        await AFTER_END.reach()
        return first

    async def _move(self, active: ActiveSaga) -> tuple[int, int]:
        """Records all entries for the other user; how many, and how many were refused."""
        user_id, into = active.entry.user.user_id, active.entry.user_merge.into_user_id
        reason = _reason(active)
        moved_count = refused_count = 0
        after = (_LONG_AGO, LOWEST_ID)
        while page := await self._store.entries(user_id, after, MOVED, _MOVED_AT_ONCE):
            after = page[-1].place
            # Also those that this merge has undone already: they are counted.
            due = [entry for entry in page if entry.live or entry.void_reason == reason]
            wanted = [_moved(entry, user_id, into) for entry in due]
            answers = await self._submit([each for each in wanted if isinstance(each, Incoming)])
            for answer in answers:
                if isinstance(answer, _UNKNOWN):
                    raise answer
            done = sum(isinstance(answer, Answer) for answer in answers)
            moved_count += done
            refused_count += len(due) - done
        return moved_count, refused_count

    async def _undo(self, active: ActiveSaga) -> None:
        """Undoes all entries for the merged user."""
        user_id, reason = active.entry.user.user_id, _reason(active)
        while left := await self._store.to_undo(user_id, UNDONE, _UNDONE_AT_ONCE):
            for entry_id, state in left:
                if state is not State.DONE:
                    raise Unavailable("an entry of the user is being undone", reason="USER_BUSY")
                await self._undo_one(entry_id, reason)
                await AFTER_UNDO.reach()

    async def _undo_one(self, entry_id: UUID, reason: str) -> None:
        if not await self._sagas.decide_void(entry_id, reason, "", self._clock.now(), moved=True):
            raise Unavailable("an entry of the user is under way", reason="USER_BUSY")
        saga = await self._sagas.stored(entry_id)
        assert saga is not None
        try:
            await self._start(resumed(saga))
        except StillRunning:
            raise Unavailable("an entry of the user is in other hands", reason="USER_BUSY") from None


def _moved(entry: Movable, user_id: str, into: str) -> Incoming | LaurelError:
    zone = entry_pb2.Entry.FromString(entry.entry).time_zone
    try:
        return moved(
            entry.entry_id,
            OPERATIONS[entry.kind],
            entry.request,
            entry.receive_time,
            entry.origin,
            entry.actor,
            zone,
            user_id,
            into,
        )
    except LaurelError as refusal:
        return refusal


def _reason(active: ActiveSaga) -> str:
    """Why entries are undone, as their audit shows it."""
    return f"moved by the merge {active.entry.entry_id}"
