"""`pip install ./clients/python`: what comes along, and that it works where nothing else of Laurel is."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from deploy.generate import GENERATED, ROOT
from shared.errors import Unavailable
from shared.rpc.server import running
from tests.clients.programs import OUTPUT, run
from tests.fixtures.echo import settings
from tests.fixtures.ingest import Ingest, ingest_server


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's folder in a checkout of its own, without what earlier builds have left."""
    checkout = tmp_path_factory.mktemp("checkout")
    left = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    for folder in ("clients/python", "shared/gen"):
        shutil.copytree(ROOT / folder, checkout / folder, symlinks=True, ignore=left)
    return checkout / "clients" / "python"


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(project, tmp_path_factory.mktemp("wheel"))


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def built(source: Path, target: Path) -> Path:
    """The wheel of a folder or a source distribution."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(target), str(source))
    (wheel,) = target.glob("*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, without what describes it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def required(package: Distribution) -> Iterator[Requirement]:
    for text in package.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def with_all_they_require(requirements: Sequence[Requirement]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    for requirement in requirements:
        package = distribution(requirement.name)
        found[requirement.name] = package
        found |= with_all_they_require(list(required(package)))
    return found


def environment(directory: Path, wheel: Path) -> Path:
    """The python of an environment with the wheel and what it requires, and nothing else; no index is asked."""
    venv.create(directory, with_pip=False)
    python = directory / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (site_packages,) = directory.glob("lib/python*/site-packages")
    (installed,) = Distribution.discover(name="laurel-client", path=[str(site_packages)])
    for package in with_all_they_require(list(required(installed))).values():
        for file in package.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (site_packages / file).parent.mkdir(parents=True, exist_ok=True)
                (site_packages / file).symlink_to(str(package.locate_file(file)))
    return python


def test_the_wheel_has_the_stubs_with_their_types_and_the_helper_and_nothing_of_the_server(
    wheel: Path,
) -> None:
    files = set(contents(wheel))

    assert {name.partition("/")[0] for name in files} == {"laurel", "laurel_client"}
    stubs = {
        f"laurel/{path.relative_to(GENERATED / 'laurel')}"
        for path in (GENERATED / "laurel").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in files if name.startswith("laurel/")} == stubs
    assert {"laurel/py.typed", "laurel_client/py.typed"} <= files


def test_a_source_distribution_makes_the_same_wheel(project: Path, wheel: Path, tmp_path: Path) -> None:
    build = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=project, check=True, capture_output=True)
    (source,) = tmp_path.glob("*.tar.gz")

    assert contents(built(source, tmp_path)) == contents(wheel)


def test_it_asks_for_no_older_runtime_than_its_stubs_were_generated_for() -> None:
    least = {
        requirement.name: Version(specifier.version)
        for requirement in required(distribution("laurel-client"))
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }
    grpc_versions, protobuf_versions = set(), set()
    for path in (GENERATED / "laurel").rglob("*_pb2*.py"):
        text = path.read_text()
        grpc_versions.update(re.findall(r"^GRPC_GENERATED_VERSION = '(.+)'", text, re.M))
        protobuf_versions.update(re.findall(r"^# Protobuf Python Version: (.+)$", text, re.M))

    assert {str(least["grpcio"])} == grpc_versions
    assert {str(least["protobuf"])} == protobuf_versions


async def test_the_guides_program_runs_on_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", wheel)
    ingest = Ingest()
    ingest.failures.append(Unavailable("restarting", reason="DEPENDENCY_UNAVAILABLE"))

    async with running(ingest_server(ingest), settings()) as server:
        printed = await run(
            [str(python), "-I", str(ROOT / "clients" / "python" / "example.py"), f"127.0.0.1:{server.port}"],
            tmp_path,
        )

    assert printed == OUTPUT
    first, retried, again = (request.idempotency_key for request in ingest.received[:3])
    assert first == retried == again != ""


def test_the_server_is_not_to_be_found_there(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", wheel)
    program = "import laurel_client, importlib.util as u; print([n for n in NAMES if u.find_spec(n)])"
    names = ("services", "shared", "deploy", "asyncpg", "msgspec", "redis")

    done = subprocess.run(
        [str(python), "-I", "-c", program.replace("NAMES", repr(names))],
        cwd=os.sep,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "[]\n"
