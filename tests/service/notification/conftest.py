"""The notification service as its callers meet it: a real database, a real receiver, the orchestrator's real feed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import notification_service_pb2_grpc, webhook_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2, orchestrator_service_pb2_grpc, user_pb2
from laurel.participant.v1 import audit_service_pb2_grpc
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2, streak_service_pb2, streak_service_pb2_grpc
from pydantic import SecretStr

from services.notification.config import Settings
from services.notification.server import build
from services.orchestrator import config as orchestrator
from services.orchestrator.domain_events import told_of
from services.orchestrator.followers import Followers
from services.orchestrator.store.domain_events import DomainEventStore
from shared.clock import SystemClock
from shared.errors import LaurelError, from_rpc_error
from shared.ids import derived_id_at
from shared.postgres.errors import translate
from shared.postgres.pool import Connection, Pool, create_pool
from shared.rpc.convert import to_timestamp
from shared.rpc.server import Application, Servicer, running
from tests.conftest import ServiceDatabase
from tests.fixtures.databases import owner_of
from tests.fixtures.mailbox import Mailbox, receiving_mail
from tests.fixtures.receiver import Receiver, receiving

if TYPE_CHECKING:
    from laurel.notification.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub
    from laurel.participant.v1.audit_service_pb2_grpc import AuditServiceAsyncStub

_TELL = """
    INSERT INTO domain_events (sequence, entry, effects)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])
"""


class FeedServicer(orchestrator_service_pb2_grpc.OrchestratorServiceServicer):
    """The orchestrator's feed alone, on its own database, and users of whom nothing was said."""

    def __init__(self, followers: Followers) -> None:
        self._followers = followers

    async def GetUser(self, request: Any, _context: Any) -> Any:
        user = user_pb2.StoredUser(user_id=request.user_id, name=request.user_id.title(), time_zone="UTC")
        return orchestrator_service_pb2.GetUserResponse(user=user)

    async def ListDomainEvents(self, request: Any, _context: Any) -> Any:
        return await self._followers.list(request)


class StreakServicer(streak_service_pb2_grpc.StreakServiceServicer):
    """Streaks of users, as a test says they are."""

    def __init__(self) -> None:
        self.states: dict[str, streak_pb2.StreakState] = {}
        """By user."""

    async def ListStreaks(self, _request: Any, _context: Any) -> Any:
        daily = streak_pb2.Streak(key="daily", name="Daily", status=streak_pb2.STREAK_STATUS_ACTIVE)
        old = streak_pb2.Streak(key="old", name="Old", status=streak_pb2.STREAK_STATUS_ARCHIVED)
        return streak_service_pb2.ListStreaksResponse(streaks=[daily, old])

    async def ListUserStreaks(self, request: Any, _context: Any) -> Any:
        known = self.states.get(request.user_id)
        return streak_service_pb2.ListUserStreaksResponse(streaks=[known] if known else [])

    async def ListStreakEnds(self, request: Any, _context: Any) -> Any:
        """A user a page."""
        begin, end = request.begin_time.ToDatetime(), request.end_time.ToDatetime()
        due = [
            streak_service_pb2.StreakEnd(end_time=state.expire_time, time_zone="UTC", user_ids=[user])
            for user, state in sorted(self.states.items())
            if state.streak == request.streak
            and not state.freeze_count
            and begin < state.expire_time.ToDatetime() <= end
        ]
        start = int(request.page_token or 0)
        token = str(start + 1) if start + 1 < len(due) else ""
        return streak_service_pb2.ListStreakEndsResponse(ends=due[start : start + 1], next_page_token=token)


