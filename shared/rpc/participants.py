"""laurel.participant.v1 on the side of a participant: the same transport for every feature service.

A service says what is its own with a `Participant`; pairing commands with outcomes, what is wrong with a message,
and the limits of a batch are here.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from laurel.ledger.v1 import effects_pb2
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2_grpc
from msgspec import Struct

from shared.config import Settings
from shared.entries import Entry, Reversal
from shared.errors import LaurelError, Unavailable, Violations
from shared.participant import Work
from shared.passes import Pass
from shared.postgres import healing, maintenance
from shared.postgres.feed import Feed, FollowedFeed
from shared.postgres.pool import Pool
from shared.rpc.boundary import in_turn
from shared.rpc.convert import (
    check_hold_seconds,
    check_user_id,
    instant_field,
    optional_uuid_field,
    uuid_field,
)
from shared.rpc.entries import entry_from_proto, reversal_from_proto
from shared.rpc.error_messages import error_message
from shared.rpc.server import Servicer
from shared.rpc.wire import Part

MAX_COMMANDS: Final = 1_000
"""Commands or reversals of one call."""
MAX_CHANGES: Final = 1_000
"""Changes of a feed in one page."""
MAX_EFFECTS: Final = 20_000
"""Changes of one kind in the effects of one command. An event earns repeatable achievements at most 1,000 times, and
others besides; its undoing revokes them all and may complete as many for other events. Who follows cannot say no to it.
"""
DEFAULT_CHANGES: Final = 500
"""Changes of a feed in a page, where the request does not say."""
MAX_LOGGED: Final = 10_000
"""Entries of the request log in a page."""
DEFAULT_LOGGED: Final = 1_000
"""The same, where the request does not say."""
MAX_HEALED: Final = 1_000
"""Users, or writes of definitions, of one call about healing."""
DIGEST_BYTES: Final = 32

C = TypeVar("C")

_OF_ENTRY: Final = Part(pb.Outcome, "entry_id")
_CHANGED: Final = Part(pb.Outcome, "effects")
_OUTCOME: Final = Part(pb.ApplyEntriesResponse, "outcomes")
_REVERT_OUTCOME: Final = Part(pb.RevertEntriesResponse, "outcomes")


async def nothing_is_due(_now: datetime, _history: bool) -> Pass:
    """For a service of which nothing is driven by time."""
    return Pass()


async def nothing_elsewhere() -> None:
    """For a service that derives nothing elsewhere."""


class Participant(Struct, Generic[C], frozen=True):
    """What a service brings along to take part in the saga."""

    domain: str
    """In whose name errors are: `streak.laurel`."""
    command: Callable[[Entry, effects_pb2.Effects, str, Violations], C]
    """The domain's command from an entry and the effects so far, which are at a path; adds what is wrong with them."""
    apply: Callable[[Sequence[Work[C]]], Awaitable[Sequence[bytes]]]
    """Applies; one serialized `Outcome` for each, in order."""
    revert: Callable[[Sequence[Reversal]], Awaitable[Sequence[bytes]]]
    """Undoes; one serialized `RevertOutcome` for each, in order."""
    maintain: Callable[[datetime, bool], Awaitable[Pass]] = nothing_is_due
    """Does a bounded part of what is due at an instant, and is told whether that is one of imported history."""
    versioned: str = ""
    """The table whose versions, by user, others go by: the newest that they were told holds. Empty for none."""
    begin_healing: Callable[[], Awaitable[None]] = nothing_elsewhere
    """Makes what is derived elsewhere from the database be derived again."""


