"""The request-log protocol of a participant, the same for every service (RULES 7.3, 7.4; DESIGN 3).

A service brings three functions: `run` loads, decides and stores a batch of entries that were never seen,
`refuse` writes an outcome that carries an error, and for reversals `run` undoes one entry. Here is the rest:
what is answered to an entry that was seen, undone, sent with other content or twice in one batch; retries
when the state moved meanwhile; and the splitting of a batch that breaks on its data, so that a bad command
never fails its neighbours.

The common path asks the log nothing: `run` inserts the log's rows in the statement that stores the effects,
and only when that hits a known entry are the entries looked up.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar
from uuid import UUID

import asyncpg
from msgspec import Struct

from shared.entries import Reversal
from shared.errors import Aborted, AlreadyExists, FailedPrecondition, Internal, LaurelError
from shared.postgres.errors import StateMoved, is_conflict
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import (
    Conflict,
    Expired,
    Known,
    New,
    NothingToRevert,
    RefusedAfterRevert,
    Replay,
    ReplayRevert,
    Revert,
    State,
    Tombstone,
    classify_apply,
    classify_revert,
    load_known,
)

C = TypeVar("C")

_LOGGER: Final = logging.getLogger(__name__)


# What the data of a command can break.
_BROKEN_BY_DATA: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    ArithmeticError,
)

# A unique violation outside the log may be a lost race, which passes, or the data, which stays.
_UNIQUE_VIOLATIONS_OF_A_RACE: Final = 8

_LOCK: Final = """
    SELECT entry_id, digest, state, outcome, revert_outcome FROM request_log WHERE entry_id = $1 FOR UPDATE
"""
_MARK_REVERTED: Final = "UPDATE request_log SET state = $2, revert_outcome = $3 WHERE entry_id = $1"
_REMEMBER_NOTHING: Final = "UPDATE request_log SET revert_outcome = $2 WHERE entry_id = $1"
_INSERT_TOMBSTONE: Final = """
    INSERT INTO request_log (entry_id, user_id, digest, state, revert_outcome, apply_time)
    VALUES ($1, $2, '', $3, $4, $5)
        ON CONFLICT (entry_id) DO NOTHING
    RETURNING true
"""


class Work(Struct, Generic[C], frozen=True):
    """A command, and what the log knows it by."""

    command: C
    entry_id: UUID
    user_id: str
    digest: bytes


Run = Callable[[Sequence[Work[C]]], Awaitable[Sequence[bytes]]]
"""Loads, decides, and stores with the log's rows in one statement; one serialized outcome each, in order.

