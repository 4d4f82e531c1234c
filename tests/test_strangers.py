"""An index, a results folder, a calibration or a cache from somebody else is data: checked, bounded, never run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import make_results, row
from run import run
from toys import Study, draw, make_gen, make_refs, toy_encoders, write

from iconicity.indexer.build import add_references, build_index
from iconicity.indexer.errors import CorruptIndexError, IconicityError, IndexFormatError, InputError
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.manifest import FORMAT as INDEX_FORMAT
from iconicity.indexer.store.manifest import digest
from iconicity.indexer.store.rows import ReferenceStore
from iconicity.indexer.store.schema import parse_json, read_json
from iconicity.indexer.store.table import TABLE
from iconicity.scorer.measure.calibrate.calibration import FORMAT, read_calibration
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.results import SCHEMA, index_of, require_results
from iconicity.scorer.say.report.thumbnails import Picture, make_thumbnails
from iconicity.scorer.signed import UNSIGNED, sign

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    build_index(make_refs(root / "refs", ["alpha", "beta"]), root / "i", toy_encoders())
    make_gen(root / "gen", ["alpha", "beta"])
    return root


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "i", tmp_path / "i")


def change(index: Path, how: Callable[[dict[str, Any]], object]) -> None:
    """A manifest that says something else, with a digest that is right."""
    path = index / "manifest.json"
    manifest = json.loads(path.read_text())
    how(manifest)
    manifest["digest"] = digest(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "how",
    [
        lambda m: m.update(index_id="../../../victim"),  # it names a folder that is cleared
        lambda m: m.update(index_id=7), lambda m: m.pop("index_id"),
        lambda m: m["settings"].update(grid=[4, "4"]), lambda m: m["settings"].update(grid=[4, 4, 4]),
        lambda m: m["settings"].update(grid=[0, 4]), lambda m: m["settings"].update(grid=[10**9, 10**9]),
        lambda m: m["settings"]["dino"].update(dim=-1), lambda m: m["settings"]["clip"].update(source={"model": ["x"]}),
        lambda m: m["settings"].pop("clip"), lambda m: m.update(settings=[]), lambda m: m["settings"].update(pixels="yes"),
        lambda m: m.update(counts={"kept": "many"}), lambda m: m.update(table_version=-1),
        lambda m: m.update(table_version=True), lambda m: m.update(skipped=["x"]), lambda m: m.update(files={"a": "b"}),
        lambda m: m["files"].update({"../../etc/passwd": "0" * 64}), lambda m: m["files"].update({"/etc/passwd": "0" * 64}),
        lambda m: m.update(versions={"iconicity": [1]}), lambda m: m["thresholds"].update(rows=[{"tau": 2.0}]),
    ],
)  # fmt: skip
def test_manifests_of_another_shape_are_refused(index: Path, how: Callable[[dict[str, Any]], object]) -> None:
    change(index, how)
    for use in (open_index, lambda p: add_references(p.parent / "none", p)):
        write(index.parent / "none" / "new" / "0.png", draw(1))
        with pytest.raises(IndexFormatError, match="not what iconicity writes"):
            use(index)


def test_a_manifest_and_a_table_of_different_settings_are_refused(index: Path) -> None:
    change(index, lambda m: m["settings"].update(pixels="published"))
    with pytest.raises(CorruptIndexError, match="different settings"):
        open_index(index)


def test_a_newer_format_says_what_reads_it(index: Path) -> None:
    change(index, lambda m: m.update(format=INDEX_FORMAT + 1, versions={"iconicity": "9.1"}))
    with pytest.raises(
        IndexFormatError, match=rf"format {INDEX_FORMAT + 1}, written by iconicity 9\.1.*use iconicity 9\.1 or later"
    ):
        open_index(index)
    change(index, lambda m: m.update(format="x\x1b[2J"))
    done = run("index", "info", "--index", index, code=1)
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    "text", [DEEP, '{"a":' * 50_000, "[1", "NaN", "[]", "7", '"x"', "", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_manifests_that_are_no_object_are_refused(index: Path, text: str | bytes) -> None:
    (index / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((CorruptIndexError, IndexFormatError)):
        open_index(index)


def test_a_manifest_of_ten_gigabytes_is_not_read(index: Path) -> None:
    with (index / "manifest.json").open("r+b") as f:
        f.truncate(10 << 30)
    with pytest.raises(CorruptIndexError, match="more than 64 MB"):
        open_index(index)


@pytest.mark.parametrize("text", [DEEP, "NaN", "[Infinity]", "{", "\x00"])
def test_json_is_refused_with_a_value_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError):
        parse_json(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "x.json")


def test_tables_of_other_columns_are_refused(index: Path, tmp_path: Path) -> None:
    import lancedb

    store = ReferenceStore.open(index)
    assert store is not None
    schema = store._schema
    lies = {
        "dim": schema.set(10, pa.field("clip", pa.list_(pa.float32(), 3))),
        "text": schema.set(10, pa.field("clip", pa.string())),
        "extra": schema.append(pa.field("more", pa.string())),
        "settings": schema.with_metadata({b"iconicity": DEEP.encode()}),
        "none": schema.remove_metadata(),
    }
    for name, lie in lies.items():
        other = tmp_path / name
        lancedb.connect(other).create_table(TABLE, schema=lie)
        with pytest.raises(IndexFormatError, match="cannot be opened"):
            ReferenceStore.open(other)


def test_rows_of_other_names_are_refused(index: Path) -> None:
    store = ReferenceStore.open(index)
    assert store is not None
    for sql in ({"ref_id": "'nameless'"}, {"sha256": "'../../x'"}):
        store._table.update(values_sql=sql, where="concept = 'beta'")
        with pytest.raises(CorruptIndexError, match="was not written by iconicity"):
            store.references()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_results(tmp_path / "r", *(row("alpha", 0.9, 2, name=f"{i}.png") for i in range(4)))


def forge(path: Path, table: pa.Table, **options: Any) -> None:
    """A parquet file with a digest that fits: whoever can write one can write the other."""
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(UNSIGNED)
    sign(path)


def rewrite(results: Path, schema: pa.Schema | None = None, **columns: list[Any]) -> None:
    """The same results with other columns, or another head."""
    path = results / "scores_dynamic.parquet"
    held = pq.read_table(path)
    for name, values in columns.items():
        at = held.schema.get_field_index(name)
        kind = held.schema.field(name).type
        array = pa.array(values, kind) if name != "seed" else pa.array(values)
        held = held.set_column(at, pa.field(name, array.type), array)
    if schema is not None:
        held = held.replace_schema_metadata(schema.metadata)
    forge(path, held)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"seed": ["a", "b", "c", "d"]}, "columns are not those of this version, first 'seed'"),
        ({"p": [[0.9] * 3, [0.9] * 5, [0.9] * 4, [0.9] * 4]}, "a list of p has 3 values, the grid 4 cells"),
        ({"p": [[], [], [], []]}, "a list of p has 0 values"),
        ({"p_ref_cell": [[0, 1, 2, 4]] * 4}, "no cell of the grid"),
        ({"p_ref_cell": [[0, 1, 2, -2]] * 4}, "no cell of the grid"),
        ({"concept": [None, "a", "b", "c"]}, "a row without concept"),
        ({"gen_sha256": ["../../x"] * 4}, "is no SHA-256"),
        ({"model": ["a", "m", "m", "m"]}, "rows of another model"),
        ({"model": [None, "m", "m", "m"]}, "a row without model"),
    ],
)
def test_results_that_lie_are_refused(results: Path, columns: dict[str, list[Any]], said: str) -> None:
    rewrite(results, **columns)
    with pytest.raises(IconicityError, match=re.escape(said)):
        summarise(open_study(results, ["p_ref_cell", "gen_sha256"]), draws=100)
    run("summary", results, "--draws", 100, code=1)


def test_lists_of_a_thousand_million_values_are_not_unpacked(results: Path) -> None:
    """In parquet a constant takes a few bytes, however often it stands there."""
    path = results / "scores_dynamic.parquet"
    held = pq.read_table(path).slice(0, 1)
    n = 40_000_000
    p = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.array(np.ones(n, np.float32)))
    at = held.schema.get_field_index("p")
    forge(path, held.set_column(at, SCHEMA.field("p"), pa.chunked_array([p])), compression="zstd")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(IconicityError, match=f"a list of p has {n} values, the grid 4 cells"):
        require_results(results).table()


@pytest.mark.parametrize(
    "how",
    [
        lambda h: h["settings"].update(grid=[2, "2"]), lambda h: h["settings"].update(grid=[1 << 30, 2]),
        lambda h: h["settings"].pop("encoders"), lambda h: h.update(tau={"cra": "0.5", "vr": None}),
        lambda h: h.update(tau={"cra": 7.0, "vr": None}), lambda h: h.update(notes=[1]), lambda h: h.update(thresholds=[]),
        lambda h: h.update(settings=None), lambda h: h["settings"].update(scope="everything"),
    ],
)  # fmt: skip
def test_heads_of_results_that_lie_are_refused(results: Path, how: Callable[[dict[str, Any]], object]) -> None:
    held = pq.read_schema(results / "scores_dynamic.parquet")
    head = json.loads(held.metadata[b"iconicity"])
    how(head)
    rewrite(results, held.with_metadata({b"iconicity": json.dumps(head).encode()}))
    with pytest.raises(IconicityError, match="cannot be read as results"):
        require_results(results)


def test_heads_too_deep_or_of_later_versions_are_refused(results: Path) -> None:
    held = pq.read_schema(results / "scores_dynamic.parquet")
    head = json.loads(held.metadata[b"iconicity"])
    rewrite(results, held.with_metadata({b"iconicity": DEEP.encode()}))
    with pytest.raises(IconicityError, match="nested too deep"):
        require_results(results)
    rewrite(
        results, held.with_metadata({b"iconicity": json.dumps(head | {"format": 99, "written_by": "9.1"}).encode()})
    )
    with pytest.raises(IconicityError, match=r"format 99, written by iconicity 9\.1.*use iconicity 9\.1 or later"):
        require_results(results)


@pytest.mark.parametrize(
    "meta", [DEEP, "[]", "7", '{"index": 7}', '{"index": {"path": 7}}', '{"index": {"path": "a\\u0000b"}}']
)
def test_meta_files_that_lie_name_no_index(results: Path, meta: str) -> None:
    (results / "results_cra_dynamic.meta.json").write_text(meta)
    with pytest.raises(InputError, match="name it with `index`"):
        index_of(require_results(results))


THRESHOLD = {"null": "unrelated", "metric": "cra", "references": 1, "status": "calibrated", "tau": 0.5}
CALIBRATION = {
    "format": FORMAT, "alpha": 0.01, "seed": 0, "index_id": "x", "settings": {"mode": "dynamic"}, "pool": ["a"],
    "halves": {"A": ["a"], "B": ["b"]}, "same_work": [["a", "b"]], "thresholds": [THRESHOLD], "nulls": [], "notes": [],
}  # fmt: skip


def calibration_text(**lies: Any) -> str:
    """A calibration with other values, and a digest that fits."""
    content = CALIBRATION | lies
    signed = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return json.dumps(content | {"digest": hashlib.sha256(signed.encode()).hexdigest()})


LIES: list[dict[str, Any]] = [
            {"alpha": 0.0}, {"alpha": "x"}, {"seed": 0.5}, {"pool": "a"}, {"halves": []}, {"same_work": [[1]]}, {"notes": "x"},
            {"settings": {}}, {"thresholds": {}}, {"unknown": 1}, {"format": "1"}, {"nulls": [{"metric": "cra", "references": 1, "reached": [0.5]}]},
            {"nulls": [{"metric": "cra", "references": 1, "reached": [2.0] * 101}]}, {"nulls": 7},
        ]  # fmt: skip


def test_a_calibration_reads(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(calibration_text())
    assert read_calibration(tmp_path / "c.json").taus("cra") == {1: 0.5}


@pytest.mark.parametrize(
    "text",
    [
        *(calibration_text(thresholds=[THRESHOLD | lie]) for lie in (
            {"tau": float("nan")}, {"tau": "0.5"}, {"tau": 1e308}, {"tau": None}, {"tau": [0.5]}, {"references": "1"},
            {"references": 0}, {"references": 10**30}, {"metric": "x"}, {"null": "x"}, {"status": 7},
        )),
        *(calibration_text(**lie) for lie in LIES),
        DEEP, "[]", "null", "{}", calibration_text()[:-5], calibration_text().replace("0.01", "Infinity"),
    ],
)  # fmt: skip
def test_calibrations_that_lie_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError):
        read_calibration(tmp_path / "c.json")


def test_a_calibration_of_a_later_version_says_so(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(calibration_text(format=99))
    with pytest.raises(
        InputError, match=f"format 99, written by a later iconicity; this version reads format {FORMAT}"
    ):
        read_calibration(tmp_path / "c.json")


def test_cached_vectors_of_another_length_are_computed_again(made: Path, tmp_path: Path) -> None:
    from iconicity.indexer.store.cache import _checksum

    study = Study(made / "i", tmp_path)
    study({"m": made / "gen"})
    before = study.results().rows("m")
    cache = VectorCache(tmp_path / "cache")
    with sqlite3.connect(cache.path) as db:
        for sha, key, data in db.execute("SELECT sha256, key, data FROM vectors").fetchall():
            lie: bytes = data[:8] if key.startswith("clip") else data + data
            db.execute(
                "UPDATE vectors SET data = ?, checksum = ? WHERE sha256 = ? AND key = ?",
                (lie, _checksum(sha, key, lie), sha, key),
            )
    report = study({"m": made / "gen"}, out=tmp_path / "again")
    assert any("damaged rows were computed again" in n for n in report.notices)
    assert require_results(tmp_path / "again").rows("m") == before


def test_hashes_become_no_paths(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    failed = make_thumbnails([Picture("x.png", "../../../out/side")], tmp_path / "site", "shown")
    assert failed == {"../../../out/side": "its SHA-256 is none"}
    assert list((tmp_path / "site").iterdir()) == []


AUDIT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from toys import running, toy_encoders
encoders = toy_encoders()
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.cache import VectorCache
from iconicity.scorer.measure.calibrate.calibration import read_calibration
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.say.report.build import report
from iconicity.scorer.say.report.options import ReportOptions
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.scoring import score
from iconicity.scorer.search import search_image

def use(index, out):
    idx = open_index(index)
    for scope in ("concept", "all"):
        score(idx, {{"m": Path({gen!r})}}, out / scope, ScoreOptions(scope=scope),
              run=running(encoders, cache=VectorCache(out / "cache")))
        summarise(open_study(out / scope), draws=100)
    report(out / "all", idx, out / "report", ReportOptions(draws=100))
    search_image(Path({gen!r}) / "alpha" / "00.png", idx, cache=out / "cache", run=running(encoders))
    try:
        read_calibration({calibration!r})
    except Exception:
        pass

use(Path({index!r}), Path("warm"))  # libraries are imported and compiled
seen = []
WATCHED = ("pickle.find_class", "exec", "marshal.loads", "os.system", "os.exec", "os.posix_spawn", "ctypes.dlopen", "subprocess.Popen")
sys.addaudithook(lambda event, args: seen.append((event, str(args)[:200])) if event in WATCHED else None)
use(Path({index!r}), Path("warm"))
use(Path({index!r}), Path("fresh"))
seen = [s for s in seen if not (s[0] == "exec" and "<template>" in s[1])]  # our own page
print("SEEN", seen)
"""


def test_nothing_in_an_index_results_or_cache_is_unpickled_or_run(made: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(calibration_text())
    script = AUDIT.format(
        tests=str(Path(__file__).parent),
        gen=str(made / "gen"),
        index=str(made / "i"),
        calibration=str(tmp_path / "c.json"),
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "SEEN []"
