"""What pages point at is there: pages, headings, files, tests, operations; examples of a configuration are valid."""

import re
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from deploy.generate import ROOT
from services.cli.main import cli

PAGES: Final = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("clients/*/README.md")]
# It says how Laurel is meant to be built, and names what is not there yet.
AS_BUILT: Final = [page for page in PAGES if page.name != "design.md"]

_FENCE: Final = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\((?!https?:)([^)\s#]*)#?([^)\s]*)\)")
_PATH: Final = re.compile(r"`((?:clients|deploy|docs|protos|services|shared|tests)/[\w./*-]*)(?:::(\w+))?")
_TEST: Final = re.compile(r"\b(test_[a-z0-9_]+)\b(?!\.py)(…?)")
_CONFIGURATION: Final = re.compile(r"^```yaml\n([a-z_]+:\n.*?)^```", re.MULTILINE | re.DOTALL)

TESTS: Final = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
EXAMPLES: Final = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, text in enumerate(_CONFIGURATION.findall(page.read_text()))
]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made of their words."""
    found = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def there_is(path: str) -> bool:
    """Whether a file, a directory or what a pattern stands for is there. `docs/adr/0013` is short for its page."""
    if re.fullmatch(r"docs/adr/\d{4}", path):
        path += "-*.md"
    return any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_to_a_page_and_a_heading_that_there_are(page: Path) -> None:
    broken = []
    for path, anchor in _LINK.findall(_FENCE.sub("", page.read_text())):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append((path, anchor))
    assert broken == []


@pytest.mark.parametrize("page", AS_BUILT, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_files_that_there_are(page: Path) -> None:
    assert [path for path, _ in _PATH.findall(page.read_text()) if not there_is(path)] == []


@pytest.mark.parametrize("page", AS_BUILT, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_tests_that_there_are(page: Path) -> None:
    # `…` stands for the rest of a long name.
    named = {name + ("" if rest else "(") for name, rest in _TEST.findall(page.read_text())}
    assert {name for name in named if f"def {name}" not in TESTS} == set()
    within = {(path, name) for path, name in _PATH.findall(page.read_text()) if name}
    assert {(path, name) for path, name in within if name not in (ROOT / path).read_text()} == set()


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_a_configuration_is_valid(example: str) -> None:
    result = CliRunner().invoke(cli, ["validate", "--partial", "-f", "-"], input=example)
    assert result.exit_code == 0, result.output
