"""What an examination of the ledger found, and how far its healing is."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from enum import IntEnum
from typing import Final
from uuid import UUID

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import definition_service_pb2
from msgspec import Struct

from services.orchestrator.findings import CORRECTION, Act, Finding, LedgerRow
from services.orchestrator.saga import State, Step
from services.orchestrator.store.sagas import StoredSaga
from services.orchestrator.store.sagas import from_row as saga_from_row
from shared.entries import half_id
from shared.ids import derived_id_beside
from shared.postgres.pool import Connection, Pool

LOWEST_ID: Final = UUID(int=0)
_DELETED_AT_ONCE: Final = 50_000
_BELOW_MILLISECONDS: Final = 80
"""Bits of an entry's id below those that are its time."""

# Two reads by ranges of the key: a join would look for each saga in all months.
_ENTRIES: Final = """
    SELECT entry_id, kind, user_id, receive_time, origin_id, live,
           EXISTS (SELECT FROM users u WHERE u.user_id = e.user_id AND u.standing = 1 OFFSET 0) AS withheld
      FROM entries e
     WHERE entry_id > $1 ORDER BY entry_id LIMIT $2
"""
_SAGAS: Final = """
    SELECT entry_id, state, coalesce(void_time, settle_time) AS undo_time, coalesce(reply, '') <> '' AS has_reply
      FROM sagas
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""
_BODIES: Final = """
    SELECT entry_id, entry FROM entries
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""
_KNOWN: Final = _BODIES.replace("entry_id, entry FROM", "entry_id FROM")

# What an entry is to somebody besides its user has an id of its own, in the same millisecond.
_WITH_OTHERS: Final = """
    SELECT entries.entry_id, entries.other_user_ids
      FROM unnest($1::uuid[], $2::uuid[]) AS span (first, last)
      JOIN entries ON entries.entry_id BETWEEN span.first AND span.last
     WHERE entries.other_user_ids IS NOT NULL
"""

_EXAMINATION: Final = "SELECT * FROM examination"
_BEGIN: Final = """
    INSERT INTO examination (stage, start_time, after_entry_id, examined_count, unfinished_count, unknown_counts)
    VALUES (1, $1, $2, 0, 0, $3)
        ON CONFLICT (singleton) DO UPDATE
       SET stage = 1, start_time = $1, after_entry_id = $2, examined_count = 0, unfinished_count = 0,
           unknown_counts = $3, maintained_day = NULL, after_user_id = NULL
"""
_FORGET: Final = f"""
    DELETE FROM findings
     WHERE ctid = ANY(ARRAY(SELECT ctid FROM findings LIMIT {_DELETED_AT_ONCE}))
"""
_ADVANCE: Final = """
    UPDATE examination
       SET after_entry_id = $1, examined_count = examined_count + $2, unfinished_count = unfinished_count + $3,
           unknown_counts = $4, stage = $5
"""
_ADD: Final = """
    INSERT INTO findings AS known (entry_id, act, services, user_id, due_time, sequence)
    SELECT entry_id, act, string_to_array(services, ','), user_id, due_time, sequence
      FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[])
           AS found (entry_id, act, services, user_id, due_time, sequence)
        ON CONFLICT (entry_id, act) DO UPDATE
       SET services = ARRAY(SELECT DISTINCT unnest(known.services || excluded.services))
"""
_STAGE: Final = "UPDATE examination SET stage = $1"
_MAINTAINED: Final = "UPDATE examination SET maintained_day = $1"
_RAISED: Final = "UPDATE examination SET after_user_id = $1"
_FOLLOW_ANEW: Final = "UPDATE feed_cursors SET cursor = '' WHERE feed = ANY($1::text[])"
_OPEN: Final = """
    SELECT entry_id, act, services, user_id, due_time FROM findings
     WHERE state = 0 ORDER BY due_time, sequence, entry_id, act LIMIT $1
"""
_SETTLE: Final = """
    UPDATE findings SET state = settled.state, cause = settled.cause
      FROM unnest($2::uuid[], $3::smallint[], $4::text[]) AS settled (entry_id, state, cause)
     WHERE findings.entry_id = settled.entry_id AND findings.act = $1
"""
_COUNTS: Final = """
    SELECT service, act, state, count(*) AS count
      FROM findings, unnest(services) AS service GROUP BY service, act, state
"""
_FAILURES: Final = "SELECT entry_id, cause FROM findings WHERE state = 2 ORDER BY due_time LIMIT 20"
_HEALED_USERS: Final = """
    SELECT DISTINCT user_id FROM findings WHERE state = 1 AND user_id > $1 ORDER BY user_id LIMIT $2
"""
_STORED: Final = """
    SELECT e.entry_id, e.kind, e.entry, e.request, e.live, e.other_user_ids,
           s.state, coalesce(s.attempt_count, 0) AS attempt_count, s.rejection, s.undo, s.applied_steps, s.applied,
           s.correction, s.abandon_reason, s.void_time, s.reply
      FROM entries e
      -- Named once more, so that it is looked for in its month alone.
      LEFT JOIN sagas s ON s.entry_id = e.entry_id
            AND s.entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
     WHERE e.entry_id = ANY($1::uuid[])
       AND e.entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""
_WRITES: Final = """
    SELECT write_id, create_time FROM definition_writes
     WHERE owner = $1 AND finish_time IS NOT NULL ORDER BY create_time, write_id
