"""The page behind the link of an e-mail (RFC 8058), where a deployment wants Laurel to answer it itself.

A mailbox's provider posts to the link when its user presses a button; that is all it takes. Whoever opens the link in a
browser sees a button that does the same: scanners open links too, and must not unsubscribe anybody.
"""

import asyncio
import logging
from html import escape
from typing import Final

from aiohttp import web

from services.notification.contact_handlers import ContactHandlers
from services.notification.domain.messages import chosen_language
from shared.errors import InvalidArgument

PATH: Final = "/unsubscribe/{token}"
_LOGGER: Final = logging.getLogger(__name__)
_MOST_BYTES: Final = 4_096
"""Of a form, which says `List-Unsubscribe=One-Click`."""
_LANGUAGES: Final = ("en", "de")
_ASK: Final = (("Unsubscribe", "Send me no more of these"), ("Abmelden", "Schickt mir keine mehr davon"))
_DONE: Final = (
    ("You are unsubscribed", "You get no more of these messages."),
    ("Du bist abgemeldet", "Solche Nachrichten kommen nicht mehr."),
)
_UNKNOWN: Final = (
    ("This link is not known", "It may have been cut in two."),
    ("Diesen Link gibt es nicht", "Vielleicht wurde er abgeschnitten."),
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class UnsubscribePage:
    """Serves the page on an address of its own, HOST:PORT, beside the service's calls."""

    def __init__(self, listen: str, contacts: ContactHandlers) -> None:
        host, _, port = listen.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._contacts = contacts

    async def run(self) -> None:
        """Never returns. Raises `OSError` where the address is taken."""
        application = web.Application(client_max_size=_MOST_BYTES)
        application.router.add_get(PATH, self._ask)
        application.router.add_post(PATH, self._unsubscribe)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _ask(self, request: web.Request) -> web.Response:
        """Says nothing of whether the link is known: that takes the button."""
        language = _language(request)
        title, button = _ASK[language]
        return _page(200, language, title, f"<form method=post><button>{escape(button)}</button></form>")

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        status, said = 200, _DONE
        try:
            await self._contacts.unsubscribe(request.match_info["token"])
        except InvalidArgument:
            status, said = 404, _UNKNOWN
        except Exception:
            _LOGGER.exception("somebody cannot be unsubscribed")
            return web.Response(status=503, headers={**_HEADERS, "Retry-After": "60"})
        language = _language(request)
        title, text = said[language]
        return _page(status, language, title, f"<p>{escape(text)}</p>")


def _language(request: web.Request) -> int:
    """The reader's first language, where the page is in it."""
    wanted = request.headers.get("Accept-Language", "").partition(",")[0].partition(";")[0].strip()
    return chosen_language(wanted, _LANGUAGES)


def _page(status: int, language: int, title: str, body: str) -> web.Response:
    text = (
        f"<!doctype html><html lang={_LANGUAGES[language]}><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><meta name=robots content=noindex>"
        f"<title>{escape(title)}</title>"
        "<body style='font:1.2em sans-serif;margin:4em auto;max-width:30em;text-align:center'>"
        f"<h1>{escape(title)}</h1>{body}"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)
