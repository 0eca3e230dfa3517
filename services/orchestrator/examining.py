"""What services lack of the ledger, found: the part of `laurel doctor` that changes nothing but its own findings.

The ledger is compared with every service's request log, a page at a time, and so are writes of definitions.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar
from uuid import UUID

from laurel.participant.v1 import participant_service_pb2 as pb

from services.orchestrator.findings import Act, Finding, Log, compare, missing_writes
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.participants import Participants
from services.orchestrator.saga import Step
from services.orchestrator.store.findings import FindingStore, Progress, Stage

T = TypeVar("T")

PAGE: Final = 5_000
"""Entries of the ledger that are compared at once."""
USERS: Final = 1_000
"""Users whose versions are raised together."""


class Examiner:
    """Compares, and writes down what it finds."""

    def __init__(self, findings: FindingStore, participants: Participants) -> None:
        self._findings = findings
        self._participants = participants

    async def definitions(self) -> None:
        """Which writes of definitions a service has not."""
        for step in Step:
            writes = await self._findings.writes(step)
            known: set[str] = set()
            for first in range(0, len(writes), USERS):
                ids = [str(write_id) for write_id, _ in writes[first : first + USERS]]
                answer = await self._participants.prepare_healing(
                    step, pb.PrepareHealingRequest(write_ids=ids)
                )
                known.update(answer.known_write_ids)
            times = dict(writes)
            missing = missing_writes([write_id for write_id, _ in writes], {UUID(each) for each in known})
            await self._findings.add(
                [Finding(write_id, Act.WRITE, (step,), "", times[write_id]) for write_id in missing]
            )

    async def page(self, progress: Progress) -> None:
        """The next entries of the ledger: which of them a service has not, or has in another way."""
        after = progress.after_entry_id
        # First the ledger: whoever is done in it has been applied everywhere before.
        rows = await self._findings.ledger(after, PAGE)
        is_last = len(rows) < PAGE
        through = None if is_last else rows[-1].entry_id
        logged = await all_of(self._logged(step, after, through) for step in Step)
        logs = dict(zip(Step, logged, strict=True))
        compared = compare(rows, logs, lambda kind: OPERATIONS[kind].steps)
        # What came to the ledger meanwhile is in services and not in what was read of it.
        suspected = {entry for entries in compared.unknown.values() for entry in entries} - {
            row.entry_id for row in rows
        }
        recorded = await self._findings.known(suspected)
        if left := suspected - recorded:
            recorded |= await self._findings.halves(left)
        unknown = {
            step: progress.unknown[step] + len(set(entries) - recorded)
            for step, entries in compared.unknown.items()
        }
        await self._findings.advance(
            compared.findings,
            rows[-1].entry_id if rows else after,
            len(rows),
            compared.unfinished,
            unknown,
            Stage.EXAMINED if is_last else Stage.EXAMINING,
        )

    async def _logged(self, step: Step, after: UUID, through: UUID | None) -> dict[UUID, Log]:
        """What a service knows of a range of ids."""
        found: dict[UUID, Log] = {}
        request = pb.ListLoggedEntriesRequest(
            after_entry_id=str(after), through_entry_id=str(through or ""), page_size=PAGE
        )
        while True:
            page = await self._participants.list_logged(step, request)
            found.update((UUID(each.entry_id), Log(each.state)) for each in page.entries)
            if len(page.entries) < PAGE:
                return found
            request.after_entry_id = page.entries[-1].entry_id


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What these come to, side by side. Where one breaks, the others come to their end before it is raised: nothing is
    on its way any more when somebody else takes over.
    """
    ended = await asyncio.gather(*calls, return_exceptions=True)
    broken = [each for each in ended if isinstance(each, BaseException)]
    if broken:
        raise broken[0]
    return [each for each in ended if not isinstance(each, BaseException)]
