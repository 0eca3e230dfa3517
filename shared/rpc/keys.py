"""Keys that callers show, known for some seconds at a time (RULES 9.2).

A credential is `laurel_ID_SECRET`. Services ask the orchestrator what one allows, by its id and the hash of its secret,
and remember the answer for three seconds: so a key that is taken back is refused everywhere within five.
"""

import asyncio
import hashlib
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import grpc.aio
from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.orchestrator.v1 import access_service_pb2_grpc
from msgspec import Struct

from shared.errors import LaurelError, NotFound, ResourceExhausted, Unavailable
from shared.rpc.access import Caller, Rate
from shared.rpc.channel import call

if TYPE_CHECKING:
    from laurel.orchestrator.v1.access_service_pb2_grpc import AccessServiceAsyncStub

_LOGGER: Final = logging.getLogger(__name__)

FRESH_SECONDS: Final = 3.0
"""For how long an answer counts without asking again."""
_TIMEOUT_SECONDS: Final = 1.5
"""Of one question; with `FRESH_SECONDS` less than the five seconds of RULES 9.2."""
_MAX_REMEMBERED: Final = 20_000
_MAX_QUESTIONS: Final = 64
"""Under way at once: made-up credentials must not become a load of the database."""

_CREDENTIAL: Final = re.compile(r"laurel_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class Shown(Struct, frozen=True):
    """A credential in its parts, as far as they may be passed on."""

    key_id: str
    secret_hash: bytes


class Allowed(Struct, frozen=True):
    """What a key allows, and for how many seconds its secret counts at most (None: no end is known)."""

    caller: Caller
    remaining_seconds: float | None


Resolve = Callable[[Shown], Awaitable[Allowed | None]]
"""Asks what a credential allows; None: nothing. Raises `LaurelError` where that cannot be found out."""


def credential_of(key_id: str, secret: str) -> str:
    """What a caller shows."""
    return f"laurel_{key_id}_{secret}"


def hash_of(secret: str) -> bytes:
    """What is kept of a secret. It has 256 random bits: nobody guesses it from a fast hash."""
    return hashlib.sha256(secret.encode()).digest()


def read_credential(credential: str) -> Shown | None:
    """The parts of a credential; None for what is none."""
    found = _CREDENTIAL.fullmatch(credential)
    return None if found is None else Shown(found[1], hash_of(found[2]))


class _Remembered(Struct):
    allowed: Allowed | None
    fresh_until: float
    usable_until: float
    """Where nobody can be asked."""


class CachedKeys:
    """The keys that were shown lately."""

    def __init__(
        self, resolve: Resolve, *, grace_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolve = resolve
        self._grace_seconds = grace_seconds
        self._monotonic = monotonic
        self._remembered: dict[bytes, _Remembered] = {}
        self._asked: dict[bytes, asyncio.Task[Allowed | None]] = {}

    async def caller(self, credential: str) -> Caller | None:
        """Whose key this is; None: nobody's, or no longer. Raises `LaurelError` where that cannot be found out."""
        # In memory too, a secret is kept as a hash alone.
        known_by = hashlib.sha256(credential.encode()).digest()
        now = self._monotonic()
        known = self._remembered.get(known_by)
        if known is not None and now < known.fresh_until:
            return None if known.allowed is None else known.allowed.caller
        shown = read_credential(credential)
        if shown is None:
            return None
        try:
            allowed = await self._ask(known_by, shown)
        except LaurelError as error:
            if known is None or known.allowed is None or now >= known.usable_until:
                raise
            _LOGGER.warning("keys cannot be asked about, those known count on", extra={"error": str(error)})
            known.fresh_until = now + 1
            return known.allowed.caller
        return None if allowed is None else allowed.caller

    async def _ask(self, known_by: bytes, shown: Shown) -> Allowed | None:
        """One question for all who want to know; it is answered though the first of them goes away."""
        asked = self._asked.get(known_by)
        if asked is None:
            if len(self._asked) >= _MAX_QUESTIONS:
                raise ResourceExhausted(
                    "too many new credentials at once", reason="OVERLOADED", retry_after_seconds=0.2
                )
            asked = asyncio.get_running_loop().create_task(self._find_out(known_by, shown))
            self._asked[known_by] = asked
            asked.add_done_callback(lambda done: self._answered(known_by, done))
        return await asyncio.shield(asked)

    def _answered(self, known_by: bytes, done: "asyncio.Task[Allowed | None]") -> None:
        del self._asked[known_by]
        if not done.cancelled():
            done.exception()  # whoever still waits has it; where nobody does, it is no defect

    async def _find_out(self, known_by: bytes, shown: Shown) -> Allowed | None:
        begun = self._monotonic()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                allowed = await self._resolve(shown)
        except TimeoutError:
            raise Unavailable("keys cannot be asked about", reason="DEPENDENCY_UNAVAILABLE") from None
        end = math.inf
        if allowed is not None and allowed.remaining_seconds is not None:
            end = begun + allowed.remaining_seconds
        fresh_until = min(begun + FRESH_SECONDS, end)
        usable_until = min(begun + self._grace_seconds, end)
        self._remembered.pop(known_by, None)
        while len(self._remembered) >= _MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[known_by] = _Remembered(allowed, fresh_until, usable_until)
        return allowed


def asking(channel: grpc.aio.Channel) -> Resolve:
    """Asks the orchestrator."""
    stub: AccessServiceAsyncStub = access_service_pb2_grpc.AccessServiceStub(channel)

    async def resolve(shown: Shown) -> Allowed | None:
        request = pb.ResolveKeyRequest(key_id=shown.key_id, secret_hash=shown.secret_hash)
        try:
            found = await call(stub.ResolveKey, request, timeout_seconds=_TIMEOUT_SECONDS)
        except NotFound:
            return None
        remaining = found.remaining.ToTimedelta().total_seconds() if found.HasField("remaining") else None
        limit = found.rate_limit
        rate = Rate(shown.key_id, limit.per_second, limit.burst) if found.HasField("rate_limit") else None
        caller = Caller(found.name, frozenset(found.scopes), found.user_id, rate=rate, tenant=found.tenant)
        return Allowed(caller, remaining)

    return resolve
