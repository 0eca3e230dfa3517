"""What a run started is gone when the run is, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.processes import ProcessRef, processes_in
from tests.fixtures.waiting import until

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 60.0

_RUN = """
import subprocess, sys
from deploy.local.config import StackConfig
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack

root, parent = sys.argv[1:]
with run_directory("test", parent) as home:
    config = StackConfig(
        home=home / "stack", port_base=0, settings={"PYTHONPATH": root}, services=("orchestrator", "streak"),
        package="tests.fixtures.probe", fsync=False,
    )
    Stack(config).up()
    # One that does not heed what ends others.
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    subprocess.Popen([sys.executable, "-c", deaf], cwd=home)
    print(home, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(server_directory: Path, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A run in a session of its own, with servers, services and a helper; it ends when its input does."""
    parent = server_directory / tmp_path.name
    parent.mkdir(mode=0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(ROOT), str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def started(home: Path) -> list[ProcessRef]:
    """What works there: PostgreSQL and its own processes, Valkey, two services, and the helper."""
    found = processes_in(home)
    names = [psutil.Process(each.pid).name() for each in found]
    assert names.count("postgres") > 1
    assert len(found) - names.count("postgres") == 4
    return found


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
async def test_a_run_that_is_killed_leaves_no_process_and_no_file(
    run: tuple["subprocess.Popen[str]", Path], kill: Callable[[int, int], None]
) -> None:
    process, home = run
    running = started(home)
    kill(process.pid, signal.SIGKILL)
    process.wait()

    async def gone() -> bool:
        return not home.exists() and not any(each.is_alive() for each in running)

    await until(gone, seconds=END_SECONDS, what="the processes and the directory of the run are gone")


def test_a_run_that_ends_leaves_no_process_and_no_file(run: tuple["subprocess.Popen[str]", Path]) -> None:
    process, home = run
    running = started(home)
    process.communicate()
    assert process.returncode == 0
    assert not home.exists()
    assert [each for each in running if each.is_alive()] == []
