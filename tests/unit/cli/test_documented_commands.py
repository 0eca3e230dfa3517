"""Every `laurel` command that a page names is one: its name, those below it, and its options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from deploy.generate import ROOT
from services.cli.main import cli
from services.cli.options import ShowGroup

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_ENDS = {"|", "||", "&&", ";", ">", ">>", "<", "#"}


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command on a page, without its name. What stands in brackets is as good as outside."""
    lines = [
        line
        for language, body in _FENCE.findall(text)
        if language in ("", "sh", "bash")
        for line in _lines(body)
    ]
    spans = [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text))]
    for line in (*lines, *spans):
        found = re.match(r"(?:\$ |\.venv/bin/|[A-Z_]+=\S+ )*laurel (?=[a-z-])(.*)", line)
        if found:
            yield _words(found[1])


def _lines(body: str) -> list[str]:
    return [line.strip() for line in body.replace("\\\n", " ").splitlines()]


def _words(rest: str) -> list[str]:
    lexer = shlex.shlex(rest.replace("[", " ").replace("]", " "), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if word in _ENDS:
                break
            words.append(word)
    except ValueError:
        pass  # a quote that the next line closes
    return words


def wrong(words: list[str]) -> str:
    """What there is not in this command; empty for nothing."""
    command: click.Command = cli
    rest = list(words)
    while rest:
        if isinstance(command, ShowGroup) and command.get_command(click.Context(command), rest[0]) is None:
            command = command.commands[command.otherwise]
        word = rest.pop(0)
        if word.startswith("-") and word != "-":
            name, _, value = word.partition("=")
            option = _option(command, name)
            if option is None and name not in ("-h", "--help"):
                return f"{command.name} has no option {name}"
            if option is not None and not option.is_flag and not value:
                del rest[:1]
        elif isinstance(command, click.Group):
            if not re.fullmatch(r"[a-z][a-z-]*", word):
                return ""  # stands for any of them
            below = command.get_command(click.Context(command), word)
            if below is None:
                return f"{command.name} has no command {word}"
            command = below
    return ""


def _option(command: click.Command, name: str) -> click.Option | None:
    names = [name] if name.startswith("--") else [name, name[:2]]
    for each in command.params:
        if isinstance(each, click.Option) and {*each.opts, *each.secondary_opts} & set(names):
            return each
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_commands_and_options_that_there_are(page: Path) -> None:
    found = {" ".join(words): wrong(words) for words in commands(page.read_text()) if words}
    assert {words: problem for words, problem in found.items() if problem} == {}


def test_commands_are_found_where_pages_have_them() -> None:
    text = "Say `laurel sagas list --state parked`.\n\n```\n$ laurel up  # now\nlaurel export | laurel apply -f -\n```"
    assert list(commands(text)) == [["up"], ["export"], ["sagas", "list", "--state", "parked"]]
    assert wrong(["sagas", "lst"]) == "sagas has no command lst"
    assert wrong(["doctor", "--cure"]) == "doctor has no option --cure"
