"""What an operation is: everything that is particular to one kind of entry (DESIGN 2).

Each operation is one module of the package `operations`; nothing outside it asks what kind an entry is.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.participant.v1 import participant_service_pb2
from msgspec import Struct
from msgspec.structs import replace

from services.orchestrator.domain import Origin, TimeWindow
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.rpc.wire import Part

Q = TypeVar("Q", bound=Message)
"""The request that is stored with the entry."""

_TICK: Final = timedelta(microseconds=1)


class Asked(Struct, frozen=True):
    """How a request reached the orchestrator."""

    now: datetime
    window: TimeWindow
    """Which occur_times are accepted."""
    origin: Origin = Origin.LIVE
    actor: str = ""
    """Who asks, where the caller said so."""
    by_user: bool = False
    """Asked with a key of one user."""

    def nth(self, index: int) -> "Asked":
        """One of several of one call: they arrive in their order, which an instant for all would not tell."""
        return replace(self, now=self.now + index * _TICK)


def nothing_to_tell(_entry: entry_pb2.Entry, _request: bytes) -> None:
    """For an operation whose entry says everything once it is recorded."""


def nobody_besides(_entry: entry_pb2.Entry) -> tuple[Step, ...]:
    """For an operation that visits the same participants whatever it says."""
    return ()


def nothing_before(_entry: entry_pb2.Entry) -> effects_pb2.Effects:
    """For an operation that enters the saga at its beginning."""
    return effects_pb2.Effects()


class Operation(Struct, Generic[Q], frozen=True):
    """One kind of entry."""

    name: str
    """The field of `laurel.ledger.v1.Entry` that says what happened, and the kind in the ledger."""
    request_type: type[Q]
    """What is stored as the entry's request."""
    steps: tuple[Step, ...]
    """The participants that it visits, in the saga's order."""
    reply: Callable[[entry_pb2.Entry], Message] | None
    """The reply to whoever asked, but for its `effects`; None where nobody waits for one."""
    besides: Callable[[entry_pb2.Entry], tuple[Step, ...]] = nobody_besides
    """Whom an entry visits besides, for what it says."""
    reply_type: type[Message] | None = None
    method: str = ""
    """The RPC that asks for it; empty where it has none of its own."""
    incoming: Callable[[Q, Asked], Incoming] | None = None
    """The entry that a request asks for. Raises `InvalidArgument` with every violation."""
    found: Callable[[participant_service_pb2.Change], Incoming] | None = None
    """The entry that something becomes which a service found by itself; then `name` is the finding's field."""
    patch: Callable[[Q], UserPatch] | None = None
    """What its request says about the user; None where it says nothing."""
    tell: Callable[[entry_pb2.Entry, bytes], None] = nothing_to_tell
    """Writes into the entry what participants need of the stored request."""
    effects_before: Callable[[entry_pb2.Entry], effects_pb2.Effects] = nothing_before
    """What had changed before the first step: for an entry that enters the saga further on."""
    refusable: bool = True
    """A definite no of a participant turns it round. What has already happened cannot be refused."""
    voidable: bool = False
    """A finished one can be undone by VoidEntry."""
    counted: bool = False
    """It makes a user exist."""
    erases: bool = False
    """Before it is complete its user is erased, in every service, which may take long."""
    merges: bool = False
    """Before it is complete its user's entries are moved to another, which may take long."""

    @property
    def goes_alone(self) -> bool:
        """It may take long, and nobody is to wait for it."""
        return self.erases or self.merges

    def steps_for(self, entry: entry_pb2.Entry) -> tuple[Step, ...]:
        """The participants that hear of an entry: none of one of a user in the control group (RULES 2.6)."""
        if entry.user.control:
            return ()
        besides = self.besides(entry)
        return (
            tuple(step for step in Step if step in self.steps or step in besides) if besides else self.steps
        )

    def request_of(self, stored: bytes) -> Q:
        """A stored request."""
        return self.request_type.FromString(stored)

    def patch_of(self, stored: bytes) -> UserPatch:
        """What a stored request said about the user. Raises `ValueError` for one that says nothing."""
        if self.patch is None:
            raise ValueError(f"a {self.name} says nothing about its user")
        return self.patch(self.request_of(stored))

    def reply_bytes(self, entry: entry_pb2.Entry, effects: bytes) -> bytes:
        """The serialized reply, as it is stored; empty where nobody waits for one. `effects` are serialized."""
        if self.reply is None:
            return b""
        reply = self.reply(entry)
        part = _effects_of(type(reply))  # type: ignore[arg-type]  # a class has a hash
        return reply.SerializeToString() + part.holding(effects)


@cache
def _effects_of(reply: type[Message]) -> Part:
    """What an entry changed, in the reply to it."""
    return Part(reply, "effects")


AnyOperation = Operation[Any]