@dataclass
class Feed:
    """Where entries are told, as the orchestrator does when it has completed them."""

    pool: Pool
    target: str
    streaks: StreakServicer
    told: list[tuple[str, UUID]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)

    async def tell(
        self,
        *users: str,
        metric: str = "steps",
        points: int = 0,
        achievement: str = "",
        **attributes: str,
    ) -> list[UUID]:
        """An entry for each user, in one transaction; their ids."""
        rows = [self._row(user, metric, points, achievement, attributes) for user in users]
        await self.pool.execute(
            _TELL, list(range(len(rows))), [row[1] for row in rows], [row[2] for row in rows]
        )
        self.told += [(user, row[0]) for user, row in zip(users, rows, strict=True)]
        return [row[0] for row in rows]

    async def tell_merge(self, user: str, into: str) -> None:
        """A user is merged into another."""
        now = SystemClock().now()
        entry = entry_pb2.Entry(entry_id=str(derived_id_at(now, str(uuid4()))), occur_time=to_timestamp(now))
        entry.user.user_id, entry.user_merge.into_user_id = user, into
        told = told_of(entry, entry.SerializeToString(), b"")
        assert told is not None
        await self.pool.execute(_TELL, [0], [told.entry], [told.effects])

    def _row(
        self,
        user: str,
        metric: str,
        points: int,
        achievement: str,
        attributes: dict[str, str],
    ) -> tuple[UUID, bytes, bytes]:
        now = SystemClock().now()
        entry_id = derived_id_at(now, str(uuid4()))
        before = self.totals.get(user, 0)
        self.totals[user] = before + 1
        entry = entry_pb2.Entry(entry_id=str(entry_id), user_sequence=before + 1, time_zone="UTC")
        entry.now.CopyFrom(to_timestamp(now))
        entry.occur_time.CopyFrom(to_timestamp(now))
        entry.user.user_id = user
        entry.user.attributes.update(attributes)
        entry.metric_event.metric = metric
        entry.metric_event.value_micros = 1_000_000
        entry.metric_event.total_before_micros = before * 1_000_000
        entry.metric_event.total_after_micros = (before + 1) * 1_000_000
        effects = effects_pb2.Effects()
        if points:
            effects.points.append(
                points_pb2.PointsChange(
                    points_system="xp",
                    user_id=user,
                    balance_before=before * points,
                    balance=(before + 1) * points,
                )
            )
        if achievement:
            effects.achievements.append(
                achievement_pb2.AchievementChange(
                    achievement=achievement,
                    kind=achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED,
                    completion_id=str(uuid4()),
                    name=achievement.title(),
                    user_id=user,
                )
            )
        told = told_of(entry, entry.SerializeToString(), effects.SerializeToString())
        assert told is not None
        return entry_id, told.entry, told.effects


@asynccontextmanager
async def telling(service_database: ServiceDatabase) -> AsyncIterator[Feed]:
    """The orchestrator's feed, served."""
    dsn = await service_database("orchestrator")
    pool = await create_pool(dsn, application_name="feed", size=4, statement_timeout_ms=10_000)
    settings = orchestrator.Settings(postgres_dsn=SecretStr(dsn), listen="127.0.0.1:0", drain_grace_seconds=0)
    # The other methods are not its own: whoever calls one is told that it is not there.
    servicer = FeedServicer(Followers(DomainEventStore(pool), settings))  # type: ignore[abstract]
    streaks = StreakServicer()  # type: ignore[abstract]
    application = Application(
        name="orchestrator",
        servicers=[
            Servicer(
                streak_service_pb2_grpc.add_StreakServiceServicer_to_server,
                streaks,
                streak_service_pb2.DESCRIPTOR.services_by_name["StreakService"].full_name,
            ),
            Servicer(
                orchestrator_service_pb2_grpc.add_OrchestratorServiceServicer_to_server,
                servicer,
                orchestrator_service_pb2.DESCRIPTOR.services_by_name["OrchestratorService"].full_name,
            ),
        ],
        translators=[translate],
    )
    async with running(application, settings) as server:
        yield Feed(pool, f"127.0.0.1:{server.port}", streaks)
    await pool.close()


