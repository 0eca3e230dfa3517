"""`laurel doctor`: finds what services have not of the ledger, and sends it again (docs/operations/restore.md).

After one of the databases was put back to an earlier time, or lost whole. Everything goes the way it went at first: in
the order in which it was done, under the ids and digests of the ledger, so that a service which has it answers from its
request log. Nothing is recorded anew and nothing is told of it. Each call does a bounded part and keeps how far it is.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from typing import Any, Final
from uuid import UUID
from zlib import crc32

from laurel.ledger.v1 import effects_pb2
from laurel.orchestrator.v1 import examination_pb2
from laurel.participant.v1 import participant_service_pb2 as pb
from msgspec.structs import replace

from services.orchestrator import saga
from services.orchestrator.active_sagas import ActiveSaga, resumed
from services.orchestrator.configuration.owners import Owner
from services.orchestrator.examining import USERS, Examiner, all_of
from services.orchestrator.findings import Act, Finding
from services.orchestrator.operation import AnyOperation
from services.orchestrator.participants import Participants
from services.orchestrator.saga import State, Step, calling
from services.orchestrator.store.findings import (
    FAILED,
    HEALED,
    OPEN,
    Count,
    FindingStore,
    Origin,
    Progress,
    Stage,
)
from shared.clock import Clock
from shared.errors import Aborted, DeadlineExceeded, FailedPrecondition, LaurelError
from shared.postgres import admin
from shared.postgres.admin import Asking
from shared.postgres.locks import lock_key, locked_if_free
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp

LOCK: Final = lock_key("orchestrator", "examination")
DUE: Final = 2_048
"""Things that are taken up at once."""
GROUP: Final = 128
"""Of these, how many are sent together at most."""
LANES: Final = 4
"""So many groups are on their way side by side, never two with one user: a service decides about one while the database
stores another.
"""
SECONDS_PER_CALL: Final = 5.0
"""After so long a call says how far it is."""
HOLD_SECONDS: Final = 300
"""How long services' own maintenance is kept off after the last sign of life of whoever heals."""

_REPLY_PARTS: Final = {
    Step.STREAK: "streaks",
    Step.ACHIEVEMENT: "achievements",
    Step.POINTS: "points",
    Step.LEADERBOARD: "leaderboards",
}
"""Which effects of a reply each service has answered."""


