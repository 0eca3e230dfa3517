"""The receivers of docs/guides/webhooks.md, run as they stand there but for the port. (Go would have to be built.)"""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from standardwebhooks import Webhook

from deploy.local.ports import free_port
from tests.fixtures.guides import printing, program
from tests.fixtures.waiting import until

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY: Final = '{"type":"metric.recorded","userId":"ada"}'
RUN: Final = {"python": (sys.executable, "receiver.py"), "js": ("node", "receiver.mjs")}


@pytest.mark.parametrize("language", RUN)
async def test_the_guides_receiver_prints_what_it_has_verified_and_refuses_the_rest(
    language: str, tmp_path: Path
) -> None:
    if shutil.which(RUN[language][0]) is None:
        pytest.skip(f"there is no {RUN[language][0]} here")
    port, now = free_port(), datetime.now(UTC)
    headers = {
        "webhook-id": "msg-1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg-1", now, BODY),
    }
    command = RUN[language]
    (tmp_path / command[-1]).write_text(program("webhooks.md", language).replace("8000", str(port)))
    running = printing(*command, environment={"WEBHOOK_SECRET": SECRET}, directory=tmp_path)
    async with running as output, aiohttp.ClientSession() as client:

        async def answered(body: str) -> int:
            url = f"http://127.0.0.1:{port}/laurel"
            async with client.post(url, data=body.encode(), headers=headers) as response:
                return response.status

        async def listens() -> bool:
            try:
                return await answered("{}") == 401
            except aiohttp.ClientError:
                return False

        await until(listens, seconds=30, what="the receiver refuses what was not signed")
        assert await answered(BODY) == 204
        lines = [(await output.readline()).decode().strip()]
        while lines[-1].startswith("refused"):
            lines.append((await output.readline()).decode().strip())
        assert lines[-1] == "verified: metric.recorded ada"
