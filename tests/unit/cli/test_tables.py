"""Tables fit the line, and break no word."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laurel.orchestrator.v1 import audit_pb2
from rich.cells import cell_len

from services.cli import render
from services.cli.show_event import show_audits

WORDS = st.text("abcdefghij-=.,:éß日", min_size=1, max_size=40)
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
COLUMNS = st.lists(st.sampled_from(["", ">", "?", "?>"]), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), COLUMNS, st.integers(20, 200))
def test_no_word_is_broken_and_what_is_left_out_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: st.DataObject,
    flags: list[str],
    width: int,
) -> None:
    rows = data.draw(st.lists(st.tuples(*(TEXTS for _ in flags)), min_size=1, max_size=4))
    monkeypatch.setenv("COLUMNS", str(width))
    columns = [f"{flag}column-{index}" for index, flag in enumerate(flags)]
    render.table(columns, rows)
    output = capsys.readouterr().out
    _, _, left_out = output.partition("left out, for want of width: ")
    names = left_out.strip().split(", ") if left_out else []
    assert all(columns[int(name.removeprefix("column-"))].startswith("?") for name in names)
    printed = set(output.split())
    for row in rows:
        for index, text in enumerate(row):
            if f"column-{index}" not in names:
                assert set(text.split()) <= printed
    is_table = "─" in output
    if is_table:
        table = output.partition("  left out")[0]
        assert max(cell_len(line) for line in table.splitlines()) <= width


AUDIT = audit_pb2.EntryAudit(
    entry_id="e5c0b863-302b-8c7d-afc0-3071e4ca42fe", user_id="alice", attempt_count=3, last_error="away " * 20
)


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(160, ""), (100, "last error"), (80, "user, attempts, last error"), (30, "a list instead")],
)
def test_entries_are_listed_by_what_matters_most(
    width: int, left_out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_audits([AUDIT, AUDIT], empty="none")
    output = capsys.readouterr().out
    assert AUDIT.entry_id in output
    if left_out == "a list instead":
        assert output.count("  last error  away away") == 2
        assert "─" not in output
    else:
        assert output.partition("for want of width: ")[2].strip() == left_out


def test_a_file_has_no_edge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    render.table(["?path", ">n"], [["word " * 100 + "/" + "x" * 400, 1]])
    assert len(capsys.readouterr().out.strip().splitlines()) == 3
