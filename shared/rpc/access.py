"""Who may call what: the scope that a method says it needs, and the credential that a call shows (RULES 9).

A method says what it needs in the contract, `option (laurel.common.v1.access)`; one that says nothing is for Laurel's
own services alone. A caller shows `authorization: Bearer ...` with a key or with the token between services, or a
certificate with a service's name.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from hmac import compare_digest
from typing import Any, Final, Protocol
from urllib.parse import unquote

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from laurel.common.v1 import access_pb2
from msgspec import Struct

from shared.config import Settings
from shared.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from shared.rpc.outgoing import AUTHORIZATION, BEARER
from shared.tenants import CURRENT_TENANT

SERVICE: Final = int(access_pb2.SCOPE_SERVICE)
ALL_SCOPES: Final = frozenset(
    number for number in access_pb2.Scope.values() if number != access_pb2.SCOPE_UNSPECIFIED
)


class Need(Struct, frozen=True):
    """What a method asks of its caller."""

    scope: int = SERVICE
    user_fields: tuple[str, ...] = ()
    """Paths of the request's fields that name a user; without any, no key of one user may call the method."""
    counted_field: str = ""
    """A repeated field, each element of which counts against a rate limit; without one, a request counts as one."""
    for_tenants: bool = False
    """Whether a key of a tenant may call it."""


class Rate(Struct, frozen=True):
    """How often a key may be used."""

    key_id: str
    per_second: float
    burst: int
    """How many may come at once."""


class Caller(Struct, frozen=True):
    """Who calls."""

    name: str = ""
    """Of the key, or of the service; empty where nobody has to say."""
    scopes: frozenset[int] = ALL_SCOPES
    user_id: str = ""
    """The only user that may be named, as stored; empty: all."""
    rate: Rate | None = None
    """None: there is no limit."""
    tenant: str = ""
    """Whose users alone there are for it; empty: all, by their stored ids."""


ANYBODY: Final = Caller(scopes=ALL_SCOPES - {SERVICE})
"""Where keys are off: whoever reaches the port."""
NOBODY_ASKS: Final = Caller()
"""Where no credential is configured at all."""
A_SERVICE: Final = Caller(name="service")
"""One of Laurel's own services, or whoever has their token."""

ACTOR_HEADER: Final = "laurel-actor"
"""Metadata of a call by which a caller says who asks; kept with what is done."""
REASON_HEADER: Final = "laurel-reason"
"""Metadata of a call that says why, where the request has no field for it."""

_CALLER: ContextVar[Caller] = ContextVar("caller", default=NOBODY_ASKS)
_CONTEXT: ContextVar[Any] = ContextVar("context", default=None)


def current_caller() -> Caller:
    """Who made the call that is being served."""
    return _CALLER.get()


def header(name: str) -> str:
    """What the call that is being served says in its metadata."""
    context = _CONTEXT.get()
    return "" if context is None else str(dict(context.invocation_metadata() or ()).get(name, ""))


def actor(said: str) -> str:
    """Who asks: whose key it is, and what the caller says of itself under `ACTOR_HEADER`."""
    return ": ".join(filter(None, (current_caller().name, said)))


def peer() -> str:
    """From where the call came that is being served: its address without the port, which says nothing later."""
    context = _CONTEXT.get()
    address = "" if context is None else unquote(str(context.peer()))
    return address if address.startswith("unix:") else address.rpartition(":")[0]


def check_scope(method: MethodDescriptor) -> None:
    """Whether the current call may also do what another method does. Raises `PermissionDenied`."""
    caller = current_caller()
    need = _need(method)
    if not _may(caller, need):
        raise _too_little(method.name, need, caller)


class Keys(Protocol):
    """Who knows keys."""

    async def caller(self, credential: str) -> Caller | None:
        """Whose key this is; None: nobody's, or no longer. Raises `LaurelError` where that cannot be found out."""
        ...


class Rates(Protocol):
    """Who counts how often keys are used."""

    async def take(self, rate: Rate, count: int) -> float:
        """For how many seconds to wait where that is too much; 0: it is taken."""
        ...

    def refused(self) -> None:
        """Told of each call that is refused for it."""
        ...


