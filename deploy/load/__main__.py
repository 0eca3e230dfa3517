"""`python -m deploy.load`: runs ghz profiles against a stack that is up.

ghz is installed with Go into .laurel/bin when it is not there. Every profile is bounded in count and time.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import grpc
from laurel.orchestrator.v1 import orchestrator_service_pb2, orchestrator_service_pb2_grpc

from deploy.local.certificates import channel_to
from deploy.local.launcher import stack_here
from services.cli.connect import API_KEY
from shared.rpc.outgoing import AUTHORIZATION, BEARER

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
PROFILES: Final = ("unary-closed", "unary-open", "batch-closed", "batch-open")
METRICS: Final = frozenset({"commits", "lines_changed"})
GHZ_MODULE: Final = "github.com/bojand/ghz/cmd/ghz"
GHZ_VERSION: Final = "v0.120.0"
BINARIES: Final = ROOT / ".laurel" / "bin"
DEFAULT_TARGET: Final = "127.0.0.1:7400"
CHECK_TIMEOUT_SECONDS: Final = 5.0
STOP_TIMEOUT_SECONDS: Final = 30.0


class CannotLoad(Exception):
    """Why no load can be sent; meant for the user."""


def main() -> int:
    """Runs the profiles that were asked for, one after another. Exit code 1 where one cannot run."""
    try:
        arguments = _arguments()
        shown = metadata_of(arguments.target)
        authority = authority_of(arguments.target)
        check_target(arguments.target, shown, authority)
        ghz = ghz_binary()
        with tempfile.TemporaryDirectory(prefix="laurel-load-") as directory:
            contracts = Path(directory) / "laurel.binpb"
            write_contracts(contracts)
            # In a file: an argument can be seen by everybody on the machine.
            metadata = Path(directory) / "metadata.json"
            metadata.write_text(json.dumps(shown))
            for name in arguments.profile or PROFILES:
                content = profile(name)
                sys.stdout.write(f"--- {name}: {title_of(arguments, content)}\n")
                sys.stdout.flush()
                options = options_of(arguments, content)
                command = [
                    "--config",
                    f"{name}.json",
                    "--protoset",
                    str(contracts),
                    "--metadata-file",
                    str(metadata),
                    *(("--cacert", str(authority)) if authority else ("--insecure",)),
                    *options,
                    arguments.target,
                ]
                run_profile(ghz, command, arguments.seconds)
    except CannotLoad as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


def default_target() -> str:
    """The orchestrator of the stack of this directory, else the default port."""
    try:
        here = stack_here()
    except click.UsageError as error:
        raise CannotLoad(error.message) from error
    addresses = here.addresses.get("orchestrator", "") if here is not None else ""
    return addresses.partition(",")[0] or DEFAULT_TARGET


def metadata_of(target: str) -> dict[str, str]:
    """The key that calls show: that in LAUREL_API_KEY, else that of the stack of this directory, to it alone."""
    key = os.environ.get(API_KEY, "")
    here = None if key else stack_here()
    if here is not None and target in here.addresses.get("orchestrator", "").split(","):
        key = here.api_key
    return {AUTHORIZATION: BEARER + key} if key else {}


def authority_of(target: str) -> Path | None:
    """Whose certificates to believe: LAUREL_TLS_CA_FILE, else of the stack of this directory its own, for it alone."""
    if named := os.environ.get("LAUREL_TLS_CA_FILE"):
        return Path(named).resolve()
    here = stack_here()
    is_here = here is not None and target in here.addresses.get("orchestrator", "").split(",")
    return here.authority if here is not None and is_here else None


def check_target(target: str, metadata: Mapping[str, str], authority: Path | None) -> None:
    """Raises `CannotLoad` unless an orchestrator answers there and knows the metrics of the profiles."""
    with channel_to(target, authority) as channel:
        stub = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)
        request = orchestrator_service_pb2.ListMetricsRequest(page_size=1_000)
        try:
            listed = stub.ListMetrics(
                request, timeout=CHECK_TIMEOUT_SECONDS, metadata=tuple(metadata.items())
            )
            known = {metric.key for metric in listed.metrics}
        except grpc.RpcError as error:
            raise CannotLoad(
                f"no orchestrator answers at {target} ({error.code().name}): "
                "start the stack with `make up`, or name another with TARGET=HOST:PORT"
            ) from error
    if missing := sorted(METRICS - known):
        raise CannotLoad(
            f"the stack at {target} does not know the metrics {', '.join(missing)}: apply a configuration first "
            "(.venv/bin/laurel apply -f deploy/demo/laurel.yaml), or write the profiles for your own metrics"
        )


def ghz_binary() -> Path:
    """ghz from the path or from .laurel/bin, where it is installed if need be. Raises `CannotLoad`."""
    found = shutil.which("ghz")
    if found:
        return Path(found)
    binary = BINARIES / "ghz"
    if binary.exists():
        return binary
    go = shutil.which("go")
    if go is None:
        raise CannotLoad(
            "`make load` needs ghz, and Go to install it; neither is on the path. Install Go from "
            "https://go.dev/dl, or put a ghz from https://github.com/bojand/ghz/releases on the path. "
            "(`make bench` needs neither.)"
        )
    sys.stderr.write(f"installing ghz {GHZ_VERSION} into {BINARIES}, once\n")
    BINARIES.mkdir(parents=True, exist_ok=True)
    installed = subprocess.run(
        [go, "install", f"{GHZ_MODULE}@{GHZ_VERSION}"],
        env={**os.environ, "GOBIN": str(BINARIES)},
        check=False,
    )
    if installed.returncode != 0 or not binary.exists():
        raise CannotLoad("Go could not install ghz: see above")
    return binary


def write_contracts(path: Path) -> None:
    """The contracts as ghz reads them: compiled, so that it needs neither sources nor reflection."""
    buf = Path(sys.executable).with_name("buf")
    built = subprocess.run([str(buf), "build", "--output", str(path)], cwd=ROOT, check=False)
    if built.returncode != 0:
        raise CannotLoad("the contracts could not be compiled: see above")


def profile(name: str) -> dict[str, Any]:
    """A profile as it stands in its file."""
    content: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return content


def title_of(arguments: argparse.Namespace, content: dict[str, Any]) -> str:
    """What a profile does, with the figures it is run with."""
    count = arguments.count if arguments.count is not None else content["total"]
    rate = arguments.rate if arguments.rate is not None else content.get("rps")
    figures = [f"{rate} requests a second"] if "rps" in content else []
    figures.append(f"until {count:,} are sent or {arguments.seconds} s are over")
    return f"{content['name']}; {', '.join(figures)}"


def options_of(arguments: argparse.Namespace, content: dict[str, Any]) -> list[str]:
    """The options of ghz that the command line changes; a rate concerns open loops alone."""
    options = []
    if arguments.count is not None:
        options += ["--total", str(arguments.count)]
    if arguments.rate is not None and "rps" in content:
        options += ["--rps", str(arguments.rate)]
    return options


def run_profile(ghz: Path, command: Sequence[str], seconds: int) -> None:
    """Runs one profile; ghz prints what came of it. Raises `CannotLoad` where it cannot run.

    A profile ends with its count. ghz knows a limit of time too, but ignores the count then: so the time is kept
    here, and an interrupt makes it stop and report. It waits for the answers under way (`duration-stop` of the
    profiles): those that it cut off would be reported as errors.
    """
    # The profiles name their templates relative to themselves.
    process = subprocess.Popen([str(ghz), *command], cwd=HERE)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        sys.stdout.write(f"{seconds} s are over: stopping\n")
        sys.stdout.flush()
        process.send_signal(signal.SIGINT)
    if process.wait(STOP_TIMEOUT_SECONDS) != 0:
        raise CannotLoad("ghz broke off: see above")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.load", description=__doc__)
    parser.add_argument(
        "--profile", action="append", choices=PROFILES, help="this one alone; default: all four"
    )
    parser.add_argument("--target", default=default_target(), help="HOST:PORT (default: %(default)s)")
    parser.add_argument("--count", type=int, help="how many requests each profile sends")
    parser.add_argument(
        "--seconds", type=int, default=60, help="for how long each profile may run (default: %(default)s)"
    )
    parser.add_argument("--rate", type=int, help="requests a second of the open loops")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