@dataclass(frozen=True)
class Service:
    """A running replica, and a look into its database."""

    stub: "NotificationServiceAsyncStub"
    audit: "AuditServiceAsyncStub"
    database: Connection
    start: Callable[[], Awaitable[None]]
    """Starts another replica beside it."""

    async def create(self, key: str, url: str, *types: str, **fields: Any) -> str:
        """An endpoint; its secret."""
        endpoint = webhook_pb2.WebhookEndpoint(
            key=key, url=url, types=types or ("metric.recorded",), **fields
        )
        request = pb.CreateWebhookEndpointRequest(request_id=str(uuid4()), endpoint=endpoint)
        return (await self.stub.CreateWebhookEndpoint(request)).secret

    async def get(self, key: str) -> webhook_pb2.WebhookEndpoint:
        return (await self.stub.GetWebhookEndpoint(pb.GetWebhookEndpointRequest(key=key))).endpoint

    async def update(self, key: str, *paths: str, **fields: Any) -> webhook_pb2.WebhookEndpoint:
        request = pb.UpdateWebhookEndpointRequest(
            request_id=str(uuid4()), endpoint=webhook_pb2.WebhookEndpoint(key=key, **fields)
        )
        request.update_mask.paths.extend(paths)
        return (await self.stub.UpdateWebhookEndpoint(request)).endpoint

    async def attempts(self, key: str, **fields: Any) -> list[webhook_pb2.WebhookAttempt]:
        request = pb.ListWebhookAttemptsRequest(key=key, **fields)
        return list((await self.stub.ListWebhookAttempts(request)).attempts)


async def refused(call: Any) -> LaurelError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return from_rpc_error(failure.value)


@pytest.fixture
def settings() -> dict[str, Any]:
    """What a test sets otherwise; a module overrides the fixture."""
    return {}


@pytest.fixture
async def feed(service_database: ServiceDatabase) -> AsyncIterator[Feed]:
    async with telling(service_database) as served:
        yield served


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as listening:
        yield listening


@pytest.fixture
async def mail() -> AsyncIterator[AsyncExitStack]:
    """Closing it ends the server that takes e-mails."""
    async with AsyncExitStack() as servers:
        yield servers


@pytest.fixture
async def mailbox(mail: AsyncExitStack) -> Mailbox:
    return await mail.enter_async_context(receiving_mail(Mailbox()))


@pytest.fixture
def mail_settings(mailbox: Mailbox) -> dict[str, Any]:
    """With these a replica sends e-mails."""
    return {
        "smtp_url": mailbox.url,
        "mail_from": "Laurel <hello@example.com>",
        "unsubscribe_url": "https://example.com/unsubscribe/{token}",
        "smtp_timeout_seconds": 5,
        "message_poll_seconds": 0.05,
    }


@pytest.fixture
async def service(
    service_database: ServiceDatabase, feed: Feed, settings: dict[str, Any]
) -> AsyncIterator[Service]:
    """One replica; a test may start more on the same database."""
    dsn = await service_database("notification")
    wanted = Settings(
        **{
            "postgres_dsn": SecretStr(dsn),
            "listen": "127.0.0.1:0",
            "drain_grace_seconds": 0,
            "orchestrator_target": feed.target,
            "streak_target": feed.target,
            "webhook_allowed_networks": "127.0.0.0/8",
            "webhook_allow_http": True,
            "follow_poll_seconds": 0.05,
            "webhook_poll_seconds": 0.05,
            "maintenance_interval_seconds": 86_400,
            **settings,
        }
    )
    async with AsyncExitStack() as replicas:

        async def start() -> int:
            return (await replicas.enter_async_context(running(await build(wanted), wanted))).port

        async def start_another() -> None:
            await start()

        database = await asyncpg.connect(owner_of(dsn))
        replicas.push_async_callback(database.close)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{await start()}")
        await replicas.enter_async_context(channel)
        stub = notification_service_pb2_grpc.NotificationServiceStub(channel)
        yield Service(stub, audit_service_pb2_grpc.AuditServiceStub(channel), database, start_another)
