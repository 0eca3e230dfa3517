"""What the `laurel` command asks about the stacks of this machine (`services.cli.plugins.Launcher`)."""

import os
from pathlib import Path

import click
import psutil

from deploy.local.config import StackConfig
from deploy.local.errors import LaunchError
from deploy.local.stack import Stack
from services.cli.plugins import LocalStack

STATE_FILE = "state.json"


def stack_here() -> LocalStack | None:
    """The stack of LAUREL_HOME or of this directory, running or not; None where none was ever started.

    A service that does not run has no address: on its port another stack may answer by now.
    """
    try:
        stack = Stack(StackConfig.from_environment(os.environ))
        addresses = stack.running_addresses()
    except LaunchError as error:
        raise click.UsageError(str(error)) from error
    if addresses is None:
        return None
    return LocalStack(stack.home, {name: ",".join(found) for name, found in addresses.items()})


def home_behind(port: int) -> Path | None:
    """The home of the stack whose service listens on this port; None where it is not a stack, or not ours to see."""
    try:
        listeners = [
            each.pid
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
            and each.pid is not None
            and each.laddr
            and each.laddr[1] == port
        ]
        # Services run in the home of their stack.
        homes = [Path(psutil.Process(pid).cwd()) for pid in listeners]
    except psutil.Error:
        return None
    return next((home for home in homes if (home / STATE_FILE).exists()), None)
