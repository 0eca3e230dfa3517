"""`python -m deploy.demo`: the tour, on a system of its own that is gone afterwards.

Exit code 0 if every check held, 1 if one failed or the tour broke off.
"""

import signal
import sys
from pathlib import Path
from types import FrameType

import click
import grpc

from deploy.demo.tour import Tour
from deploy.local.config import StackConfig
from deploy.local.errors import LaunchError
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack
from services.cli import render
from services.cli.errors import command_error, laurel_error
from services.cli.importing import ImportEndedEarly

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Walk the tour; whatever happens, nothing is left running and no file is left over."""
    for each in SIGNALS:
        signal.signal(each, _break_off)
    with run_directory("demo") as home:
        return _walk(home)


def _walk(home: Path) -> int:
    # The tour's receiver is on this machine; otherwise webhooks go to public addresses over https alone.
    settings = {"LAUREL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "LAUREL_WEBHOOK_ALLOW_HTTP": "true"}
    # With TLS and keys, as `laurel up` starts one.
    config = StackConfig(home=home / "stack", port_base=0, settings=settings, keys=True, tls=True)
    stack = Stack(config, progress=render.line)
    tour = Tour(stack)
    try:
        tour.walk()
    except grpc.RpcError as error:
        return _failed(command_error(laurel_error(error)).message)
    except (LaunchError, ImportEndedEarly) as error:
        return _failed(str(error))
    except click.ClickException as error:
        return _failed(error.message)
    finally:
        # Stopping goes through to its end, also when Ctrl-C is pressed again.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        render.line("")
        render.heading("Stop")
        stack.erase()
    if tour.is_good:
        render.line("Everything was stopped and removed. All checks held.")
        return 0
    return _failed("Everything was stopped and removed. A check failed: see above.")


def _break_off(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _failed(message: str) -> int:
    for each in message.splitlines():
        render.line(each, style="bold red")
    return 1


if __name__ == "__main__":
    sys.exit(main())
