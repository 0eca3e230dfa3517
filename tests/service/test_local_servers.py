"""The embedded servers: durable, restartable, closed to strangers, several at once."""

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from deploy.local.databases import create_service_databases, service_dsn
from deploy.local.errors import LaunchError
from deploy.local.postgres import PostgresServer
from deploy.local.postgres_install import INSTALL_PARTS, WHEEL, locate_install
from deploy.local.valkey import RULES, SERVICES_USER, ValkeyServer
from tests.fixtures.databases import ServiceDatabases

pytestmark = pytest.mark.servers


@pytest.fixture
def durable_server(server_directory: Path) -> Iterator[PostgresServer]:
    server = PostgresServer.start(server_directory / "durable")
    yield server
    server.erase()


@pytest.fixture
def own_valkey(server_directory: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer.start(server_directory / "own-valkey")
    yield server
    server.kill()


async def run(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_what_was_committed_survives_the_sudden_death_of_the_server(
    durable_server: PostgresServer,
) -> None:
    await run(durable_server.admin_dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    dsn = durable_server.admin_dsn
    durable_server.kill()
    assert durable_server.pid is None

    again = PostgresServer.start(durable_server.directory)

    assert again.admin_dsn == dsn
    assert await run(dsn, "SELECT answer FROM kept") == 42


async def test_a_lock_file_naming_a_living_stranger_does_not_keep_the_server_down(
    durable_server: PostgresServer,
) -> None:
    durable_server.kill()
    lock_file = durable_server.data / "postmaster.pid"
    lines = lock_file.read_text().splitlines()
    lock_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    durable_server.restart()

    assert await run(durable_server.admin_dsn, "SELECT 1") == 1


async def test_children_that_outlive_the_postmaster_are_ended_before_the_next_start(
    durable_server: PostgresServer,
) -> None:
    assert durable_server.pid is not None
    child = psutil.Process(durable_server.pid).children()[0]
    child.suspend()
    durable_server.kill()

    durable_server.restart()

    assert await run(durable_server.admin_dsn, "SELECT 1") == 1
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_keeps_the_data_and_the_address(durable_server: PostgresServer, mode: str) -> None:
    await run(durable_server.admin_dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    dsn, first = durable_server.admin_dsn, durable_server.pid

    durable_server.restart("immediate" if mode == "immediate" else "fast")

    assert durable_server.pid != first
    assert await run(dsn, "SELECT answer FROM kept") == 42


async def test_commits_reach_the_disk_before_they_are_acknowledged(durable_server: PostgresServer) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await run(durable_server.admin_dsn, f"SHOW {setting}") == "on"


def test_starting_a_running_server_again_finds_it(durable_server: PostgresServer) -> None:
    assert PostgresServer.start(durable_server.directory).pid == durable_server.pid


async def test_a_cluster_whose_making_was_interrupted_is_made_anew(server_directory: Path) -> None:
    directory = server_directory / "interrupted"
    (directory / "data.unfinished" / "base").mkdir(parents=True)
    server = PostgresServer.start(directory, fsync=False)
    try:
        assert await run(server.admin_dsn, "SELECT 1") == 1
    finally:
        server.erase()
    assert not directory.exists()


def test_data_without_its_credentials_is_named_and_left_alone(durable_server: PostgresServer) -> None:
    credentials = durable_server.directory / "server.json"
    content = credentials.read_text()
    credentials.unlink()
    with pytest.raises(LaunchError, match="credentials"):
        PostgresServer.start(durable_server.directory)
    credentials.write_text(content)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(durable_server: PostgresServer) -> None:
    durable_server.stop()
    (durable_server.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(LaunchError, match="was initialized by PostgreSQL version"):
        durable_server.restart()


def test_the_server_never_runs_as_root(durable_server: PostgresServer) -> None:
    assert durable_server.pid is not None
    uids = psutil.Process(durable_server.pid).uids()
    assert 0 not in uids
    assert durable_server.data.stat().st_uid == uids.effective


def test_a_private_directory_is_left_private_and_the_server_runs_all_the_same(server_directory: Path) -> None:
    private = server_directory / "private"
    private.mkdir(mode=0o700)
    server = PostgresServer.start(private / "postgres", fsync=False)
    try:
        assert server.pid is not None
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    finally:
        server.erase()
    assert not server.place.exists()


def test_programs_that_the_unprivileged_user_cannot_reach_are_copied_beside_the_data(
    server_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    packages = locate_install(None, tmp_path).parents[1]
    for part in INSTALL_PARTS:
        if (packages / part).exists():
            shutil.copytree(packages / part, tmp_path / part, symlinks=True)
    (tmp_path / WHEEL / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    server = PostgresServer.start(server_directory / "copied", fsync=False)
    try:
        assert server.pid is not None
        program = Path(psutil.Process(server.pid).exe())
        assert program.is_relative_to(server.place if os.geteuid() == 0 else tmp_path)
    finally:
        server.erase()


def test_only_the_owner_can_read_the_superuser_password(durable_server: PostgresServer) -> None:
    assert stat.S_IMODE((durable_server.directory / "server.json").stat().st_mode) == 0o600


async def test_a_wrong_password_is_refused(durable_server: PostgresServer) -> None:
    dsn = durable_server.admin_dsn.replace(durable_server.password, "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await run(dsn, "SELECT 1")


async def test_a_service_can_connect_to_its_own_database_alone(durable_server: PostgresServer) -> None:
    passwords = {"streak": "one", "points": "two"}
    dsns = create_service_databases(durable_server.admin_dsn, passwords, passwords=passwords)

    assert await run(dsns["streak"], "SELECT current_user") == "laurel_streak"
    await run(dsns["streak"], "CREATE TABLE own (id int)")
    for stranger in ("laurel_points", "postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(service_dsn(durable_server.admin_dsn, "streak", "one", database=stranger), "SELECT 1")


async def test_creating_the_databases_again_keeps_what_is_in_them(durable_server: PostgresServer) -> None:
    passwords = {"streak": "kept"}
    dsn = create_service_databases(durable_server.admin_dsn, passwords, passwords=passwords)["streak"]
    await run(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")

    assert create_service_databases(durable_server.admin_dsn, passwords, passwords=passwords)["streak"] == dsn
    assert await run(dsn, "SELECT answer FROM kept") == 42


@pytest.mark.parametrize(
    ("admin_dsn", "expected"),
    [
        ("postgresql://a:b@h:1/postgres", "postgresql://laurel_streak:p%2Fw@h:1/laurel_streak"),
        (
            "postgresql://h/x?sslmode=require",
            "postgresql://laurel_streak:p%2Fw@h/laurel_streak?sslmode=require",
        ),
        (
            "postgresql:///x?host=%2Frun%2Fpg&user=a",
            "postgresql://laurel_streak:p%2Fw@/laurel_streak?host=%2Frun%2Fpg",
        ),
    ],
)
def test_a_service_dsn_names_the_same_server_but_another_role(admin_dsn: str, expected: str) -> None:
    assert service_dsn(admin_dsn, "streak", "p/w") == expected


def test_two_servers_run_side_by_side(
    durable_server: PostgresServer, postgres_server: PostgresServer
) -> None:
    assert durable_server.port != postgres_server.port
    assert durable_server.pid != postgres_server.pid


def test_valkey_comes_back_empty_on_the_same_port_after_a_kill(own_valkey: ValkeyServer) -> None:
    url = own_valkey.url
    with redis.Redis.from_url(url) as client:
        client.set("score", 1)
    own_valkey.kill()
    assert own_valkey.pid is None

    own_valkey.restart()

    assert own_valkey.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("score") is None


def test_valkey_refuses_to_forget_scores_when_memory_is_short(own_valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as client:
        settings = client.config_get("maxmemory-policy", "appendonly", "save")
    assert settings == {"maxmemory-policy": "noeviction", "appendonly": "no", "save": ""}


def test_a_guarded_valkey_lets_services_work_on_keys_and_do_nothing_else(server_directory: Path) -> None:
    server = ValkeyServer.start(server_directory / "guarded-valkey", guarded=True)
    try:
        with redis.Redis.from_url(server.url) as client:
            client.set("score", 1)
            assert client.eval("return redis.call('GET', KEYS[1])", 1, "score") == b"1"
            assert client.info("memory")
            assert client.script_load("return 1")
            assert list(client.scan_iter()) == [b"score"]
            for command in (
                "FLUSHALL",
                "FLUSHDB",
                "KEYS *",
                "CONFIG GET *",
                "ACL LIST",
                "SHUTDOWN",
                "MONITOR",
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command.split())
        with (
            redis.Redis(port=server.port) as stranger,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            stranger.ping()
        assert server.process is not None
        arguments = " ".join(psutil.Process(server.process.pid).cmdline())
        users = (server.directory / "users.acl").read_text()
        assert not any(password in arguments + users for password in server.passwords.values())
        again = ValkeyServer.attach(server.directory)
        assert again is not None
        again.restart()
        with redis.Redis.from_url(again.url) as client:
            assert client.ping()
    finally:
        server.stop()


def test_containers_start_valkey_with_the_same_rules() -> None:
    script = (Path(__file__).parents[2] / "deploy" / "valkey.sh").read_text()
    assert f"user {SERVICES_USER} on #%s {RULES[SERVICES_USER]}\\n" in script


def test_a_flush_empties_every_valkey_database(own_valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(own_valkey.database_url(3)) as client:
        client.set("score", 1)
        own_valkey.flush()
        assert client.dbsize() == 0


def test_a_valkey_that_ends_by_signal_is_found_dead(own_valkey: ValkeyServer) -> None:
    assert own_valkey.process is not None
    own_valkey.process.send(signal.SIGTERM)
    own_valkey.process.wait(10)
    attached = ValkeyServer.attach(own_valkey.directory)
    assert attached is not None
    assert attached.pid is None


async def test_each_test_gets_a_fresh_copy_of_the_migrated_database(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    migrations = tmp_path / "sample" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "0001_sample.sql").write_text("CREATE TABLE sample (id int);\n")
    databases = ServiceDatabases(postgres_server.admin_dsn, tmp_path)

    first, second = await databases.create("sample"), await databases.create("sample")

    await run(first, "INSERT INTO sample VALUES (1)")
    assert await run(first, "SELECT count(*) FROM sample") == 1
    assert await run(second, "SELECT count(*) FROM sample") == 0
    for dsn in (first, second):
        await databases.drop(dsn)
    await databases.close()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await run(first, "SELECT 1")


def test_each_test_gets_an_empty_valkey_database(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
