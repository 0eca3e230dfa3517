"""up, down, status: the stack on this machine.

The `laurel` command finds these by the entry points of pyproject.toml, so that it works where they are not installed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import asyncpg
import click
import psutil
import redis

from deploy.local.config import StackConfig
from deploy.local.databases import run_blocking
from deploy.local.errors import LaunchError
from deploy.local.stack import ProcessStatus, Stack
from services.cli import render
from services.cli.errors import EXIT_UNAVAILABLE, CommandError, UnavailableError

GOOD_STATES = frozenset({"serving", "running", "external"})
SERVER_TIMEOUT_SECONDS = 5.0


@contextmanager
def _stack() -> Iterator[Stack]:
    """The user's stack; what goes wrong with it is the user's to read."""
    try:
        yield Stack(
            StackConfig.from_environment(os.environ), progress=lambda text: click.echo(text, err=True)
        )
    except LaunchError as error:
        raise CommandError(str(error)) from error


@click.command(short_help="Start the whole system on this machine.")
def up() -> None:
    """Start the whole system on this machine and leave it running."""
    with _stack() as stack:
        show_processes(stack.up())
        render.line(f"Data and logs are in {stack.home}. `laurel down` stops everything; the data stays.")


@click.command()
def down() -> None:
    """Stop the system on this machine. Data stays."""
    with _stack() as stack:
        stack.down()


@click.command(short_help="Show each process: health, address, memory.")
def status() -> None:
    """Show each process: health, address, memory, version. The exit code is 3 when one does not run."""
    with _stack() as stack:
        processes = stack.status()
        if not stack.is_known:
            raise UnavailableError(
                f"There is no stack in {stack.home}.",
                "  `laurel up` starts one there; LAUREL_HOME names another directory.",
            )
        render.line(", ".join(f"{name} {version}" for name, version in versions(stack).items()))
    show_processes(processes)
    if not all(each.state in GOOD_STATES for each in processes):
        raise SystemExit(EXIT_UNAVAILABLE)


def show_processes(processes: tuple[ProcessStatus, ...]) -> None:
    """A table of processes, with the memory of each and of the services together."""
    memory = {each.name: resident_bytes(each.pid) for each in processes if each.pid is not None}
    render.table(
        ["process", "state", "?>pid", "address", "?>memory", "?log"],
        [
            [
                each.name,
                each.state,
                str(each.pid) if each.pid is not None else None,
                each.address,
                megabytes(memory[each.name]) if each.name in memory else None,
                str(each.log) if each.log is not None else None,
            ]
            for each in processes
        ],
    )


def versions(stack: Stack) -> dict[str, str]:
    """The version of each server that runs, as it says itself, and of the services installed here."""
    found = {"laurel": metadata.version("laurel")}
    if (postgres := stack.postgres) is not None and postgres.pid is not None:
        found["PostgreSQL"] = run_blocking(_postgres_version(postgres.admin_dsn))
    if (valkey := stack.valkey) is not None and valkey.pid is not None:
        found["Valkey"] = _valkey_version(valkey.url)
    return found


async def _postgres_version(dsn: str) -> str:
    try:
        connection = await asyncpg.connect(dsn, timeout=SERVER_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return "that does not answer"
    try:
        version = connection.get_server_version()
        return f"{version.major}.{version.minor}"
    finally:
        await connection.close()


def _valkey_version(url: str) -> str:
    try:
        with redis.Redis.from_url(url, socket_timeout=SERVER_TIMEOUT_SECONDS) as client:
            server = client.info("server")
    except redis.RedisError:
        return "that does not answer"
    return str(server.get("valkey_version", server.get("redis_version")))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children, pages that they share counted once. 0 if it is gone."""
    try:
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        own = int(process.memory_info().rss)
    except psutil.Error:
        return 0
    return own + sum(_unshared_bytes(each) for each in children)


def _unshared_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def megabytes(count: int) -> str:
    """`118 MB` (10^6 bytes)."""
    return f"{count / 1e6:,.0f} MB"
