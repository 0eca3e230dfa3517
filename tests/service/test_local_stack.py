"""The launcher of the whole stack, with probes in the place of the services."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import psutil
import pytest

from deploy.local.config import StackConfig
from deploy.local.errors import LaunchError, PortTakenError
from deploy.local.postgres import PostgresServer
from deploy.local.processes import processes_in
from deploy.local.stack import ProcessStatus, Stack
from deploy.local.state import home_behind
from deploy.local.valkey import ValkeyServer

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
PROBES = ("orchestrator", "streak", "leaderboard")

MakeStack = Callable[..., Stack]


@pytest.fixture(scope="module")
def shared_postgres(quick_directory: Path) -> Iterator[PostgresServer]:
    """Not the session's server: stacks give the services' roles passwords of their own."""
    server = PostgresServer.start(quick_directory / "stacks-postgres", fsync=False)
    yield server
    server.erase()


@pytest.fixture
def make_stack(
    server_directory: Path, tmp_path: Path, shared_postgres: PostgresServer, valkey_server: ValkeyServer
) -> Iterator[MakeStack]:
    """A stack of probes on servers that it finds running; `own_servers=True` for servers of its own."""
    with ExitStack() as stacks:

        def make(
            home: str = "stack",
            *,
            services: tuple[str, ...] = PROBES,
            port_base: int = 0,
            own_servers: bool = False,
            serving_timeout_seconds: float = 30.0,
            progress: Callable[[str], None] = lambda _: None,
        ) -> Stack:
            config = StackConfig(
                home=(server_directory / tmp_path.name if own_servers else tmp_path) / home,
                port_base=port_base,
                postgres_admin_dsn=None if own_servers else shared_postgres.admin_dsn,
                redis_url=None if own_servers else valkey_server.url,
                settings={"PYTHONPATH": str(ROOT), "LAUREL_LOG_LEVEL": "DEBUG"},
                services=services,
                package="tests.fixtures.probe",
                fsync=False,
                serving_timeout_seconds=serving_timeout_seconds,
            )
            stack = Stack(config, progress)
            stacks.callback(stack.erase)
            return stack

        yield make


def states(statuses: tuple[ProcessStatus, ...]) -> dict[str, str]:
    return {each.name: each.state for each in statuses}


def pid_of(stack: Stack, name: str) -> int:
    pid = next(each.pid for each in stack.status() if each.name == name)
    assert pid is not None
    return pid


def environment_of(stack: Stack, name: str) -> dict[str, str]:
    return dict(psutil.Process(pid_of(stack, name)).environ())


def test_up_starts_servers_and_services_and_down_stops_them_all(make_stack: MakeStack) -> None:
    stack = make_stack(own_servers=True)

    up = stack.up()

    assert states(up) == {
        "postgres": "running",
        "valkey": "running",
        "leaderboard-0": "serving",
        "orchestrator-0": "serving",
        "streak-0": "serving",
    }
    processes = [psutil.Process(each.pid) for each in up]
    stack.down()
    assert set(states(stack.status()).values()) == {"stopped"}
    _, alive = psutil.wait_procs(processes, timeout=0)
    assert alive == []


async def test_the_data_is_there_again_after_down_and_up(make_stack: MakeStack) -> None:
    stack = make_stack(own_servers=True)
    stack.up()
    connection = await asyncpg.connect(stack.owner_dsn("streak"))
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await connection.close()
    stack.down()

    stack.up()

    connection = await asyncpg.connect(stack.owner_dsn("streak"))
    assert await connection.fetchval("SELECT answer FROM kept") == 42
    await connection.close()


def test_a_second_up_changes_nothing_and_restarts_what_is_dead(make_stack: MakeStack) -> None:
    stack = make_stack()
    before = stack.up()
    assert stack.up() == before

    stack.kill_service("streak")
    assert states(stack.status())["streak-0"] == "dead"
    after = {each.name: each for each in stack.up()}

    for status in before:
        again = after[status.name]
        assert again.address == status.address
        assert (again.pid == status.pid) == (status.name != "streak-0" or status.pid is None)


def test_another_command_finds_the_stack_by_its_home(make_stack: MakeStack) -> None:
    first = make_stack()
    first.up()
    second = make_stack()

    assert second.status() == first.status()
    second.down()

    assert states(first.status())["orchestrator-0"] == "stopped"


def test_two_stacks_at_once_share_nothing(make_stack: MakeStack) -> None:
    one, other = make_stack("one", own_servers=True), make_stack("other", own_servers=True)

    addresses = [each.address for stack in (one, other) for each in stack.up()]

    assert len(set(addresses)) == len(addresses)
    one.down()
    assert states(other.status())["orchestrator-0"] == "serving"


def test_services_get_their_own_database_and_the_orchestrator_the_participants(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.up()

    orchestrator, streak = environment_of(stack, "orchestrator-0"), environment_of(stack, "streak-0")
    leaderboard = environment_of(stack, "leaderboard-0")

    assert (streak["LAUREL_LISTEN"],) == stack.addresses("streak")
    assert streak["LAUREL_INSTANCE"] == "streak-0"
    assert streak["LAUREL_POSTGRES_DSN"].endswith("/laurel_streak")
    assert streak["LAUREL_LOG_LEVEL"] == "DEBUG"
    assert orchestrator["LAUREL_STREAK_TARGET"] == streak["LAUREL_LISTEN"]
    assert orchestrator["LAUREL_LEADERBOARD_TARGET"] == leaderboard["LAUREL_LISTEN"]
    assert leaderboard["LAUREL_REDIS_URL"].startswith("redis://")
    assert streak["LAUREL_REDIS_URL"] == leaderboard["LAUREL_REDIS_URL"]
    assert "LAUREL_STREAK_TARGET" not in streak


def test_an_orchestrator_is_told_every_replica_that_runs_before_it(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.up()
    stack.start_service("streak", 1)
    second = stack.start_service("orchestrator", 1)

    assert second.state == "serving"
    targets = environment_of(stack, "orchestrator-1")["LAUREL_STREAK_TARGET"]
    assert targets == ",".join(stack.addresses("streak"))
    assert len(targets.split(",")) == 2


def test_a_stopped_replica_stays_stopped_but_a_killed_one_comes_back(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.up()
    stack.start_service("streak", 1)
    stack.start_service("streak", 2)

    stack.stop_service("streak", 1)
    stack.kill_service("streak", 2)

    now = states(stack.up())
    assert (now["streak-1"], now["streak-2"]) == ("stopped", "serving")


def test_a_frozen_service_is_not_serving_until_it_goes_on(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.up()
    stack.kill_service("streak", number=signal.SIGSTOP)
    assert states(stack.status())["streak-0"] == "not serving"
    stack.kill_service("streak", number=signal.SIGCONT)
    assert states(stack.status())["streak-0"] == "serving"


def test_the_services_outlive_the_process_group_of_their_launcher(make_stack: MakeStack) -> None:
    stack = make_stack(services=("streak",))
    stack.up()
    assert os.getsid(pid_of(stack, "streak-0")) == pid_of(stack, "streak-0")


def test_a_service_that_does_not_exist_is_reported_with_the_reason(make_stack: MakeStack) -> None:
    stack = make_stack(services=("streak", "nonesuch"))
    with pytest.raises(LaunchError, match="migrating nonesuch failed") as failure:
        stack.up()
    assert "No module named tests.fixtures.probe.nonesuch" in str(failure.value)


def test_a_service_that_ends_while_starting_shows_the_end_of_its_log(make_stack: MakeStack) -> None:
    stack = make_stack(services=("streak", "broken"))
    with pytest.raises(LaunchError, match="broken-0 ended while starting") as failure:
        stack.up()
    assert "the probe was told to fail" in str(failure.value)


def test_an_up_that_fails_leaves_nothing_of_its_own_running(make_stack: MakeStack) -> None:
    stack = make_stack(services=("streak", "broken"), own_servers=True)
    with pytest.raises(LaunchError, match="broken-0 ended while starting"):
        stack.up()
    assert set(states(stack.status()).values()) == {"stopped"}
    assert processes_in(stack.home) == []


def test_an_up_that_fails_leaves_what_ran_before_it(make_stack: MakeStack) -> None:
    make_stack(services=("streak",)).up()
    stack = make_stack(services=("streak", "broken"))
    with pytest.raises(LaunchError, match="broken-0 ended while starting"):
        stack.up()
    assert states(stack.status())["streak-0"] == "serving"
    assert states(stack.status())["broken-0"] == "stopped"


def test_an_up_that_is_broken_off_leaves_nothing_running(make_stack: MakeStack) -> None:
    def break_off(text: str) -> None:
        if "serves on" in text:
            raise KeyboardInterrupt

    stack = make_stack(own_servers=True, progress=break_off)
    with pytest.raises(KeyboardInterrupt):
        stack.up()
    assert processes_in(stack.home) == []


def test_a_service_that_never_becomes_ready_is_reported_after_the_time_limit(make_stack: MakeStack) -> None:
    stack = make_stack(services=("mute",), serving_timeout_seconds=2.0)
    with pytest.raises(LaunchError, match="mute-0 does not serve after 2 s: NOT_SERVING"):
        stack.up()


def test_a_taken_port_is_named_with_the_variable_that_moves_it_before_anything_is_started(
    make_stack: MakeStack,
) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        said: list[str] = []
        stack = make_stack(port_base=port - 1, own_servers=True, progress=said.append)
        with pytest.raises(
            PortTakenError, match=rf"\b{port} \(streak\) by another program.*LAUREL_PORT_BASE"
        ):
            stack.up()
    assert said == []
    assert set(states(stack.status()).values()) == {"stopped"}


def test_a_port_that_another_stack_has_is_named_with_its_directory(make_stack: MakeStack) -> None:
    other = make_stack("other", services=("streak",))
    other.up()
    port = int(other.addresses("streak")[0].rpartition(":")[2])
    assert home_behind(port) == other.home
    with pytest.raises(PortTakenError, match=rf"{port} \(streak\) by the stack in {other.home}"):
        make_stack(services=("streak",), port_base=port).up()


def test_a_service_that_was_never_started_is_part_of_the_status(make_stack: MakeStack) -> None:
    make_stack(services=("streak",)).up()
    assert states(make_stack().status()) == {
        "postgres": "external",
        "valkey": "external",
        "leaderboard-0": "stopped",
        "orchestrator-0": "stopped",
        "streak-0": "serving",
    }


def test_a_process_that_took_over_a_recorded_id_is_never_touched(make_stack: MakeStack) -> None:
    stack = make_stack(services=("streak",))
    stack.up()
    state = stack.home / "state.json"
    old = pid_of(stack, "streak-0")
    stack.kill_service("streak")
    state.write_text(state.read_text().replace(f'"pid": {old}', f'"pid": {os.getpid()}'))

    assert states(stack.status())["streak-0"] == "dead"
    stack.stop_service("streak")
    assert states(stack.up())["streak-0"] == "serving"


def test_a_damaged_state_file_is_named(make_stack: MakeStack) -> None:
    stack = make_stack(services=("streak",))
    stack.home.mkdir(parents=True)
    (stack.home / "state.json").write_text("{")
    with pytest.raises(LaunchError, match="is damaged"):
        stack.status()
    (stack.home / "state.json").unlink()


def test_an_unknown_service_or_replica_is_refused_by_name(make_stack: MakeStack) -> None:
    stack = make_stack()
    with pytest.raises(LaunchError, match="no service is called 'strike'"):
        stack.start_service("strike")
    with pytest.raises(LaunchError, match="replica 100 of streak"):
        stack.start_service("streak", 100)
    with pytest.raises(LaunchError, match="streak-0 has never been started"):
        stack.kill_service("streak")


def test_a_stack_that_was_never_started_has_nothing_to_stop(make_stack: MakeStack) -> None:
    stack = make_stack(own_servers=True)
    stack.down()
    assert set(states(stack.status()).values()) == {"stopped"}


def test_progress_names_what_is_started_and_what_runs_already(make_stack: MakeStack) -> None:
    said: list[str] = []
    stack = make_stack(services=("streak",), progress=said.append)
    stack.up()
    assert "starting streak-0" in said
    said.clear()
    stack.up()
    assert said == ["streak-0 runs already"]


def test_the_environment_says_where_and_how_a_stack_runs() -> None:
    config = StackConfig.from_environment({"LAUREL_HOME": "/somewhere", "LAUREL_PORT_BASE": "8000"})
    assert (config.home, config.fixed_port("orchestrator", 0)) == (Path("/somewhere"), 8000)
    assert config.fixed_port("leaderboard", 1) == 8014
    assert StackConfig.from_environment({}).fixed_port("orchestrator", 0) == 7400


@pytest.mark.parametrize("value", ["many", "80", "-1", "70000"])
def test_a_port_base_that_cannot_be_is_refused_by_name(value: str) -> None:
    with pytest.raises(LaunchError, match="LAUREL_PORT_BASE"):
        StackConfig.from_environment({"LAUREL_PORT_BASE": value})
