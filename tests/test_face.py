"""The names of ``import iconicity``: the examples of docs/python.md, run with toy encoders, name every one."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from toys import ROOT, Study, draw, make_gen, make_refs, toy_encoders, write

import iconicity as ic

PAGE = ROOT / "docs" / "python.md"


def test_examples_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    make_refs(Path("refs"))
    write(Path("more_refs/delta/00.png"), draw(7))
    for i, name in enumerate(("sd14", "esd")):
        make_gen(Path("gen") / name, seed=5000 + 1000 * i)
    Path("attributes.csv").write_text("label_clean,year\nalpha,1503\nbeta,1665\ngamma,1889\n")
    Path("labels.csv").write_text("path,concept,label\nsd14/alpha/00.png,alpha,copy\nsd14/alpha/01.png,alpha,other\n")
    monkeypatch.setattr("iconicity.scorer.face.load_encoders", lambda *_: toy_encoders())
    for module in ("iconicity.indexer.builder", "iconicity.scorer.scoring"):
        monkeypatch.setattr(f"{module}.reproduce", lambda *_, **__: toy_encoders())
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0 and found.attempted > 30


def test_the_page_names_every_public_name() -> None:
    text = PAGE.read_text()
    names = set(ic.__all__) - {"indexer", "scorer", "__version__"}
    for kind in (ic.Index, ic.Results, ic.Table):
        names |= {n for n, m in inspect.getmembers(kind) if not n.startswith("_") and callable(m)}
    assert sorted(n for n in names if n not in text) == []


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, iconicity as ic; ic.Run(), ic.ScoreOptions(), ic.__version__\n"
        "print([m for m in ('torch', 'lancedb', 'pandas', 'numpy', 'click') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_table_is_text_and_html(study: Study, gen: Path) -> None:
    study({"m<b>": gen})
    table = ic.Results.open(study.out).summary(draws=100)
    assert repr(table).splitlines()[0].split()[0] == "model" and "m<b>" in repr(table)
    html = table._repr_html_()
    assert "<table" in html and "m&lt;b&gt;" in html and "m<b>" not in html
    assert "<li>encoders: " in html


def test_figures_by_name(study: Study, gen: Path) -> None:
    study({"m": gen})
    results = ic.Results.open(study.out)
    with pytest.raises(ic.IconicityError, match="no such figure; there are bars"):
        results.plot("pie")
    with pytest.raises(ic.IconicityError, match="has no calibration"):
        results.plot("nulls")
    results.calibrate(options=ic.CalibrationOptions(draws=100), run=study.run)
    with pytest.raises(ic.IconicityError, match="no null for its numbers of references"):
        results.plot("nulls")  # three concepts: none has another one in its half
