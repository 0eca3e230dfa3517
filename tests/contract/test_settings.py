"""The settings: each says what it is and how far it goes, and the pages name none that does not exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo

from deploy.generate import ROOT
from deploy.local.databases import SERVICES
from deploy.settings_page import settings_of, settings_page, table
from shared.config import PREFIX, Settings
from shared.variables import VARIABLES

WRITTEN_BY_HAND = ("*.md", "docs/**/*.md", "docker-compose.yml")


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of every service."""
    for service in SERVICES:
        for name, field in settings_of(service).model_fields.items():
            yield f"{service}: {name}", field


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in fields() if not field.description] == []


def test_every_number_has_two_ends() -> None:
    numbers = [(name, field) for name, field in fields() if field.annotation in (int, float, int | None)]
    assert numbers
    assert [name for name, field in numbers if len(field.metadata) != 2] == []


def test_every_setting_of_every_service_is_on_the_page() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", settings_page(), re.M))
    assert {PREFIX + name.partition(": ")[2].upper() for name, _ in fields()} <= rows


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    existing = set(re.findall(r"LAUREL_\w+", settings_page()))
    pages = {path for pattern in WRITTEN_BY_HAND for path in ROOT.glob(pattern)}
    # Not of families of names, such as LAUREL_*.
    named = {name for path in pages for name in re.findall(r"LAUREL_\w*[A-Z]\b", path.read_text())}
    assert named - existing == set()


def test_every_variable_that_the_sources_name_is_known_to_all_processes() -> None:
    """Else whoever sets it finds that nothing starts: add it to `AROUND` in deploy/settings_page.py."""
    places = ("Makefile", "deploy/**/*.py", "deploy/*.sh", "services/**/*.py", "shared/*.py", "tests/**/*.py")
    files = {path for pattern in places for path in ROOT.glob(pattern)}
    # These are about names that do not exist.
    files -= {
        Path(__file__),
        ROOT / "tests/unit/shared/test_config.py",
        ROOT / "tests/unit/cli/test_command.py",
    }
    named = {name for path in files for name in re.findall(r"LAUREL_\w*[A-Z]\b", path.read_text())}
    assert len(named) > 20
    assert named - VARIABLES == set()


class Example(Settings):
    """One of each kind."""

    pause_seconds: float = Field(default=31_622_400.0, gt=0, lt=99_999_999.5)
    """How long to wait.
    Then on.
    """

    keep_days: int | None = Field(default=None, ge=1, le=36_500)
    """How long to keep it."""

    title: str = Field(default="none", min_length=1, max_length=9)
    """What to call it."""

    token: SecretStr = SecretStr("hunter2")
    """What opens it."""

    key: SecretStr
    """What locks it."""


@pytest.mark.parametrize(
    "row",
    [
        "| `LAUREL_PAUSE_SECONDS` | `31622400` | above 0 below 99,999,999.5 seconds | How long to wait. Then on. |",
        "| `LAUREL_KEEP_DAYS` | unset | from 1 up to 36,500 days | How long to keep it. |",
        "| `LAUREL_TITLE` | `none` | from 1 up to 9 characters | What to call it. |",
        "| `LAUREL_TOKEN` | `**********` |  | What opens it. |",
        "| `LAUREL_KEY` | **required** |  | What locks it. |",
    ],
)
def test_a_row_has_default_range_with_unit_and_meaning_and_never_a_secret(row: str) -> None:
    assert row in table(Example)
