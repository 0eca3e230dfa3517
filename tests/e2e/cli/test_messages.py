"""laurel messages."""

import asyncio
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from services.notification.domain.timing import SPREAD_SECONDS
from tests.fixtures import clock
from tests.fixtures.command import Laurel
from tests.fixtures.waiting import until


def message(laurel: Laurel, kind: str) -> dict[str, Any]:
    """What is listed of a kind of messages; other tests have set others."""
    found: dict[str, Any]
    (found,) = [each for each in laurel.json("messages", "list")["messages"] if each["type"] == kind]
    return found


def test_messages_are_set_and_listed(laurel: Laurel, tmp_path: Path) -> None:
    templates = tmp_path / "templates.yaml"
    templates.write_text("- {language: en, subject: '{{ days }}', text: 'Come back'}\n")
    shown = laurel.run(
        "messages",
        "set",
        "reactivation",
        "--channel",
        "email",
        "--at",
        "18:00",
        "--templates",
        str(templates),
    ).stdout
    for text in ("reactivation", "off", "email", "18:00", "en"):
        assert text in shown
    laurel.run("messages", "set", "reactivation", "--no-channel")
    reactivation = message(laurel, "MESSAGE_TYPE_REACTIVATION")
    assert (reactivation["sendTime"], reactivation["channels"]) == ("18:00", [])
    laurel.run("messages", "set", "recap", "--every", "month")
    assert message(laurel, "MESSAGE_TYPE_RECAP")["recapPeriod"] == "RECAP_PERIOD_MONTHLY"
    templates.write_text("- {language: en, subject: '{{', text: x}\n")
    refused = laurel.run("messages", "set", "reactivation", "--templates", str(templates), code=1)
    assert "message.templates[0].subject" in refused.stderr
    assert "nothing was sent" in laurel.run("messages", "sent", "ada").stdout


async def test_who_would_lose_a_streak_is_reminded_with_what_the_streak_service_says(laurel: Laurel) -> None:
    now = clock.now()
    noon_in = f"Etc/GMT{now.hour - 12:+d}"
    # Of all users of a zone this one comes first.
    user = next(f"rosa-{n}" for n in count() if crc32(f"rosa-{n}".encode()) % SPREAD_SECONDS < 60)
    ago = (now - timedelta(days=3)).isoformat()
    laurel.run("ingest", "--user", user, "--metric", "commits", "--value", "1", "--at", ago, "--tz", noon_in)
    laurel.run("messages", "set", "streak_reminder", "--no-channel", "--at", "00:00", "--on")

    def was_sent() -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = laurel.json("messages", "sent", user).get("messages", [])
        return messages

    async def was() -> bool:
        return bool(await asyncio.to_thread(was_sent))

    await until(was, seconds=60, what="the reminder is due")
    laurel.run("messages", "set", "streak_reminder", "--off")
    (message,) = was_sent()
    assert (message["type"], message["state"]) == (
        "MESSAGE_TYPE_STREAK_REMINDER",
        "MESSAGE_STATE_TOLD",
    )
