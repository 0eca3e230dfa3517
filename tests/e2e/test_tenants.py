"""Tenants share definitions and nothing else (RULES 9.3): the whole system, with the keys of two of them."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from laurel.achievement.v1 import achievement_service_pb2 as achievement_pb
from laurel.common.v1 import access_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as board_pb
from laurel.notification.v1 import notification_service_pb2 as notification_pb
from laurel.notification.v1 import webhook_pb2
from laurel.orchestrator.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    event_pb2,
    orchestrator_service_pb2,
)
from laurel.points.v1 import points_service_pb2 as points_pb
from laurel.streak.v1 import streak_service_pb2 as streak_pb

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from shared.errors import LaurelError, NotFound, PermissionDenied, from_rpc_error
from shared.rpc.convert import date_to_proto
from tests.fixtures import clock
from tests.fixtures.fuzzing import SERVICES, methods, plausible, server_of
from tests.fixtures.receiver import receiving
from tests.fixtures.system import System, connect, event
from tests.fixtures.waiting import until
from tests.fixtures.world import CONFIGURATION

pb = orchestrator_service_pb2

SCOPES: Final = ("SCOPE_INGEST", "SCOPE_READ", "SCOPE_CONFIGURE", "SCOPE_OPERATE")
SECRET: Final = "5ecret"
"""In everything of the tenant that is spied on, and in nothing that is asked."""
TENANTS: Final = ("acme", "evil", "")
"""The last: users of no tenant."""
DEPTH: Final = 4
STREAM_SECONDS: Final = 0.3
PATIENCE_SECONDS: Final = 30.0
NO_FINDING: Final = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass
class Client:
    """Calls with one key, by the names of methods."""

    system: System
    credential: str
    paths: Mapping[str, MethodDescriptor] = field(
        default_factory=lambda: {method.name: method for method in methods()}
    )

    async def __call__(self, request: Message) -> Any:
        """The reply to a request, whose type names its method. Raises `LaurelError`."""
        method = self.paths[request.DESCRIPTOR.name.removesuffix("Request")]
        replies, error = await self.raw(method, request.SerializeToString())
        if error is not None:
            raise error
        kind = message_factory.GetMessageClass(method.output_type)
        messages = [kind.FromString(reply) for reply in replies]
        return messages if method.server_streaming else messages[0]

    async def raw(self, method: MethodDescriptor, request: bytes) -> tuple[list[bytes], LaurelError | None]:
        """What a call is answered with, byte by byte; of a stream without an end, what comes in a moment."""
        for _ in range(20):
            replies, error = await self._once(method, request)
            # A stream that is refused before its first message was sent looks broken to its caller at times.
            if not method.client_streaming or error is None or error.domain:
                break
        return replies, error

    async def _once(self, method: MethodDescriptor, request: bytes) -> tuple[list[bytes], LaurelError | None]:
        kind = "stream" if method.client_streaming else "unary"
        kind += "_stream" if method.server_streaming else "_unary"
        channel = self.system.channels[SERVICES.index(server_of(method))]
        make: Any = getattr(channel, kind)(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=None,
            response_deserializer=None,
        )
        options = {
            "metadata": [("authorization", f"Bearer {self.credential}")],
            "timeout": STREAM_SECONDS if method.name.startswith("Watch") else PATIENCE_SECONDS,
        }
        replies: list[bytes] = []
        call = make(**options) if method.client_streaming else make(request, **options)
        if method.client_streaming:
            with suppress(
                grpc.aio.AioRpcError, asyncio.InvalidStateError
            ):  # it may have been refused already
                await call.write(request)
                await call.done_writing()
        try:
            if method.server_streaming:
                async for reply in call:
                    replies.append(reply)  # noqa: PERF401 - what came before the failure is kept
            else:
                replies.append(await call)
        except grpc.aio.AioRpcError as error:
            return replies, from_rpc_error(error)
        return replies, None


@pytest.fixture(scope="module")
def stack(quick_directory: Path) -> Iterator[Stack]:
    settings = {"LAUREL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "LAUREL_WEBHOOK_ALLOW_HTTP": "true"}
    home = quick_directory / "tenants"
    config = StackConfig(home=home, port_base=0, fsync=False, keys=True, settings=settings)
    with Stack(config) as running:
        running.up()
        yield running


@pytest.fixture(scope="module")
async def clients(stack: Stack) -> AsyncIterator[dict[str, Client]]:
    """A client of each tenant, and ("") of none."""
    system = connect(stack)
    access = access_service_pb2_grpc.AccessServiceStub(system.channels[0])
    found = {"": Client(system, stack.api_key or "")}
    for tenant in TENANTS[:2]:
        request = access_service_pb2.CreateKeyRequest(request_id=tenant)
        request.key.name = tenant
        request.key.tenant = tenant
        request.key.scopes.extend(map(access_pb2.Scope.Value, SCOPES))
        metadata = [("authorization", f"Bearer {stack.api_key}")]
        made = await access.CreateKey(request, metadata=metadata, timeout=20)
        found[tenant] = Client(system, made.credential)
    await found[""](CONFIGURATION)
    yield found
    await system.close()


@pytest.fixture(scope="module")
async def world(clients: dict[str, Client]) -> dict[str, Client]:
    """In each namespace the same users: those of `acme` have 1 to 3 steps, of `evil` 10 times, of none 100 times."""
    for tenant, times in zip(TENANTS, (1, 10, 100), strict=True):
        for number, user in enumerate(("alice", "bob", f"{SECRET}-sue" if tenant == "acme" else "sue"), 1):
            request = event(user, "k1", value=number * times, region="EU")
            request.user.name = f"{SECRET} {user}" if tenant == "acme" else user
            await clients[tenant](request)
    return clients


def selector(board: str, **segment: str) -> Any:
    made = board_pb.GetMemberRequest().selector
    made.leaderboard = board
    made.segment.update(segment)
    return made


async def ranking(client: Client, board: str = "steps", **segment: str) -> list[tuple[int, str, float]]:
    reply = await client(board_pb.ListRankedMembersRequest(selector=selector(board, **segment)))
    return [(member.rank, member.user_id, member.score) for member in reply.members]


async def test_tenants_with_the_same_users_never_meet_on_boards(world: dict[str, Client]) -> None:
    assert await ranking(world["acme"]) == [(1, f"{SECRET}-sue", 3), (2, "bob", 2), (3, "alice", 1)]
    assert await ranking(world["evil"]) == [(1, "sue", 30), (2, "bob", 20), (3, "alice", 10)]
    assert await ranking(world[""]) == [(1, "sue", 300), (2, "bob", 200), (3, "alice", 100)]
    assert [user for _, user, _ in await ranking(world["evil"], region="EU")] == ["sue", "bob", "alice"]
    for board in ("weekly", "xp", "weekly-coins", "daily", "weekly-days"):
        assert {user for _, user, _ in await ranking(world["evil"], board)} == {"sue", "bob", "alice"}
    member = await world["evil"](board_pb.GetMemberRequest(selector=selector("steps"), user_id="bob"))
    assert (member.standing.member.rank, member.member_count, member.standing.member.score) == (2, 3, 20)
    standings = await world["evil"](board_pb.ListUserStandingsRequest(user_id="bob"))
    assert {standing.leaderboard for standing in standings.standings} >= {"steps", "weekly", "xp"}


async def test_tenants_with_the_same_users_never_meet_in_what_is_counted(world: dict[str, Client]) -> None:
    for tenant, times in zip(TENANTS, (1, 10, 100), strict=True):
        client = world[tenant]
        user = (await client(pb.GetUserRequest(user_id="bob"))).metrics
        assert [(metric.metric, metric.total) for metric in user] == [("steps", 2 * times)]
        points = await client(points_pb.ListUserPointsRequest(user_id="bob"))
        coins = {each.points_system: each.balance for each in points.points}
        assert coins["coins"] == 5 * 2 * times
        streaks = await client(streak_pb.ListUserStreaksRequest(user_id="bob"))
        assert [(each.streak, each.length) for each in streaks.streaks] == [("daily", 1)]
        found = await client(achievement_pb.ListUserAchievementsRequest(user_id="bob"))
        completed = {each.achievement for each in found.achievements if each.completed}
        assert ("ten-steps" in completed) == (times > 1)


async def test_users_entries_and_what_is_told_are_a_tenants_own(world: dict[str, Client]) -> None:
    users = await world["evil"](pb.ListUsersRequest(page_size=2))
    more = await world["evil"](pb.ListUsersRequest(page_size=2, page_token=users.next_page_token))
    assert [user.user_id for user in (*users.users, *more.users)] == ["alice", "bob", "sue"]
    audits = (await world["evil"](pb.ListUserEntriesRequest(user_id="bob"))).entries
    assert {audit.user_id for audit in audits} == {"bob"}
    request = event_pb2.IngestEventRequest()
    assert audits[-1].request.Unpack(request)
    assert request.user.user_id == "bob"
    events = (await world["evil"](pb.ListDomainEventsRequest())).events
    assert {told.tenant for told in events} == {"evil"}
    assert {told.user_id for told in events if told.user_id} == {"alice", "bob", "sue"}
    boards = {told.board_run.leaderboard for told in events if told.HasField("board_run")}
    assert boards <= {"steps", "weekly", "xp", "weekly-coins", "weekly-tens", "daily", "weekly-days"}
    rows = await world["evil"](pb.ExportUserRequest(user_id="bob"))
    text = " ".join(str(message) for message in rows)
    assert "bob" in text
    assert "acme" not in text
    assert "x1f" not in text
    assert "u001f" not in text


async def test_whoever_is_of_no_tenant_knows_all_by_their_full_ids(world: dict[str, Client]) -> None:
    operator = world[""]
    users = (await operator(pb.ListUsersRequest())).users
    assert {"alice", "acme\x1falice", "evil\x1falice"} <= {user.user_id for user in users}
    assert await ranking(operator, "evil\x1fsteps") == [
        (1, "evil\x1fsue", 30),
        (2, "evil\x1fbob", 20),
        (3, "evil\x1falice", 10),
    ]
    entry = (await operator(pb.ListUserEntriesRequest(user_id="evil\x1fbob"))).entries[0]
    assert entry.user_id == "evil\x1fbob"


async def test_what_is_said_of_all_users_is_said_of_a_tenants_own(world: dict[str, Client]) -> None:
    for tenant, times in zip(TENANTS[:2], (1, 10), strict=True):
        client = world[tenant]
        users = {user.user_id for user in (await client(pb.ListUsersRequest())).users}
        longest: set[str] = set()
        request = streak_pb.ListLongestStreaksRequest(streak="daily", page_size=2)
        while True:
            page = await client(request)
            longest |= {each.user_id for each in page.streaks}
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        assert longest == users
        at_risk = streak_pb.ListStreaksAtRiskRequest(streak="daily", within_hours=72)
        assert {each.user_id for each in (await client(at_risk)).streaks} <= users
        today = date_to_proto(clock.now().date())
        streaks = await client(
            streak_pb.GetStreakStatisticsRequest(streak="daily", start_date=today, end_date=today)
        )
        assert sum(each.count for each in streaks.lengths) == len(users)
        levels = await client(points_pb.GetLevelDistributionRequest(points_system="xp"))
        assert sum(each.user_count for each in levels.levels) == len(users)
        ranges = await client(
            points_pb.GetPointsDistributionRequest(points_system="coins", bounds=[0, 10 * times])
        )
        assert sum(each.user_count for each in ranges.ranges) == len(users)
        week = date_to_proto(clock.now().date() - timedelta(days=7))
        held = await client(
            achievement_pb.GetAchievementStatisticsRequest(
                achievement="ten-steps", start_date=week, end_date=today
            )
        )
        assert held.user_count == len(users)
        assert held.holder_count == (0 if times == 1 else len(users))
        assert sum(day.count for day in held.days) == held.holder_count
    everybody = await world[""](
        achievement_pb.GetAchievementStatisticsRequest(
            achievement="ten-steps", start_date=week, end_date=today
        )
    )
    assert (everybody.user_count, everybody.holder_count) == (9, 6)


async def test_an_endpoint_of_a_tenant_hears_of_its_users_and_one_of_none_of_all(
    world: dict[str, Client],
) -> None:
    operator = world[""]
    async with receiving() as own, receiving() as every, receiving() as one:
        for key, receiver, tenant, users in (
            ("own", own, "evil", []),
            ("every", every, "", []),
            ("one", one, "evil", ["hook"]),
        ):
            endpoint = webhook_pb2.WebhookEndpoint(
                key=key, url=receiver.url, types=["metric.recorded"], tenant=tenant, user_ids=users
            )
            await operator(
                notification_pb.CreateWebhookEndpointRequest(request_id=f"e-{key}", endpoint=endpoint)
            )
        for tenant in TENANTS:
            await world[tenant](event("hook", "k1", value=4))
        await world["evil"](event("hooked", "k1", value=4))
        await every.has(lambda: len(every.got) == 4)
        await own.has(lambda: len(own.got) == 2)
        await one.has(lambda: len(one.got) == 1)
        for key in ("own", "every", "one"):
            await operator(notification_pb.DeleteWebhookEndpointRequest(key=key, request_id=f"d-{key}"))
    assert {(got.json.get("tenant"), got.user) for got in own.got} == {("evil", "hook"), ("evil", "hooked")}
    assert [(got.json["tenant"], got.user) for got in one.got] == [("evil", "hook")]
    assert {(got.json.get("tenant"), got.user) for got in every.got} == {
        ("acme", "hook"),
        ("evil", "hook"),
        ("evil", "hooked"),
        (None, "hook"),
    }
    assert not any("x1f" in got.body or "u001f" in got.body for got in every.got)
    for tenant in TENANTS:
        await world[tenant](pb.DeleteUserRequest(user_id="hook", request_id="d-hook"))
    await world["evil"](pb.DeleteUserRequest(user_id="hooked", request_id="d-hooked"))


async def test_points_are_passed_on_inside_a_tenant(world: dict[str, Client]) -> None:
    request = pb.TransferPointsRequest(
        user_id="sue", to_user_id="bob", points_system="coins", amount=1, request_id="t1"
    )
    reply = await world["evil"](request)
    assert {change.user_id for change in reply.effects.points} == {"sue", "bob"}
    assert not (await world["acme"](points_pb.ListAwardsRequest(user_id="bob", points_system="tens"))).awards


async def test_an_entry_of_another_tenant_is_not_there(world: dict[str, Client]) -> None:
    (entry, *_) = (await world["acme"](pb.ListUserEntriesRequest(user_id="bob"))).entries
    for request in (
        pb.GetEntryRequest(entry_id=entry.entry_id),
        pb.VoidEntryRequest(entry_id=entry.entry_id, reason="mine", request_id="v"),
    ):
        with pytest.raises(NotFound) as caught:
            await world["evil"](request)
        assert caught.value.reason == "ENTRY_NOT_FOUND"


async def test_a_key_of_a_user_of_a_tenant_reads_that_user_alone(world: dict[str, Client]) -> None:
    request = access_service_pb2.CreateKeyRequest(request_id="device")
    request.key.CopyFrom(access_service_pb2.Key(name="device", tenant="evil", user_id="bob"))
    request.key.scopes.append(access_pb2.SCOPE_READ)
    made = await world[""](request)
    assert (made.key.tenant, made.key.user_id) == ("evil", "bob")
    device = Client(world[""].system, made.credential)
    assert (await device(pb.GetUserRequest(user_id="bob"))).metrics[0].total == 20
    with pytest.raises(PermissionDenied) as caught:
        await device(pb.GetUserRequest(user_id="alice"))
    assert caught.value.reason == "OTHER_USER"
    of_user = access_service_pb2.ListKeysRequest(tenant="evil", user_id="bob")
    assert [key.name for key in (await world[""](of_user)).keys] == ["device"]


async def test_a_tenant_takes_off_what_it_did_and_deletes_its_own_users_alone(
    world: dict[str, Client],
) -> None:
    for tenant in TENANTS[:2]:
        await world[tenant](event("gone", "k1", value=7))
    (entry,) = (await world["evil"](pb.ListUserEntriesRequest(user_id="gone"))).entries
    await world["evil"](pb.VoidEntryRequest(entry_id=entry.entry_id, reason="wrong", request_id="v1"))
    assert "gone" not in [user for _, user, _ in await ranking(world["evil"])]
    assert "gone" in [user for _, user, _ in await ranking(world["acme"])]
    await world["evil"](pb.DeleteUserRequest(user_id="gone", reason="asked", request_id="d1"))

    async def is_gone() -> bool:
        users = (await world["evil"](pb.ListUsersRequest())).users
        return "gone" not in {user.user_id for user in users}

    await until(is_gone, seconds=20, what="the user is gone")
    assert (await world["acme"](pb.GetUserRequest(user_id="gone"))).metrics[0].total == 7
    await world["acme"](pb.DeleteUserRequest(user_id="gone", reason="asked", request_id="d1"))


async def test_in_a_storm_of_the_same_users_keys_and_voids_every_tenant_keeps_its_own(
    world: dict[str, Client],
) -> None:
    rng = random.Random(16)
    users = [f"storm{number}" for number in range(6)]
    counted: dict[tuple[str, str], float] = {}
    free = asyncio.Semaphore(48)

    async def one(tenant: str, user: str, number: int, value: int, *, void: bool) -> None:
        async with free:
            reply = await world[tenant](event(user, f"s{number}", value=value))
            assert (await world[tenant](event(user, f"s{number}", value=value))).idempotent_replayed
            assert {change.user_id for change in reply.effects.points} <= {user}
            if void:
                await world[tenant](
                    pb.VoidEntryRequest(
                        entry_id=reply.entry_id, reason="storm", request_id=f"{user}-{number}"
                    )
                )
            else:
                counted[tenant, user] = counted.get((tenant, user), 0) + value

    await asyncio.gather(
        *(
            one(tenant, user, number, rng.randint(1, 9), void=rng.random() < 0.2)
            for number in range(10)
            for user in users
            for tenant in TENANTS
        )
    )
    for tenant in TENANTS:
        scores = {user: score for _, user, score in await ranking(world[tenant]) if user in users}
        assert scores == {user: counted[tenant, user] for user in users}
        ranks = [score for _, _, score in await ranking(world[tenant])]
        assert ranks == sorted(ranks, reverse=True)
        for user in users:
            (metric,) = (await world[tenant](pb.GetUserRequest(user_id=user))).metrics
            assert metric.total == counted[tenant, user]


def _naming(message: Message, names: Mapping[str, str]) -> Message:
    """The message, in which fields of these names, at any depth, say this."""
    for found, value in message.ListFields():
        if found.message_type is not None and not found.message_type.GetOptions().map_entry:
            for inner in value if found.is_repeated else [value]:
                _naming(inner, names)
    for each in message.DESCRIPTOR.fields:
        wanted = next((text for end, text in names.items() if each.name.endswith(end)), None)
        if wanted is not None and each.type == FieldDescriptor.TYPE_STRING:
            if each.is_repeated:
                del getattr(message, each.name)[:]
                getattr(message, each.name).append(wanted)
            elif each.containing_oneof is None:
                setattr(message, each.name, wanted)
    return message


async def _of_acme(client: Client) -> list[Any]:
    """What a tenant reads of itself."""
    users = (await client(pb.ListUsersRequest())).users
    found: list[Any] = [list(users), await ranking(client), await ranking(client, "xp")]
    for user in users:
        found.append(await client(pb.GetUserRequest(user_id=user.user_id)))
        found.append(await client(points_pb.ListUserPointsRequest(user_id=user.user_id)))
        found.append(await client(streak_pb.ListUserStreaksRequest(user_id=user.user_id)))
        found.append(await client(achievement_pb.ListUserAchievementsRequest(user_id=user.user_id)))
        entries = (await client(pb.ListUserEntriesRequest(user_id=user.user_id))).entries
        found.append([(entry.entry_id, entry.state) for entry in entries])
    return found


async def test_no_method_tells_a_tenant_anything_of_another_or_changes_it(world: dict[str, Client]) -> None:
    acme, evil = world["acme"], world["evil"]
    before = await _of_acme(acme)
    entry = (await acme(pb.ListUserEntriesRequest(user_id="alice"))).entries[0].entry_id
    token = (await acme(pb.ListUsersRequest(page_size=1))).next_page_token
    leaks: list[str] = []
    odd: list[str] = []
    called = refused = 0
    for method in methods():
        is_served = method.GetOptions().Extensions[access_pb2.access].for_tenants
        for user in ("alice", "acme\x1falice", f"acme\x1f{SECRET}-sue"):
            for page_token in ("", token):
                request = _naming(
                    plausible(method.input_type, DEPTH),
                    {
                        "user_id": user,
                        "user_ids": user,
                        "entry_id": entry,
                        "page_token": page_token,
                        "leaderboard": "steps" if user == "alice" else "acme\x1fsteps",
                        "points_system": "coins",
                        "streak": "daily",
                    },
                )
                replies, error = await evil.raw(method, request.SerializeToString())
                called += 1
                text = b" ".join(replies).decode("utf-8", "replace")
                if error is not None:
                    text += f" {error.message} {error.metadata} {error.violations}"
                    if error.code not in NO_FINDING:
                        odd.append(f"{method.name} {user!r}: {error}")
                if not is_served:
                    assert error is not None, method.full_name
                    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OTHER_TENANT")
                    refused += 1
                if SECRET in text or ("\x1f" in text.replace("acme\x1f", "\x1f") and "acme" in text):
                    leaks.append(f"{method.name} {user!r}: {text[:300]!r}")
    assert leaks == []
    assert odd == []
    assert called > 500
    assert refused > 100
    assert await _of_acme(acme) == before
