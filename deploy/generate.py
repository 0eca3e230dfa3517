"""`make proto`: generates the Python stubs and their types from protos/ into shared/gen, once for everybody."""

import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "shared" / "gen"


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
    for empty in (target / "laurel").rglob("*_pb2_grpc.py*"):
        # Files without a service generate a module that only imports grpc.
        if "Stub" not in empty.read_text():
            empty.unlink()


def differences() -> list[str]:
    """Paths whose committed stubs are not what `make proto` would write."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        names = {p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file()}
        names |= {
            p.relative_to(GENERATED)
            for p in (GENERATED / "laurel").rglob("*")
            if p.is_file() and p.suffix in {".py", ".pyi"}
        }
        return sorted(
            str(name)
            for name in names
            if not (fresh / name).is_file()
            or not (GENERATED / name).is_file()
            or (fresh / name).read_bytes() != (GENERATED / name).read_bytes()
        )


if __name__ == "__main__":
    generate(GENERATED)