class ParticipantServicer(participant_service_pb2_grpc.ParticipantServiceServicer, Generic[C]):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(self, participant: Participant[C], pool: Pool, ahead: timedelta) -> None:
        self._participant = participant
        self._pool = pool
        self._ahead = ahead
        self._feed = FollowedFeed(Feed(pool))
        self._clock = maintenance.DatabaseClock()

    async def ApplyEntries(
        self, request: pb.ApplyEntriesRequest | pb.ApplyEntriesInTurnRequest, _context: Any
    ) -> Any:
        """Applies entries. A malformed command never fails its neighbours. The response is serialized."""
        _check_batch(len(request.commands), "commands")
        wanted = [self._work(command, index) for index, command in enumerate(request.commands)]
        answers = iter(await self._participant.apply([work for work in wanted if isinstance(work, Work)]))
        outcomes = (
            next(answers)
            if isinstance(work, Work)
            else refused_outcome(request.commands[index].entry.entry_id, work, self._participant.domain)
            for index, work in enumerate(wanted)
        )
        return b"".join(map(_OUTCOME.holding, outcomes))

    @in_turn
    async def ApplyEntriesInTurn(self, request: pb.ApplyEntriesInTurnRequest, context: Any) -> Any:
        """Applies entries, in a call of a stream. Requests and responses have the form of those of ApplyEntries."""
        return await self.ApplyEntries(request, context)

    async def RevertEntries(self, request: pb.RevertEntriesRequest, _context: Any) -> Any:
        """Undoes entries. The response is serialized."""
        outcomes = await self._participant.revert(_reversals(request))
        return b"".join(map(_REVERT_OUTCOME.holding, outcomes))

    async def RunMaintenance(
        self, request: pb.RunMaintenanceRequest, _context: Any
    ) -> pb.RunMaintenanceResponse:
        """Does a part of what is due, and keeps the hold of an import. Without one, an instant that is ahead of the
        database's clock is refused: a slip must not end streaks and runs (RULES 1.2).
        """
        violations = Violations()
        now = instant_field(request, "now", "", violations)
        check_hold_seconds(request.hold_seconds, "hold_seconds", violations)
        violations.raise_if_any()
        assert now is not None  # no violations, so there is an instant
        if request.HasField("hold_seconds"):
            async with self._pool.acquire() as connection:
                await maintenance.hold(connection, request.hold_seconds)
        if await self._clock.is_ahead(self._pool, now, self._ahead):
            violations.add("now", "is ahead of the database's clock", "MAINTENANCE_IN_FUTURE")
        violations.raise_if_any()
        part = await self._participant.maintain(now, request.history)
        return pb.RunMaintenanceResponse(done_count=part.done, more=part.more)

    async def ListChanges(self, request: pb.ListChangesRequest, _context: Any) -> pb.ListChangesResponse:
        """Lists what the service changed by itself."""
        violations = Violations()
        if not 0 <= request.page_size <= MAX_CHANGES:
            violations.add("page_size", f"must be 0 to {MAX_CHANGES}")
        violations.raise_if_any()
        limit = request.page_size or DEFAULT_CHANGES
        found = await self._feed.list_changes(request.after_cursor, limit)
        changes = [pb.Change.FromString(body) for body in found.bodies]
        return pb.ListChangesResponse(
            changes=changes, cursor=found.cursor, more=found.more, complete=found.complete
        )

    async def ListLoggedEntries(
        self, request: pb.ListLoggedEntriesRequest, _context: Any
    ) -> pb.ListLoggedEntriesResponse:
        """Lists the entries of the request log, by id."""
        violations = Violations()
        after = _bound(request.after_entry_id, "after_entry_id", healing.LOWEST_ID, violations)
        through = _bound(request.through_entry_id, "through_entry_id", healing.HIGHEST_ID, violations)
        if not 0 <= request.page_size <= MAX_LOGGED:
            violations.add("page_size", f"must be 0 to {MAX_LOGGED}")
        violations.raise_if_any()
        limit = request.page_size or DEFAULT_LOGGED
        entries = [
            pb.LoggedEntry(entry_id=str(entry_id), state=pb.LogState.Value(f"LOG_STATE_{state.name}"))
            for entry_id, state in await healing.logged(self._pool, after, through, limit)
        ]
        return pb.ListLoggedEntriesResponse(entries=entries)

    async def PrepareHealing(
        self, request: pb.PrepareHealingRequest, _context: Any
    ) -> pb.PrepareHealingResponse:
        """Keeps maintenance off while entries come again, and tells which writes of definitions are known."""
        violations = Violations()
        check_hold_seconds(request.hold_seconds, "hold_seconds", violations)
        if len(request.write_ids) > MAX_HEALED:
            violations.add("write_ids", f"must have at most {MAX_HEALED} items")
        for index, write_id in enumerate(request.write_ids[:MAX_HEALED]):
            uuid_field(write_id, f"write_ids[{index}]", violations)
        violations.raise_if_any()
        async with self._pool.acquire() as connection:
            if request.hold_seconds:
                await maintenance.hold(connection, request.hold_seconds)
            known = await healing.known_writes(connection, request.write_ids)
        if request.begin:
            await self._participant.begin_healing()
        return pb.PrepareHealingResponse(known_write_ids=known)

    async def FinishHealing(
        self, request: pb.FinishHealingRequest, _context: Any
    ) -> pb.FinishHealingResponse:
        """Makes what is told of users newer than whatever was told of them before."""
        violations = Violations()
        if not 1 <= len(request.user_ids) <= MAX_HEALED:
            violations.add("user_ids", f"must have 1 to {MAX_HEALED} items")
        for index, user_id in enumerate(request.user_ids[:MAX_HEALED]):
            check_user_id(user_id, f"user_ids[{index}]", violations)
        violations.raise_if_any()
        if self._participant.versioned:
            await healing.raise_versions(self._pool, self._participant.versioned, request.user_ids)
        return pb.FinishHealingResponse()

    def _work(self, message: pb.Command, index: int) -> Work[C] | LaurelError:
        own = message.entry
        if own.WhichOneof("operation") is None:
            # A newer orchestrator asks for it while releases change: a no would be for good, so it waits for a newer
            # replica.
            return Unavailable("what is asked is not known to this release", reason="DEPENDENCY_UNAVAILABLE")
        violations = Violations()
        entry = entry_from_proto(own, violations)
        if violations:
            violations = violations.under("entry")
        digest, effects = message.digest, message.effects
        if len(digest) != DIGEST_BYTES:
            violations.add("digest", f"must have {DIGEST_BYTES} bytes")
        if effects.ByteSize():  # most entries changed nothing so far
            for field in ("streaks", "achievements", "points"):
                if len(getattr(effects, field)) > MAX_EFFECTS:
                    violations.add(f"effects.{field}", f"must have at most {MAX_EFFECTS} items")
        if entry is not None and not violations:
            command = self._participant.command(entry, effects, "effects", violations)
            if not violations:
                return Work(command, entry.entry_id, entry.user.user_id, digest)
        return violations.under(f"commands[{index}]").error()


