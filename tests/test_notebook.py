"""The cells of docs/figures.ipynb, run in order."""

from __future__ import annotations

import json
from pathlib import Path

from toys import ROOT, Study, make_gen

NOTEBOOK = ROOT / "docs" / "figures.ipynb"


def test_the_notebook_makes_tables_and_figures(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"a": gen, "b": make_gen(tmp_path / "b", seed=5000)})
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names = {"STUDY": str(study.out), "OUT": str(tmp_path / "figures"), "DRAWS": 100}
    parameters = []
    for number, cell in enumerate(c for c in cells if c["cell_type"] == "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        if "parameters" in cell["metadata"].get("tags", ()):
            given = dict[str, object]()
            exec("".join(cell["source"]), given)
            parameters += [name for name in given if name.isupper()]
        else:
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert parameters == ["STUDY", "OUT", "DRAWS"]
    made = {path.name for path in (tmp_path / "figures").iterdir()}
    assert made >= {f"{name}.pdf" for name in ("bars", "recognition", "heatmap", "curves", "evidence")}
    assert made >= {"models.tex", "models.csv", "differences.tex"}
