"""Progress without a terminal: a line now and then, and nothing for what is done at once."""

from __future__ import annotations

import pytest

from spherecv.cli import counting


def test_long_work_reports_in_lines_where_there_is_no_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *range(0, 1000, 4)])
    monkeypatch.setattr(counting, "monotonic", lambda: float(next(clock)))
    with counting.counted("embedding") as progress:
        for done in range(1, 11):
            progress(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # 36 s
    assert lines[0].startswith("embedding: 4 of 1,000, ")
    assert lines[0].endswith(" left")


def test_short_work_says_nothing(capsys) -> None:
    assert list(counting.counting(iter("abc"), 3, "looking")) == list("abc")
    assert capsys.readouterr() == ("", "")
