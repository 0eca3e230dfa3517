"""Every limit and time-out of the notification service, with its unit."""

import json
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from shared import config

NAME: Final = "notification"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

MAX_ENDPOINTS: Final = 100
MAX_URL_CHARS: Final = 2_000
MAX_DESCRIPTION_CHARS: Final = 2_000
MAX_TYPES: Final = 100
MAX_USER_IDS: Final = 100
MAX_STREAMS: Final = 20
MAX_STREAM_LENGTH: Final = 1_000_000_000
DEFAULT_STREAM_LENGTH: Final = 1_000_000
MAX_SUBJECT_CHARS: Final = 100
MAX_INTERVAL_SECONDS: Final = 86_400
MAX_OVERLAP_SECONDS: Final = 30 * 86_400
DEFAULT_OVERLAP_SECONDS: Final = 86_400
MAX_EMAIL_CHARS: Final = 254
MAX_TOKEN_CHARS: Final = 4_096
MAX_DEVICES: Final = 20
MAX_TEMPLATES: Final = 50
MAX_TEMPLATE_CHARS: Final = 20_000
MAX_REFUSALS: Final = 15
"""As many as there are: four types and all, by two channels and all."""


def _begins_with(*beginnings: str) -> AfterValidator:
    def check(url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(beginnings):
            raise ValueError(f"must begin with {' or '.join(beginnings)}")
        return url

    return AfterValidator(check)


def _host_and_port(text: str | None) -> str | None:
    if text is not None:
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65_536):
            raise ValueError("must be HOST:PORT")
    return text


def _url() -> AfterValidator:
    def check(url: str) -> str:
        if not url.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return url.rstrip("/")

    return AfterValidator(check)


def _account(text: SecretStr | None) -> SecretStr | None:
    if text is not None:
        try:
            account = json.loads(text.get_secret_value())
        except ValueError:
            raise ValueError("must be the JSON of a service account") from None
        wanted = ("project_id", "client_email", "private_key", "token_uri")
        if not isinstance(account, dict) or not all(isinstance(account.get(name), str) for name in wanted):
            raise ValueError(f"must have {', '.join(wanted)}")
    return text


def _networks(text: str) -> str:
    for part in filter(None, (part.strip() for part in text.split(","))):
        ip_network(part)  # a ValueError says what is wrong
    return text


