"""Named crash points, so that a test can kill a process at an exact place and see that nothing is lost
(DESIGN 8).

A module declares its points once, at import, and passes them on its way:

    AFTER_COMMIT = declare("points.apply.after_commit", "effects are durable, the caller has no answer yet")
    ...
    await AFTER_COMMIT.reach()

Unarmed, a point costs an attribute check. `LAUREL_FAULTS` arms them:
`name=kill@3;other=delay:2.0;third=error@1`. An action with `@N` happens at the N-th hit only; without, `kill`
at the first and the others at every hit.
"""

import asyncio
import os
import re
import signal
import time
from enum import StrEnum
from typing import Final

from msgspec import Struct

from shared.config import ConfigurationError

ENVIRONMENT_VARIABLE: Final = "LAUREL_FAULTS"

CRASH_POINTS: Final[dict[str, str]] = {}
"""Every declared name and what has happened, and what has not, when it is passed."""

_NAME: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_ENTRY: Final = re.compile(
    r"(?P<name>[^=\s]+)=(?P<action>kill|error|delay)(:(?P<seconds>\d+(\.\d+)?))?(@(?P<hit>[1-9]\d*))?"
)


class InjectedFault(Exception):
    """What a point armed with `error` raises: an exception that nobody expects."""


class Action(StrEnum):
    """What an armed point does."""

    KILL = "kill"
    ERROR = "error"
    DELAY = "delay"


class Fault(Struct, frozen=True):
    """What an armed point does, at which hit (None: at every one), and for a delay how long."""

    action: Action
    hit: int | None = None
    seconds: float = 0.0


class CrashPoint:
    """A place in the code with a name."""

    __slots__ = ("_fault", "_hits", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._fault: Fault | None = None
        self._hits = 0

    async def reach(self) -> None:
        """Pass the point; a delay waits without holding up the process."""
        if self._fault is not None:
            await asyncio.sleep(self._fire(self._fault))

    def hit(self) -> None:
        """Pass the point from code that does not await; a delay holds up the whole process."""
        if self._fault is not None:
            time.sleep(self._fire(self._fault))

    def arm(self, fault: Fault | None) -> None:
        """Set what the point does from now on and count hits anew; None disarms it."""
        self._fault = fault
        self._hits = 0

    def _fire(self, fault: Fault) -> float:
        """Do what the fault says for this hit; the result is the time to wait, in seconds."""
        self._hits += 1
        if fault.hit is not None and fault.hit != self._hits:
            return 0.0
        if fault.action is Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.action is Action.ERROR:
            raise InjectedFault(self.name)
        return fault.seconds


_points: Final[dict[str, CrashPoint]] = {}


def declare(name: str, meaning: str) -> CrashPoint:
    """Name a point. Once, at import: a name declared twice is a `ValueError`."""
    if name in CRASH_POINTS or not _NAME.fullmatch(name):
        raise ValueError(f"crash point {name!r} is declared twice or is not of the form a.b.c")
    CRASH_POINTS[name] = meaning
    _points[name] = CrashPoint(name)
    return _points[name]


def arm(specification: str) -> None:
    """Arm points as `LAUREL_FAULTS` would, after all modules are imported; "" disarms all.

    Raises `ConfigurationError` with every mistake, and then arms nothing.
    """
    faults: dict[str, Fault] = {}
    problems: list[str] = []
    for entry in filter(None, (part.strip() for part in specification.split(";"))):
        match = _ENTRY.fullmatch(entry)
        if match is None or (match["seconds"] is not None) != (match["action"] == Action.DELAY):
            problems.append(f"{entry!r} is not name=kill|error|delay:SECONDS, with @HIT or without")
        elif match["name"] not in _points:
            problems.append(f"{match['name']!r} is not a crash point of this process")
        else:
            faults[match["name"]] = _fault(match)
    if problems:
        raise ConfigurationError([f"{ENVIRONMENT_VARIABLE}: {problem}" for problem in problems])
    for name, point in _points.items():
        point.arm(faults.get(name))


def _fault(match: re.Match[str]) -> Fault:
    action = Action(match["action"])
    hit = int(match["hit"]) if match["hit"] else None
    return Fault(action, hit, float(match["seconds"] or 0))
