"""A directory for the servers of one run, that is gone when the run is, however it ends.

A run that is killed (SIGKILL, out of memory) cannot stop what it started. So a watchdog, a process of its own, holds
the reading end of a pipe whose writing end only the run has. When the run ends, the kernel closes the pipe; the
watchdog then ends every process that works in the directory and removes it. The parent-death signal of Linux (prctl)
would not do: it is sent when the thread that started a process ends, a change of account drops it, and it removes no
files.

Whatever a run starts must work in its directory (`cwd`), as everything in `deploy.local` does. The stack of `laurel up`
is nobody's run: it is meant to stay.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.processes import ProcessRef, processes_in

END_TIMEOUT_SECONDS = 5.0
WATCHDOG_TIMEOUT_SECONDS = 60.0
ATTEMPTS = 10


@contextmanager
def run_directory(name: str, parent: str | Path | None = None) -> Iterator[Path]:
    """A new directory in `parent` (the system's for temporary files), for the time of the block.

    The account of PostgreSQL can enter it; else its data would be put somewhere else.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"laurel-{name}-", dir=parent)).resolve()
    with watched(directory):
        yield directory


@contextmanager
def watched(directory: Path) -> Iterator[None]:
    """When the block ends or this process does, whatever works in the directory is ended and it is removed."""
    directory.chmod(0o755)
    watchdog = subprocess.Popen(
        [sys.executable, "-P", "-m", "deploy.local.run_directory", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd="/",
        # Neither Ctrl-C nor a kill of the run's process group ends it.
        start_new_session=True,
    )
    assert watchdog.stdin is not None
    try:
        yield
    finally:
        clear(directory)
        watchdog.stdin.close()
        watchdog.wait(WATCHDOG_TIMEOUT_SECONDS)


def clear(directory: Path) -> None:
    """End whatever works in the directory, and remove it."""
    for _ in range(ATTEMPTS):
        # A process may have started another one while it was looked for.
        remains = [each for each in processes_in(directory) if each.pid != os.getpid()]
        if not remains:
            break
        _end(remains, directory)
    shutil.rmtree(directory, ignore_errors=True)


def _end(processes: list[ProcessRef], directory: Path) -> None:
    """PostgreSQL is asked first: killed, it would leave its shared memory behind."""
    servers = processes_in(directory, name="postgres")
    for process in processes:
        process.send(signal.SIGQUIT if process in servers else signal.SIGKILL)
    deadline = time.monotonic() + END_TIMEOUT_SECONDS
    for process in processes:
        process.wait(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.send(signal.SIGKILL)
        process.wait(END_TIMEOUT_SECONDS)


def _watch(directory: Path) -> None:
    """Wait until nobody holds the other end of standard input."""
    while os.read(0, 1):
        pass
    clear(directory)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
