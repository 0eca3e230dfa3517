"""`make proto`: generates the stubs under shared/gen and the table of error reasons, docs/errors.md, from protos/, and
docs/settings.md and shared/variables.py from the services' Settings; the page of the metrics and the dashboard;
the page of operations, and what the command says of them.
"""

import re
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

from deploy.comments_module import comments_module
from deploy.settings_page import settings_page, variables_module
from deploy.watching.dashboard import dashboard

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "shared" / "gen"

_ERRORS_INTRODUCTION = """# Error reasons

Every error is a `google.rpc.Status` with one `ErrorInfo`: a `reason` from the tables below, the `domain` that
answered (`points.laurel`), and metadata. Invalid requests also carry a `BadRequest` with every field violation, named
by its path. Items of a batch carry the same content as `laurel.common.v1.Error`.

Retry `UNAVAILABLE` (the transport does) and `ABORTED`; nothing else gets better by itself. `ENTRY_PENDING` means that
the event is recorded and goes on: ask again with the same key.

Generated from the contracts by `make proto`.
"""


def generate(target: Path) -> None:
    """Writes the package `laurel` into `target`, replacing what is there."""
    shutil.rmtree(target / "laurel", ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    plugins = Path(sys.executable).parent
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")),
        ]
    )
    if status != 0:
        raise SystemExit(status)
    for package in [target / "laurel", *(path for path in (target / "laurel").rglob("*") if path.is_dir())]:
        (package / "__init__.py").touch()
    (target / "laurel" / "py.typed").touch()
    for empty in (target / "laurel").rglob("*_pb2_grpc.py*"):
        # Files without a service generate a module that only imports grpc.
        if "Stub" not in empty.read_text():
            empty.unlink()


def errors_page() -> str:
    """The text of docs/errors.md: every value of every ErrorReason enum with its comment."""
    lines = [_ERRORS_INTRODUCTION]
    for path in sorted(PROTOS.rglob("*.proto")):
        text = path.read_text()
        enum = re.search(r"^enum ErrorReason \{(.*?)^\}", text, re.S | re.M)
        if enum is None:
            continue
        package = re.search(r"^package laurel\.(\w+)\.", text, re.M)
        assert package is not None
        title = "Every service" if package[1] == "common" else f"`{package[1]}.laurel`"
        lines += [f"## {title}", "", "| reason | meaning |", "| --- | --- |"]
        for comment, name in re.findall(r"// ([^\n]*)\n\s+ERROR_REASON_(\w+) = [1-9]", enum[1]):
            lines.append(f"| `{name}` | {comment} |")
        lines.append("")
    return "\n".join(lines)


def metrics_page() -> str:
    """The text of docs/operations/metrics.md. Imported here: the services may need the stubs that are made first."""
    from deploy import metrics_page as page

    return page.metrics_page()


def entries_page() -> str:
    """The text of docs/entries.md. Imported here, as above."""
    from deploy import entries_page as page

    return page.entries_page()


PAGES: Final = {
    "deploy/watching/dashboard.json": dashboard,
    "docs/entries.md": entries_page,
    "docs/errors.md": errors_page,
    "docs/operations/metrics.md": metrics_page,
    "docs/settings.md": settings_page,
    "services/cli/comments.py": comments_module,
    "shared/variables.py": variables_module,
}
"""What writes the text of each generated page."""


def differences() -> list[str]:
    """Generated files that are not what `make proto` would write."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        names = {p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file()}
        names |= {
            p.relative_to(GENERATED)
            for p in (GENERATED / "laurel").rglob("*")
            if p.is_file() and p.suffix in {".py", ".pyi"}
        }
        stale = [
            page
            for page, text in PAGES.items()
            if not (ROOT / page).is_file() or (ROOT / page).read_text() != text()
        ]
        return stale + sorted(
            str(name)
            for name in names
            if not (fresh / name).is_file()
            or not (GENERATED / name).is_file()
            or (fresh / name).read_bytes() != (GENERATED / name).read_bytes()
        )


if __name__ == "__main__":
    generate(GENERATED)
    for page, text in PAGES.items():
        (ROOT / page).write_text(text())
