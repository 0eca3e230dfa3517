"""The schemes of docs/guides/points.md can be applied as they stand."""

import re
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from services.cli.main import cli

GUIDE: Final = Path(__file__).parents[3] / "docs/guides/points.md"
SCHEMES: Final = re.findall(r"^## (.+?)\n.*?^```yaml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("scheme", [text for _, text in SCHEMES], ids=[name for name, _ in SCHEMES])
def test_a_scheme_of_the_guide_is_valid(scheme: str) -> None:
    result = CliRunner().invoke(cli, ["validate", "-f", "-"], input=scheme)
    assert result.exit_code == 0, result.output


def test_the_guide_has_schemes() -> None:
    assert len(SCHEMES) >= 4