class Gate:
    """Decides about each call of one server."""

    def __init__(
        self,
        needs: Mapping[str, Need],
        *,
        tokens: Sequence[str] = (),
        service_names: Collection[str] = (),
        keys_off: bool = False,
        keys: Keys | None = None,
        rates: Rates | None = None,
    ) -> None:
        self._needs = needs
        self._tokens = tuple(token.encode() for token in tokens)
        self._service_names = frozenset(name.encode() for name in service_names)
        self._keys_off = keys_off
        self._keys = keys
        self._rates = rates

    @property
    def is_open(self) -> bool:
        """No credential is configured: everybody may call everything."""
        return not (self._tokens or self._service_names)

    async def admit(self, method: str, context: Any) -> Caller:
        """Whoever calls, if the method is theirs to call. Raises `Unauthenticated` or `PermissionDenied`."""
        _CONTEXT.set(context)
        if self.is_open:
            return NOBODY_ASKS
        need = self._needs.get(method, Need())
        caller = await self._known(context, need)
        _CALLER.set(caller)
        if not _may(caller, need) or (caller.user_id and not need.user_fields):
            raise _too_little(method, need, caller)
        if caller.tenant:
            CURRENT_TENANT.set(caller.tenant)
        return caller

    def check_users(self, method: str, caller: Caller, request: Any) -> None:
        """Whether a request names only the user that the caller's key is for. Raises `PermissionDenied`."""
        if not caller.user_id:
            return
        for path in self._needs[method].user_fields:
            if any(user != caller.user_id for user in _values(request, path.split("."))):
                raise PermissionDenied(
                    f"{path} is not the user of this key", reason="OTHER_USER", metadata={"field": path}
                )

    async def check_rate(self, method: str, rate: Rate, request: Any) -> None:
        """Whether a key may ask for so much now. Raises `ResourceExhausted`."""
        field = self._needs[method].counted_field
        wait = await self._take(rate, len(getattr(request, field)) if field else 1)
        if wait:
            assert self._rates is not None
            self._rates.refused()
            raise ResourceExhausted(
                f"the key may be used {rate.per_second:g} times a second, {rate.burst} at once",
                reason="RATE_LIMITED",
                metadata={"key_id": rate.key_id},
                retry_after_seconds=wait,
            )

    async def paced(self, rate: Rate, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """What a caller streams, read as fast as its key may: who sends more is held back by the transport."""
        async for request in requests:
            wait = await self._take(rate, 1)
            while wait:
                await asyncio.sleep(wait)
                wait = await self._take(rate, 1)
            yield request

    async def _take(self, rate: Rate, count: int) -> float:
        return 0.0 if self._rates is None else await self._rates.take(rate, max(1, count))

    async def _known(self, context: Any, need: Need) -> Caller:
        credential = _bearer(context.invocation_metadata())
        if credential and any(compare_digest(credential.encode(), token) for token in self._tokens):
            return A_SERVICE
        if self._service_names and not self._service_names.isdisjoint(_names(context)):
            return A_SERVICE
        if self._keys_off and need.scope != SERVICE:
            return ANYBODY
        if not credential:
            raise Unauthenticated(
                "the call shows no credential: metadata `authorization: Bearer KEY`",
                reason="CREDENTIAL_MISSING",
            )
        known = await self._keys.caller(credential) if self._keys is not None else None
        if known is None:
            raise Unauthenticated(
                "the credential is not known, has expired or was revoked", reason="CREDENTIAL_INVALID"
            )
        return known


def gate(
    settings: Settings, service_names: Sequence[str], keys: Keys | None = None, rates: Rates | None = None
) -> Gate:
    """The gate of a server with these gRPC services."""
    return Gate(
        dict(needs_of(service_names)),
        tokens=settings.service_tokens,
        service_names=settings.service_names,
        keys_off=settings.keys_off,
        keys=keys,
        rates=rates,
    )


def needs_of(service_names: Sequence[str]) -> Iterator[tuple[str, Need]]:
    """What each method of these gRPC services needs, by its path on the wire."""
    for name in service_names:
        try:
            service = descriptor_pool.Default().FindServiceByName(name)
        except KeyError:
            continue  # without a contract: nothing is said, so it is for services alone
        for method in service.methods:
            yield f"/{name}/{method.name}", _need(method)


def _need(method: MethodDescriptor) -> Need:
    access = method.GetOptions().Extensions[access_pb2.access]
    if not access.scope:
        return Need()
    return Need(int(access.scope), tuple(access.user_fields), access.counted_field, access.for_tenants)


def _may(caller: Caller, need: Need) -> bool:
    return need.scope in caller.scopes and (need.for_tenants or not caller.tenant)


def scope_name(scope: int) -> str:
    """As people write it: `ingest`."""
    return access_pb2.Scope.Name(access_pb2.Scope.ValueType(scope)).removeprefix("SCOPE_").lower()


def _too_little(method: str, need: Need, caller: Caller) -> PermissionDenied:
    name = method.rpartition("/")[2]
    if caller.tenant and need.scope in caller.scopes and not need.for_tenants:
        return PermissionDenied(
            f"{name} is not for keys of a tenant", reason="OTHER_TENANT", metadata={"method": name}
        )
    if need.scope in caller.scopes:
        return PermissionDenied(f"{name} is not for keys of one user", reason="OTHER_USER")
    scope = scope_name(need.scope)
    return PermissionDenied(
        f"{name} needs the scope {scope}", reason="SCOPE_MISSING", metadata={"method": name, "scope": scope}
    )


def _bearer(metadata: Any) -> str:
    for key, value in metadata or ():
        if key == AUTHORIZATION and isinstance(value, str) and value.startswith(BEARER):
            return value.removeprefix(BEARER).strip()
    return ""


def _names(context: Any) -> Collection[bytes]:
    """The names in the caller's certificate, which the transport has verified."""
    return tuple(context.auth_context().get("x509_subject_alternative_name", ()))


def _values(message: Message, path: Sequence[str]) -> Iterator[str]:
    """What stands at a path of fields; of repeated fields, in each."""
    found = getattr(message, path[0])
    if len(path) == 1:
        yield found
        return
    repeated = message.DESCRIPTOR.fields_by_name[path[0]].is_repeated
    for inner in found if repeated else (found,):
        yield from _values(inner, path[1:])
