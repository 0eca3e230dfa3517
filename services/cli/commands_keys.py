"""keys: who may call, and what."""

import uuid
from collections.abc import Sequence

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import access_pb2
from laurel.orchestrator.v1 import access_service_pb2 as pb

from services.cli import render
from services.cli.connect import API_KEY, EVERYTHING, Connections
from services.cli.errors import CommandError
from services.cli.options import Instant, json_option, limit_option

SCOPES = ("ingest", "read", "configure", "operate")
PREFIX = "SCOPE_"
rate_option = click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="So many calls a second at most; none: no limit.",
)
burst_option = click.option(
    "--burst",
    type=click.IntRange(1, 1_000_000),
    help="So many at once; by itself what comes in a second.",
)
reason_option = click.option("--reason", default="", help="Why, for the audit.")


@click.group(short_help="Make, rotate and revoke keys: who may call, and what.")
def keys() -> None:
    """Look after keys: who may call, and what.

    A key is shown with each call, as `authorization: Bearer KEY`; this command shows the one in LAUREL_API_KEY, or that
    of the stack of its directory.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="What it allows."
)
@click.option("--user", default="", help="Only for what is about this user, as on a client device.")
@click.option("--tenant", default="", help="Only for the users of this tenant.")
@click.option("--expires", type=Instant(), help="When it ends by itself.")
@rate_option
@burst_option
@reason_option
@json_option
@click.pass_obj
def create(
    connections: Connections,
    name: str,
    scopes: tuple[str, ...],
    user: str,
    tenant: str,
    expires: Timestamp | None,
    rate: float | None,
    burst: int | None,
    reason: str,
    as_json: bool,
) -> None:
    """Make a key for NAME. What it prints is told this once."""
    key = pb.Key(
        name=name, user_id=user, tenant=tenant, expire_time=expires, rate_limit=rate_limit(rate, burst)
    )
    key.scopes.extend(access_pb2.Scope.Value(PREFIX + scope.upper()) for scope in scopes)
    request = pb.CreateKeyRequest(key=key, reason=reason, request_id=str(uuid.uuid4()))
    response = connections.access.CreateKey(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_secret(response.key, response.credential)


@keys.command("list")
@click.option("--user", default="", help="Only keys of this user.")
@click.option("--tenant", default="", help="Only keys of this tenant.")
@limit_option(EVERYTHING)
@json_option
@click.pass_obj
def list_keys(connections: Connections, user: str, tenant: str, limit: int, as_json: bool) -> None:
    """List keys, also those that are revoked or have expired."""
    request = pb.ListKeysRequest(user_id=user, tenant=tenant)
    response = connections.all_pages(connections.access.ListKeys, request, "keys", limit)
    render.print_json(response) if as_json else show_keys(response.keys)


@keys.command()
@click.argument("key_id")
@click.option(
    "--overlap",
    type=click.IntRange(0, 30 * 86_400),
    default=86_400,
    show_default=True,
    help="For how long the secret before counts, in seconds.",
)
@reason_option
@json_option
@click.pass_obj
def rotate(connections: Connections, key_id: str, overlap: int, reason: str, as_json: bool) -> None:
    """Give a key another secret. What it prints is told this once."""
    request = pb.RotateKeyRequest(
        key_id=key_id, overlap=Duration(seconds=overlap), reason=reason, request_id=str(uuid.uuid4())
    )
    response = connections.access.RotateKey(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_secret(response.key, response.credential)


@keys.command(short_help="Say how often a key may be used.")
@click.argument("key_id")
@rate_option
@burst_option
@reason_option
@json_option
@click.pass_obj
def limit(
    connections: Connections, key_id: str, rate: float | None, burst: int | None, reason: str, as_json: bool
) -> None:
    """Say how often a key may be used, over all services and replicas; without --rate, as often as one likes.

    Each event of a batch counts. It holds everywhere five seconds later.
    """
    request = pb.SetKeyRateLimitRequest(
        key_id=key_id, rate_limit=rate_limit(rate, burst), reason=reason, request_id=str(uuid.uuid4())
    )
    response = connections.access.SetKeyRateLimit(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_keys([response.key])


@keys.command()
@click.argument("key_id")
@reason_option
@json_option
@click.pass_obj
def revoke(connections: Connections, key_id: str, reason: str, as_json: bool) -> None:
    """Take a key back for good; nothing accepts it five seconds later."""
    request = pb.RevokeKeyRequest(key_id=key_id, reason=reason, request_id=str(uuid.uuid4()))
    response = connections.access.RevokeKey(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_keys([response.key])


@keys.command()
@click.pass_obj
def local(connections: Connections) -> None:
    """Print the key of the stack of this directory, for other programs: export LAUREL_API_KEY=$(laurel keys local)."""
    stack = connections.launcher.stack_here() if connections.launcher is not None else None
    if stack is None or not stack.api_key:
        raise CommandError("This directory has no stack with a key.", "  `laurel up` starts one.")
    click.echo(stack.api_key)


def rate_limit(rate: float | None, burst: int | None) -> pb.RateLimit | None:
    """What the options say. Raises `click.UsageError`."""
    if rate is None:
        if burst:
            raise click.UsageError("--burst needs --rate")
        return None
    return pb.RateLimit(per_second=rate, burst=burst or 0)


def show_secret(key: pb.Key, credential: str) -> None:
    """A key with what callers show."""
    show_keys([key])
    if key.HasField("previous_secret_expire_time"):
        render.line(f"The secret before counts until {render.instant(key.previous_secret_expire_time)}.")
    render.line(f"It is told this once; a program shows it as {API_KEY}, or as authorization: Bearer ...")
    click.echo(credential)


def show_keys(found: Sequence[pb.Key]) -> None:
    """A table of keys."""
    render.table(
        ["key", "name", "scopes", "?tenant", "?user", "?limit", "state", "?last use", "?created"],
        [
            [
                key.key_id,
                key.name,
                ", ".join(render.enum_name(access_pb2.Scope.Name(scope), PREFIX) for scope in key.scopes),
                key.tenant,
                key.user_id,
                f"{key.rate_limit.per_second:g}/s, {key.rate_limit.burst} at once"
                if key.HasField("rate_limit")
                else None,
                state(key),
                render.instant(key.last_use_time),
                render.instant(key.create_time),
            ]
            for key in found
        ],
        empty="none",
    )


def state(key: pb.Key) -> str:
    """Whether it counts, and until when."""
    if key.HasField("revoke_time"):
        return f"revoked {render.instant(key.revoke_time)}"
    words = [f"until {render.instant(key.expire_time)}"] if key.HasField("expire_time") else ["live"]
    if key.HasField("previous_secret_expire_time"):
        words.append(f"old secret until {render.instant(key.previous_secret_expire_time)}")
    return ", ".join(words)
