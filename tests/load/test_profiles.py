"""The profiles of ghz are bounded, and what the command line changes is what ghz is told."""

from argparse import Namespace

import pytest

from deploy.load.__main__ import HERE, PROFILES, options_of, profile, title_of


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


@pytest.mark.parametrize("name", PROFILES)
def test_a_title_has_the_figures_that_are_run_and_no_others(name: str) -> None:
    content = profile(name)
    assert str(content.get("rps")) not in content["name"]
    title = title_of(Namespace(count=None, rate=50, seconds=7), content)
    assert ("; 50 requests a second" in title) == name.endswith("-open")
    assert title.endswith(f"until {content['total']:,} are sent or 7 s are over")
    by_itself = title_of(Namespace(count=10, rate=None, seconds=60), content)
    assert (f"; {content.get('rps')} requests a second" in by_itself) == name.endswith("-open")
    assert "until 10 are sent" in by_itself


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_that_is_stopped_waits_for_the_answers_under_way(name: str) -> None:
    assert profile(name)["duration-stop"] == "wait"
