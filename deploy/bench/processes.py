"""Processes beside the stack: servers that are asked, and workers that answer lines of JSON."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from deploy.bench.load import Load, Measured
from deploy.local.errors import LaunchError, with_log_tail
from deploy.local.health import await_serving
from deploy.local.ports import LOOPBACK, free_port

_START_TIMEOUT_SECONDS = 20.0
_STOP_TIMEOUT_SECONDS = 10.0


class Worker:
    """A module that reads a line of JSON and answers with one, in a process of its own.

    It works in the directory of the run, and ends with it.
    """

    def __init__(self, module: str, directory: Path) -> None:
        self._module = module
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if kind is not None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, question: Mapping[str, Any]) -> Any:
        """The answer to a question. Raises `LaunchError` with the end of what the worker said when it broke."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
            self._errors.seek(0)
            raise LaunchError(f"{self._module} broke off:\n{self._errors.read()[-4_000:]}")
        return json.loads(answer)


class Generator(Worker):
    """The load generator."""

    def __init__(self, directory: Path) -> None:
        super().__init__("deploy.bench.generator", directory)

    def send(self, load: Load) -> Measured:
        """One window of load."""
        return Measured.from_json(self.ask(load.to_json()))


@dataclass(frozen=True, slots=True)
class Served:
    """A server in a process of its own."""

    address: str
    pid: int


@contextmanager
def serving(module: str, log: Path, *arguments: str, listens_by_argument: bool = False) -> Iterator[Served]:
    """A server for the time of the block. Raises `LaunchError` when it does not serve."""
    address = f"{LOOPBACK}:{free_port()}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments, *([address] if listens_by_argument else [])],
            cwd=log.parent,
            env={**os.environ, "LAUREL_LISTEN": address},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        if await_serving(address, deadline, lambda: process.poll() is None) != "SERVING":
            raise LaunchError(with_log_tail(f"{module} does not serve", log))
        yield Served(address, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """User and system time of a process, of its children too if asked (those that have ended included)."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    total: float = times.user + times.system
    if with_children:
        total += times.children_user + times.children_system
        for child in process.children(recursive=True):
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += own.user + own.system
    return total


def machine_cpu_seconds() -> float:
    """The CPU time that was spent by all programs, and taken by the machine's own host."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def memory_bytes(pid: int, *, with_children: bool = False) -> int:
    """Proportional set size: memory that several processes share is counted once among them."""
    process = psutil.Process(pid)
    processes = [process, *(process.children(recursive=True) if with_children else [])]
    total = 0
    for each in processes:
        try:
            total += each.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