"""
_WRITE: Final = "SELECT request FROM definition_writes WHERE write_id = $1 AND owner = $2"


class Stage(IntEnum):
    """How far an examination is: `laurel.orchestrator.v1.ExaminationStage`."""

    EXAMINING = 1
    EXAMINED = 2
    HEALING = 3
    ENDED = 4


class Progress(Struct, frozen=True):
    """An examination as it stands."""

    stage: Stage
    start_time: datetime
    after_entry_id: UUID
    examined_count: int
    unfinished_count: int
    unknown: Mapping[Step, int]
    maintained_day: date | None
    """Up to which services were brought by their maintenance."""
    after_user_id: str | None
    """Up to whom versions were raised."""


class Count(Struct, frozen=True):
    """How many findings of a kind there are."""

    service: Step
    act: Act
    state: int
    count: int


OPEN, HEALED, FAILED = 0, 1, 2
"""States of a finding."""


class Origin(Struct, frozen=True):
    """An entry with its saga, as it was left."""

    saga: StoredSaga
    reply: bytes
    is_kept: bool
    """What participants were told is still there."""
    other_user_ids: Sequence[str]
    """Whom it concerns besides its user."""


class FindingStore:
    """Reads and writes of an examination."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def progress(self) -> Progress | None:
        """The last examination, if there was one."""
        row = await self._pool.fetchrow(_EXAMINATION)
        if row is None:
            return None
        return Progress(
            Stage(row["stage"]),
            row["start_time"],
            row["after_entry_id"],
            row["examined_count"],
            row["unfinished_count"],
            dict(zip(Step, row["unknown_counts"], strict=True)),
            row["maintained_day"],
            row["after_user_id"],
        )

    async def begin(self, now: datetime) -> None:
        """A new examination: what the last one found is forgotten."""
        while int((await self._pool.execute(_FORGET)).rsplit(" ", 1)[1]):
            pass
        await self._pool.execute(_BEGIN, now, LOWEST_ID, [0 for _ in Step])

    async def ledger(self, after: UUID, limit: int) -> list[LedgerRow]:
        """A part of the ledger, by id, with what became of each entry."""
        entries = await self._pool.fetch(_ENTRIES, after, limit)
        ids = sorted({row["origin_id"] or row["entry_id"] for row in entries})
        sagas = {row["entry_id"]: row for row in await self._pool.fetch(_SAGAS, ids)}
        rows = []
        for entry in entries:
            saga = sagas.get(entry["origin_id"] or entry["entry_id"])
            rows.append(
                LedgerRow(
                    entry["entry_id"],
                    entry["kind"],
                    entry["user_id"],
                    entry["receive_time"],
                    entry["origin_id"],
                    entry["live"],
                    State(saga["state"]) if saga else None,
                    saga["undo_time"] if saga else None,
                    bool(saga and saga["has_reply"]),
                    entry["withheld"],
                )
            )
        return rows

    async def known(self, entry_ids: Collection[UUID]) -> set[UUID]:
        """Those of these that are in the ledger."""
        return {row["entry_id"] for row in await self._pool.fetch(_KNOWN, sorted(entry_ids))}

    async def halves(self, entry_ids: Collection[UUID]) -> set[UUID]:
        """By which ids entries of these milliseconds are known of those whom they concern besides their user."""
        firsts = sorted({each.int >> _BELOW_MILLISECONDS << _BELOW_MILLISECONDS for each in entry_ids})
        lasts = [first | (1 << _BELOW_MILLISECONDS) - 1 for first in firsts]
        rows = await self._pool.fetch(
            _WITH_OTHERS, [UUID(int=first) for first in firsts], [UUID(int=last) for last in lasts]
        )
        return {
            half_id(name, user_id)
            for row in rows
            for user_id in row["other_user_ids"]
            for name in (row["entry_id"], derived_id_beside(row["entry_id"], CORRECTION))
        }

    async def advance(
        self,
        findings: Sequence[Finding],
        through: UUID,
        examined: int,
        unfinished: int,
        unknown: Mapping[Step, int],
        stage: Stage,
    ) -> None:
        """Keeps what a part of the ledger came to, and how far the examination is."""
        sequences = await self._sequences(findings)
        async with self._pool.acquire() as connection, connection.transaction():
            await _add(connection, findings, sequences)
            counts = [unknown[step] for step in Step]
            await connection.execute(_ADVANCE, through, examined, unfinished, counts, stage)

    async def add(self, findings: Sequence[Finding]) -> None:
        """Keeps findings."""
        async with self._pool.acquire() as connection:
            await _add(connection, findings, {})

    async def _sequences(self, findings: Sequence[Finding]) -> dict[UUID, int]:
        """The place of entries in what their users did, by which those of one instant are sent."""
        ids = sorted(finding.entry_id for finding in findings if finding.act is Act.APPLY)
        return {
            row["entry_id"]: entry_pb2.Entry.FromString(row["entry"]).user_sequence
            for row in await self._pool.fetch(_BODIES, ids)
        }

    async def begin_healing(self, connection: Connection, services: Sequence[Step]) -> None:
        """Notes that healing has begun. What these services tell from now on is followed from its beginning: a cursor
        lies beyond what a database has that was put back.
        """
        await connection.execute(_FOLLOW_ANEW, [step.value for step in services])
        await connection.execute(_STAGE, Stage.HEALING)

    async def end(self) -> None:
        """Notes that all was sent that could be."""
        await self._pool.execute(_STAGE, Stage.ENDED)

    async def maintained(self, day: date) -> None:
        """Notes up to which day services were brought."""
        await self._pool.execute(_MAINTAINED, day)

    async def raised(self, user_id: str) -> None:
        """Notes up to whom versions were raised."""
        await self._pool.execute(_RAISED, user_id)

    async def open(self, limit: int) -> list[Finding]:
        """What is to be done next, in its order."""
        return [
            Finding(
                row["entry_id"],
                Act(row["act"]),
                tuple(Step(service) for service in row["services"]),
                row["user_id"],
                row["due_time"],
            )
            for row in await self._pool.fetch(_OPEN, limit)
        ]

    async def settle(self, act: Act, causes: Mapping[UUID, str | None]) -> None:
        """Notes what is done, or why it could not be."""
        states = [HEALED if cause is None else FAILED for cause in causes.values()]
        await self._pool.execute(_SETTLE, act, list(causes), states, list(causes.values()))

    async def counts(self) -> list[Count]:
        """How many there are of each kind."""
        return [
            Count(Step(row["service"]), Act(row["act"]), row["state"], row["count"])
            for row in await self._pool.fetch(_COUNTS)
        ]

    async def failures(self) -> list[tuple[UUID, str]]:
        """Some of those that could not be healed."""
        return [(row["entry_id"], row["cause"]) for row in await self._pool.fetch(_FAILURES)]

    async def healed_users(self, after: str, limit: int) -> list[str]:
        """Users of whom something was sent again."""
        return [row["user_id"] for row in await self._pool.fetch(_HEALED_USERS, after, limit)]

    async def stored(self, entry_ids: Collection[UUID]) -> dict[UUID, Origin]:
        """Entries with their sagas. One whose saga is not kept any more has the state that its effect says."""
        origins = {}
        for row in await self._pool.fetch(_STORED, sorted(entry_ids)):
            state = State(row["state"] or (State.DONE if row["live"] else State.VOIDED))
            saga = saga_from_row(row, state)
            origins[row["entry_id"]] = Origin(
                saga, row["reply"] or b"", bool(row["entry"]), row["other_user_ids"] or ()
            )
        return origins

    async def writes(self, owner: Step) -> list[tuple[UUID, datetime]]:
        """The writes of a service's definitions that were finished, in their order."""
        return [(row["write_id"], row["create_time"]) for row in await self._pool.fetch(_WRITES, owner.value)]

    async def write(self, write_id: UUID, owner: Step) -> definition_service_pb2.WriteDefinitionsRequest:
        """One of them."""
        body = await self._pool.fetchval(_WRITE, write_id, owner.value)
        return definition_service_pb2.WriteDefinitionsRequest.FromString(body)


async def _add(connection: Connection, findings: Sequence[Finding], sequences: Mapping[UUID, int]) -> None:
    # Two about one entry and act, of which one is met by its correction, are one.
    merged: dict[tuple[UUID, Act], Finding] = {}
    for finding in findings:
        key = finding.entry_id, finding.act
        twin = merged.get(key, finding)
        services = tuple(step for step in Step if step in {*twin.services, *finding.services})
        merged[key] = Finding(finding.entry_id, finding.act, services, twin.user_id, twin.due_time)
    rows = list(merged.values())
    await connection.execute(
        _ADD,
        [finding.entry_id for finding in rows],
        [finding.act for finding in rows],
        [",".join(step.value for step in finding.services) for finding in rows],
        [finding.user_id for finding in rows],
        [finding.due_time for finding in rows],
        [sequences.get(finding.entry_id, 0) if finding.act is Act.APPLY else 0 for finding in rows],
    )
