"""The contracts: what is generated is current, and what is promised about errors is so."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from laurel.ledger.v1 import entry_pb2

from deploy.generate import PROTOS, ROOT, differences
from shared.entries import EntryKind
from shared.errors import Violations
from shared.rpc import contents

BUF = Path(sys.executable).parent / "buf"
RELEASED = PROTOS.parent / "deploy" / "released.binpb"
SERVICES = ("achievement", "leaderboard", "notification", "orchestrator", "points", "streak")


def buf(*arguments: str) -> str:
    """What buf has to say; nothing when all is well."""
    done = subprocess.run([str(BUF), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def reasons(service: str) -> set[str]:
    """The reasons that a package's ErrorReason enum has."""
    found: set[str] = set()
    for path in (PROTOS / "laurel" / service).rglob("*.proto"):
        found.update(re.findall(r"^\s*ERROR_REASON_(\w+) = [1-9]", path.read_text(), re.M))
    return found


def source(*directories: str) -> Iterator[str]:
    for directory in directories:
        for path in (ROOT / directory).rglob("*.py"):
            if "gen" not in path.parts:
                yield path.read_text()


def quoted(*directories: str) -> set[str]:
    """Every upper-case word in quotes."""
    return {word for text in source(*directories) for word in re.findall(r'"([A-Z][A-Z_]+[A-Z])"', text)}


def raised(*directories: str) -> set[str]:
    """Every reason that code gives by its name."""
    pattern = r'(?:reason|not_found|exists|in_use)="([A-Z_]+)"'
    return {word for text in source(*directories) for word in re.findall(pattern, text)}


def test_what_is_generated_is_what_the_contracts_and_settings_say() -> None:
    assert differences() == []


def test_the_contracts_follow_the_style_and_document_every_element() -> None:
    assert buf("lint") == ""
    assert buf("format", "--diff") == ""


def test_nothing_breaks_those_who_were_built_against_the_last_release() -> None:
    assert buf("breaking", "--against", str(RELEASED)) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_every_reason_of_a_service_is_used(service: str) -> None:
    assert reasons(service) - quoted(f"services/{service}") == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_reason_that_a_service_gives_is_in_its_contract(service: str) -> None:
    assert raised(f"services/{service}") - reasons(service) - reasons("common") == set()


def test_every_shared_reason_is_used_and_in_the_contract() -> None:
    common = reasons("common")
    assert common - quoted("shared", "services") == set()
    assert raised("shared") - common == set()


def test_what_every_operation_says_is_read_from_its_message() -> None:
    operations = {field.name for field in entry_pb2.Entry.DESCRIPTOR.oneofs_by_name["operation"].fields}
    kinds = {kind.value: kind for kind in EntryKind}
    assert operations - kinds.keys() == set(), "of entry.proto: give each a kind in shared/entries.py"
    assert kinds.keys() - operations == set(), "of shared/entries.py: entry.proto has no such operation"
    for name, kind in kinds.items():
        if kind.content is not None:
            # Raises what does not fit.
            contents.read(kind.content, getattr(entry_pb2.Entry(), name), name, Violations())
