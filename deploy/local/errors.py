"""What can go wrong while something is started or stopped."""

from pathlib import Path

LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 64 * 1024


class LaunchError(Exception):
    """A server or process could not be started, stopped or found. The message is meant for the user."""


class PortTakenError(LaunchError):
    """A port that was asked for is in use by another program."""


def with_log_tail(message: str, log: Path) -> str:
    """The message, followed by the last lines of the log that explain it."""
    return f"{message}\nThe end of {log}:\n{_tail(log)}"


def _tail(log: Path) -> str:
    if not log.exists():
        return "  (no log was written)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (the log is empty)"
