"""`make chart`: renders the chart with `helm`, with its own values and with those of `guarded.yaml`.

What it renders to stands in the repository, so that the manifests can be read and checked without helm. Each begins
with the digest of what it was made from.
"""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CHART: Final = HERE.parent / "chart"
KUBERNETES_VERSION: Final = "1.34.0"
RENDERED: Final = {"laurel.yaml": None, "laurel-guarded.yaml": HERE / "guarded.yaml"}
"""Each file, and the values that it was made with besides the chart's own."""


def sources_digest(values: Path | None) -> str:
    """SHA-256 of the chart and these values."""
    found = sorted(path for path in CHART.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in (*found, *([values] if values else [])):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def render(values: Path | None) -> str:
    """The manifests, by helm. Raises `FileNotFoundError` without it and `CalledProcessError` where it fails."""
    command = ["helm", "template", "laurel", str(CHART), "--kube-version", KUBERNETES_VERSION]
    if values is not None:
        command += ["--values", str(values)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return f"# Rendered by `make chart`; do not edit. Made from {sources_digest(values)}\n{done.stdout}"


if __name__ == "__main__":
    try:
        for name, own_values in RENDERED.items():
            (HERE / name).write_text(render(own_values))
    except FileNotFoundError:
        sys.exit("helm is not installed")
    except subprocess.CalledProcessError as failure:
        sys.exit(failure.stderr)
