"""Which system a command talks to, and who says so."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.cli.errors import CommandError, NotToldError, UnavailableError
from services.cli.plugins import Launcher, LocalStack

SERVICES: Final = ("orchestrator", "streak", "achievement", "points", "leaderboard", "notification")
ORCHESTRATOR: Final = SERVICES[0]
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT_BASE: Final = 7400
CONNECT_TIMEOUT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service is. `source` is who says so; a guess is said by nobody. No address: `problem` says why.

    `credential` is the key that its stack made for whoever may read the stack's directory, `authority` the certificate
    of the stack's authority. Of a stack (`is_stack`) they say whether to encrypt, else the environment does.
    """

    source: str
    address: str | None = None
    problem: str = ""
    is_guess: bool = False
    credential: str = field(default="", repr=False)
    authority: Path | None = None
    is_stack: bool = False


def find_targets(
    chosen: Mapping[str, str],
    chosen_by: str,
    environment: Mapping[str, str],
    stack_here: Callable[[], LocalStack | None],
) -> dict[str, Target]:
    """Where each service is: as chosen, else by LAUREL_<SERVICE>_TARGET, else in this directory's stack, else,
    as a guess, on the default port.

    Who says where the orchestrator is means a whole system: a service that isn't named then follows on the next
    ports. Services of two systems are never mixed by what is merely lying around. `stack_here` is asked where nobody
    says anything.
    """
    variables = {name: f"LAUREL_{name.upper()}_TARGET" for name in SERVICES}
    named = {name: value for name in SERVICES if (value := environment.get(variables[name]))}
    found = {name: Target(chosen_by, address) for name, address in chosen.items()}
    if ORCHESTRATOR not in chosen:
        found |= {name: Target(variables[name], named[name]) for name in named.keys() - chosen.keys()}
    system = found.get(ORCHESTRATOR)
    stack = stack_here() if system is None else None
    for index, name in enumerate(SERVICES):
        if name in found:
            continue
        if system is not None:
            found[name] = _beside(system, name, index)
        elif stack is not None:
            found[name] = of_stack(stack, name)
        else:
            address = f"{DEFAULT_HOST}:{_port_base(environment) + index}"
            found[name] = Target("the default", address, is_guess=True)
    return {name: found[name] for name in SERVICES}


def _port_base(environment: Mapping[str, str]) -> int:
    """Where `laurel up` would start a stack; a value of LAUREL_PORT_BASE that cannot be is the launcher's to refuse."""
    text = environment.get("LAUREL_PORT_BASE", "")
    return int(text) if text.isdecimal() and int(text) else DEFAULT_PORT_BASE


def _beside(orchestrator: Target, name: str, index: int) -> Target:
    """By the scheme of `laurel up` and the containers: the ports of one system follow one another."""
    address = orchestrator.address or ""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "," in address or address.startswith("unix:"):
        problem = f"where is {name}? Say --target {name}=HOST:PORT"
        return Target(orchestrator.source, problem=problem)
    return Target(orchestrator.source, f"{host}:{int(port) + index}")


def of_stack(stack: LocalStack, name: str) -> Target:
    """A service of a stack that is known."""
    source = f"the stack in {stack.home}"
    address = stack.addresses.get(name)
    problem = f"{name} of {source} does not run: `laurel up` starts it; --target names another system."
    return Target(
        source,
        address,
        "" if address else problem,
        credential=stack.api_key,
        authority=stack.authority,
        is_stack=True,
    )


def behind(target: Target, launcher: Launcher | None) -> str:
    """What is known of who answers at a guessed address, as the end of a sentence."""
    assert target.address is not None
    home = launcher.home_behind(int(target.address.rpartition(":")[2])) if launcher is not None else None
    return f"{target.address} ({f'the stack in {home}' if home else 'the default'})"


def refusal(target: Target, launcher: Launcher | None) -> CommandError:
    """Why nothing is changed at a guessed address."""
    assert target.address is not None
    if not _answers(target.address):
        return UnavailableError(
            f"failed: no system was named, and nothing answers at {target.address}.",
            "  `laurel up` starts one on this machine; --target or LAUREL_TARGET names another.",
        )
    return NotToldError(
        f"refused: no system was named, and this directory has no stack. Not changed: {behind(target, launcher)}.",
        f"  If that one is meant, say --target {target.address}, or set LAUREL_TARGET or LAUREL_HOME.",
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True
