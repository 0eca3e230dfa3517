"""Small JSON files that are either the old or the new version, never half of one."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from deploy.local.errors import LaunchError


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace the file atomically. Only the owner may read it: it can hold passwords."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The content, or an empty dictionary when there is no such file.

    Raises LaunchError when the file is not what `write_json` writes.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LaunchError(f"{path} is damaged ({error}); remove it and start again") from error
    if not isinstance(content, dict):
        raise LaunchError(f"{path} is damaged (not an object); remove it and start again")
    return content
