"""Metrics that Prometheus reads over HTTP."""

import asyncio
import socket
import urllib.request

from shared.rpc.server import running
from shared.telemetry import setup
from tests.fixtures.echo import dial, echo, same, say, settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text: str = response.read().decode()
        return text


async def test_prometheus_reads_what_a_service_has_measured() -> None:
    port = free_port()
    measured = settings(prometheus_listen=f"127.0.0.1:{port}")
    recorded = setup("echo", measured)
    async with running(echo(same, telemetry=recorded), measured) as server, dial(server) as channel:
        assert await say(channel, "hello") == "hello"
        text = await asyncio.to_thread(read, port)
    assert 'rpc_server_call_duration_seconds_count{rpc_method="' in text
    assert 'rpc_response_status_code="OK"' in text
    recorded.shutdown()
