"""What is done about keys: make, show, rotate, take back (RULES 9.2)."""

import math
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from laurel.common.v1 import access_pb2
from laurel.orchestrator.v1 import access_service_pb2 as pb

from services.orchestrator.store.keys import Key, KeyStore, Limit
from shared import tenants
from shared.clock import Clock
from shared.definition_changes import field_changes
from shared.errors import FailedPrecondition, NotFound, Violations
from shared.pages import read_page
from shared.postgres import admin
from shared.postgres.errors import translate
from shared.postgres.mutations import once
from shared.postgres.pool import Connection, Pool
from shared.rpc.access import Caller, Rate
from shared.rpc.admin import MAX_REASON_CHARS, asking, operations
from shared.rpc.convert import (
    check_request_id,
    check_tenant,
    check_text,
    check_user_id_or_none,
    digest_of,
    instant_field,
    to_timestamp,
)
from shared.rpc.keys import Allowed, Shown, credential_of, hash_of

DEFAULT_OVERLAP: Final = timedelta(days=1)
MAX_OVERLAP: Final = timedelta(days=30)
MIN_PER_SECOND: Final = 0.001
MAX_PER_SECOND: Final = 1_000_000
MAX_BURST: Final = 1_000_000
_ASKED_FOR: Final = frozenset({"name", "scopes", "user_id", "expire_time", "rate_limit", "tenant"})
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_HASH_BYTES: Final = 32
_ALLOWED_SCOPES: Final = frozenset(access_pb2.Scope.values()) - {
    access_pb2.SCOPE_UNSPECIFIED,
    access_pb2.SCOPE_SERVICE,
}
_SCOPES_OF_ONE_USER: Final = (access_pb2.SCOPE_INGEST, access_pb2.SCOPE_READ)


