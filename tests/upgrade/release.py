"""An earlier state of this repository, as its processes ran."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
RELEASED: Final = ROOT / "deploy" / "released.txt"
"""The commit from which a rolling upgrade to this one is promised, then the migrations that it has."""


class NoHistoryError(Exception):
    """The commit is not here: a shallow clone, or no clone at all."""


def released_commit() -> str:
    """The commit of the last release."""
    return RELEASED.read_text().split()[0]


def released_migrations() -> frozenset[str]:
    """`service/NNNN_what.sql` of each migration that the last release has."""
    return frozenset(RELEASED.read_text().split()[1:])


def checked_out(commit: str, directory: Path) -> Path:
    """The files of a commit, in a directory that is made for them. Raises `NoHistoryError`."""
    directory.mkdir(parents=True)
    archive = directory.with_suffix(".tar")
    git = ["git", "-C", str(ROOT), "archive", "--format", "tar", "--output", str(archive), commit]
    try:
        subprocess.run(git, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoHistoryError(f"the commit {commit} is not here: git fetch --unshallow gets it") from error
    shutil.unpack_archive(archive, directory, filter="data")
    archive.unlink()
    return directory


def python_for(checkout: Path) -> str:
    """Who runs it: this interpreter, or one with the packages that it needs where those are others."""
    name = "requirements.txt"
    if (checkout / name).read_bytes() == (ROOT / name).read_bytes():
        return sys.executable
    subprocess.run(["make", "-C", str(checkout), "install", f"PYTHON={sys.executable}"], check=True)
    return str(checkout / ".venv" / "bin" / "python")


def settings_of(checkout: Path) -> dict[str, str]:
    """The environment in which services of that checkout are run, instead of these here."""
    paths = [str(checkout), str(checkout / "clients" / "python" / "src")]
    if inherited := os.environ.get("PYTHONPATH"):
        paths.append(inherited)
    return {"PYTHONPATH": os.pathsep.join(paths)}


def mark_released(commit: str) -> None:
    """From now on upgrades from this commit are promised."""
    full = _git("rev-parse", "--verify", f"{commit}^{{commit}}").strip()
    files = _git("ls-tree", "-r", "--name-only", full, "services").split()
    migrations = [Path(file) for file in files if "/migrations/" in file and file.endswith(".sql")]
    lines = [full, *sorted(f"{path.parts[1]}/{path.name}" for path in migrations)]
    RELEASED.write_text("\n".join(lines) + "\n")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    mark_released(sys.argv[1])
