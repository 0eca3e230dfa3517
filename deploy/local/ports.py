"""Choosing TCP ports on the loopback interface."""

import random
import socket
import time
from collections.abc import Collection

from deploy.local.errors import LaunchError

LOOPBACK = "127.0.0.1"

# Below the range from which Linux and macOS draw the ports of outgoing connections: while a server is being
# restarted, no client's connection can occupy its port, nor connect to itself.
FREE_PORTS = range(15_000, 32_000)
ATTEMPTS = 200

PATIENCE_SECONDS = 2.0
POLL_SECONDS = 0.05


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now; connections left by an earlier one don't matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(avoid: Collection[int] = ()) -> int:
    """A port on which nothing listens. Drawn at random, so stacks that start side by side do not meet."""
    for _ in range(ATTEMPTS):
        port = random.choice(FREE_PORTS)
        if port not in avoid and is_free(port):
            return port
    raise LaunchError(f"no free port found between {FREE_PORTS.start} and {FREE_PORTS.stop}")


def await_free(port: int) -> bool:
    """Whether the port is free or soon will be: a killed process may hold its port a little longer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_free(port):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