A batch may be stored in parts: what is stored when it fails is known by the log when it is tried again.
"""

Refuse = Callable[[UUID, LaurelError], bytes]
"""The serialized outcome that refuses an entry with an error."""

RunReversal = Callable[[Connection, Reversal, Known], Awaitable[bytes]]
"""Undoes an applied entry inside the given transaction; the serialized outcome."""

OutcomeOfNothing = Callable[[UUID], bytes]
"""The serialized outcome of a reversal that found nothing to undo."""


class Backoff(Struct, frozen=True):
    """How often work is tried whose state moved, and how long it waits: full jitter, doubling ceiling."""

    attempts: int = 40
    first_pause_seconds: float = 0.002
    longest_pause_seconds: float = 0.1
    uniform: Callable[[float, float], float] = random.uniform
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def pause(self, attempt: int) -> None:
        """Wait after the failure of this attempt; the first is 0."""
        ceiling = min(self.first_pause_seconds * 2.0 ** min(attempt, 16), self.longest_pause_seconds)
        await self.sleep(self.uniform(0.0, ceiling))


# A loser waits for winners only, each through in some milliseconds: two seconds in all outlast hundreds of
# writers on one user.
PATIENT: Final = Backoff()


class _Broken(Exception):
    """The batch cannot be stored because of its data; the cause says why."""


async def apply_batch(
    pool: Pool, work: Sequence[Work[C]], run: Run[C], refuse: Refuse, backoff: Backoff = PATIENT
) -> list[bytes]:
    """One serialized outcome for each piece of work, in order.

    What was answered before is answered again, byte for byte; a twin inside the batch gets its first one's
    outcome. Refused by an outcome: other content under the same id (`ENTRY_CONFLICT`), an entry that was
    undone (`ENTRY_REVERTED`), one whose answer is not kept any more (`OUTCOME_EXPIRED`), a command on which
    `run` breaks (`INTERNAL`, logged). Raises `Aborted` (`CONTENTION`) when concurrent changes kept getting in
    the way, and lets the failure of a dependency pass.
    """
    outcomes: dict[tuple[UUID, bytes], bytes] = {}
    waiting = list(work)
    while waiting:
        # Two with one id and other content take turns, as if they had come one after the other.
        turn = _first_of_each_entry(waiting)
        settled = await _settle(pool, turn, run, refuse, backoff)
        for task, outcome in zip(turn, settled, strict=True):
            outcomes[task.entry_id, task.digest] = outcome
        waiting = [task for task in waiting if (task.entry_id, task.digest) not in outcomes]
    return [outcomes[task.entry_id, task.digest] for task in work]


async def revert_batch(
    pool: Pool,
    reversals: Sequence[Reversal],
    run: RunReversal,
    outcome_of_nothing: OutcomeOfNothing,
    backoff: Backoff = PATIENT,
) -> list[bytes]:
    """One serialized outcome for each reversal, in order; each is a transaction of its own.

    An applied entry is undone by `run`, once; then the same bytes are answered for ever. A never-seen one
    leaves a tombstone, so that a late original is refused, and a rejected one has left nothing to undo.
    Raises `Aborted` (`CONTENTION`) when concurrent changes kept getting in the way; what was undone until
    then stays so, and a second call answers it from the log.
    """
    return [
        await _revert_with_retries(pool, reversal, run, outcome_of_nothing, backoff) for reversal in reversals
    ]


def _first_of_each_entry(work: Sequence[Work[C]]) -> list[Work[C]]:
    first: dict[UUID, Work[C]] = {}
    for task in work:
        first.setdefault(task.entry_id, task)
    return list(first.values())


async def _settle(
    pool: Pool, batch: Sequence[Work[C]], run: Run[C], refuse: Refuse, backoff: Backoff
) -> list[bytes]:
    """The outcomes of a batch of distinct entries; one that breaks on its data is split until the cause is
    alone.
    """
    try:
        return await _store_or_replay(pool, batch, run, refuse, backoff)
    except _Broken as broken:
        if len(batch) == 1:
            entry_id = batch[0].entry_id
            _LOGGER.error(
                "a command breaks its participant",
                extra={"entry_id": str(entry_id)},
                exc_info=broken.__cause__,
            )
            fault = Internal("the command cannot be processed; the log has the cause", reason="INTERNAL")
            return [refuse(entry_id, fault)]
    middle = len(batch) // 2
    left = await _settle(pool, batch[:middle], run, refuse, backoff)
    return left + await _settle(pool, batch[middle:], run, refuse, backoff)


async def _store_or_replay(
    pool: Pool, batch: Sequence[Work[C]], run: Run[C], refuse: Refuse, backoff: Backoff
) -> list[bytes]:
    """The outcomes of a batch of distinct entries. Raises `_Broken`; then some may be stored."""
    answered: dict[UUID, bytes] = {}
    fresh = list(batch)
    unique_violations = 0
    for attempt in range(backoff.attempts):
        try:
            outcomes = await run(fresh) if fresh else ()
        except Exception as error:
            if isinstance(error, asyncpg.UniqueViolationError):
                # Of a known entry any row that it wrote may be met first: PostgreSQL promises no order.
                recalled = await _recall(pool, fresh, refuse)
                answered |= recalled
                fresh = [work for work in fresh if work.entry_id not in recalled]
                if recalled:
                    continue
                unique_violations += 1
                if unique_violations == _UNIQUE_VIOLATIONS_OF_A_RACE:
                    raise _Broken from error
            elif not is_conflict(error):
                if isinstance(error, _BROKEN_BY_DATA):
                    raise _Broken from error
                raise
            await backoff.pause(attempt)
        else:
            answered |= {work.entry_id: outcome for work, outcome in zip(fresh, outcomes, strict=True)}
            return [answered[work.entry_id] for work in batch]
    raise _contention()


async def _recall(pool: Pool, batch: Sequence[Work[C]], refuse: Refuse) -> dict[UUID, bytes]:
    """The outcomes of those entries that the log knows."""
    async with pool.acquire() as connection:
        known = await load_known(connection, [work.entry_id for work in batch])
    outcomes: dict[UUID, bytes] = {}
    for work in batch:
        match classify_apply(known.get(work.entry_id), work.digest):
            case Replay(outcome):
                outcomes[work.entry_id] = outcome
            case Conflict():
                outcomes[work.entry_id] = refuse(work.entry_id, _conflict(work.entry_id))
            case RefusedAfterRevert():
                outcomes[work.entry_id] = refuse(work.entry_id, _reverted(work.entry_id))
            case Expired():
                outcomes[work.entry_id] = refuse(work.entry_id, _expired(work.entry_id))
            case New():
                pass
    return outcomes


async def _revert_with_retries(
    pool: Pool,
    reversal: Reversal,
    run: RunReversal,
    outcome_of_nothing: OutcomeOfNothing,
    backoff: Backoff,
) -> bytes:
    for attempt in range(backoff.attempts):
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await _revert(connection, reversal, run, outcome_of_nothing)
        except Exception as error:
            if not is_conflict(error):
                raise
        await backoff.pause(attempt)
    raise _contention()


async def _revert(
    connection: Connection,
    reversal: Reversal,
    run: RunReversal,
    outcome_of_nothing: OutcomeOfNothing,
) -> bytes:
    """Undo one entry inside a transaction. Raises `StateMoved` when its original came between."""
    known = await _locked(connection, reversal.entry_id)
    if known is None:
        return await _bury(connection, reversal, outcome_of_nothing(reversal.entry_id))
    match classify_revert(known):
        case Revert():
            outcome = await run(connection, reversal, known)
            await connection.execute(_MARK_REVERTED, reversal.entry_id, State.REVERTED, outcome)
            return outcome
        case ReplayRevert(outcome):
            return outcome
        case NothingToRevert() | Tombstone():
            return await _remember_nothing(connection, known, outcome_of_nothing)


async def _locked(connection: Connection, entry_id: UUID) -> Known | None:
    row = await connection.fetchrow(_LOCK, entry_id)
    if row is None:
        return None
    return Known(row["entry_id"], row["digest"], State(row["state"]), row["outcome"], row["revert_outcome"])


async def _bury(connection: Connection, reversal: Reversal, outcome: bytes) -> bytes:
    """Leave a tombstone for an entry that was never seen."""
    inserted = await connection.fetchval(
        _INSERT_TOMBSTONE, reversal.entry_id, reversal.user_id, State.TOMBSTONE, outcome, reversal.now
    )
    if not inserted:
        raise StateMoved("the original was applied while its tombstone was written")
    return outcome


async def _remember_nothing(
    connection: Connection, known: Known, outcome_of_nothing: OutcomeOfNothing
) -> bytes:
    """The answer for an entry that left nothing to undo: the first one given, for ever."""
    if known.revert_outcome is not None:
        return known.revert_outcome
    outcome = outcome_of_nothing(known.entry_id)
    await connection.execute(_REMEMBER_NOTHING, known.entry_id, outcome)
    return outcome


def _conflict(entry_id: UUID) -> LaurelError:
    return AlreadyExists(
        "the entry id was used before with other content",
        reason="ENTRY_CONFLICT",
        metadata={"entry_id": str(entry_id)},
    )


def _reverted(entry_id: UUID) -> LaurelError:
    return FailedPrecondition(
        "the entry was undone and is refused for ever",
        reason="ENTRY_REVERTED",
        metadata={"entry_id": str(entry_id)},
    )


def _expired(entry_id: UUID) -> LaurelError:
    return FailedPrecondition(
        "the entry was answered so long ago that the answer is not kept any more",
        reason="OUTCOME_EXPIRED",
        metadata={"entry_id": str(entry_id)},
    )


def _contention() -> LaurelError:
    return Aborted("concurrent changes of the same users kept getting in the way", reason="CONTENTION")
