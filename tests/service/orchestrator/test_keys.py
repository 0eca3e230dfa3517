"""Keys: made, shown, rotated, taken back, and what they open (RULES 9.2)."""

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from laurel.common.v1.access_pb2 import (
    SCOPE_CONFIGURE,
    SCOPE_INGEST,
    SCOPE_OPERATE,
    SCOPE_READ,
    SCOPE_SERVICE,
)
from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.orchestrator.v1 import access_service_pb2_grpc, user_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as orchestrator_pb
from pydantic import SecretStr

from shared.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    LaurelError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from shared.rpc import keys as known_keys
from shared.rpc.keys import credential_of, hash_of, read_credential
from tests.service.orchestrator.conftest import Orchestrator, define, event, refused

if TYPE_CHECKING:
    from laurel.orchestrator.v1.access_service_pb2_grpc import AccessServiceAsyncStub

TOKEN = "a-token-between-services-that-is-long"


def secret_of(made: pb.CreateKeyResponse | pb.RotateKeyResponse) -> str:
    """The part of a credential that nobody is to know. There may be a `_` in it."""
    assert read_credential(made.credential) is not None
    return made.credential.removeprefix(credential_of(made.key.key_id, ""))


def shown(credential: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {credential}")]


BY_SERVICE = shown(TOKEN)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> dict[str, Any]:
    # Asked about anew with each call: what a key opens is tested here, for how long it is remembered elsewhere.
    monkeypatch.setattr(known_keys, "FRESH_SECONDS", 0.0)
    return {"service_token": TOKEN, "redis_url": SecretStr(valkey_url)}


@pytest.fixture
def access(orchestrator: Orchestrator) -> "AccessServiceAsyncStub":
    return access_service_pb2_grpc.AccessServiceStub(orchestrator.channel)


async def make(
    access: "AccessServiceAsyncStub", *scopes: Any, name: str = "a", user: str = "", request_id: str = "r1"
) -> pb.CreateKeyResponse:
    request = pb.CreateKeyRequest(key=pb.Key(name=name, scopes=scopes, user_id=user), request_id=request_id)
    return await access.CreateKey(request, metadata=BY_SERVICE, timeout=10)


async def test_a_key_opens_what_its_scopes_say_and_nothing_else(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST)
    reply = await orchestrator.stub.IngestEvent(event(), metadata=shown(made.credential), timeout=20)
    assert reply.total_after == 1
    get_user = orchestrator_pb.GetUserRequest(user_id="ada")
    error = await refused(orchestrator.stub.GetUser(get_user, metadata=shown(made.credential), timeout=10))
    assert (type(error), error.reason, error.metadata["scope"]) == (PermissionDenied, "SCOPE_MISSING", "read")
    assert type(await refused(orchestrator.stub.GetUser(get_user, timeout=10))) is Unauthenticated


async def test_a_key_of_a_user_reads_that_user_alone(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    for user in ("ada", "bob"):
        await orchestrator.stub.IngestEvent(event(user), metadata=BY_SERVICE, timeout=20)
    made = await make(access, SCOPE_READ, user="ada")

    async def read(user: str) -> Any:
        request = orchestrator_pb.GetUserRequest(user_id=user)
        return await orchestrator.stub.GetUser(request, metadata=shown(made.credential), timeout=10)

    assert (await read("ada")).user.user_id == "ada"
    error = await refused(read("bob"))
    assert (type(error), error.reason) == (PermissionDenied, "OTHER_USER")


async def test_a_key_of_a_user_sends_events_of_that_user_where_the_metric_allows_it(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    """RULES 9.2."""
    await define(orchestrator.pool, "taps", user_writable=True)
    made = await make(access, SCOPE_INGEST, user="ada")

    async def send(user: str, metric: str, **said: Any) -> Any:
        request = event(user)
        request.metric = metric
        request.user.MergeFrom(user_pb2.User(**said))
        return await orchestrator.stub.IngestEvent(request, metadata=shown(made.credential), timeout=20)

    assert (await send("ada", "taps", time_zone="Asia/Tokyo")).total_after == 1
    for user, metric, reason in (
        ("bob", "taps", "OTHER_USER"),
        ("ada", "lessons", "METRIC_NOT_USER_WRITABLE"),
    ):
        error = await refused(send(user, metric))
        assert (type(error), error.reason) == (PermissionDenied, reason)
    error = await refused(send("ada", "taps", name="Ada", attributes={"plan": "pro"}))
    assert type(error) is InvalidArgument
    assert [each.field for each in error.violations] == ["user.name", "user.attributes"]
    assert (await send("ada", "taps")).total_after == 2


async def test_who_may_ingest_may_not_do_more_in_a_call_with_many_operations(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST)
    request = orchestrator_pb.PerformOperationsRequest()
    request.operations.add().user_update.user.user_id = "ada"
    request.operations[0].user_update.request_id = "u1"
    await orchestrator.stub.PerformOperations(request, metadata=shown(made.credential), timeout=10)
    request.operations.add().points_grant.user_id = "ada"
    refusal = await refused(
        orchestrator.stub.PerformOperations(request, metadata=shown(made.credential), timeout=10)
    )
    assert (type(refusal), refusal.metadata["scope"]) == (PermissionDenied, "operate")


async def test_of_a_secret_nothing_is_stored_but_its_hash(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_READ)
    secret = secret_of(made)
    (stored,) = await orchestrator.pool.fetch("SELECT * FROM keys")
    assert stored["secret_hash"] == hash_of(secret)
    log = await orchestrator.pool.fetch("SELECT * FROM mutation_log")
    assert secret.encode() not in b"".join(row["response"] for row in log)
    assert secret not in repr([*stored.values()])


async def test_a_repetition_makes_no_second_key_and_tells_no_secret(access: "AccessServiceAsyncStub") -> None:
    first = await make(access, SCOPE_READ)
    again = await make(access, SCOPE_READ)
    assert (again.key, again.credential) == (first.key, "")
    assert type(await refused(make(access, SCOPE_READ, name="b"))) is AlreadyExists


async def test_after_a_rotation_both_secrets_count_and_after_the_overlap_one(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST)

    async def works(credential: str) -> bool:
        try:
            await orchestrator.stub.IngestEvent(event(), metadata=shown(credential), timeout=20)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            return False
        return True

    async def rotate(request_id: str, seconds: int) -> str:
        request = pb.RotateKeyRequest(
            key_id=made.key.key_id, overlap=Duration(seconds=seconds), request_id=request_id
        )
        return (await access.RotateKey(request, metadata=BY_SERVICE, timeout=10)).credential

    second = await rotate("r1", 60)
    assert [await works(made.credential), await works(second)] == [True, True]
    third = await rotate("r2", 60)
    assert [await works(each) for each in (made.credential, second, third)] == [False, True, True]
    fourth = await rotate("r3", 0)
    assert [await works(each) for each in (second, third, fourth)] == [False, False, True]


async def test_a_key_that_was_taken_back_or_has_ended_opens_nothing(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST)
    ended = await make(access, SCOPE_INGEST, request_id="r2")
    await orchestrator.pool.execute(
        "UPDATE keys SET expire_time = now() - $2::interval WHERE key_id = $1",
        ended.key.key_id,
        timedelta(seconds=1),
    )
    revoke = pb.RevokeKeyRequest(key_id=made.key.key_id, request_id="r1", reason="lost")
    taken = await access.RevokeKey(revoke, metadata=BY_SERVICE, timeout=10)
    assert taken.key.HasField("revoke_time")
    for each in (made, ended):
        refusal = await refused(
            orchestrator.stub.IngestEvent(event(), metadata=shown(each.credential), timeout=10)
        )
        assert (type(refusal), refusal.reason) == (Unauthenticated, "CREDENTIAL_INVALID")
    rotate = pb.RotateKeyRequest(key_id=made.key.key_id, request_id="r9")
    assert type(await refused(access.RotateKey(rotate, metadata=BY_SERVICE))) is FailedPrecondition


async def test_the_last_use_is_noted(orchestrator: Orchestrator, access: "AccessServiceAsyncStub") -> None:
    made = await make(access, SCOPE_INGEST)
    assert not made.key.HasField("last_use_time")
    await orchestrator.stub.IngestEvent(event(), metadata=shown(made.credential), timeout=20)
    got = await access.GetKey(pb.GetKeyRequest(key_id=made.key.key_id), metadata=BY_SERVICE, timeout=10)
    assert got.key.HasField("last_use_time")


async def test_keys_are_listed_in_pages_and_by_user(access: "AccessServiceAsyncStub") -> None:
    for number in range(3):
        await make(access, SCOPE_READ, user="ada" if number else "", request_id=str(number))
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListKeysRequest(page_size=1, page_token=token)
        page = await access.ListKeys(request, metadata=BY_SERVICE, timeout=10)
        found += [key.key_id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert (len(found), found) == (3, sorted(found))
    of_ada = await access.ListKeys(pb.ListKeysRequest(user_id="ada"), metadata=BY_SERVICE, timeout=10)
    assert len(of_ada.keys) == 2


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ({"name": "", "scopes": []}, ["key.name", "key.scopes"]),
        ({"name": "a", "scopes": [SCOPE_SERVICE, 77, SCOPE_READ]}, ["key.scopes[0]", "key.scopes[1]"]),
        ({"name": "a", "scopes": [SCOPE_READ, SCOPE_OPERATE], "user_id": "ada"}, ["key.scopes[1]"]),
        ({"name": "a", "scopes": [SCOPE_CONFIGURE], "key_id": "x"}, ["key.key_id"]),
        ({"name": "a", "scopes": [SCOPE_READ], "expire_time": {"seconds": 1}}, ["key.expire_time"]),
        ({"name": "a", "scopes": [SCOPE_READ], "revoke_time": {"seconds": 1}}, ["key.revoke_time"]),
    ],
)
async def test_a_key_that_cannot_be_is_refused_by_field(
    access: "AccessServiceAsyncStub", key: dict[str, Any], fields: list[str]
) -> None:
    request = pb.CreateKeyRequest(key=pb.Key(**key), request_id="r1")
    error = await refused(access.CreateKey(request, metadata=BY_SERVICE, timeout=10))
    assert type(error) is InvalidArgument
    assert [violation.field for violation in error.violations] == fields


@pytest.mark.parametrize("overlap", [-1, 30 * 86_400 + 1, 315_576_000_000])
async def test_an_overlap_out_of_range_is_refused(access: "AccessServiceAsyncStub", overlap: int) -> None:
    request = pb.RotateKeyRequest(key_id="x", overlap=Duration(seconds=overlap), request_id="r")
    error = await refused(access.RotateKey(request, metadata=BY_SERVICE, timeout=10))
    assert [violation.field for violation in error.violations] == ["overlap"]


async def test_what_does_not_exist_is_said(access: "AccessServiceAsyncStub") -> None:
    calls: list[Any] = [
        access.GetKey(pb.GetKeyRequest(key_id="none"), metadata=BY_SERVICE),
        access.RotateKey(pb.RotateKeyRequest(key_id="none", request_id="r"), metadata=BY_SERVICE),
        access.RevokeKey(pb.RevokeKeyRequest(key_id="none", request_id="r"), metadata=BY_SERVICE),
        access.ResolveKey(pb.ResolveKeyRequest(key_id="none", secret_hash=b"x" * 32), metadata=BY_SERVICE),
    ]
    for call in calls:
        error: LaurelError = await refused(call)
        assert (type(error), error.reason) == (NotFound, "KEY_NOT_FOUND")


async def test_the_audit_names_the_key_that_asked(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST, name="mobile backend")
    request = orchestrator_pb.UpdateUserRequest(request_id="u1")
    request.user.user_id = "ada"
    request.user.name = "Ada"
    metadata = [*shown(made.credential), ("laurel-actor", "support")]
    reply = await orchestrator.stub.UpdateUser(request, metadata=metadata, timeout=20)
    got = await orchestrator.stub.GetEntry(
        orchestrator_pb.GetEntryRequest(entry_id=reply.entry_id), metadata=BY_SERVICE, timeout=10
    )
    assert got.entry.actor == "mobile backend: support"


async def test_what_is_done_by_hand_is_kept_with_who_from_where_and_why(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST, SCOPE_OPERATE, name="operator")
    reply = await orchestrator.stub.IngestEvent(event(), metadata=shown(made.credential), timeout=20)
    void = orchestrator_pb.VoidEntryRequest(entry_id=reply.entry_id, reason="mistaken", request_id="v1")
    by_operator = [*shown(made.credential), ("laurel-actor", "carol")]
    for _ in range(2):  # the second changes nothing, and leaves no trace
        await orchestrator.stub.VoidEntry(void, metadata=by_operator, timeout=20)
    revoke = pb.RevokeKeyRequest(key_id=made.key.key_id, request_id="x1", reason="lost")
    await access.RevokeKey(revoke, metadata=BY_SERVICE, timeout=10)

    listed = await access.ListAdminOperations(pb.ListAdminOperationsRequest(), metadata=BY_SERVICE)
    told = [(each.method, each.subject, each.actor, each.reason) for each in listed.operations]
    key = f"key/{made.key.key_id}"
    assert told == [
        ("revoke_key", key, "service", "lost"),
        ("void_entry", f"entry/{reply.entry_id}", "operator: carol", "mistaken"),
        ("create_key", key, "service", ""),
    ]
    assert {each.peer for each in listed.operations} == {"ipv4:127.0.0.1"}
    revoked, _, created = listed.operations
    assert [field.path for field in revoked.fields] == ["revoke_time"]
    assert {field.path: field.new_value for field in created.fields}["name"] == '"operator"'
    assert secret_of(made) not in str(listed)


async def test_what_was_done_is_listed_in_pages_and_by_subject(access: "AccessServiceAsyncStub") -> None:
    keys = [(await make(access, SCOPE_READ, request_id=str(number))).key.key_id for number in range(3)]
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListAdminOperationsRequest(page_size=2, page_token=token)
        page = await access.ListAdminOperations(request, metadata=BY_SERVICE, timeout=10)
        found += [each.subject for each in page.operations]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"key/{key}" for key in reversed(keys)]
    request = pb.ListAdminOperationsRequest(subject=f"key/{keys[1]}")
    response = await access.ListAdminOperations(request, metadata=BY_SERVICE, timeout=10)
    assert [each.subject for each in response.operations] == [f"key/{keys[1]}"]


async def limited(
    access: "AccessServiceAsyncStub", made: pb.CreateKeyResponse, limit: pb.RateLimit | None, request_id: str
) -> pb.Key:
    request = pb.SetKeyRateLimitRequest(key_id=made.key.key_id, rate_limit=limit, request_id=request_id)
    return (await access.SetKeyRateLimit(request, metadata=BY_SERVICE, timeout=10)).key


async def test_a_key_is_refused_what_is_more_than_its_rate_limit_and_told_when_to_come_again(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_READ, SCOPE_INGEST)
    key = await limited(access, made, pb.RateLimit(per_second=0.01, burst=3), "l1")
    assert (key.rate_limit.per_second, key.rate_limit.burst) == (0.01, 3)
    get_user = orchestrator_pb.GetUserRequest(user_id="ada")
    by_key = shown(made.credential)
    await orchestrator.stub.IngestEvent(event(key="k1"), metadata=by_key, timeout=10)
    for _ in range(2):
        await orchestrator.stub.GetUser(get_user, metadata=by_key, timeout=10)
    error = await refused(orchestrator.stub.IngestEvent(event(key="k2"), metadata=by_key, timeout=10))
    assert (type(error), error.reason) == (ResourceExhausted, "RATE_LIMITED")
    assert error.retry_after_seconds is not None
    assert 90 < error.retry_after_seconds <= 100
    assert error.metadata == {"key_id": made.key.key_id}
    assert await orchestrator.pool.fetchval("SELECT count(*) FROM entries") == 1  # it has changed nothing
    await limited(access, made, None, "l2")
    await orchestrator.stub.IngestEvent(event(key="k2"), metadata=by_key, timeout=10)


async def test_each_event_of_a_batch_counts_and_a_refused_batch_counts_for_nothing(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST)
    await limited(access, made, pb.RateLimit(per_second=0.01, burst=10), "l1")

    async def ingest(count: int) -> Any:
        request = orchestrator_pb.IngestEventsRequest(
            events=[event("ada", f"{count}-{n}") for n in range(count)]
        )
        return await orchestrator.stub.IngestEvents(request, metadata=shown(made.credential), timeout=10)

    await ingest(7)
    assert (await refused(ingest(4))).reason == "RATE_LIMITED"
    await ingest(3)
    assert (await refused(ingest(1))).reason == "RATE_LIMITED"


async def test_a_stream_is_read_as_fast_as_its_key_may_and_loses_nothing(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub"
) -> None:
    made = await make(access, SCOPE_INGEST)
    await limited(access, made, pb.RateLimit(per_second=50, burst=1), "l1")
    requests = [orchestrator_pb.StreamEventsRequest(event=event("ada", f"s{n}")) for n in range(11)]
    began = time.monotonic()
    answers = orchestrator.stub.StreamEvents(iter(requests), metadata=shown(made.credential), timeout=30)
    assert len([answer async for answer in answers]) == 11
    assert time.monotonic() - began >= 10 / 50


async def test_a_rate_limit_that_cannot_be_is_refused_by_its_field(access: "AccessServiceAsyncStub") -> None:
    made = await make(access, SCOPE_READ)
    wrong = [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (2e6, 1), (1, -1), (1, 2_000_000)]
    for number, (per_second, burst) in enumerate(wrong):
        limit = pb.RateLimit(per_second=per_second, burst=burst)
        request = pb.CreateKeyRequest(
            key=pb.Key(name="a", scopes=[SCOPE_READ], rate_limit=limit), request_id=f"c{number}"
        )
        at_birth = await refused(access.CreateKey(request, metadata=BY_SERVICE, timeout=10))
        later = await refused(limited(access, made, limit, f"l{number}"))
        field = "per_second" if burst == 1 else "burst"
        assert [each.field for each in at_birth.violations] == [f"key.rate_limit.{field}"]
        assert [each.field for each in later.violations] == [f"rate_limit.{field}"]


async def test_a_bucket_holds_what_comes_in_a_second_where_nothing_is_said(
    access: "AccessServiceAsyncStub",
) -> None:
    made = await make(access, SCOPE_READ)
    assert (await limited(access, made, pb.RateLimit(per_second=2.5), "l1")).rate_limit.burst == 3
    assert (await limited(access, made, pb.RateLimit(per_second=0.1), "l2")).rate_limit.burst == 1


async def test_the_audit_has_the_limit_before_and_after(access: "AccessServiceAsyncStub") -> None:
    made = await make(access, SCOPE_READ)
    for _ in range(2):  # the second is the same request
        await limited(access, made, pb.RateLimit(per_second=5, burst=5), "l1")
    request = pb.ListAdminOperationsRequest(subject=f"key/{made.key.key_id}")
    done = (await access.ListAdminOperations(request, metadata=BY_SERVICE, timeout=10)).operations
    assert [each.method for each in done] == ["set_key_rate_limit", "create_key"]
    assert [field.path for field in done[0].fields] == ["rate_limit"]
