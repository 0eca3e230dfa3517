"""What services have of the ledger, and what has to be sent to them again. Pure.

After one of the databases was put back to an earlier time, or lost, its service has entries not that the ledger has.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.orchestrator.saga import CORRECTED, State, Step

CORRECTION: Final = "correction"
_UNDONE: Final = (State.REJECTED, State.VOIDED)


class Act(IntEnum):
    """What has to be done again, as stored."""

    WRITE = 1
    """A write of definitions."""
    APPLY = 2
    UNDO = 3
    """The undoing of an entry, and the correction that follows from it."""


class Log(IntEnum):
    """What a service has made of an entry: `laurel.participant.v1.LogState`."""

    APPLIED = 1
    REVERTED = 2
    TOMBSTONE = 3
    REJECTED = 4


class LedgerRow(Struct, frozen=True):
    """An entry as the ledger has it."""

    entry_id: UUID
    kind: str
    user_id: str
    receive_time: datetime
    origin_id: UUID | None
    """Of a correction: the entry that was undone."""
    live: bool
    state: State | None
    """Of its saga, or of its origin's; None where that is not kept any more."""
    undo_time: datetime | None
    """When it was decided to undo it, or when that was done."""
    has_reply: bool
    withheld: bool = False
    """Its user is in the control group: no service has it (RULES 2.6)."""


class Finding(Struct, frozen=True):
    """Something that services have to be told again."""

    entry_id: UUID
    act: Act
    services: tuple[Step, ...]
    user_id: str
    due_time: datetime
    """When it was done first: in this order it is done again."""


class Compared(Struct, frozen=True):
    """What a part of the ledger comes to."""

    findings: Sequence[Finding]
    unfinished: int
    unknown: Mapping[Step, Collection[UUID]]
    """What a service has and this part of the ledger has not, or what it has undone and the ledger counts."""


def compare(
    rows: Sequence[LedgerRow],
    logs: Mapping[Step, Mapping[UUID, Log]],
    steps_of: Callable[[str], Sequence[Step]],
) -> Compared:
    """Holds a part of the ledger against what each service has in the same range of ids."""
    findings: list[Finding] = []
    unfinished = 0
    known = {row.entry_id for row in rows}
    unknown = {step: log.keys() - known for step, log in logs.items()}
    for row in rows:
        state = row.state or (State.DONE if row.live else State.VOIDED)
        if row.withheld:
            continue
        if row.kind == CORRECTION:
            lacking = _where(CORRECTED, logs, row.entry_id, None)
            if state in _UNDONE and row.state is not None and lacking:
                assert row.origin_id is not None
                findings.append(_undoing(row, row.origin_id, lacking))
        elif state is State.DONE:
            steps = steps_of(row.kind)
            findings += _applying(row, _where(steps, logs, row.entry_id, None))
            for step in steps:
                if logs[step].get(row.entry_id, Log.APPLIED) is not Log.APPLIED:
                    unknown[step].add(row.entry_id)
        elif state in _UNDONE:
            findings += _undone(row, state, logs, steps_of(row.kind))
        else:
            unfinished += 1
    return Compared(findings, unfinished, unknown)


def _undone(
    row: LedgerRow, state: State, logs: Mapping[Step, Mapping[UUID, Log]], steps: Sequence[Step]
) -> list[Finding]:
    """Of what does not count. What was refused had no effect that could be missed; what was voided had one until then,
    of which something may stay (RULES 6.12).
    """
    still = _where(steps, logs, row.entry_id, Log.APPLIED)
    lacking = (
        _where(steps, logs, row.entry_id, None) if state is State.VOIDED and row.state is not None else ()
    )
    findings = _applying(row, lacking) if row.has_reply else []
    if row.state is not None and (still or lacking):
        findings.append(
            _undoing(row, row.entry_id, tuple(step for step in steps if step in {*still, *lacking}))
        )
    return findings


def _where(
    steps: Sequence[Step], logs: Mapping[Step, Mapping[UUID, Log]], entry_id: UUID, log: Log | None
) -> tuple[Step, ...]:
    return tuple(step for step in steps if logs[step].get(entry_id) is log)


def _applying(row: LedgerRow, services: tuple[Step, ...]) -> list[Finding]:
    if not services:
        return []
    return [Finding(row.entry_id, Act.APPLY, services, row.user_id, row.receive_time)]


def _undoing(row: LedgerRow, entry_id: UUID, services: tuple[Step, ...]) -> Finding:
    return Finding(entry_id, Act.UNDO, services, row.user_id, row.undo_time or row.receive_time)


def missing_writes(writes: Sequence[UUID], known: Collection[UUID]) -> Sequence[UUID]:
    """Those of these writes of definitions, in their order, that a service has not: those after the newest that it has.

    Who lacks an older one and has a newer one was given its definitions anew, and they are not to be put back.
    """
    newest = max((index for index, write in enumerate(writes) if write in known), default=-1)
    return writes[newest + 1 :]
