"""Configuration."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.orchestrator.config import Settings as OrchestratorSettings
from shared.config import EXIT_CONFIGURATION, ConfigurationError, Settings, load, misspelt
from shared.variables import VARIABLES


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


def test_secrets_may_stand_in_files_and_a_variable_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "laurel_postgres_dsn").write_text("postgresql://u:p@file/d\n")
    (tmp_path / "laurel_service_token").write_text("t" * 32)
    monkeypatch.setenv("LAUREL_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("LAUREL_SERVICE_TOKEN", "v" * 32)
    settings = load(Settings)
    assert settings.postgres_dsn == SecretStr("postgresql://u:p@file/d")
    assert settings.service_tokens == ("v" * 32,)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"SERVICE_TOKEN": "short-hunter2"}, "LAUREL_SERVICE_TOKEN=********: each must have 32"),
        ({"SERVICE_TOKEN": "hunter2" * 9 + ",short"}, "LAUREL_SERVICE_TOKEN=********: each must have 32"),
        ({"TLS_KEY_FILE": "key.pem"}, "LAUREL_TLS_CERTIFICATE_FILE and LAUREL_TLS_KEY_FILE belong together"),
        (
            {"TLS_SERVICE_NAMES": "a.laurel"},
            "LAUREL_TLS_SERVICE_NAMES needs LAUREL_TLS_REQUIRE_CLIENT_CERTIFICATE",
        ),
        (
            {"TLS_REQUIRE_CLIENT_CERTIFICATE": "true"},
            "LAUREL_TLS_REQUIRE_CLIENT_CERTIFICATE needs a certificate",
        ),
        ({"SECRETS_DIR": "/nowhere"}, "LAUREL_SECRETS_DIR='/nowhere': is no directory"),
    ],
)
def test_what_does_not_protect_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    monkeypatch.setenv("LAUREL_POSTGRES_DSN", "postgresql://u:p@h/d")
    for name, value in variables.items():
        monkeypatch.setenv(f"LAUREL_{name}", value)
    with pytest.raises(ConfigurationError) as refusal:
        load(Settings)
    assert str(refusal.value.problems[0]).startswith(problem)
    assert "hunter2" not in str(refusal.value)


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


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "LAUREL_POSTGRES_POOLSIZE",
            "LAUREL_POSTGRES_POOLSIZE is no setting; did you mean LAUREL_POSTGRES_POOL_SIZE?",
        ),
        ("laurel_lstn", "laurel_lstn is no setting; did you mean LAUREL_LISTEN?"),
        ("LAUREL_LEASE_SECOND", "LAUREL_LEASE_SECOND is no setting; did you mean LAUREL_LEASE_SECONDS?"),
        ("LAUREL_XYZZY", "LAUREL_XYZZY is no setting; docs/settings.md lists all there are"),
        ("LAUREL_", "LAUREL_ is no setting; docs/settings.md lists all there are"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest_and_nothing_starts(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(ConfigurationError) as refusal:
        load(Settings, postgres_dsn="postgres://h/d")
    assert refusal.value.problems == (line,)


def test_misspelt_variables_are_reported_together_with_bad_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUREL_LISTN", "h:1")
    monkeypatch.setenv("LAUREL_LISTEN", "nowhere")
    with pytest.raises(ConfigurationError) as refusal:
        load(Settings)
    assert [each.split()[0].partition("=")[0] for each in refusal.value.problems] == [
        "LAUREL_LISTN",
        "LAUREL_POSTGRES_DSN",
        "LAUREL_LISTEN",
    ]


def test_a_variable_that_another_part_of_laurel_is_told_by_is_no_mistake() -> None:
    assert misspelt(dict.fromkeys(VARIABLES, "x")) == []
    assert {"LAUREL_LEASE_SECONDS", "LAUREL_HOME", "LAUREL_TARGET", "LAUREL_FAULTS"} <= VARIABLES


@given(st.sampled_from(sorted(VARIABLES)), st.data())
def test_a_slip_of_one_character_finds_the_name_that_was_meant(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(len("LAUREL_"), len(name) - 1))
    slip = name[:place] + data.draw(st.sampled_from(["", "0", "_Q", name[place] * 2])) + name[place + 1 :]
    assume(slip not in VARIABLES and slip != "LAUREL_")
    (line,) = misspelt({slip: ""})
    assert line == f"{slip} is no setting; did you mean {name}?"


def test_what_kubernetes_sets_for_services_called_laurel_is_no_mistake() -> None:
    ends = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT"]
    ends += ["PORT_7401_TCP", "PORT_7401_TCP_PROTO", "PORT_7401_TCP_PORT", "PORT_7401_TCP_ADDR"]
    names = [f"{name}_{end}" for name in ("LAUREL", "LAUREL_STREAK", "LAUREL_POSTGRES") for end in ends]
    assert misspelt(dict.fromkeys(names, "x")) == []


def test_other_variables_are_nobodys_business() -> None:
    assert misspelt({"PATH": "", "LAURELS": "", "MY_LAUREL_LISTN": ""}) == []


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
        f"run('x', Settings, server='x.server', migrations=Path('.'), arguments=['{arguments}'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == status
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


def test_to_migrate_asks_for_databases_alone() -> None:
    command = [sys.executable, "-m", "services.leaderboard"]
    served, migrated = (
        subprocess.run([*command, verb], capture_output=True, text=True, check=False).stderr
        for verb in ("serve", "migrate")
    )
    assert set(re.findall(r"LAUREL_\w+ is not set", served)) > {"LAUREL_POSTGRES_DSN is not set"}
    assert re.findall(r"LAUREL_\w+ is not set", migrated) == ["LAUREL_POSTGRES_DSN is not set"]


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
