"""The system itself: up, down, status, context, and which one is meant."""

import re
from pathlib import Path

import pytest

from deploy.local.databases import SERVICES
from tests.fixtures.command import DEMO_CONFIGURATION, Laurel, ingest, stack_of


def test_status_shows_every_process_and_that_it_serves(laurel: Laurel) -> None:
    output = laurel.run("status").stdout
    for name in SERVICES:
        assert f"{name}-0" in output
    assert len(re.findall(r"\bserving\b", output)) == len(SERVICES)
    assert "MB" in output


def test_the_context_is_the_stack_of_this_directory(laurel: Laurel) -> None:
    output = laurel.run("context").stdout
    assert output.count(f"the stack in {laurel.home}") == len(SERVICES)
    assert len(re.findall(r"\bserving\b", output)) == len(SERVICES)


def test_the_stack_of_another_directory_is_read_by_its_name_and_not_changed(
    laurel: Laurel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stack's key is shown to that stack alone: elsewhere it has to be said.
    monkeypatch.setenv("LAUREL_API_KEY", laurel.run("keys", "local").stdout.strip())
    event = ingest(laurel, "oscar")["entryId"]
    port = stack_of(laurel).addresses("orchestrator")[0].rpartition(":")[2]
    elsewhere = Laurel(tmp_path / "nothing", port_base=port)

    read = elsewhere.run("event", event)
    assert f"the stack in {laurel.home}" in read.stderr
    refused = elsewhere.run("void", event, "--reason", "mistaken", code=2)
    assert f"the stack in {laurel.home}" in refused.stderr
    assert laurel.json("user", "oscar")["user"]["metrics"][0]["total"] == 1

    elsewhere.run("--target", f"127.0.0.1:{port}", "void", event, "--reason", "meant")
    # It was all that was known of this user.
    laurel.run("user", "oscar", code=1)


def test_maintenance_says_what_it_did(laurel: Laurel) -> None:
    assert "closedStreakCount" in laurel.json("maintenance")


def test_down_stops_everything_and_up_finds_the_data_again_also_without_tls(
    server_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laurel = Laurel(server_directory / "cli-restart")
    try:
        assert laurel.shell("up").returncode == 0
        laurel.run("apply", "-f", str(DEMO_CONFIGURATION))
        ingest(laurel, "alice")
        assert laurel.shell("down").returncode == 0
        away = laurel.shell("user", "alice")
        assert away.returncode == 3
        assert "laurel up" in away.stderr
        assert laurel.shell("status").returncode == 3
        monkeypatch.setenv("LAUREL_TLS_OFF", "true")
        assert laurel.shell("up").returncode == 0
        assert stack_of(laurel).authority is None
        monkeypatch.delenv("LAUREL_TLS_OFF")
        assert laurel.json("user", "alice")["user"]["metrics"][0]["total"] == 1
    finally:
        stack_of(laurel).erase()
