"""What the `laurel` command asks about the stacks of this machine (`services.cli.plugins.Launcher`)."""

import os
from pathlib import Path

import click

from deploy.local.config import StackConfig
from deploy.local.errors import LaunchError
from deploy.local.stack import Stack
from deploy.local.state import home_behind
from services.cli.plugins import LocalStack

__all__ = ["authority_behind", "home_behind", "stack_here"]


def stack_here() -> LocalStack | None:
    """The stack of LAUREL_HOME or of this directory, running or not; None where none was ever started.

    A service that does not run has no address: on its port another stack may answer by now.
    """
    try:
        return local_stack(Stack(StackConfig.from_environment(os.environ)))
    except LaunchError as error:
        raise click.UsageError(str(error)) from error


def local_stack(stack: Stack) -> LocalStack | None:
    """What the command has to know of a stack. Raises `LaunchError`."""
    addresses = stack.running_addresses()
    if addresses is None:
        return None
    found = {name: ",".join(each) for name, each in addresses.items()}
    return LocalStack(stack.home, found, stack.api_key or "", stack.authority)


def authority_behind(port: int) -> Path | None:
    """What to believe of the stack that listens on this port; None where it does not encrypt, or is not known."""
    home = home_behind(port)
    return None if home is None else Stack(StackConfig(home)).authority
