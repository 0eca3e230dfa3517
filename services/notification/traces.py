"""What the notification service keeps of users (RULES 2.7): it goes, but for what tells others of the deletion."""

from typing import Final

from laurel.common.v1 import configuration_pb2
from laurel.notification.v1 import contact_pb2, webhook_pb2

from shared.traces import Row, Scanned, Table, Traces, always, holding

_ERASED: Final = "user.erased"
_OF_SOME_ENDPOINT: Final = "(endpoint_id, lane) IN (SELECT endpoint_id, $1 FROM webhook_endpoints)"


def _tells_of_it(row: Row) -> bool:
    return bool(row["type"] == _ERASED)


TRACES: Final = Traces(
    "notification",
    tables=(
        Table(
            "webhook_deliveries",
            where=f"{_OF_SOME_ENDPOINT} AND NOT EXISTS (SELECT FROM webhook_messages m"
            f" WHERE m.message_id = webhook_deliveries.message_id AND m.type = '{_ERASED}')",
        ),
        Table(
            "webhook_lanes",
            where=f"{_OF_SOME_ENDPOINT} AND NOT EXISTS (SELECT FROM webhook_deliveries d"
            " WHERE d.endpoint_id = webhook_lanes.endpoint_id AND d.lane = webhook_lanes.lane)",
        ),
        Table(
            "webhook_paces",
            where="endpoint_id IN (SELECT endpoint_id FROM webhook_endpoints) AND user_id = $1",
        ),
        Table("webhook_messages", where=f"user_id = $1 AND type <> '{_ERASED}'", notice=_tells_of_it),
        Table("planned_messages"),
        Table("sent_messages"),
        Table(
            "push_tickets",
            where="(provider, token) IN (SELECT provider, token FROM devices WHERE user_id = $1)",
        ),
        Table("devices"),
        Table("contacts", messages={"body": holding(contact_pb2.Contact)}),
    ),
    scanned=(
        # Endpoints that are told of some users alone.
        Scanned("webhook_endpoints", messages={"body": holding(webhook_pb2.WebhookEndpoint)}, kept=always),
        Scanned("admin_operations", messages={"fields": holding(configuration_pb2.FieldChange)}, kept=always),
    ),
    impersonal=frozenset(
        {
            "event_streams",
            "followed",
            "link_secret",
            "message_definitions",
            "message_following",
            "mutation_log",
            "reminded_streaks",
            "schema_migrations",
            "waypoints",
            "webhook_attempts",
            "webhook_secrets",
            "webhook_version",
        }
    ),
)
