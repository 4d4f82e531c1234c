"""Messages of the library name fields and parameters; the command line alone knows flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from run import run
from toys import ROOT

import iconicity.cli  # noqa: F401  the commands say which flags there are
from iconicity.indexer.flags import FLAGS_OF, with_flags
from iconicity.indexer.text import echo

ROOMS = ("data", "indexer", "scorer")
OF_COMMANDS = {ROOT / "indexer" / name for name in ("commands.py", "command_line.py")}
OF_COMMANDS |= {
    p for room in ("data/commands", "scorer/commands", "scorer/app") for p in (ROOT / room).rglob("*.py")
}  # the app runs commands
OF_COMMANDS |= set((ROOT / "data" / "commands").rglob("*.py"))
SOURCES = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py")) if p not in OF_COMMANDS]
COMMAND_LINE = re.compile(r"'(iconicity|pip) [^']*'|pip install [\w. =-]*")  # a whole command to run


def texts(node: ast.AST) -> Iterator[str]:
    """The texts of a module, values in them as {}, without docstrings and the texts of flags themselves."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Flag":
        return
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from texts(child)


def of(path: Path) -> list[str]:
    return list(texts(ast.parse(path.read_text(encoding="utf-8"))))


def test_no_text_of_the_library_names_a_flag() -> None:
    named = [
        (str(path.relative_to(ROOT)), text)
        for path in SOURCES
        for text in of(path)
        if re.search(r"(?<![\w-])--[a-z]", COMMAND_LINE.sub("", text))
    ]
    assert named == []


def test_each_name_in_a_message_is_one_flag() -> None:
    names = {
        name: path.name for path in SOURCES for text in of(path) for name in re.findall(r"(?<!`)`([\w.]+)`(?!`)", text)
    }
    assert {"workers", "Select.concepts"} <= names.keys()
    assert {name: where for name, where in names.items() if len(FLAGS_OF.get(name, ())) != 1} == {}


def test_the_test_sees_what_is_wrong() -> None:
    wrong = ast.parse(
        """a = f"{x}: add {y} or --fit"; b = 'run "--x"'; Flag("--y"); f"see 'iconicity index --index {z}'" """
    )
    assert [t for t in texts(wrong) if "--" in COMMAND_LINE.sub("", t)] == ["{}: add {} or --fit", 'run "--x"']


def test_the_command_line_says_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_flags("`Results.open`, `Layout.columns`, `generated`") == "--results, --columns, --gen"
    assert with_flags("`concepts`, `Select.concepts`, `tau_vr`") == "`concepts`, --prompt-csv, --patch-tau"
    echo("a `workers`")
    echo('["a `workers`"]', data=True)
    assert capsys.readouterr().out == 'a --workers\n["a `workers`"]\n'
    (tmp_path / "file").touch()
    said = run("index", "info", "--index", tmp_path / "file", code=1).stderr
    assert said == f"error: {tmp_path / 'file'}: a file, not an index; name the folder of one with --index\n"
