"""Sending one request to an endpoint: signed, without redirects, and to public addresses alone (RULES 8.4)."""

import errno
import logging
import socket
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

import aiohttp
from msgspec import Struct
from standardwebhooks import Webhook

from services.notification.domain.addresses import may_reach

_LOGGER: Final = logging.getLogger(__name__)
_KEPT_BYTES: Final = 1_024
"""Of an answer's body; the rest is not read."""
_KEPT_CHARS: Final = 300
_IDLE_SECONDS: Final = 15.0
_AGENT: Final = "Laurel-Webhooks/1"


class Answer(Struct, frozen=True):
    """What came of a request."""

    status_code: int
    """0: there was no answer."""
    detail: str
    latency_micros: int
    asked: timedelta = timedelta()
    """For how long it wants to be left alone."""

    @property
    def is_accepted(self) -> bool:
        """2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_gone(self) -> bool:
        """410: it wants nothing any more."""
        return self.status_code == 410


class AddressRefused(OSError):
    """The name leads to an address that may not be reached."""


class Sender:
    """A pool of connections. Each is checked when it is made, by the very address that it is made to."""

    def __init__(self, allowed_networks: Iterable[Any], timeout_seconds: float) -> None:
        self._allowed = tuple(allowed_networks)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, event_id: str, body: str, secrets: Sequence[str], now: datetime) -> Answer:
        """Send a payload, signed by each secret. Whatever goes wrong is an answer too."""
        began = perf_counter()
        try:
            status, detail, asked = await self._post(url, _headers(event_id, body, secrets, now), body)
        except TimeoutError:
            status, detail, asked = 0, f"no answer within {self._timeout.total:g} s", timedelta()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            status, detail, asked = 0, _reason(error), timedelta()
        except Exception:
            # Whatever an endpoint brings about is its own failure, and no end of a worker.
            _LOGGER.exception("a webhook cannot be sent")
            status, detail, asked = 0, "an internal error", timedelta()
        return Answer(status, detail, round((perf_counter() - began) * 1e6), asked)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, headers: dict[str, str], body: str) -> tuple[int, str, timedelta]:
        async with self._opened().post(
            url, data=body.encode(), headers=headers, allow_redirects=False
        ) as response:
            read = await response.content.read(_KEPT_BYTES)
            text = read.decode(errors="replace") if _is_text(response) else ""
            return response.status, _shortened(text), _retry_after(response.headers.get("Retry-After", ""))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,  # workers are bounded by endpoint
                keepalive_timeout=_IDLE_SECONDS,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
            )
        return self._session

    def _socket(self, found: Any) -> socket.socket:
        """A socket to an address that a name was resolved to, or none."""
        family, kind, protocol, _, address = found
        if not may_reach(address[0], self._allowed):
            raise AddressRefused(
                errno.EACCES,
                f"{address[0]} is not a public address; LAUREL_WEBHOOK_ALLOWED_NETWORKS allows others",
            )
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _headers(event_id: str, body: str, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """As Standard Webhooks has them."""
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(_webhook(secret).sign(event_id, now, body) for secret in secrets),
    }


@lru_cache(maxsize=1_024)
def _webhook(secret: str) -> Webhook:
    return Webhook(secret)


def _is_text(response: aiohttp.ClientResponse) -> bool:
    return response.content_type.startswith("text/") or "json" in response.content_type


def _retry_after(text: str) -> timedelta:
    """Seconds alone; dates are passed over."""
    return (
        timedelta(seconds=int(text)) if text.isascii() and text.isdecimal() and len(text) < 7 else timedelta()
    )


def _reason(error: BaseException) -> str:
    return _shortened(f"{error}" or type(error).__name__)


def _shortened(text: str) -> str:
    """What PostgreSQL can keep and a person wants to read."""
    clean = "".join(char if char.isprintable() else " " for char in text).strip()
    return clean if len(clean) <= _KEPT_CHARS else f"{clean[: _KEPT_CHARS - 1]}…"