def registered(participant: Participant[C], pool: Pool, settings: Settings) -> Servicer:
    """The participant as one of a process's gRPC services."""
    return Servicer(
        participant_service_pb2_grpc.add_ParticipantServiceServicer_to_server,
        ParticipantServicer(participant, pool, timedelta(seconds=settings.maintenance_ahead_seconds)),
        pb.DESCRIPTOR.services_by_name["ParticipantService"].full_name,
    )


# Outcomes


def applied_outcome(entry_id: UUID, effects: effects_pb2.Effects) -> bytes:
    """What an entry did, as it is stored and answered for ever. A message that is put into another one is copied;
    serialized it is not.
    """
    changed = effects.SerializeToString(deterministic=True)
    return _OF_ENTRY.holding(str(entry_id).encode()) + _CHANGED.holding(changed)


def refused_outcome(entry_id: UUID | str, error: LaurelError, domain: str) -> bytes:
    """Why an entry is refused, as it is stored and answered for ever."""
    outcome = pb.Outcome(entry_id=str(entry_id), error=error_message(error, domain))
    return outcome.SerializeToString(deterministic=True)


def reverted_outcome(entry_id: UUID, effects: effects_pb2.Effects) -> bytes:
    """What undoing an entry changed, as it is stored and answered for ever."""
    outcome = pb.RevertOutcome(entry_id=str(entry_id), reverted=True, effects=effects)
    return outcome.SerializeToString(deterministic=True)


def nothing_reverted(entry_id: UUID) -> bytes:
    """There was nothing to undo; the entry is refused from now on."""
    return pb.RevertOutcome(entry_id=str(entry_id)).SerializeToString(deterministic=True)


def _reversals(request: pb.RevertEntriesRequest) -> list[Reversal]:
    _check_batch(len(request.reversals), "reversals")
    violations = Violations()
    found = [
        reversal_from_proto(message, f"reversals[{index}]", violations)
        for index, message in enumerate(request.reversals)
    ]
    violations.raise_if_any()
    return [reversal for reversal in found if reversal is not None]


def _bound(text: str, path: str, default: UUID, violations: Violations) -> UUID:
    """One end of a range of entries; `default` where the request leaves it open, or has it wrong."""
    return optional_uuid_field(text, path, violations) or default


def _check_batch(size: int, path: str) -> None:
    violations = Violations()
    if not 1 <= size <= MAX_COMMANDS:
        violations.add(path, f"must have 1 to {MAX_COMMANDS} items")
    violations.raise_if_any()
