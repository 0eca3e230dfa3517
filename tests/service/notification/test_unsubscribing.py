"""The page behind the link of an e-mail, by HTTP as a mailbox's provider and a browser use it (RFC 8058)."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deploy.local.ports import free_port
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Service
from tests.service.notification.test_contacts import NO_RECAP, get, signed, update

PORT = free_port()


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"unsubscribe_listen": f"127.0.0.1:{PORT}"}


@pytest.fixture
async def browser(service: Service) -> AsyncIterator[aiohttp.ClientSession]:
    """Once the page is there."""
    assert service
    async with aiohttp.ClientSession(f"http://127.0.0.1:{PORT}") as session:

        async def answers() -> bool:
            try:
                async with session.get("/unsubscribe/x"):
                    return True
            except aiohttp.ClientConnectionError:
                return False

        await until(answers, seconds=30, what="the page is served")
        yield session


async def test_one_click_of_a_mailbox_unsubscribes_and_opening_the_link_does_not(
    service: Service, browser: aiohttp.ClientSession
) -> None:
    await update(service, "ada", email="ada@example.com")
    link = f"/unsubscribe/{await signed(service, 'ada')}"
    async with browser.get(link) as opened:
        assert opened.status == 200
        assert "<form method=post>" in await opened.text()
    assert not (await get(service, "ada")).refusals
    for _ in range(2):
        async with browser.post(link, data={"List-Unsubscribe": "One-Click"}) as posted:
            assert posted.status == 200
            assert "unsubscribed" in await posted.text()
    assert list((await get(service, "ada")).refusals) == [NO_RECAP]


async def test_a_reader_gets_the_page_in_the_own_language(browser: aiohttp.ClientSession) -> None:
    async with browser.get("/unsubscribe/x", headers={"Accept-Language": "de-AT,en;q=0.5"}) as opened:
        assert "Abmelden" in await opened.text()


@pytest.mark.parametrize("token", ["x", "%00", "../x", "ä" * 300, "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
async def test_a_link_that_nobody_signed_is_not_known(browser: aiohttp.ClientSession, token: str) -> None:
    async with browser.post(f"/unsubscribe/{token}") as posted:
        assert posted.status == 404


async def test_nothing_else_is_served(browser: aiohttp.ClientSession) -> None:
    for path in ("/", "/metrics", "/unsubscribe/"):
        async with browser.get(path) as answer:
            assert answer.status == 404
    async with browser.delete("/unsubscribe/x") as refused:
        assert refused.status == 405
