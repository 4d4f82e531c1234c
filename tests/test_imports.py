"""Each module stands on its own imports: without another module of ours, and for every submodule of a library it uses."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.machinery import PathFinder
from typing import Any

from toys import ROOT

SOURCES = sorted([ROOT / "cli.py", *(p for d in ("data", "indexer", "scorer") for p in (ROOT / d).rglob("*.py"))])

# In one fresh interpreter, since libraries take seconds: before each module all of ours are forgotten.
EACH_ALONE = """
import gc, importlib, json, sys, traceback
gc.disable()
lost = {}
for name in json.load(sys.stdin):
    for held in [m for m in sys.modules if m.partition(".")[0] == "iconicity"]:
        del sys.modules[held]
    try:
        importlib.import_module(name)
    except Exception:
        lost[name] = traceback.format_exc()
print(json.dumps(lost))
"""
# Names that `import PACKAGE` alone does not give.
NOT_THERE = """
import importlib, json, sys
package, names = json.load(sys.stdin)
try:
    module = importlib.import_module(package)
except ImportError:
    names = []
lost = []
for name in names:
    found = module
    for part in name.split(".")[1:]:
        if not isinstance(found, type(module)):
            break
        if not hasattr(found, part):
            lost.append(name)
            break
        found = getattr(found, part)
print(json.dumps(lost))
"""


def answer(code: str, question: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(question), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_module_is_imported_alone() -> None:
    names = [".".join(("iconicity", *p.relative_to(ROOT).with_suffix("").parts)) for p in SOURCES]
    names = [name.removesuffix(".__init__") for name in names]
    assert {"iconicity.cli", "iconicity.indexer", "iconicity.scorer.say.report.build"} < set(names)
    assert answer(EACH_ALONE, names) == {}


def used(tree: ast.Module) -> Iterator[str]:
    """Dotted names of libraries that a module reads through its imports, less those that it imports itself."""
    names, declared = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                names[a.asname or a.name.partition(".")[0]] = a.name if a.asname else a.name.partition(".")[0]
                declared |= {a.name.rsplit(".", i)[0] for i in range(a.name.count(".") + 1)}
        elif isinstance(node, ast.ImportFrom):
            declared |= {f"{node.module}.{a.name}" for a in node.names} | {str(node.module)}
    for node in ast.walk(tree):
        chain: list[str] = []
        part: ast.expr | None = node if isinstance(node, ast.Attribute) else None
        while isinstance(part, ast.Attribute):
            chain.insert(0, part.attr)
            part = part.value
        if isinstance(part, ast.Name) and part.id in names:
            full = [*names[part.id].split("."), *chain]
            if not any(".".join(full[:i]) in declared for i in range(2, len(full) + 1)):
                yield ".".join(full)


def is_submodule(name: str) -> bool:
    """Whether the second part of a dotted name is a module; nothing is imported."""
    package, part, *_ = name.split(".")
    if package in sys.builtin_module_names or (spec := PathFinder.find_spec(package)) is None:
        return False
    return PathFinder.find_spec(f"{package}.{part}", spec.submodule_search_locations or []) is not None


def test_a_library_s_submodule_is_imported_where_it_is_used() -> None:
    """``import pyarrow`` alone does not give ``pyarrow.compute``, though it does wherever another module imported it."""
    wanted: dict[str, dict[str, str]] = defaultdict(dict)
    for path in SOURCES:
        for name in used(ast.parse(path.read_text(encoding="utf-8"))):
            if is_submodule(name):
                wanted[name.partition(".")[0]].setdefault(name, str(path.relative_to(ROOT)))
    assert "pyarrow.types.is_list" in wanted["pyarrow"] and "numpy.random.default_rng" in wanted["numpy"]
    lost = {package: answer(NOT_THERE, (package, list(names))) for package, names in wanted.items()}
    assert {name: wanted[package][name] for package, names in lost.items() for name in names} == {}


def test_the_test_sees_what_is_missing() -> None:
    tree = ast.parse("import pyarrow as pa, pandas.api\npa.compute.not_equal(1, 2)\npandas.api.types\nx.path")
    name = next(used(tree))
    assert set(used(tree)) == {name, name.rpartition(".")[0]}
    assert name == "pyarrow.compute.not_equal" and is_submodule(name)
    assert answer(NOT_THERE, ("pyarrow", [name, "pyarrow.types.is_list"])) == [name]
