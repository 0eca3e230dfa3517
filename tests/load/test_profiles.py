"""The profiles of ghz are bounded, and what the command line changes is what ghz is told."""

from argparse import Namespace

import pytest

from deploy.load.__main__ import HERE, PROFILES, options_of, profile


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_bounded_and_names_a_template_that_is_there(name: str) -> None:
    content = profile(name)
    assert 0 < content["total"] <= 20_000
    assert content["timeout"].endswith("s")
    assert (HERE / content["data-file"]).exists()


@pytest.mark.parametrize("name", [name for name in PROFILES if name.endswith("-open")])
def test_an_open_loop_waits_for_no_answer(name: str) -> None:
    content = profile(name)
    assert content["async"] is True
    assert content["rps"] > 0


def test_a_rate_is_for_open_loops_alone() -> None:
    arguments = Namespace(count=10, rate=50)
    assert options_of(arguments, profile("unary-open")) == ["--total", "10", "--rps", "50"]
    assert options_of(arguments, profile("unary-closed")) == ["--total", "10"]


def test_without_wishes_a_profile_runs_as_it_is() -> None:
    assert options_of(Namespace(count=None, rate=None), profile("unary-open")) == []
