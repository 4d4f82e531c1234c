"""Progress where stderr is no terminal: a line a minute, and none for what is quick."""

from __future__ import annotations

import pytest

from iconicity.indexer.display import SECONDS, progress_bar, progress_lines


def test_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    report = progress_lines(lambda: now)
    for i in range(1, 201):
        now = 3.0 * i
        report("references", i, 200)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "references: 20 of 200 (10%), about 9 min left" and len(lines) == 9
    report = progress_lines(lambda: now)
    for i in range(1, 11):  # ends within a minute
        now += 1.0
        report("score sd14", i, 10)
    assert capsys.readouterr().err.splitlines() == []


def test_a_program_that_reads_the_lines_asks_for_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds, lines in (("0", 9), ("60", 0), ("soon", 0), ("", 0)):
        monkeypatch.setenv(SECONDS, seconds)
        report = progress_bar()
        for i in range(1, 11):
            report("references", i, 10)
        assert len(capsys.readouterr().err.splitlines()) == lines
