"""What `laurel keys` asks for."""

import click
import pytest
from click.testing import CliRunner

from services.cli.commands_keys import rate_limit
from services.cli.main import cli

NOWHERE = {"LAUREL_TARGET": "127.0.0.1:1"}


@pytest.mark.parametrize(
    "options", [[], ["--rate", "5"], ["--rate", "0.5", "--burst", "3"]], ids=lambda each: " ".join(each)
)
@pytest.mark.parametrize("command", [["create", "shop", "--scope", "read"], ["limit", "0123456789abcdef"]])
def test_a_rate_limit_may_be_said_or_left_out(command: list[str], options: list[str]) -> None:
    result = CliRunner().invoke(cli, ["keys", *command, *options], env=NOWHERE)
    assert result.exit_code == 3  # it was understood: nobody is there to answer


def test_how_many_at_once_needs_how_many_a_second() -> None:
    result = CliRunner().invoke(cli, ["keys", "limit", "0123456789abcdef", "--burst", "3"], env=NOWHERE)
    assert result.exit_code == 2
    assert "--burst needs --rate" in result.output
    assert rate_limit(None, None) is None
    with pytest.raises(click.UsageError):
        rate_limit(None, 3)
