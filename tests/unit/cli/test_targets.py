"""Which system a command talks to: as said, else this directory's, else a guess that may only be read."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from laurel.orchestrator.v1 import orchestrator_service_pb2 as messages
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from services.cli import plugins
from services.cli.connect import OnlyReads
from services.cli.errors import EXIT_UNAVAILABLE, EXIT_USAGE, NotToldError, UnavailableError
from services.cli.main import cli
from services.cli.plugins import LocalStack
from services.cli.targets import SERVICES, Target, find_targets

HERE = LocalStack(Path("/here/.laurel"), {name: f"127.0.0.1:2000{n}" for n, name in enumerate(SERVICES)})


def addresses(targets: dict[str, Target]) -> list[str | None]:
    return [targets[name].address for name in SERVICES]


def test_without_a_word_it_is_the_stack_of_this_directory() -> None:
    targets = find_targets({}, "--target", {}, lambda: HERE)
    assert addresses(targets) == [HERE.addresses[name] for name in SERVICES]
    assert {each.source for each in targets.values()} == {"the stack in /here/.laurel"}
    assert not any(each.is_guess for each in targets.values())


def test_a_service_of_this_directory_that_does_not_run_is_nowhere_else() -> None:
    stopped = LocalStack(HERE.home, {"orchestrator": "127.0.0.1:20000"})
    targets = find_targets({}, "--target", {}, lambda: stopped)
    assert targets["orchestrator"].address == "127.0.0.1:20000"
    assert targets["streak"].address is None
    assert "streak of the stack in /here/.laurel does not run: `laurel up`" in targets["streak"].problem


def test_where_there_is_nothing_to_go_by_it_is_a_guess() -> None:
    targets = find_targets({}, "--target", {}, lambda: None)
    assert addresses(targets) == [f"127.0.0.1:{port}" for port in range(7400, 7406)]
    assert all(each.is_guess for each in targets.values())
    assert (
        find_targets({}, "--target", {"LAUREL_PORT_BASE": "8000"}, lambda: None)["points"].address
        == "127.0.0.1:8003"
    )


def test_a_system_that_is_named_by_its_orchestrator_has_the_others_on_the_next_ports() -> None:
    targets = find_targets({"orchestrator": "far:7400", "points": "farther:1"}, "--target", {}, lambda: HERE)
    assert addresses(targets) == ["far:7400", "far:7401", "far:7402", "farther:1", "far:7404", "far:7405"]


def test_where_the_others_are_cannot_be_told_from_every_address() -> None:
    for address in ("unix:/run/o.sock", "10.0.0.1:1,10.0.0.2:1"):
        targets = find_targets({"orchestrator": address}, "--target", {}, lambda: HERE)
        assert targets["orchestrator"].address == address
        assert targets["streak"].problem == "where is streak? Say --target streak=HOST:PORT"


@given(
    chosen=st.sets(st.sampled_from(SERVICES)),
    named=st.sets(st.sampled_from(SERVICES)),
    stack=st.sampled_from([HERE, None]),
)
def test_services_of_two_systems_are_mixed_only_where_somebody_says_so(
    chosen: set[str], named: set[str], stack: LocalStack | None
) -> None:
    targets = find_targets(
        {name: f"chosen:{7400 + SERVICES.index(name)}" for name in chosen},
        "--target",
        {f"LAUREL_{name.upper()}_TARGET": f"named:{7400 + SERVICES.index(name)}" for name in named},
        lambda: stack,
    )
    unsaid = set(SERVICES) - chosen - named
    system = targets["orchestrator"].source
    assert {targets[name].source for name in unsaid} <= {system}
    assert all(targets[name].source == "--target" for name in chosen)
    assert not any(each.is_guess for each in targets.values() if each.source != "the default")


class _Asked(grpc.GenericRpcHandler):
    """Remembers which methods were called, and answers nothing."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
        self.methods.append(handler_call_details.method.rpartition("/")[2])


@pytest.fixture
def asked() -> Iterator[tuple[_Asked, OrchestratorServiceStub]]:
    """A server, and a stub that reaches it by a guess."""
    handler = _Asked()
    server = grpc.server(ThreadPoolExecutor(max_workers=1), handlers=[handler])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(address) as channel:
        guess = Target("the default", address, is_guess=True)
        yield handler, OrchestratorServiceStub(grpc.intercept_channel(channel, OnlyReads(guess, None)))
    server.stop(None).wait()


def test_a_read_goes_to_a_guess_and_says_where(
    asked: tuple[_Asked, OrchestratorServiceStub], capsys: pytest.CaptureFixture[str]
) -> None:
    server, stub = asked
    with pytest.raises(grpc.RpcError):
        stub.GetEntry(messages.GetEntryRequest(entry_id="e"), timeout=10)
    with pytest.raises(grpc.RpcError):
        stub.ApplyConfiguration(messages.ApplyConfigurationRequest(validate_only=True), timeout=10)
    assert server.methods == ["GetEntry", "ApplyConfiguration"]
    told = capsys.readouterr().err
    assert told.startswith("No system was named: asking 127.0.0.1:")
    assert told.count("No system was named") == 1


def test_nothing_that_changes_anything_goes_to_a_guess(asked: tuple[_Asked, OrchestratorServiceStub]) -> None:
    server, stub = asked
    with pytest.raises(NotToldError, match=r"--target 127\.0\.0\.1:") as refused:
        stub.VoidEntry(messages.VoidEntryRequest(entry_id="e"), timeout=10)
    assert refused.value.exit_code == EXIT_USAGE
    with pytest.raises(NotToldError):
        stub.ApplyConfiguration(messages.ApplyConfigurationRequest(), timeout=10)
    with pytest.raises(NotToldError):
        next(stub.ImportEvents(iter(()), timeout=10))
    assert server.methods == []


def test_a_guess_where_nobody_answers_is_unavailable_to_a_change() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        guess = OnlyReads(Target("the default", "127.0.0.1:1", is_guess=True), None)
        stub = OrchestratorServiceStub(grpc.intercept_channel(channel, guess))
        with pytest.raises(UnavailableError, match="`laurel up`") as refused:
            stub.VoidEntry(messages.VoidEntryRequest(entry_id="e"), timeout=10)
        assert refused.value.exit_code == EXIT_UNAVAILABLE


def test_the_variable_names_a_system_as_the_option_does() -> None:
    result = CliRunner().invoke(cli, ["context"], env={"LAUREL_TARGET": "127.0.0.1:1 streak=127.0.0.1:9"})
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["orchestrator", "127.0.0.1:1", "unavailable", "LAUREL_TARGET"] in lines
    assert ["streak", "127.0.0.1:9", "unavailable", "LAUREL_TARGET"] in lines
    assert ["achievement", "127.0.0.1:3", "unavailable", "LAUREL_TARGET"] in lines


def test_the_commands_of_the_launcher_come_by_its_entry_points() -> None:
    assert plugins.command_names() == ["down", "status", "up"]
    listed = CliRunner().invoke(cli, ["--help"]).stdout
    assert "Start the whole system on this machine" in listed


_WITHOUT_DEPLOY = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("deploy", "psutil"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import runpy
runpy.run_module("services.cli", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--help"], 0, "Undo a finished entry"),
        (["up"], 1, "deploy is missing): install laurel[local]"),
        (["--target", "127.0.0.1:1", "user", "u"], EXIT_UNAVAILABLE, "UNAVAILABLE"),
        (["context"], 0, "the default"),
    ],
)
def test_the_command_works_as_a_module_and_without_the_launcher(
    arguments: list[str], code: int, text: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _WITHOUT_DEPLOY, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert text in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