class Doctor:
    """Examines the ledger and heals what was found."""

    def __init__(
        self,
        pool: Pool,
        findings: FindingStore,
        participants: Participants,
        owners: Mapping[str, Owner],
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._findings = findings
        self._participants = participants
        self._examiner = Examiner(findings, participants)
        self._owners = owners
        self._clock = clock

    async def examine(self, *, restart: bool) -> examination_pb2.Examination:
        """Compares a part of the ledger; changes nothing else. Raises `Aborted` while another call is at it."""
        async with _alone(self._pool):
            if restart or await self._findings.progress() is None:
                await self._findings.begin(self._clock.now())
                await self._examiner.definitions()
            is_time_left = _for(SECONDS_PER_CALL)
            progress = await self._progress()
            while progress.stage is Stage.EXAMINING and is_time_left():
                await self._examiner.page(progress)
                progress = await self._progress()
            return await self._shown(progress)

    async def heal(self, asking: Asking) -> examination_pb2.Examination:
        """Sends a part of what is missing. Raises `FailedPrecondition` before an examination has ended, `Aborted` while
        another call is at it, and what a service that is away raises; then it goes on with the next call.
        """
        async with _alone(self._pool) as connection:
            progress = await self._findings.progress()
            if progress is None or progress.stage is Stage.EXAMINING:
                raise FailedPrecondition("the ledger was not examined to its end", reason="NOTHING_EXAMINED")
            if progress.stage is Stage.ENDED:
                return await self._shown(progress)
            counts = await self._findings.counts()
            ill = _ill(counts)
            for step in ill:
                begin = progress.stage is Stage.EXAMINED
                request = pb.PrepareHealingRequest(hold_seconds=HOLD_SECONDS, begin=begin)
                await self._participants.prepare_healing(step, request)
            if progress.stage is Stage.EXAMINED:
                async with connection.transaction():
                    await admin.record(connection, "heal_ledger", "ledger", asking, self._clock.now())
                    await self._findings.begin_healing(connection, ill)
            is_time_left = _for(SECONDS_PER_CALL)
            day = progress.maintained_day
            while is_time_left():
                due = await self._findings.open(DUE)
                if not due:
                    await self._finish(ill, progress, is_time_left)
                    break
                group = _first_group(due)
                day = await self._bring_to(ill, day, group[0].due_time)
                counts = [*counts, *_settled(group, await self._heal(group))]
            return await self._shown(await self._progress(), counts)

    # Healing

    async def _bring_to(self, ill: Sequence[Step], day: date | None, instant: datetime) -> date:
        """What was due by time before a day is done before what came on it, as it was then."""
        wanted = instant.astimezone(UTC).date()
        if day is not None and day >= wanted:
            return day
        midnight = to_timestamp(datetime.combine(wanted, time_of_day(), UTC))
        for step in ill:
            request = pb.RunMaintenanceRequest(now=midnight, hold_seconds=HOLD_SECONDS)
            while (await self._participants.run_maintenance(step, request)).more:
                pass
        await self._findings.maintained(wanted)
        return wanted

    async def _heal(self, group: Sequence[Finding]) -> dict[UUID, str | None]:
        """Does these again; why not, of those that cannot be."""
        act = group[0].act
        causes: dict[UUID, str | None]
        if act is Act.WRITE:
            causes = await self._write(group)
        else:
            origins = await self._findings.stored([finding.entry_id for finding in group])
            kept = [finding for finding in group if finding.entry_id in origins]
            causes = {finding.entry_id: "is not in the ledger any more" for finding in group}
            others = {entry_id: origin.other_user_ids for entry_id, origin in origins.items()}
            done: dict[UUID, str | None] = {}
            try:
                await all_of(self._heal_lane(act, lane, origins, done) for lane in lanes(kept, others))
            except BaseException:
                await self._findings.settle(act, done)
                raise
            causes |= done
        await self._findings.settle(act, causes)
        return causes

    async def _heal_lane(
        self,
        act: Act,
        lane: Sequence[Finding],
        origins: Mapping[UUID, Origin],
        done: dict[UUID, str | None],
    ) -> None:
        """One group after the other; what takes a service too long together, in parts."""
        size = GROUP
        while lane:
            together = lane[:size]
            try:
                done |= await (self._apply if act is Act.APPLY else self._undo)(together, origins)
            except DeadlineExceeded:
                if size == 1:
                    raise
                size //= 2
            else:
                lane = lane[size:]

    async def _write(self, group: Sequence[Finding]) -> dict[UUID, str | None]:
        for finding in group:
            for step in finding.services:
                request = await self._findings.write(finding.entry_id, step)
                await self._owners[step.value].write(request)
        return {finding.entry_id: None for finding in group}

    async def _apply(
        self, group: Sequence[Finding], origins: Mapping[UUID, Origin]
    ) -> dict[UUID, str | None]:
        """Sends entries to whoever lacks them. What services before had answered is in the reply, or is asked again."""
        causes: dict[UUID, str | None] = {}
        wanted: dict[UUID, Collection[Step]] = {}
        active: dict[UUID, ActiveSaga] = {}
        for finding in group:
            origin = origins[finding.entry_id]
            causes[finding.entry_id] = (
                None if origin.is_kept else "what services were told of it is not kept any more"
            )
            if not origin.is_kept:
                continue
            one = active[finding.entry_id] = resumed(replace(origin.saga, state=State.RUNNING))
            answered = _answered(one.operation, origin.reply)
            for visited, effects in (answered or {}).items():
                one.applied(visited, effects)
            last = max(list(Step).index(step) for step in finding.services)
            before = [] if answered is not None else list(Step)[:last]
            wanted[finding.entry_id] = {*finding.services, *before} & set(one.saga.steps)
        for step in Step:
            asked = [one for entry_id, one in active.items() if step in wanted[entry_id]]
            for one, answer in await self._made(saga.calling(saga.Act.APPLY, step), asked):
                if isinstance(answer, LaurelError):
                    causes[one.entry_id] = causes[one.entry_id] or f"{step.value}: {answer}"
                    wanted[one.entry_id] = ()
                else:
                    one.applied(step, answer)
        await self._raise_others(
            {other.user_id for one in active.values() for other in one.entry.other_users},
            {step for finding in group for step in finding.services},
        )
        return causes

    async def _raise_others(self, user_ids: Collection[str], steps: Collection[Step]) -> None:
        """Whom entries concern besides their own user is found by them alone: at once, a group has few."""
        others = sorted(user_ids)
        for first in range(0, len(others), USERS):
            request = pb.FinishHealingRequest(user_ids=others[first : first + USERS])
            for step in steps:
                await self._participants.finish_healing(step, request)

    async def _undo(self, group: Sequence[Finding], origins: Mapping[UUID, Origin]) -> dict[UUID, str | None]:
        """Takes the way back once more, through all services: who has gone it answers as before."""
        causes: dict[UUID, str | None] = {}
        active = []
        for finding in group:
            origin = origins[finding.entry_id]
            state = origin.saga.state
            if (
                state not in (State.VOIDED, State.REJECTED)
                or origin.saga.correction is None
                or not origin.is_kept
            ):
                causes[finding.entry_id] = "its undoing is not kept any more"
                continue
            causes[finding.entry_id] = None
            backwards = State.VOIDING if state is State.VOIDED else State.COMPENSATING
            one = resumed(replace(origin.saga, state=backwards))
            answered = _answered(one.operation, origin.reply) if state is State.VOIDED else None
            one.saga = replace(saga.taken_out(one.saga), applied=answered or one.saga.applied)
            active.append(one)
        ways = [
            *((saga.Act.REVERT, step) for step in reversed(Step)),
            *((saga.Act.CORRECT, step) for step in Step),
        ]
        for act, step in ways:
            asked = [
                one
                for one in active
                if causes[one.entry_id] is None and (act is saga.Act.CORRECT or step in one.saga.undo)
            ]
            for one, answer in await self._made(calling(act, step), asked):
                if isinstance(answer, LaurelError):
                    causes[one.entry_id] = f"{step.value}: {answer}"
                elif isinstance(answer, effects_pb2.Effects):
                    one.saga = saga.corrected(one.saga, step, answer)
                else:
                    one.saga = saga.reverted(one.saga, step, answer)
        return causes

    async def _made(self, move: saga.Move, asked: Sequence[ActiveSaga]) -> list[tuple[ActiveSaga, Any]]:
        """What a service answers to a move of these; it is not called for none."""
        if not asked:
            return []
        answers = await self._participants.make(move, [one.told() for one in asked])
        return list(zip(asked, answers, strict=True))

    async def _finish(
        self, ill: Sequence[Step], progress: Progress, is_time_left: Callable[[], bool]
    ) -> None:
        """Lets what is told from now on be newer than all that was told before, and maintenance go by the clock."""
        after = progress.after_user_id or ""
        while users := await self._findings.healed_users(after, USERS):
            if not is_time_left():
                return
            # Writes of definitions are about nobody.
            if of_somebody := [user_id for user_id in users if user_id]:
                for step in ill:
                    await self._participants.finish_healing(
                        step, pb.FinishHealingRequest(user_ids=of_somebody)
                    )
            after = users[-1]
            await self._findings.raised(after)
        for step in ill:
            request = pb.RunMaintenanceRequest(now=to_timestamp(self._clock.now()), hold_seconds=0)
            await self._participants.run_maintenance(step, request)
        await self._findings.end()

    # Telling

    async def _progress(self) -> Progress:
        progress = await self._findings.progress()
        assert progress is not None
        return progress

    async def _shown(
        self, progress: Progress, counts: Sequence[Count] | None = None
    ) -> examination_pb2.Examination:
        if counts is None:
            counts = await self._findings.counts()
        return examination_pb2.Examination(
            stage=examination_pb2.ExaminationStage.Value(f"EXAMINATION_STAGE_{progress.stage.name}"),
            start_time=to_timestamp(progress.start_time),
            examined_count=progress.examined_count,
            unfinished_count=progress.unfinished_count,
            services=[
                examination_pb2.ServiceFindings(
                    service=step.value,
                    missing_count=_sum(counts, step, act=Act.APPLY),
                    undoing_count=_sum(counts, step, act=Act.UNDO),
                    definition_count=_sum(counts, step, act=Act.WRITE),
                    unknown_count=progress.unknown[step],
                    healed_count=_sum(counts, step, state=HEALED),
                    failed_count=_sum(counts, step, state=FAILED),
                )
                for step in Step
            ],
            failures=[
                examination_pb2.HealingFailure(entry_id=str(entry_id), cause=cause)
                for entry_id, cause in await self._findings.failures()
            ],
        )


@asynccontextmanager
async def _alone(pool: Pool) -> AsyncIterator[Connection]:
    """One call at a time examines or heals, on all replicas."""
    async with locked_if_free(pool, LOCK) as connection:
        if connection is None:
            raise Aborted("another call examines or heals the ledger", reason="EXAMINATION_BUSY")
        yield connection


def _for(seconds: float) -> Callable[[], bool]:
    """Whether this time is not over."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def _ill(counts: Sequence[Count]) -> list[Step]:
    """The services that lack something."""
    found = {count.service for count in counts}
    return [step for step in Step if step in found]


def _sum(counts: Sequence[Count], step: Step, act: Act | None = None, state: int | None = None) -> int:
    return sum(
        count.count
        for count in counts
        if count.service is step and act in (None, count.act) and state in (None, count.state)
    )


def _first_group(due: Sequence[Finding]) -> list[Finding]:
    """Those at the front that can be sent together: of one act and one day."""
    first = due[0]
    group = []
    for finding in due:
        if finding.act is not first.act or finding.due_time.date() != first.due_time.date():
            break
        group.append(finding)
    return group


def lanes(group: Sequence[Finding], others: Mapping[UUID, Sequence[str]]) -> list[list[Finding]]:
    """The same, in their order, each user in one lane. `others` says whom entries concern besides their user; all who
    share one with somebody are in the first.
    """
    shared = set()
    for finding in group:
        if concerned := others.get(finding.entry_id):
            shared |= {finding.user_id, *concerned}
    found: list[list[Finding]] = [[] for _ in range(LANES)]
    for finding in group:
        alone = finding.user_id not in shared
        found[crc32(finding.user_id.encode()) % LANES if alone else 0].append(finding)
    return [lane for lane in found if lane]


def _settled(group: Sequence[Finding], causes: Mapping[UUID, str | None]) -> list[Count]:
    """How the counts change: what was open is no more."""
    changes: Counter[tuple[Step, Act, int]] = Counter()
    for finding in group:
        state = HEALED if causes[finding.entry_id] is None else FAILED
        for step in finding.services:
            changes[step, finding.act, state] += 1
            changes[step, finding.act, OPEN] -= 1
    return [Count(step, act, state, count) for (step, act, state), count in changes.items()]


def _answered(operation: AnyOperation, reply: bytes) -> dict[Step, effects_pb2.Effects] | None:
    """What each service had answered to an entry, by the stored reply; None where there is none that says so."""
    if operation.reply_type is None or not reply:
        return None
    message: Any = operation.reply_type.FromString(reply)
    if not message.HasField("effects"):
        return None  # of before replies had them
    answered = {}
    for step, part in _REPLY_PARTS.items():
        answered[step] = effects_pb2.Effects(**{part: getattr(message.effects, part)})
    return answered
