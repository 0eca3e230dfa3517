"""keys: who may call the system that `laurel up` started."""

import json
import time

import grpc
import laurel_client
import psutil
import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from deploy.local.databases import SERVICES
from deploy.local.health import is_serving
from services.cli.errors import EXIT_REFUSED
from tests.fixtures.command import Laurel, ingest, stack_of

REVOKED_WITHIN_SECONDS = 5.0


def credential(laurel: Laurel, *arguments: str) -> tuple[str, str]:
    """The id of a new key, and what callers show."""
    made = laurel.json("keys", "create", "test", *arguments)
    return made["key"]["keyId"], made["credential"]


def test_the_system_made_a_key_that_the_command_shows(laurel: Laurel) -> None:
    assert "local" in laurel.run("keys", "list").stdout
    key = laurel.run("keys", "local").stdout.strip()
    assert key.startswith("laurel_")
    assert key not in laurel.run("context").stdout


def test_the_system_made_certificates_that_the_command_believes_and_tells_nothing_in_the_clear(
    laurel: Laurel,
) -> None:
    stack = stack_of(laurel)
    assert stack.authority is not None
    for name in SERVICES:
        address = stack.addresses(name)[0]
        assert not is_serving(address)
        assert is_serving(address, grpc.ssl_channel_credentials(stack.authority.read_bytes()))


def test_a_program_believes_the_authority_that_it_is_told_of(
    laurel: Laurel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stack_of(laurel)
    monkeypatch.setenv("LAUREL_API_KEY", laurel.run("keys", "local").stdout.strip())
    request = orchestrator_service_pb2.ListMetricsRequest()
    with (
        laurel_client.channel(stack.addresses("orchestrator")[0]) as channel,
        pytest.raises(laurel_client.LaurelError),
    ):
        OrchestratorServiceStub(channel).ListMetrics(request, timeout=5)
    monkeypatch.setenv("LAUREL_TLS_CA_FILE", str(stack.authority))
    with laurel_client.channel(stack.addresses("orchestrator")[0]) as channel:
        assert OrchestratorServiceStub(channel).ListMetrics(request).metrics


def test_a_key_with_too_little_is_refused_by_every_service(
    laurel: Laurel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(laurel, "keys-ada")
    _, key = credential(laurel, "--scope", "ingest")
    monkeypatch.setenv("LAUREL_API_KEY", key)
    ingest(laurel, "keys-ada")
    for command in (
        ["users"],
        ["points", "keys-ada"],
        ["leaderboard", "commits"],
        ["keys", "list"],
    ):
        assert "SCOPE_MISSING" in laurel.run(*command, code=EXIT_REFUSED).output


def test_a_key_that_is_revoked_is_refused_by_every_service_within_five_seconds(
    laurel: Laurel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(laurel, "keys-ada")
    key_id, key = credential(laurel, "--scope", "read")
    commands = (["users"], ["points", "keys-ada"], ["achievements", "keys-ada"], ["leaderboard", "commits"])
    with monkeypatch.context() as other:
        other.setenv("LAUREL_API_KEY", key)
        for command in commands:
            laurel.run(*command)
    laurel.run("keys", "revoke", key_id, "--reason", "lost")
    end = time.monotonic() + REVOKED_WITHIN_SECONDS
    monkeypatch.setenv("LAUREL_API_KEY", key)
    for command in commands:
        while laurel.call(*command).exit_code == 0:
            assert time.monotonic() < end, f"{command} still works"
        assert "CREDENTIAL_INVALID" in laurel.run(*command, code=EXIT_REFUSED).output


def test_a_rotated_key_has_two_secrets_for_a_while(laurel: Laurel, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id, old = credential(laurel, "--scope", "read")
    lines = laurel.run("keys", "rotate", key_id).stdout
    new = lines.split()[-1]
    assert "The secret before counts until" in lines
    for key in (old, new):
        monkeypatch.setenv("LAUREL_API_KEY", key)
        laurel.run("users")


def test_no_secret_stands_in_a_log_an_error_or_the_arguments_of_a_process(
    laurel: Laurel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stack_of(laurel)
    assert stack.postgres is not None
    assert stack.valkey is not None
    ingest(laurel, "keys-ada")
    _, made = credential(laurel, "--scope", "read")
    stored = json.loads((laurel.home / "credentials.json").read_text())
    certificate_key = (laurel.home / "tls" / "service.key").read_text().splitlines()[1:-1]
    secrets = {
        *stored.values(),
        *stack.valkey.passwords.values(),
        stack.postgres.password,
        *certificate_key,
        made,
    }
    assert len(secrets) > len(stored) + 4
    assert min(map(len, secrets)) > 10
    said = [
        laurel.call(*command).output for command in (["status"], ["context"], ["keys", "list"], ["audit"])
    ]
    for wrong in (made, made[:-1] + "x", made[:-1], stored["service_token"][:-1]):
        monkeypatch.setenv("LAUREL_API_KEY", wrong)
        said.append(laurel.call("keys", "create", "refused", "--scope", "read").output)
    assert not any(secret in text for text in said for secret in secrets)
    output = [path for path in laurel.home.rglob("*.log") if path.is_file()]
    assert len(output) >= len(SERVICES)
    for path in output:
        text = path.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), path
    running = [psutil.Process(each.pid) for each in stack.status() if each.pid is not None]
    assert len(running) >= len(SERVICES)
    for process in running:
        assert not any(secret in " ".join(process.cmdline()) for secret in secrets), process