class KeyHandlers:
    """Each mutation is one transaction, idempotent by its request id."""

    def __init__(self, pool: Pool, keys: KeyStore, clock: Clock) -> None:
        self._pool = pool
        self._keys = keys
        self._clock = clock

    async def create(self, request: pb.CreateKeyRequest) -> pb.CreateKeyResponse:
        """A new key and, the first time, its credential. Raises `InvalidArgument`."""
        now = self._clock.now()
        key = new_key(request, secrets.token_hex(_ID_BYTES), now)
        secret = secrets.token_urlsafe(_SECRET_BYTES)

        async def work(connection: Connection) -> Message:
            stored = await self._keys.insert(connection, key, hash_of(secret))
            await self._note(connection, "create_key", pb.Key(), shown(stored), request.reason)
            return pb.CreateKeyResponse(key=shown(stored))

        response = pb.CreateKeyResponse()
        if await self._once("create_key", request, request.request_id, work, response):
            response.credential = credential_of(key.key_id, secret)
        return response

    async def get(self, key_id: str) -> pb.Key:
        """A key. Raises `NotFound`."""
        key = await self._keys.find(key_id)
        if key is None:
            raise _unknown(key_id)
        return shown(key)

    async def list(self, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        """A page of keys by id. Raises `InvalidArgument`."""
        violations = Violations()
        check_tenant(request.tenant, "tenant", violations)
        user_id = _user_of_key(request.tenant, request.user_id, "user_id", violations)
        violations.raise_if_any()
        query = ["list_keys", user_id, request.tenant]
        page = read_page(request.page_size, request.page_token, keyset=[str], query=query)
        after = page.after[0] if page.after else ""
        found = await self._keys.list(after, page.size + 1, user_id, request.tenant)
        kept = found[: page.size]
        token = page.next_token(kept[-1].key_id) if len(found) > page.size else ""
        return pb.ListKeysResponse(keys=map(shown, kept), next_page_token=token)

    async def rotate(self, request: pb.RotateKeyRequest) -> pb.RotateKeyResponse:
        """Another secret. Raises `InvalidArgument`, `NotFound`, or `FailedPrecondition` for one taken back."""
        now = self._clock.now()
        until = now + overlap_of(request)
        secret = secrets.token_urlsafe(_SECRET_BYTES)

        async def work(connection: Connection) -> Message:
            before = await self._live(connection, request.key_id)
            rotated = await self._keys.rotate(connection, request.key_id, hash_of(secret), until)
            await self._note(connection, "rotate_key", shown(before), shown(rotated), request.reason)
            return pb.RotateKeyResponse(key=shown(rotated))

        response = pb.RotateKeyResponse()
        if await self._once("rotate_key", request, request.request_id, work, response):
            response.credential = credential_of(request.key_id, secret)
        return response

    async def set_rate_limit(self, request: pb.SetKeyRateLimitRequest) -> pb.SetKeyRateLimitResponse:
        """Another rate limit, or none. Raises like `rotate`."""
        violations = Violations()
        _check_call(request.request_id, request.reason, violations)
        limit = _limit(request, "rate_limit", violations)
        violations.raise_if_any()

        async def work(connection: Connection) -> Message:
            before = await self._live(connection, request.key_id)
            limited = await self._keys.limit(connection, request.key_id, limit)
            await self._note(connection, "set_key_rate_limit", shown(before), shown(limited), request.reason)
            return pb.SetKeyRateLimitResponse(key=shown(limited))

        response = pb.SetKeyRateLimitResponse()
        await self._once("set_key_rate_limit", request, request.request_id, work, response)
        return response

    async def revoke(self, request: pb.RevokeKeyRequest) -> pb.RevokeKeyResponse:
        """Takes a key back. Raises `InvalidArgument` or `NotFound`."""
        violations = Violations()
        _check_call(request.request_id, request.reason, violations)
        violations.raise_if_any()

        async def work(connection: Connection) -> Message:
            before = await self._keys.get(connection, request.key_id)
            if before is None:
                raise _unknown(request.key_id)
            revoked = await self._keys.revoke(connection, request.key_id, self._clock.now())
            await self._note(connection, "revoke_key", shown(before), shown(revoked), request.reason)
            return pb.RevokeKeyResponse(key=shown(revoked))

        response = pb.RevokeKeyResponse()
        await self._once("revoke_key", request, request.request_id, work, response)
        return response

    async def resolve_for(self, request: pb.ResolveKeyRequest) -> pb.ResolveKeyResponse:
        """What a key that was shown to another service allows. Raises `NotFound`."""
        violations = Violations()
        check_text(request.key_id, "key_id", violations)
        if len(request.secret_hash) != _HASH_BYTES:
            violations.add("secret_hash", f"must have {_HASH_BYTES} bytes")
        violations.raise_if_any()
        allowed = await self._keys.resolve(request.key_id, request.secret_hash)
        if allowed is None:
            raise _unknown(request.key_id)
        response = pb.ResolveKeyResponse(
            name=allowed.name, user_id=allowed.user_id or "", tenant=allowed.tenant or ""
        )
        response.scopes.extend(access_pb2.Scope.ValueType(scope) for scope in allowed.scopes)
        if allowed.remaining_seconds is not None:
            response.remaining.FromTimedelta(timedelta(seconds=allowed.remaining_seconds))
        if allowed.limit is not None:
            response.rate_limit.CopyFrom(_shown_limit(allowed.limit))
        return response

    async def resolve(self, presented: Shown) -> Allowed | None:
        """What a key that was shown to this process allows. Raises `LaurelError` where the database is away."""
        try:
            found = await self._keys.resolve(presented.key_id, presented.secret_hash)
        except Exception as error:
            answer = translate(error)
            if answer is None:
                raise
            raise answer from error
        if found is None:
            return None
        limit = found.limit
        rate = None if limit is None else Rate(presented.key_id, limit.per_second, limit.burst)
        caller = Caller(
            found.name, frozenset(found.scopes), found.user_id or "", rate=rate, tenant=found.tenant or ""
        )
        return Allowed(caller, found.remaining_seconds)

    async def operations(self, request: pb.ListAdminOperationsRequest) -> pb.ListAdminOperationsResponse:
        """A page of what was done by hand, newest first. Raises `InvalidArgument`."""
        found, token = await operations(
            self._pool, "orchestrator", request.page_size, request.page_token, request.subject
        )
        return pb.ListAdminOperationsResponse(operations=found, next_page_token=token)

    async def _note(
        self, connection: Connection, method: str, before: pb.Key, after: pb.Key, reason: str
    ) -> None:
        fields = field_changes(before, after)
        await admin.record(
            connection, method, f"key/{after.key_id}", asking(reason), self._clock.now(), fields
        )

    async def _live(self, connection: Connection, key_id: str) -> Key:
        key = await self._keys.get(connection, key_id)
        if key is None:
            raise _unknown(key_id)
        if key.revoke_time is not None:
            raise FailedPrecondition(
                f"the key {key_id!r} was taken back", reason="KEY_REVOKED", metadata={"key_id": key_id}
            )
        return key

    async def _once(
        self,
        method: str,
        request: Message,
        request_id: str,
        work: Callable[[Connection], Awaitable[Message]],
        response: Message,
    ) -> bool:
        """Do `work` in a transaction, once for its request id, fill in the reply; whether this was the first time."""
        first = False

        async with self._pool.acquire() as connection, connection.transaction():

            async def serialized() -> bytes:
                nonlocal first
                first = True
                return (await work(connection)).SerializeToString()

            digest = digest_of(request)
            body = await once(connection, method, request_id, digest, self._clock.now(), serialized)
        response.ParseFromString(body)
        return first


def new_key(request: pb.CreateKeyRequest, key_id: str, now: datetime) -> Key:
    """The key that a request asks for. Raises `InvalidArgument` with every violation."""
    wanted = request.key
    violations = Violations()
    _check_call(request.request_id, request.reason, violations)
    check_text(wanted.name, "key.name", violations)
    check_tenant(wanted.tenant, "key.tenant", violations)
    user_id = _user_of_key(wanted.tenant, wanted.user_id, "key.user_id", violations)
    if not wanted.scopes:
        violations.add("key.scopes", "must have at least one scope")
    for index, scope in enumerate(wanted.scopes):
        if scope not in _ALLOWED_SCOPES:
            violations.add(f"key.scopes[{index}]", "must be INGEST, READ, CONFIGURE or OPERATE")
        elif wanted.user_id and scope not in _SCOPES_OF_ONE_USER:
            violations.add(f"key.scopes[{index}]", "a key of one user may have INGEST and READ alone")
    end = None
    if wanted.HasField("expire_time"):
        end = instant_field(wanted, "expire_time", "key", violations)
        if end is not None and end <= now:
            violations.add("key.expire_time", "must be in the future")
    limit = _limit(wanted, "key.rate_limit", violations)
    for field, _ in wanted.ListFields():
        if field.name not in _ASKED_FOR:
            violations.add(f"key.{field.name}", "is the server's to set")
    violations.raise_if_any()
    return Key(
        key_id=key_id,
        name=wanted.name,
        scopes=tuple(sorted(set(wanted.scopes))),
        user_id=user_id or None,
        create_time=now,
        expire_time=end,
        revoke_time=None,
        last_use_time=None,
        previous_until=None,
        limit=limit,
        tenant=wanted.tenant or None,
    )


def overlap_of(request: pb.RotateKeyRequest) -> timedelta:
    """For how long the secret before counts. Raises `InvalidArgument`."""
    violations = Violations()
    _check_call(request.request_id, request.reason, violations)
    overlap = _seconds(request.overlap) if request.HasField("overlap") else DEFAULT_OVERLAP
    if not timedelta() <= overlap <= MAX_OVERLAP:
        violations.add("overlap", f"must be 0 to {MAX_OVERLAP.days} days")
    violations.raise_if_any()
    return overlap


def shown(key: Key) -> pb.Key:
    """A key as callers see it."""
    user_id = key.user_id or ""
    message = pb.Key(
        key_id=key.key_id,
        name=key.name,
        user_id=tenants.shown(user_id) if key.tenant else user_id,
        create_time=to_timestamp(key.create_time),
        tenant=key.tenant or "",
    )
    message.scopes.extend(access_pb2.Scope.ValueType(scope) for scope in key.scopes)
    instants = {
        "expire_time": key.expire_time,
        "last_use_time": key.last_use_time,
        "revoke_time": key.revoke_time,
        "previous_secret_expire_time": key.previous_until,
    }
    for field, instant in instants.items():
        if instant is not None:
            getattr(message, field).CopyFrom(to_timestamp(instant))
    if key.limit is not None:
        message.rate_limit.CopyFrom(_shown_limit(key.limit))
    return message


def _limit(message: Any, path: str, violations: Violations) -> Limit | None:
    """What a field `rate_limit` says; None where it is not set."""
    if not message.HasField("rate_limit"):
        return None
    wanted = message.rate_limit
    # Also for what is no number.
    if not MIN_PER_SECOND <= wanted.per_second <= MAX_PER_SECOND:
        violations.add(f"{path}.per_second", f"must be {MIN_PER_SECOND:g} to {MAX_PER_SECOND:,}")
        return None
    if not 0 <= wanted.burst <= MAX_BURST:
        violations.add(f"{path}.burst", f"must be 0 to {MAX_BURST:,}")
    return Limit(wanted.per_second, wanted.burst or max(1, math.ceil(wanted.per_second)))


def _shown_limit(limit: Limit) -> pb.RateLimit:
    return pb.RateLimit(per_second=limit.per_second, burst=limit.burst)


def _user_of_key(tenant: str, user_id: str, path: str, violations: Violations) -> str:
    """The stored id of the only user of a key; empty: all. A key of a tenant says it as the tenant does."""
    check_user_id_or_none(user_id, path, violations)
    if tenant and tenants.SEPARATOR in user_id:
        violations.add(path, "must not contain the character U+001F")
    return tenants.stored(tenant, user_id) if user_id else ""


def _check_call(request_id: str, reason: str, violations: Violations) -> None:
    check_request_id(request_id, "request_id", violations)
    check_text(reason, "reason", violations, min_chars=0, max_chars=MAX_REASON_CHARS)


def _seconds(duration: Duration) -> timedelta:
    """Whole seconds; what no time span can hold is cut to more than is ever allowed."""
    return timedelta(seconds=max(-1, min(duration.seconds, 10**9)))


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"there is no key {key_id!r}", reason="KEY_NOT_FOUND", metadata={"key_id": key_id})
