"""Ports and channels with certificates (RULES 9.1)."""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from deploy.local.health import is_serving, own_credentials
from shared.config import ConfigurationError
from shared.errors import Unauthenticated, Unavailable
from shared.rpc.channel import open_channel
from shared.rpc.outgoing import credentials
from shared.rpc.server import Running, running
from shared.rpc.tls import Certificates
from shared.telemetry import off
from tests.fixtures.authority import Authority
from tests.fixtures.echo import dial, echo, failure, same, say, settings

TOKEN = "a-token-between-services-that-is-long"


def dial_with(server: Running, **shown: Any) -> grpc.aio.Channel:
    """A channel of a process with these settings."""
    return open_channel(
        f"127.0.0.1:{server.port}",
        max_message_bytes=1 << 20,
        telemetry=off(),
        credentials=credentials(settings(**shown)),
    )


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def foreign(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "foreign")


async def test_a_call_over_tls_is_answered_and_one_without_is_not(ours: Authority) -> None:
    async with running(echo(same), settings(**ours.issue("127.0.0.1"))) as server:
        async with dial_with(server, tls_ca_file=ours.file) as channel:
            assert await say(channel, "hello") == "hello"
        async with dial(server) as channel:
            assert type(await failure(say(channel, "hello"))) is Unavailable


async def test_a_server_of_another_authority_is_not_believed(ours: Authority, foreign: Authority) -> None:
    async with (
        running(echo(same), settings(**foreign.issue("127.0.0.1"))) as server,
        dial_with(server, tls_ca_file=ours.file) as channel,
    ):
        assert type(await failure(say(channel, "hello"))) is Unavailable


async def test_the_name_in_the_certificate_may_be_another_than_that_in_the_target(ours: Authority) -> None:
    async with (
        running(echo(same), settings(**ours.issue("streak.internal"))) as server,
        dial_with(server, tls_ca_file=ours.file, tls_server_name="streak.internal") as channel,
    ):
        assert await say(channel, "hello") == "hello"


async def test_a_container_that_encrypts_finds_itself_serving(ours: Authority) -> None:
    files = ours.issue("laurel-streak")
    environment = {f"LAUREL_{name.upper()}": str(file) for name, file in files.items()}
    mutual = settings(**files, tls_require_client_certificate=True)
    async with running(echo(same), mutual) as server:
        address = f"127.0.0.1:{server.port}"
        shown = own_credentials(environment)
        assert await asyncio.to_thread(is_serving, address, shown, "laurel-streak")
        assert not await asyncio.to_thread(is_serving, address, shown, "laurel-points")
        assert not await asyncio.to_thread(is_serving, address)


async def test_with_mutual_tls_a_caller_needs_a_certificate_of_the_authority(
    ours: Authority, foreign: Authority
) -> None:
    mutual = settings(**ours.issue("127.0.0.1"), tls_require_client_certificate=True)
    async with running(echo(same), mutual) as server:
        async with dial_with(server, tls_ca_file=ours.file) as channel:
            assert type(await failure(say(channel, "x"))) is Unavailable
        async with dial_with(server, **{**foreign.issue("caller"), "tls_ca_file": ours.file}) as channel:
            assert type(await failure(say(channel, "x"))) is Unavailable
        async with dial_with(server, **ours.issue("caller")) as channel:
            assert await say(channel, "x") == "x"


