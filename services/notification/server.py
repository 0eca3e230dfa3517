"""The composition root: everything that makes up the process."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

from laurel.notification.v1 import notification_service_pb2, notification_service_pb2_grpc
from pydantic import SecretStr

from services.notification.applying import ConfigurationHandlers
from services.notification.brokers import Brokers
from services.notification.carriers import Carrier
from services.notification.config import MIGRATIONS, NAME, Settings
from services.notification.contact_handlers import ContactHandlers
from services.notification.delivering import Dispatcher, Recorder
from services.notification.domain.contacts import Channel, PushProvider
from services.notification.endpoint_handlers import EndpointHandlers
from services.notification.feed import FeedReader
from services.notification.following import CatchUp, Follower, Writer
from services.notification.instrumentation import Instrumentation
from services.notification.mail import Mailer
from services.notification.message_handlers import MessageHandlers
from services.notification.messaging import Messenger
from services.notification.planning import Planner
from services.notification.push import Provider, Pusher
from services.notification.push_providers import Apns, Expo, Fcm
from services.notification.reading import Channels, Reader
from services.notification.receipts import Receipts
from services.notification.reminding import Reminders
from services.notification.retention import Retention
from services.notification.sender import Sender
from services.notification.servicer import NotificationServicer
from services.notification.store.attempts import AttemptStore
from services.notification.store.contacts import ContactStore
from services.notification.store.deliveries import DeliveryStore
from services.notification.store.endpoints import EndpointStore
from services.notification.store.following import FollowingStore
from services.notification.store.messages import MessageStore
from services.notification.store.paces import PaceStore
from services.notification.store.streams import StreamStore
from services.notification.store.tickets import TicketStore
from services.notification.stream_handlers import StreamHandlers
from services.notification.streaming import Streaming
from services.notification.traces import TRACES
from services.notification.unsubscribing import UnsubscribePage
from shared import telemetry
from shared.clock import Clock, SystemClock
from shared.postgres.errors import translate
from shared.postgres.leader import run_as_leader
from shared.postgres.migrations import schema_is_current
from shared.postgres.pool import create_pool
from shared.rpc import admin, server, traces
from shared.rpc.channel import open_channel
from shared.rpc.outgoing import credentials
from shared.rpc.server import Application, Servicer


async def build(settings: Settings) -> Application:
    """The process, put together; nothing is connected yet."""
    recorded = telemetry.setup(NAME, settings)
    pool = await create_pool(
        settings.postgres_dsn.get_secret_value(),
        application_name=settings.instance,
        size=settings.postgres_pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
    )
    clock = SystemClock()
    channels = Channels(
        *(
            open_channel(
                target,
                max_message_bytes=settings.max_message_bytes,
                telemetry=recorded,
                credentials=credentials(settings),
            )
            for target in (
                settings.orchestrator_target,
                settings.streak_target,
                settings.achievement_target,
                settings.points_target,
                settings.leaderboard_target,
            )
        )
    )
    feed = FeedReader(channels.orchestrator, settings.follow_page_size, settings.follow_timeout_seconds)
    following = FollowingStore(pool)
    endpoints = EndpointStore(pool)
    deliveries = DeliveryStore(pool)
    writer = Writer(deliveries, PaceStore(), clock)
    sender = Sender(settings.webhook_networks, settings.webhook_timeout_seconds)
    woken = asyncio.Event()
    follower = Follower(pool, feed, following, endpoints, deliveries, writer, settings, clock, woken.set)
    catch_up = CatchUp(pool, feed, following, endpoints, deliveries, writer, settings, woken.set)
    recorder = Recorder(pool, endpoints, deliveries, clock, recorded, woken.set)
    dispatcher = Dispatcher(endpoints, deliveries, sender, recorder, settings, clock, random.Random(), woken)
    endpoint_handlers = EndpointHandlers(
        pool, endpoints, deliveries, AttemptStore(pool), following, feed, sender, settings, clock, woken.set
    )

    streams = StreamStore(pool)
    brokers = Brokers(
        _told(settings.redis_url),
        _told(settings.nats_url),
        _told(settings.kafka_url),
        settings.kafka_sasl,
        settings.stream_source,
        settings.stream_timeout_seconds,
    )
    streaming = Streaming(pool, feed, streams, brokers, clock)
    stream_handlers = StreamHandlers(pool, streams, following, feed, brokers, clock)

    contacts = ContactStore(pool)
    messages = MessageStore(pool)
    tickets = TicketStore(pool)
    providers = _providers(settings, clock)
    pusher = Pusher(providers)
    planner = Planner(pool, feed, messages, clock)
    reader = Reader(channels, settings.follow_timeout_seconds)
    reminders = Reminders(pool, reader, messages, clock)
    messenger = Messenger(
        pool,
        reader,
        messages,
        contacts,
        tickets,
        endpoints,
        writer,
        _carriers(settings, pusher),
        settings,
        clock,
    )
    contact_handlers = ContactHandlers(pool, contacts, clock)
    message_handlers = MessageHandlers(pool, messages, clock)
    configuration = ConfigurationHandlers(
        pool, feed, endpoint_handlers, stream_handlers, message_handlers, clock, woken.set
    )
    retention = Retention(endpoints, deliveries, following, messages, settings, clock)

    asked: dict[str, Callable[[], Awaitable[None]]] = {}
    if settings.unsubscribe_listen is not None:
        asked["unsubscribe_page"] = UnsubscribePage(settings.unsubscribe_listen, contact_handlers).run

    expo = providers.get(PushProvider.EXPO)
    if isinstance(expo, Expo):
        wait_seconds = settings.expo_receipt_seconds
        receipts = Receipts(pool, expo, tickets, contacts, wait_seconds, clock)

        async def ask() -> None:
            await run_as_leader(pool, "notification.receipts", wait_seconds, receipts.run)

        asked["receipts"] = ask

    async def follow() -> None:
        await run_as_leader(pool, "notification.follow", settings.follow_poll_seconds, follower.follow)

    async def stream() -> None:
        await run_as_leader(pool, "notification.streams", settings.follow_poll_seconds, streaming.run)

    async def plan() -> None:
        async def plan_all() -> None:
            await planner.run()
            await reminders.run()

        await run_as_leader(pool, "notification.messages", settings.follow_poll_seconds, plan_all)

    async def catch() -> None:
        await run_as_leader(pool, "notification.catch_up", settings.follow_poll_seconds, catch_up.run)

    async def maintain() -> None:
        await run_as_leader(
            pool, "notification.maintenance", settings.maintenance_interval_seconds, retention.keep
        )

    return Application(
        name=NAME,
        servicers=[
            Servicer(
                notification_service_pb2_grpc.add_NotificationServiceServicer_to_server,
                NotificationServicer(
                    endpoint_handlers, stream_handlers, contact_handlers, message_handlers, configuration
                ),
                notification_service_pb2.DESCRIPTOR.services_by_name["NotificationService"].full_name,
            ),
            traces.registered(TRACES, pool),
            admin.registered(pool, NAME),
        ],
        checks={"schema": schema_is_current(pool, MIGRATIONS)},
        background={
            "follower": follow,
            "catch_up": catch,
            "streams": stream,
            "planner": plan,
            "messenger": messenger.run,
            "recorder": recorder.run,
            "dispatcher": dispatcher.run,
            "maintenance": maintain,
            "instrumentation": Instrumentation(recorded, pool).run,
            **asked,
        },
        close=[dispatcher.close, streaming.close, sender.close, pusher.close, channels.close, pool.close],
        translators=[translate],
        telemetry=recorded,
    )


def _carriers(settings: Settings, pusher: Pusher) -> dict[Channel, Carrier]:
    """The channels that are set up."""
    carriers: dict[Channel, Carrier] = {}
    if settings.smtp_url is not None:
        carriers[Channel.EMAIL] = Mailer(
            settings.smtp_url.get_secret_value(), settings.mail_from, settings.smtp_timeout_seconds
        )
    if pusher.is_set_up:
        carriers[Channel.PUSH] = pusher
    return carriers


def _providers(settings: Settings, clock: Clock) -> dict[PushProvider, Provider]:
    """The providers of push that are set up."""
    providers: dict[PushProvider, Provider] = {}
    seconds = settings.push_timeout_seconds
    if settings.apns_key is not None:
        providers[PushProvider.APNS] = Apns(
            settings.apns_url,
            settings.apns_key.get_secret_value(),
            settings.apns_key_id,
            settings.apns_team_id,
            settings.apns_topic,
            seconds,
            clock,
        )
    if settings.fcm_account is not None:
        account = json.loads(settings.fcm_account.get_secret_value())
        providers[PushProvider.FCM] = Fcm(settings.fcm_url, account, seconds, clock)
    if settings.expo_push:
        providers[PushProvider.EXPO] = Expo(settings.expo_url, _told(settings.expo_access_token), seconds)
    return providers


def _told(url: SecretStr | None) -> str | None:
    return None if url is None else url.get_secret_value()


async def serve(settings: Settings) -> None:
    """Serve until a signal ends the process."""
    await server.serve(await build(settings), settings)
