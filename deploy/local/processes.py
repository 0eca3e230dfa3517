"""Processes that outlive their launcher, and how to recognise them later."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from deploy.local.accounts import Account
from deploy.local.errors import LaunchError

# The create time of a process is computed from the boot time, which moves when the clock is adjusted.
CREATE_TIME_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process by id and create time (Unix seconds): an id alone may have passed on to another program."""

    pid: int
    create_time: float

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> Self | None:
        return cls(int(content["pid"]), float(content["create_time"])) if content else None

    def to_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "create_time": self.create_time}

    def is_alive(self) -> bool:
        return self._find() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended gets none, and neither does one that took over its id."""
        process = self._find()
        if process is None:
            return
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied as error:
            raise LaunchError(
                f"not allowed to signal process {self.pid}: it belongs to another user"
            ) from error

    def wait(self, timeout_seconds: float) -> bool:
        """Whether the process ended within the time."""
        process = self._find()
        if process is None:
            return True
        try:
            process.wait(timeout_seconds)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            return False
        return True

    def _find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.create_time) > CREATE_TIME_TOLERANCE_SECONDS:
                return None
            if process.status() == psutil.STATUS_ZOMBIE and _is_over(process):
                return None
        except psutil.NoSuchProcess:
            return None
        return process


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str],
    account: Account | None = None,
) -> ProcessRef:
    """Start a process in a session of its own, writing to the log, that goes on when its launcher ends.

    Raises LaunchError when the program cannot be executed.
    """
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except OSError as error:
            raise LaunchError(f"cannot execute {command[0]}: {error}") from error
    reference = ProcessRef(child.pid, psutil.Process(child.pid).create_time())
    # ProcessRef does the waiting from here; without this, dropping a running child counts as a leak.
    child.returncode = 0
    return reference


def terminate(process: ProcessRef, number: signal.Signals, *, patience_seconds: float) -> bool:
    """Ask a process to end, then insist with SIGKILL. Whether it ended by itself."""
    process.send(number)
    if process.wait(patience_seconds):
        return True
    process.send(signal.SIGKILL)
    process.wait(patience_seconds)
    return False


def processes_in(directory: Path, *, name: str | None = None) -> list[ProcessRef]:
    """Every process (of that program) whose working directory is this one or lies below it."""
    found = []
    for process in psutil.process_iter():
        try:
            if name in (None, process.name()) and Path(process.cwd()).is_relative_to(directory):
                found.append(ProcessRef(process.pid, process.create_time()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _is_over(zombie: psutil.Process) -> bool:
    """Collect a dead child. While its other threads are still ending, it holds its ports and is not over."""
    if zombie.ppid() != os.getpid():
        return True
    try:
        pid, _ = os.waitpid(zombie.pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return pid == zombie.pid
