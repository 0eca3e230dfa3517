"""Configuration."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from pydantic import SecretStr

from services.orchestrator.config import Settings as OrchestratorSettings
from shared.config import EXIT_CONFIGURATION, ConfigurationError, Settings, load


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LAUREL_")]:
        monkeypatch.delenv(name)


def test_variables_carry_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUREL_POSTGRES_DSN", "postgresql://u:p@h/d")
    monkeypatch.setenv("LAUREL_POSTGRES_POOL_SIZE", "3")
    settings = load(Settings)
    assert settings.postgres_pool_size == 3
    assert settings.postgres_dsn == SecretStr("postgresql://u:p@h/d")
    assert settings.instance


def test_every_bad_variable_is_reported_at_once_and_secrets_are_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = {
        "POSTGRES_DSN": "mysql://u:hunter2@h/d",
        "POSTGRES_POOL_SIZE": "many",
        "LISTEN": "somewhere",
        "DRAIN_GRACE_SECONDS": "-1",
        "LOG_LEVEL": "LOUD",
    }
    for name, value in bad.items():
        monkeypatch.setenv(f"LAUREL_{name}", value)
    with pytest.raises(ConfigurationError) as refusal:
        load(Settings)
    assert len(refusal.value.problems) == len(bad)
    text = str(refusal.value)
    assert "hunter2" not in text
    assert "LAUREL_POSTGRES_DSN=********: must begin with postgresql://" in text
    assert "LAUREL_POSTGRES_POOL_SIZE='many'" in text
    assert "LAUREL_LISTEN='somewhere': must be HOST:PORT or unix:PATH" in text


def test_a_missing_variable_is_named_with_its_meaning() -> None:
    with pytest.raises(
        ConfigurationError, match=r"LAUREL_POSTGRES_DSN is not set: The service's own database"
    ):
        load(Settings)


@pytest.mark.parametrize("listen", ["localhost:0", "[::1]:50051", "0.0.0.0:65535", "unix:/run/laurel.sock"])
def test_an_address_is_a_host_and_port_or_a_socket_file(listen: str) -> None:
    assert load(Settings, listen=listen, postgres_dsn="postgres://h/d").listen == listen


@pytest.mark.parametrize("listen", ["", ":1", "h:", "h:65536", "h:-1", "unix:", "h:１"])
def test_another_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigurationError, match="LAUREL_LISTEN"):
        load(Settings, listen=listen, postgres_dsn="postgres://h/d")


def test_every_setting_says_what_it_is_and_in_which_unit() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        for suffix, unit in (("_seconds", "seconds"), ("_ms", "milliseconds"), ("_bytes", "bytes")):
            assert not name.endswith(suffix) or unit in field.description, name


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ("serve", EXIT_CONFIGURATION, "LAUREL_POSTGRES_DSN is not set"),
        ("dance", 64, "usage: python -m services.x"),
    ],
)
def test_a_process_that_cannot_start_says_why_and_with_which_status(
    arguments: str, status: int, text: str
) -> None:
    program = (
        "from pathlib import Path\n"
        "from shared.config import Settings\n"
        "from shared.entrypoint import run\n"
        "async def serve(settings): pass\n"
        f"run('x', Settings, serve=serve, migrations=Path('.'), arguments=['{arguments}'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == status
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_replay_window_answers_are_kept_for_ever() -> None:
    assert load(Settings, postgres_dsn="postgres://h/d").replay_window is None
    assert load(Settings, postgres_dsn="postgres://h/d", replay_window_days=90).replay_window == timedelta(90)


def test_a_replay_window_is_longer_than_a_month() -> None:
    with pytest.raises(ConfigurationError, match="LAUREL_REPLAY_WINDOW_DAYS=31"):
        load(Settings, postgres_dsn="postgres://h/d", replay_window_days=31)


def test_what_the_orchestrator_accepts_lies_within_its_replay_window() -> None:
    accepted = {"postgres_dsn": "postgres://h/d", "max_event_age_seconds": 40 * 86_400}
    assert load(OrchestratorSettings, **accepted, replay_window_days=41)
    assert load(OrchestratorSettings, **accepted)
    with pytest.raises(ConfigurationError, match="must be less than LAUREL_REPLAY_WINDOW_DAYS"):
        load(OrchestratorSettings, **accepted, replay_window_days=40)
