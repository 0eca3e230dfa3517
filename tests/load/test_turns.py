"""Two checkouts in turns: what their windows come to."""

from deploy.bench.turns import ALL, SERVICES, by_event, table
from deploy.local.databases import CORE


def test_what_an_event_costs_is_without_the_load_and_summed_twice() -> None:
    spent = by_event({**dict.fromkeys(CORE, 0.001), "postgres": 0.002, "load": 9.0}, done=10)
    assert (spent[SERVICES], spent[ALL]) == (500, 700)
    assert "load" not in spent


def test_a_ratio_is_taken_inside_each_round() -> None:
    rounds = [({ALL: 100.0}, {ALL: 90.0}), ({ALL: 300.0}, {ALL: 150.0}), ({ALL: 200.0}, {ALL: 160.0})]
    assert f"| {ALL} | 200 | 150 | 0.80 (0.50 to 0.90) |" in table(rounds)
