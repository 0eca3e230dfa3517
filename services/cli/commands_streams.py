"""streams: brokers that carry the domain events, and how they are doing."""

from typing import Any
from uuid import uuid4

import click
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import filter_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import stream_pb2

from services.cli import render
from services.cli.connect import EVERYTHING, Connections
from services.cli.options import Instant, Pair, json_option, pairs


@click.group(short_help="Publish what changes to a broker.")
def streams() -> None:
    """Publish what changes to Redis Streams, NATS JetStream or Kafka, as CloudEvents."""


def stream_options(command: Any) -> Any:
    """What a stream can be told."""
    for option in reversed(
        (
            click.option(
                "--type",
                "types",
                multiple=True,
                metavar="TYPE",
                help="A type of events, as streak.lost; * alone: all.",
            ),
            click.option(
                "--where",
                type=Pair(),
                multiple=True,
                help="Only of users with this attribute; several have to hold together.",
            ),
            click.option("--tenant", help="Only events of this tenant."),
            click.option("--redis", metavar="STREAM", help="Key of a stream of Redis."),
            click.option(
                "--max-length",
                type=click.IntRange(1, 1_000_000_000),
                help="About how many of the newest entries Redis keeps; default: 1,000,000.",
            ),
            click.option(
                "--nats", metavar="STREAM", help="Name of a stream of JetStream; made where there is none."
            ),
            click.option("--kafka", metavar="TOPIC", help="Name of a topic of Kafka."),
            click.option("--subject", help="Events come under this subject, `.` and their type."),
            click.option("--description", help="For people."),
        )
    ):
        command = option(command)
    return command


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
@click.option("--off", "switched_off", flag_value=True, type=bool, default=None, help="Switch it off.")
@click.option(
    "--on", "switched_off", flag_value=False, type=bool, help="Switch it on; it goes on where it was."
)
@click.pass_obj
def update(connections: Connections, /, key: str, switched_off: bool | None, **chosen: Any) -> None:
    """Change a stream: what is said replaces what was; the rest stays. Where it goes is said as a whole."""
    request = pb.UpdateEventStreamRequest(request_id=str(uuid4()))
    request.stream.key = key
    paths = _fill(request.stream, chosen)
    if switched_off is not None:
        request.stream.switched_off = switched_off
        paths.append("switched_off")
    if not paths:
        raise click.UsageError("say what is to change")
    request.update_mask.paths.extend(paths)
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
    paths = []
    if chosen["types"]:
        stream.types.extend(chosen["types"])
        paths.append("types")
    if chosen["where"]:
        for name, value in pairs(chosen["where"], "--where").items():
            stream.filters.append(filter_pb2.AttributeFilter(attribute=name, equals=value))
        paths.append("filters")
    if chosen["redis"]:
        stream.redis.stream = chosen["redis"]
        stream.redis.max_length = chosen["max_length"] or 0
        paths.append("redis")
    if chosen["nats"]:
        stream.nats.stream = chosen["nats"]
        stream.nats.subject = chosen["subject"] or "laurel.events"
        paths.append("nats")
    if chosen["tenant"] is not None:
        stream.tenant = chosen["tenant"]
        paths.append("tenant")
    if chosen["kafka"]:
        stream.kafka.topic = chosen["kafka"]
        paths.append("kafka")
    if chosen["description"] is not None:
        stream.description = chosen["description"]
        paths.append("description")
    return paths


def _show(stream: stream_pb2.EventStream) -> None:
    health = stream.health
    facts = {
        "to": _sink(stream),
        "state": _state(stream),
        "types": " ".join(stream.types),
        "filters": ", ".join(
            f"{condition.attribute}={condition.equals}"
            if condition.WhichOneof("comparison") == "equals"
            else render.json_line(condition)
            for condition in stream.filters
        ),
        "published": str(health.published_count),
        "last": render.instant(health.last_publish_time) if health.HasField("last_publish_time") else "",
        "failing since": render.instant(health.failing_since) if health.HasField("failing_since") else "",
        "failure": health.failure,
        "description": stream.description,
    }
    render.heading(stream.key)
    for name, text in facts.items():
        if text:
            render.line(f"  {name:<15}  {text}")


def _state(stream: stream_pb2.EventStream) -> str:
    if stream.switched_off:
        return "off"
    return "failing" if stream.health.HasField("failing_since") else "on"


def _sink(stream: stream_pb2.EventStream) -> str:
    if stream.WhichOneof("sink") == "redis":
        return f"redis {stream.redis.stream}"
    if stream.WhichOneof("sink") == "kafka":
        return f"kafka {stream.kafka.topic}"
    return f"nats {stream.nats.stream} ({stream.nats.subject}.>)"
