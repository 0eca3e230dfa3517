"""The guides show the programs that are run."""

import pytest

from deploy.generate import ROOT

PROGRAMS = {
    "python": "python/example.py",
    "go": "go/example/main.go",
    "java": "java/src/main/java/io/laurel/example/Example.java",
    "typescript": "typescript/example.ts",
}


@pytest.mark.parametrize("language", PROGRAMS)
def test_a_guide_shows_the_program_as_it_is_run(language: str) -> None:
    program = (ROOT / "clients" / PROGRAMS[language]).read_text()

    assert f"\n{program}```\n" in (ROOT / "docs" / "guides" / f"{language}.md").read_text()
