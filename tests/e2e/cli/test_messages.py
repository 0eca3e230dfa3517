"""laurel messages."""

from pathlib import Path

from tests.fixtures.command import Laurel


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
    (message,) = laurel.json("messages", "list")["messages"]
    assert (message["type"], message["sendTime"], message["channels"]) == (
        "MESSAGE_TYPE_REACTIVATION",
        "18:00",
        [],
    )
    templates.write_text("- {language: en, subject: '{{', text: x}\n")
    refused = laurel.run("messages", "set", "reactivation", "--templates", str(templates), code=1)
    assert "message.templates[0].subject" in refused.stderr
    assert "nothing was sent" in laurel.run("messages", "sent", "ada").stdout
