"""streams: brokers that carry the domain events, and how they are doing."""

from typing import Any
from uuid import uuid4

import click
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import stream_pb2

from services.cli import render
from services.cli.connect import EVERYTHING, Connections
from services.cli.options import Instant, json_option
from services.cli.wishes import WISHES, changing, fill, filters_text, switch_options, with_options
from services.cli.wishes import show as show_facts


@click.group(short_help="Publish what changes to a broker.")
def streams() -> None:
    """Publish what changes to Redis Streams, NATS JetStream or Kafka, as CloudEvents."""


stream_options = with_options(
    *WISHES,
    click.option("--redis", metavar="STREAM", help="Key of a stream of Redis."),
    click.option(
        "--max-length",
        type=click.IntRange(1, 1_000_000_000),
        help="About how many of the newest entries Redis keeps; default: 1,000,000.",
    ),
    click.option("--nats", metavar="STREAM", help="Name of a stream of JetStream; made where there is none."),
    click.option("--subject", help="Events of NATS come under this subject, `.` and their type."),
    click.option("--kafka", metavar="TOPIC", help="Name of a topic of Kafka."),
)
"""What a stream can be told."""


@streams.command()
@click.argument("key")
@stream_options
@json_option
@click.pass_obj
def create(connections: Connections, /, key: str, as_json: bool, **chosen: Any) -> None:
    """Create a stream. It carries what is committed from then on."""
    request = pb.CreateEventStreamRequest(request_id=str(uuid4()))
    request.stream.key = key
    _fill(request.stream, chosen)
    response = connections.notification.CreateEventStream(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
    else:
        _show(response.stream)


@streams.command()
@click.argument("key")
@stream_options
@switch_options("it goes on where it was")
@click.pass_obj
def update(connections: Connections, /, key: str, **chosen: Any) -> None:
    """Change a stream: what is said replaces what was; the rest stays. Where it goes is said as a whole."""
    request = pb.UpdateEventStreamRequest(request_id=str(uuid4()))
    request.stream.key = key
    changing(request, _fill(request.stream, chosen))
    response = connections.notification.UpdateEventStream(request, timeout=connections.timeout_seconds)
    _show(response.stream)


@streams.command("list")
@json_option
@click.pass_obj
def list_(connections: Connections, as_json: bool) -> None:
    """List streams."""
    listed = connections.all_pages(
        connections.notification.ListEventStreams, pb.ListEventStreamsRequest(), "streams", EVERYTHING
    )
    if as_json:
        render.print_json(listed)
        return
    rows: render.Rows = [
        [stream.key, _state(stream), stream.health.published_count, " ".join(stream.types), _sink(stream)]
        for stream in listed.streams
    ]
    render.table(["stream", "state", ">published", "types", "to"], rows, empty="no stream")


@streams.command()
@click.argument("key")
@json_option
@click.pass_obj
def show(connections: Connections, key: str, as_json: bool) -> None:
    """Show a stream and how it is doing."""
    request = pb.GetEventStreamRequest(key=key)
    response = connections.notification.GetEventStream(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
    else:
        _show(response.stream)


@streams.command()
@click.argument("key")
@click.pass_obj
def delete(connections: Connections, key: str) -> None:
    """Delete a stream. What was published stays where it is."""
    request = pb.DeleteEventStreamRequest(request_id=str(uuid4()), key=key)
    connections.notification.DeleteEventStream(request, timeout=connections.timeout_seconds)
    render.line(f"deleted {key}")


@streams.command()
@click.argument("key")
@click.option("--since", type=Instant(), required=True, help="All that was told since, in order.")
@click.pass_obj
def replay(connections: Connections, key: str, since: Timestamp) -> None:
    """Publish again what was told since an instant."""
    request = pb.RewindEventStreamRequest(request_id=str(uuid4()), key=key, since_time=since)
    connections.notification.RewindEventStream(request, timeout=connections.timeout_seconds)
    render.line("it is published again")


def _fill(stream: stream_pb2.EventStream, chosen: dict[str, Any]) -> list[str]:
    """Write what was chosen into a stream; the paths of what was."""
    if sum(bool(chosen[sink]) for sink in ("redis", "nats", "kafka")) > 1:
        raise click.UsageError("say one of --redis, --nats and --kafka")
    if chosen["max_length"] and not chosen["redis"]:
        raise click.UsageError("--max-length belongs to --redis")
    if chosen["subject"] and not chosen["nats"]:
        raise click.UsageError("--subject belongs to --nats")
    paths = fill(stream, chosen)
    if chosen["redis"]:
        stream.redis.stream = chosen["redis"]
        stream.redis.max_length = chosen["max_length"] or 0
        paths.append("redis")
    if chosen["nats"]:
        stream.nats.stream = chosen["nats"]
        stream.nats.subject = chosen["subject"] or "laurel.events"
        paths.append("nats")
    if chosen["kafka"]:
        stream.kafka.topic = chosen["kafka"]
        paths.append("kafka")
    return paths


def _show(stream: stream_pb2.EventStream) -> None:
    health = stream.health
    facts = {
        "to": _sink(stream),
        "state": _state(stream),
        "types": " ".join(stream.types),
        "filters": filters_text(stream),
        "tenant": stream.tenant,
        "published": str(health.published_count),
        "last": render.instant(health.last_publish_time) if health.HasField("last_publish_time") else "",
        "failing since": render.instant(health.failing_since) if health.HasField("failing_since") else "",
        "failure": health.failure,
        "behind since": render.instant(health.behind_since) if health.HasField("behind_since") else "",
        "description": stream.description,
    }
    show_facts(stream.key, facts)


def _state(stream: stream_pb2.EventStream) -> str:
    if stream.switched_off:
        return "off"
    if stream.health.HasField("failing_since"):
        return "failing"
    return "behind" if stream.health.HasField("behind_since") else "on"


def _sink(stream: stream_pb2.EventStream) -> str:
    if stream.WhichOneof("sink") == "redis":
        return f"redis {stream.redis.stream}"
    if stream.WhichOneof("sink") == "kafka":
        return f"kafka {stream.kafka.topic}"
    return f"nats {stream.nats.stream} ({stream.nats.subject}.>)"
