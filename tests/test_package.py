"""The package as others meet it: its wheel, its names, and places given as text."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from toys import ROOT, running, toy_encoders

from iconicity.indexer import add_references, build_index, remove_references, repair_index, verify_index
from iconicity.indexer.errors import InputError
from iconicity.scorer import VectorCache, open_study, score, search_image, summarise
from iconicity.scorer.options import ScoreOptions, Writing


def test_wheel_contents(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    source = {f for f in tracked if f in ("__init__.py", "cli.py") or f.startswith(("indexer/", "scorer/", "data/"))}
    copy = tmp_path / "src"
    for name in [*source, "pyproject.toml", "README.md", "LICENSE"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "w"), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "w").glob("*.whl")
    fallback = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools_scm"]["fallback_version"]
    assert wheel.name == f"iconicity-{fallback}-py3-none-any.whl"  # neither git nor an archive's note is there
    with zipfile.ZipFile(wheel) as z:
        names = {n for n in z.namelist() if ".dist-info/" not in n}
    assert names == {f"iconicity/{f}" for f in source}


def test_the_package_says_what_it_is(tmp_path: Path) -> None:
    """In a process of its own, in a folder that holds a folder of our name."""
    code = (
        "import sys, iconicity as i; from importlib.metadata import version\n"
        "assert i.__doc__ and i.__version__ == version('iconicity') and {'__version__', 'indexer', 'scorer'} <= set(dir(i))\n"
        "assert {'build_index', 'open_index'} <= set(dir(i.indexer)) and {'score', 'summarise'} <= set(dir(i.scorer))\n"
        "assert not hasattr(i, 'nonsense') and not hasattr(i.scorer, 'nonsense')\n"
        "print(i.__file__, [m for m in ('torch', 'numpy', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == f"{ROOT / '__init__.py'} []\n"


def test_every_place_may_be_text(refs: Path, gen: Path, tmp_path: Path) -> None:
    encoders = toy_encoders()
    index, out, cache = (str(tmp_path / name) for name in ("text.index", "out", "cache"))
    build_index(str(refs), index, encoders)
    add_references(str(refs), index, run=running(encoders))
    report = score(index, {"m": str(gen)}, out, ScoreOptions(metrics=["cra"]), writing=Writing(csv=str(tmp_path / "a.csv"), meta=str(tmp_path / "a.json")), run=running(encoders, cache=VectorCache(cache)))  # fmt: skip
    assert report.scored == 9 and (tmp_path / "a.csv").is_file() and (tmp_path / "a.json").is_file()
    hits = search_image(str(refs / "alpha" / "00.png"), index, 1, cache=cache, run=running(encoders))
    assert hits["image"][0]["ref_id"] == "alpha/00.png"
    remove_references(index, concepts=["beta"], run=running(encoders))
    assert verify_index(index) == [] and repair_index(index, run=running(encoders)).lost == []
    study = open_study(out)
    assert repr(study) == f"<Study of {out}: 9 images, models m, 3 concepts>"
    with pytest.raises(InputError, match="no table 'foo'; there are models, concepts, missing"):
        summarise(study, draws=100).table("foo")
    with pytest.raises(InputError, match="s3://bucket/out: a URL; this takes a folder or file of this machine"):
        score(index, {"m": gen}, "s3://bucket/out", run=running(encoders))
