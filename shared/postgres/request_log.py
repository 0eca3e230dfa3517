"""The request log of a participant: what it answered to each entry (RULES 7.4, DESIGN 3).

Every service's own migration creates the table and its own store statement writes to it, in the transaction
of the effect. Here is only what must be the same everywhere: how an entry is read, and what it says about a
request. The table is partitioned by entry id, and old months may be condensed (docs/adr/0010).

    CREATE TABLE request_log (
        entry_id       uuid        PRIMARY KEY,
        user_id        text        NOT NULL,
        digest         bytea       NOT NULL,   -- of the command; empty in a tombstone, and where condensed; see FOUND
        outcome        bytea,                  -- the answer to the command, byte for byte; empty where condensed
        state          smallint    NOT NULL,   -- see State
        apply_time     timestamptz NOT NULL,
        revert_outcome bytea                   -- the answer to its compensation
    )
"""

from collections.abc import Iterable
from datetime import timedelta
from enum import IntEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from shared.postgres.condensing import Condense
from shared.postgres.pool import Connection

_CONDENSED: Final = b""
"""The digest of an entry whose month was condensed."""
FOUND: Final = b"\0"
"""The digest of what a service found by itself and keeps as a fact: the ledger hears of it by the feed, or never."""

# The ids come in order: their bounds tell the partitions (docs/adr/0010).
SELECT_KNOWN: Final = """
    SELECT entry_id, digest, state, outcome, revert_outcome
      FROM request_log
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""


class State(IntEnum):
    """What became of an entry."""

    APPLIED = 1
    REVERTED = 2
    TOMBSTONE = 3
    """Compensated before it was ever seen: a late original is refused."""
    REJECTED = 4
    """Answered with a definite no, which is remembered like a yes."""


def condensed_after(replay_window: timedelta | None) -> Condense | None:
    """What becomes of old months: applied and rejected entries lose their answer, and what it was the answer to.

    Answers to compensations stay: they are few, and an undoing that was parked can always go on. What is not
    projected yet (the leaderboard's) stays whole. None, for a window without end: everything stays.
    """
    if replay_window is None:
        return None
    return Condense(
        replay_window,
        emptied=("digest", "outcome"),
        where="state IN (1, 4) AND outcome IS NOT NULL AND digest <> '\\x00'",
    )


class Known(Struct, frozen=True):
    """An entry of the log."""

    entry_id: UUID
    digest: bytes
    state: State
    outcome: bytes | None
    revert_outcome: bytes | None


class New(Struct, frozen=True):
    """Never seen: decide and store."""


class Replay(Struct, frozen=True):
    """Answered before, be it yes or no: give the same answer."""

    outcome: bytes


class Conflict(Struct, frozen=True):
    """The same id with other content: refuse."""


class RefusedAfterRevert(Struct, frozen=True):
    """Its compensation came first or has been done: refuse, it must not take effect any more."""


class Expired(Struct, frozen=True):
    """Answered so long ago that only its effect is kept: refuse."""


class Revert(Struct, frozen=True):
    """Applied: undo it."""


class ReplayRevert(Struct, frozen=True):
    """Undone before, or nothing was there to undo: give the same answer (empty if none was stored)."""

    outcome: bytes


class Tombstone(Struct, frozen=True):
    """Never seen: record that it is compensated, so that a late original is refused."""


class NothingToRevert(Struct, frozen=True):
    """It was rejected and left nothing; the log stays as it is."""


ApplyClass = New | Replay | Conflict | RefusedAfterRevert | Expired
RevertClass = Revert | ReplayRevert | Tombstone | NothingToRevert


def classify_apply(known: Known | None, digest: bytes) -> ApplyClass:
    """What a command with this digest is to the log."""
    if known is None:
        return New()
    if known.state is State.TOMBSTONE:
        return RefusedAfterRevert()
    if known.digest not in (_CONDENSED, digest):
        return Conflict()
    if known.state is State.REVERTED:
        return RefusedAfterRevert()
    if known.digest == _CONDENSED:
        return Expired()
    return Replay(known.outcome or b"")


def classify_revert(known: Known | None) -> RevertClass:
    """What the compensation of an entry is to the log."""
    if known is None:
        return Tombstone()
    match known.state:
        case State.APPLIED:
            return Revert()
        case State.REJECTED:
            return NothingToRevert()
        case State.REVERTED | State.TOMBSTONE:
            return ReplayRevert(known.revert_outcome or b"")


async def load_known(connection: Connection, entry_ids: Iterable[UUID]) -> dict[UUID, Known]:
    """The entries among these ids that are in the log."""
    rows = await connection.fetch(SELECT_KNOWN, sorted(entry_ids))
    return {
        row["entry_id"]: Known(
            row["entry_id"], row["digest"], State(row["state"]), row["outcome"], row["revert_outcome"]
        )
        for row in rows
    }
