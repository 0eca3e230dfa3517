"""An endpoint that accepts everything at once: what a receiver costs at the least. Prints when the last one came.

python -m deploy.bench.webhook_sink PORT COUNT
"""

import asyncio
import sys
import time
from typing import Final

import uvloop

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_ID: Final = b"webhook-id:"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, seen: set[bytes], came: asyncio.Event, count: int) -> None:
        self._seen = seen
        self._came = came
        self._count = count
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._held += data
        while (end := self._held.find(_HEAD_END)) >= 0:
            head = self._held[:end].lower()
            size = int(_value(head, _LENGTH))
            if len(self._held) < end + len(_HEAD_END) + size:
                return
            self._held = self._held[end + len(_HEAD_END) + size :]
            self._seen.add(_value(head, _ID))
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]
            if len(self._seen) >= self._count:
                self._came.set()


def _value(head: bytes, name: bytes) -> bytes:
    start = head.find(name) + len(name)
    return head[start:].split(b"\r\n", 1)[0].strip()


async def main(port: int, count: int) -> None:
    """Until so many different events have come."""
    seen: set[bytes] = set()
    came = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(
        lambda: Sink(seen, came, count), "127.0.0.1", port
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await came.wait()
    sys.stdout.write(f"{time.time()}\n")
    sys.stdout.flush()
    server.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