class Settings(config.Settings):
    """What the notification service can be told, beyond what every service can."""

    streak_target: str = "127.0.0.1:7401"
    """Where the streak service is, of which users are reminded: HOST:PORT, or several IP:PORT with commas."""

    achievement_target: str = "127.0.0.1:7402"
    """Where the achievement service is, in the same way: it is read for recaps."""

    points_target: str = "127.0.0.1:7403"
    """Where the points service is, in the same way: it is read for recaps."""

    leaderboard_target: str = "127.0.0.1:7404"
    """Where the leaderboard service is, in the same way: it is read for recaps."""

    follow_page_size: int = Field(default=500, ge=1, le=1_000)
    """How many entries of the feed are read at once."""

    follow_poll_seconds: float = Field(default=0.25, gt=0, le=60)
    """The longest pause between two looks at the feed, in seconds; while something comes it is looked at sooner."""

    follow_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    """How long one look at the feed may take, in seconds."""

    webhook_allowed_networks: Annotated[str, AfterValidator(_networks)] = ""
    """Networks that webhooks may reach although they are not public, such as 127.0.0.0/8,10.1.0.0/16."""

    webhook_allow_http: bool = False
    """Webhooks may go to http addresses too, which anybody on the way can read."""

    webhook_timeout_seconds: float = Field(default=15.0, gt=0, le=60)
    """How long an endpoint may take to answer, in seconds."""

    webhook_lease_seconds: float = Field(default=60.0, gt=0, le=3_600)
    """For how long a replica may hold what it has taken to deliver, in seconds; of one that died others take it then.
    At least twice the time to answer.
    """

    webhook_concurrency: int = Field(default=32, ge=1, le=200)
    """How many deliveries to one endpoint may be under way at once in this replica."""

    webhook_max_waiting: int = Field(default=10_000, ge=100, le=1_000_000)
    """How many events may wait for one endpoint; further ones stay in the feed until there is room."""

    webhook_poll_seconds: float = Field(default=0.5, gt=0, le=60)
    """How often a replica looks for what is due, in seconds; of what it has itself brought it knows at once."""

    webhook_retention_days: int = Field(default=14, ge=6, le=3_650)
    """For how many days events and attempts are kept, to be shown and sent again; what waits for longer is dropped."""

    redis_url: config.RedisUrl | None = None
    """The Redis or Valkey that streams of events are published to, and that counts how often keys are used that have a
    rate limit; the leaderboard service's may be the same.
    """

    nats_url: Annotated[SecretStr | None, _begins_with("nats://", "tls://")] = None
    """The NATS server with JetStream that streams of events are published to, as nats://USER:PASSWORD@HOST:4222."""

    kafka_url: Annotated[SecretStr | None, _begins_with("kafka://", "kafkas://")] = None
    """The brokers of Kafka that streams of events are published to, as kafka://USER:PASSWORD@HOST:9092,HOST:9092, or
    kafkas:// with TLS. Needs the extra laurel[kafka].
    """

    kafka_sasl: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    """How the user of LAUREL_KAFKA_URL is proved; PLAIN shows the password to who listens unless there is TLS."""

    stream_source: str = Field(default="/laurel", min_length=1, max_length=200)
    """The `source` of CloudEvents: which system tells them, as a URI or a part of one."""

    stream_timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    """How long a broker may take to acknowledge, in seconds."""

    smtp_url: Annotated[SecretStr | None, _begins_with("smtp://", "smtps://")] = None
    """The server that takes e-mails, as smtp://USER:PASSWORD@HOST:587 (with STARTTLS where it has that) or
    smtps://USER:PASSWORD@HOST:465. Unset, no e-mail goes out.
    """

    smtp_timeout_seconds: float = Field(default=20.0, gt=0, le=300)
    """How long the server of e-mails may take for each answer, in seconds."""

    mail_from: str = Field(default="", max_length=320, validate_default=True)
    """Whose e-mails they are, as Laurel <hello@example.com>. Needed with LAUREL_SMTP_URL."""

    unsubscribe_url: str = Field(default="", max_length=500, validate_default=True)
    """Where the link of an e-mail leads, as https://example.com/unsubscribe/{token}: what is there calls Unsubscribe
    with the token, at a POST at once (RFC 8058), or is LAUREL_UNSUBSCRIBE_LISTEN. Needed with LAUREL_SMTP_URL.
    """

    unsubscribe_listen: Annotated[str | None, AfterValidator(_host_and_port)] = None
    """Where a page answers /unsubscribe/{token} over HTTP, as 0.0.0.0:7480, for what ends TLS in front of it. Unset:
    nowhere.
    """

    apns_key: SecretStr | None = None
    """The key (.p8) by which Apple's push service knows the sender, in PEM. Unset, no device of Apple's is notified."""

    apns_key_id: str = Field(default="", max_length=100, validate_default=True)
    """The id of that key. Needed with LAUREL_APNS_KEY."""

    apns_team_id: str = Field(default="", max_length=100, validate_default=True)
    """The id of the team that the key belongs to. Needed with LAUREL_APNS_KEY."""

    apns_topic: str = Field(default="", max_length=200, validate_default=True)
    """The bundle id of the app. Needed with LAUREL_APNS_KEY."""

    apns_url: Annotated[str, _url()] = "https://api.push.apple.com"
    """Where Apple's push service is; https://api.sandbox.push.apple.com for development."""

    fcm_account: Annotated[SecretStr | None, AfterValidator(_account)] = None
    """The JSON of the service account by which Firebase Cloud Messaging knows the sender. Unset, none of its devices is
    notified.
    """

    fcm_url: Annotated[str, _url()] = "https://fcm.googleapis.com"
    """Where Firebase Cloud Messaging is."""

    expo_push: bool = False
    """Devices of Expo are notified."""

    expo_access_token: SecretStr | None = None
    """What Expo's push service is shown, where the account asks for it."""

    expo_url: Annotated[str, _url()] = "https://exp.host"
    """Where Expo's push service is."""

    expo_receipt_seconds: float = Field(default=900.0, gt=0, le=43_200)
    """How long after a push Expo is asked whether it was brought, and how often, in seconds; it knows it for a day."""

    push_timeout_seconds: float = Field(default=10.0, gt=0, le=60)
    """How long a provider of push may take to answer, in seconds."""

    message_concurrency: int = Field(default=16, ge=1, le=200)
    """How many messages may be under way at once in this replica."""

    message_poll_seconds: float = Field(default=1.0, gt=0, le=60)
    """How often a replica looks for messages that are due, in seconds."""

    message_retention_days: int = Field(default=90, ge=2, le=3_650)
    """For how many days it is kept what was sent to whom."""

    @field_validator("mail_from", "unsubscribe_url")
    @classmethod
    def _comes_with_a_server(cls, text: str, info: ValidationInfo) -> str:
        if info.data.get("smtp_url") is not None and not text:
            raise ValueError("is needed with smtp_url")
        if info.field_name == "unsubscribe_url" and text and text.count("{token}") != 1:
            raise ValueError("must have {token} once")
        return text

    @field_validator("apns_key_id", "apns_team_id", "apns_topic")
    @classmethod
    def _comes_with_a_key(cls, text: str, info: ValidationInfo) -> str:
        if info.data.get("apns_key") is not None and not text:
            raise ValueError("is needed with apns_key")
        return text

    @field_validator("webhook_lease_seconds")
    @classmethod
    def _outlasts_an_answer(cls, seconds: float, info: ValidationInfo) -> float:
        if "webhook_timeout_seconds" in info.data and seconds < 2 * info.data["webhook_timeout_seconds"]:
            raise ValueError("must be at least twice LAUREL_WEBHOOK_TIMEOUT_SECONDS")
        return seconds

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks that are allowed though they are not public."""
        parts = filter(None, (part.strip() for part in self.webhook_allowed_networks.split(",")))
        return tuple(ip_network(part) for part in parts)

    @property
    def webhook_retention(self) -> timedelta:
        """For how long events and attempts are kept."""
        return timedelta(days=self.webhook_retention_days)
