"""A receiver of webhooks, as somebody else's system has one: it verifies what comes and keeps it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any, NamedTuple

from standardwebhooks import Webhook, WebhookVerificationError

LOOPBACK = "127.0.0.1"
ACCEPTED, REFUSED = 204, 400


class Told(NamedTuple):
    """A request, and whether it was signed by the secret."""

    event: dict[str, Any]
    is_verified: bool


class Receiver:
    """Listens on the loopback interface, on a free port."""

    def __init__(self) -> None:
        self.secret = ""
        """Known when the endpoint was made."""
        self.told: list[Told] = []
        self._came = Condition()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler(self))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/laurel"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """As long as the block lasts."""
        thread = Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def wait_for(self, ids: list[str], timeout_seconds: float) -> bool:
        """Whether all of these events have come in time."""
        with self._came:
            return self._came.wait_for(
                lambda: set(ids) <= {told.event["id"] for told in self.told}, timeout_seconds
            )

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        """The status that is answered."""
        try:
            Webhook(self.secret).verify(body, headers)
            is_verified = True
        except WebhookVerificationError:
            is_verified = False
        with self._came:
            self.told.append(Told(json.loads(body), is_verified))
            self._came.notify_all()
        return ACCEPTED if is_verified else REFUSED


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.receive({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing: what came is shown by the tour."""

    return Handler
