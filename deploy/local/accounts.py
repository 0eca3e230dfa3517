"""The operating system account under which PostgreSQL runs: it refuses to run as root."""

import hashlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import LaunchError

ROOT = 0
NOBODY = 65534
FALLBACK_ROOT = Path("/var/tmp")


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group to switch to."""

    uid: int
    gid: int

    def take(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def can_enter(self, path: Path) -> bool:
        """Whether the account may execute this file or enter this directory, all parents considered."""
        answer = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$0"', str(path)],
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            check=False,
        )
        return answer.returncode == 0


def server_account(data: Path) -> Account | None:
    """The account for a server on this data directory; None: the caller's own, which is not root.

    An existing data directory keeps its owner, so root can start a stack that a user made.
    """
    if os.geteuid() != ROOT:
        return None
    if data.exists() and (owner := data.stat()).st_uid != ROOT:
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(NOBODY, NOBODY)
    return Account(entry.pw_uid, entry.pw_gid)


def reachable_directory(directory: Path, account: Account | None) -> Path:
    """The directory itself, or, where the account cannot enter it, a stable stand-in under /var/tmp.

    A checkout under a private home directory is the usual case. Nobody's permissions are changed for it.
    """
    if account is None or account.can_enter(directory):
        return directory
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    stand_in = FALLBACK_ROOT / f"laurel-{os.geteuid()}-{digest}"
    stand_in.mkdir(exist_ok=True)
    if stand_in.is_symlink() or stand_in.stat().st_uid != os.geteuid():
        raise LaunchError(f"{stand_in} belongs to somebody else; remove it or set LAUREL_HOME")
    stand_in.chmod(0o755)
    if not account.can_enter(stand_in):
        raise LaunchError(f"the unprivileged user {account.uid} can enter neither {directory} nor {stand_in}")
    return stand_in
