"""webhooks: endpoints that are told what changes, and how they are doing."""

from typing import Any
from uuid import uuid4

import click
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import webhook_pb2

from services.cli import render
from services.cli.connect import EVERYTHING, Connections
from services.cli.errors import CommandError
from services.cli.options import Instant, json_option, limit_option
from services.cli.wishes import WISHES, changing, fill, filters_text, switch_options, with_options
from services.cli.wishes import show as show_facts

ORDERINGS = {"user": webhook_pb2.WEBHOOK_ORDERING_USER, "none": webhook_pb2.WEBHOOK_ORDERING_NONE}


@click.group(short_help="Tell others what changes.")
def webhooks() -> None:
    """Tell others what changes: endpoints, their secrets, and what was sent to them."""


endpoint_options = with_options(
    *WISHES,
    click.option("--user", "users", multiple=True, help="Only about this user."),
    click.option(
        "--min-interval",
        type=click.IntRange(0, 86_400),
        help="The least time between two events of one type about the same thing of a user, in seconds; "
        "those in between become one.",
    ),
    click.option(
        "--order",
        type=click.Choice(list(ORDERINGS)),
        help="user: one event of a user after the other (the default); none: each by itself.",
    ),
)
"""What an endpoint can be told."""


@webhooks.command()
@click.argument("key")
@click.argument("url")
@endpoint_options
@json_option
@click.pass_obj
def create(connections: Connections, /, key: str, url: str, as_json: bool, **chosen: Any) -> None:
    """Create an endpoint. Its secret is shown now and never again."""
    endpoint = webhook_pb2.WebhookEndpoint(key=key, url=url)
    _fill(endpoint, chosen)
    request = pb.CreateWebhookEndpointRequest(request_id=str(uuid4()), endpoint=endpoint)
    response = connections.notification.CreateWebhookEndpoint(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
        return
    render.line(f"created {key}; it verifies with this secret, which is not shown again:")
    render.line(response.secret, style="bold")


@webhooks.command()
@click.argument("key")
@click.option("--url", help="Where it is.")
@endpoint_options
@switch_options("it gets what came meanwhile")
@click.pass_obj
def update(connections: Connections, /, key: str, url: str | None, **chosen: Any) -> None:
    """Change an endpoint: what is said replaces what was; the rest stays."""
    request = pb.UpdateWebhookEndpointRequest(request_id=str(uuid4()))
    request.endpoint.key = key
    paths = _fill(request.endpoint, chosen)
    if url is not None:
        request.endpoint.url = url
        paths.append("url")
    changing(request, paths)
    response = connections.notification.UpdateWebhookEndpoint(request, timeout=connections.timeout_seconds)
    show_endpoint(response.endpoint)


@webhooks.command("list")
@json_option
@click.pass_obj
def list_(connections: Connections, as_json: bool) -> None:
    """List endpoints."""
    listed = connections.all_pages(
        connections.notification.ListWebhookEndpoints,
        pb.ListWebhookEndpointsRequest(),
        "endpoints",
        EVERYTHING,
    )
    if as_json:
        render.print_json(listed)
        return
    rows: render.Rows = [
        [
            endpoint.key,
            _state(endpoint),
            endpoint.health.waiting_count,
            " ".join(endpoint.types),
            endpoint.url,
        ]
        for endpoint in listed.endpoints
    ]
    render.table(["endpoint", "state", ">waiting", "types", "url"], rows, empty="no endpoint")


@webhooks.command()
@click.argument("key")
@json_option
@click.pass_obj
def show(connections: Connections, key: str, as_json: bool) -> None:
    """Show an endpoint and how it is doing."""
    request = pb.GetWebhookEndpointRequest(key=key)
    response = connections.notification.GetWebhookEndpoint(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
    else:
        show_endpoint(response.endpoint)


@webhooks.command()
@click.argument("key")
@click.pass_obj
def delete(connections: Connections, key: str) -> None:
    """Delete an endpoint, with all that waits for it."""
    request = pb.DeleteWebhookEndpointRequest(request_id=str(uuid4()), key=key)
    connections.notification.DeleteWebhookEndpoint(request, timeout=connections.timeout_seconds)
    render.line(f"deleted {key}")


@webhooks.command()
@click.argument("key")
@click.option(
    "--overlap",
    type=click.IntRange(0, 30 * 86_400),
    help="For how long the secret before signs as well, in seconds; default: a day.",
)
@json_option
@click.pass_obj
def rotate(connections: Connections, key: str, overlap: int | None, as_json: bool) -> None:
    """Give an endpoint a new secret, which is shown now and never again."""
    request = pb.RotateWebhookSecretRequest(request_id=str(uuid4()), key=key, overlap_seconds=overlap)
    response = connections.notification.RotateWebhookSecret(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
        return
    render.line(f"{key} verifies with this secret now, which is not shown again:")
    render.line(response.secret, style="bold")


@webhooks.command("test")
@click.argument("key")
@json_option
@click.pass_obj
def test_(connections: Connections, key: str, as_json: bool) -> None:
    """Send a test now, and show what came of it. Exit code 1 unless it was accepted."""
    request = pb.TestWebhookEndpointRequest(key=key)
    response = connections.notification.TestWebhookEndpoint(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
    else:
        _show_attempts([response.attempt])
    if response.attempt.outcome != webhook_pb2.WEBHOOK_ATTEMPT_OUTCOME_DELIVERED:
        raise CommandError(f"{key} did not accept it")


@webhooks.command()
@click.argument("key")
@click.option("--event", "event_id", default="", metavar="ID", help="Only of this event.")
@click.option("--failed", "failed_only", is_flag=True, help="Only those that failed.")
@limit_option(50)
@json_option
@click.pass_obj
def attempts(
    connections: Connections, key: str, event_id: str, failed_only: bool, limit: int, as_json: bool
) -> None:
    """List attempts, newest first."""
    request = pb.ListWebhookAttemptsRequest(key=key, event_id=event_id, failed_only=failed_only)
    listed = connections.all_pages(connections.notification.ListWebhookAttempts, request, "attempts", limit)
    if as_json:
        render.print_json(listed)
    else:
        _show_attempts(listed.attempts)


@webhooks.command()
@click.argument("key")
@click.option("--event", "event_id", metavar="ID", help="This one event.")
@click.option(
    "--since",
    type=Instant(),
    help="All that was told since, in order, by the types and filters of now, instead of what waits.",
)
@click.pass_obj
def replay(connections: Connections, key: str, event_id: str | None, since: Timestamp | None) -> None:
    """Send again: one event, or all since an instant."""
    if (event_id is None) == (since is None):
        raise click.UsageError("say --event or --since")
    notification, timeout = connections.notification, connections.timeout_seconds
    if event_id is not None:
        resend = pb.ResendWebhookEventRequest(request_id=str(uuid4()), key=key, event_id=event_id)
        notification.ResendWebhookEvent(resend, timeout=timeout)
    else:
        rewind = pb.RewindWebhookEndpointRequest(request_id=str(uuid4()), key=key, since_time=since)
        notification.RewindWebhookEndpoint(rewind, timeout=timeout)
    render.line("it is sent again")


def show_endpoint(endpoint: webhook_pb2.WebhookEndpoint) -> None:
    """All of it, a line each."""
    health = endpoint.health
    interval = f"{endpoint.min_interval_seconds} s" if endpoint.min_interval_seconds else ""
    facts = {
        "url": endpoint.url,
        "state": _state(endpoint),
        "types": " ".join(endpoint.types),
        "filters": filters_text(endpoint),
        "tenant": endpoint.tenant,
        "users": ", ".join(endpoint.user_ids),
        "least interval": interval,
        "order": "none" if endpoint.ordering == webhook_pb2.WEBHOOK_ORDERING_NONE else "by user",
        "waiting": str(health.waiting_count),
        "failing since": _time(health, "failing_since"),
        "last success": _time(health, "last_success_time"),
        "secrets": ", ".join(_secret(secret) for secret in endpoint.secrets),
        "description": endpoint.description,
    }
    show_facts(endpoint.key, facts)


def _fill(endpoint: webhook_pb2.WebhookEndpoint, chosen: dict[str, Any]) -> list[str]:
    """Write what was chosen into an endpoint; the paths of what was."""
    paths = fill(endpoint, chosen)
    if chosen["users"]:
        endpoint.user_ids.extend(chosen["users"])
        paths.append("user_ids")
    if chosen["min_interval"] is not None:
        endpoint.min_interval_seconds = chosen["min_interval"]
        paths.append("min_interval_seconds")
    if chosen["order"] is not None:
        endpoint.ordering = ORDERINGS[chosen["order"]]
        paths.append("ordering")
    return paths


def _show_attempts(shown: Any) -> None:
    rows: render.Rows = [
        [
            render.instant(attempt.attempt_time),
            attempt.event_id,
            attempt.type,
            attempt.number,
            webhook_pb2.WebhookAttemptOutcome.Name(attempt.outcome)
            .removeprefix("WEBHOOK_ATTEMPT_OUTCOME_")
            .lower()
            .replace("_", " "),
            attempt.status_code or None,
            f"{attempt.latency_micros / 1_000:.1f} ms",
            attempt.detail,
        ]
        for attempt in shown
    ]
    columns = ["time", "event", "type", ">attempt", "outcome", ">status", ">latency", "detail"]
    render.table(columns, rows, empty="no attempt")


def _state(endpoint: webhook_pb2.WebhookEndpoint) -> str:
    if endpoint.switched_off:
        reason = webhook_pb2.SwitchOffReason.Name(endpoint.switch_off_reason)
        return f"off ({reason.removeprefix('SWITCH_OFF_REASON_').lower()})"
    if endpoint.health.HasField("failing_since"):
        return "failing"
    return "behind" if endpoint.health.behind else "on"


def _secret(secret: webhook_pb2.WebhookSecret) -> str:
    made = f"made {render.instant(secret.create_time)}"
    return f"{made} until {render.instant(secret.expire_time)}" if secret.HasField("expire_time") else made


def _time(message: Message, field: str) -> str:
    return render.instant(getattr(message, field)) if message.HasField(field) else ""