async def test_the_name_of_a_service_in_a_certificate_is_its_credential(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    served = settings(
        **authority.issue("127.0.0.1"),
        tls_require_client_certificate=True,
        tls_service_names="orchestrator.laurel, streak.laurel",
    )
    async with running(echo(same), served) as server:
        async with dial_with(server, **authority.issue("somebody.else")) as channel:
            assert type(await failure(say(channel, "x"))) is Unauthenticated
        async with dial_with(server, **authority.issue("orchestrator.laurel")) as channel:
            assert await say(channel, "x") == "x"


async def test_another_certificate_is_taken_up_by_server_and_caller_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.rpc.tls._LOOK_AGAIN_SECONDS", 0)
    old, new, used = Authority(tmp_path / "old"), Authority(tmp_path / "new"), tmp_path / "used"
    old.issue("127.0.0.1")
    shutil.copytree(tmp_path / "old", used)
    mutual: dict[str, Any] = {
        "tls_certificate_file": used / "certificate.pem",
        "tls_key_file": used / "key.pem",
        "tls_ca_file": used / "ca.pem",
        "tls_require_client_certificate": True,
    }
    async with running(echo(same), settings(**mutual)) as server, dial_with(server, **mutual) as channel:
        assert await say(channel, "before") == "before"
        new.issue("127.0.0.1")
        shutil.copytree(tmp_path / "new", used, dirs_exist_ok=True)
        assert await say(channel, "after") == "after"
        # Of the old authority nobody is believed any more.
        async with dial_with(server, **{**old.issue("127.0.0.1"), "tls_ca_file": new.file}) as stale:
            assert type(await failure(say(stale, "x"))) is Unavailable


def test_half_of_a_change_is_passed_over_until_it_is_whole(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    files = authority.issue("a.laurel")
    now = iter(range(0, 1_000, 10))
    certificates = Certificates(
        files["tls_certificate_file"], files["tls_key_file"], files["tls_ca_file"], lambda: float(next(now))
    )
    first = certificates.newest()
    issued = other.issue("b.laurel")
    shutil.copy(issued["tls_certificate_file"], files["tls_certificate_file"])
    assert certificates.newest() is first
    shutil.copy(issued["tls_key_file"], files["tls_key_file"])
    assert certificates.newest().certificate == issued["tls_certificate_file"].read_bytes()


def test_files_that_are_not_there_or_do_not_fit_are_told_at_the_start(tmp_path: Path) -> None:
    files = Authority(tmp_path / "a").issue("a.laurel")
    foreign = Authority(tmp_path / "b").issue("b.laurel")
    with pytest.raises(ConfigurationError, match="No such file"):
        Certificates(tmp_path / "none.pem", files["tls_key_file"], None)
    with pytest.raises(ConfigurationError, match="KEY_VALUES_MISMATCH"):
        Certificates(files["tls_certificate_file"], foreign["tls_key_file"], None)


@pytest.fixture
def everywhere() -> dict[str, Any]:
    return {"listen": "0.0.0.0:0"}


async def test_without_credentials_nothing_but_loopback_is_served(everywhere: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        async with running(echo(same), settings(**everywhere)):
            pass
    assert [problem.partition(" needs ")[2].partition(",")[0] for problem in refused.value.problems] == [
        "LAUREL_TLS_CERTIFICATE_FILE and LAUREL_TLS_KEY_FILE",
        "LAUREL_SERVICE_TOKEN or LAUREL_TLS_SERVICE_NAMES",
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"tls_off": True, "keys_off": True},
        {"tls_off": True, "service_token": TOKEN},
    ],
)
async def test_another_address_is_served_where_it_is_said_to_be_meant(
    everywhere: dict[str, Any], said: dict[str, Any]
) -> None:
    async with running(echo(same), settings(**everywhere, **said)) as server:
        assert server.port


async def test_loopback_without_credentials_is_served_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(echo(same), settings()) as server, dial(server) as channel:
        assert await say(channel, "x") == "x"
    assert "no credential is configured" in caplog.text


async def test_the_token_between_services_is_shown_and_the_second_of_two_is_accepted() -> None:
    changing = f"{TOKEN}-new,{TOKEN}"
    async with running(echo(same), settings(service_token=changing)) as server:
        for shown in (TOKEN, f"{TOKEN}-new", changing):
            async with dial_with(server, service_token=shown) as channel:
                assert await say(channel, "x") == "x"
        async with dial_with(server, service_token=f"{TOKEN}-of-somebody") as channel:
            refused = await failure(say(channel, "x"))
            assert (type(refused), refused.reason) == (Unauthenticated, "CREDENTIAL_INVALID")
        async with dial(server) as channel:
            refused = await failure(asyncio.wait_for(say(channel, "x"), 5))
            assert (type(refused), refused.reason) == (Unauthenticated, "CREDENTIAL_MISSING")
