"""Results directories and generated images on object storage: the same numbers, put back as a whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from objects import Storage
from run import run
from toys import Study, draw, make_gen, running, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError, LockedError, StorageError
from iconicity.indexer.places import Remote, place
from iconicity.indexer.store.cache import VectorCache, default_directory
from iconicity.scorer.choose import list_images
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.results import index_of, require_results
from iconicity.scorer.scoring import score
from iconicity.scorer.staging import Staged, let_go
from iconicity.scorer.verify import verify_results


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iconicity.indexer.encode.encoder.reproduce", lambda *_: toy_encoders())


def staged(url: str) -> Staged:
    remote = place(url)
    assert isinstance(remote, Remote)
    found = Staged.claim(remote, default_directory())
    found.fetch()
    return found


def test_results_there_are_the_results_here(
    storage: Storage, study: Study, refs: Path, gen: Path, tmp_path: Path
) -> None:
    index, out = storage.fresh(), storage.fresh()
    build_index(refs, place(index), toy_encoders())
    said = run("score", "--index", index, "--gen", f"m={gen}", "--out", out)
    assert f"{out}/scores_dynamic.parquet" in said.stdout and str(default_directory()) not in said.stdout
    study({"m": gen}, run=replace(study.run, cache=None))
    held = storage.contents(out)
    assert {k.rpartition("/")[2] for k in held} == {p.name for p in study.out.iterdir() if not p.name.startswith(".")}
    for key, data in held.items():
        here = (study.out / key.rpartition("/")[2]).read_bytes()
        if key.endswith(".meta.json"):
            there, local = json.loads(data), json.loads(here)
            assert there["index"]["path"] == index and there["csv"] == local["csv"]
        else:
            assert data == here, key  # every byte


def test_commands_take_results_by_their_url(storage: Storage, refs: Path, gen: Path, tmp_path: Path) -> None:
    index, out = storage.fresh(), storage.fresh()
    build_index(refs, place(index), toy_encoders())
    run("score", "--index", index, "--gen", f"m={gen}", "--out", out, "--scope", "all")
    assert run("results", "verify", out).stdout == f"{out}: whole\n"
    assert "m " in run("summary", out, "--draws", 100, "--out", tmp_path / "t.json").stdout
    assert json.loads((tmp_path / "t.json").read_text())["results"] == out
    run("report", out, "--out", tmp_path / "report")
    assert str(default_directory() / "results") not in "".join(
        p.read_text() for p in (tmp_path / "report").glob("*.html")
    )
    assert "whole" in run("index", "verify", "--index", index).stdout
    run("attribute", out, "--index", index, "--draws", 100)
    run("reproduce", out)
    done = run("calibrate", out, "--index", index, "--draws", 100, code=3)  # too few concepts
    assert f"{out}/calibration.json" in done.stderr
    assert f"{out}/calibration.json".removeprefix("s3://") in storage.contents(out)
    run("summary", out, "--table", "patches", "--draws", 100)
    run("search", gen / "alpha" / "00.png", "--index", index, "--json")
    error = run("summary", f"{out}/no", code=1).stderr
    assert error.startswith(f"error: {out}/no: holds no scores_") and "\n" not in error.strip()
    assert index_of(require_results(staged(out).folder)) == place(index)


def test_images_there_give_the_numbers_of_those_here(storage: Storage, study: Study, gen: Path) -> None:
    url = storage.copy(gen, storage.fresh())
    study({"m": gen}, run=replace(study.run, cache=None))
    here = study.results().table()
    study({"m": place(url)}, out=study.root / "there", run=replace(study.run, workers=1))
    there = require_results(study.root / "there").table()
    assert there.drop_columns("gen_path") == here.drop_columns("gen_path")
    assert there.column("gen_path")[0].as_py() == f"{url}/alpha/00.png"
    storage.gate.seen.clear()
    assert study({"m": place(url)}, out=study.root / "there").embedded == 0
    assert len(storage.gate.seen) == 1  # the listing: no object is read again
    storage.put(f"{url}/alpha/01.png", write(study.root / "new.png", draw(999)).read_bytes())
    storage.gate.seen.clear()
    assert study({"m": place(url)}, out=study.root / "there").embedded == 1
    assert {s for s in storage.gate.seen if ".png" in s} == {f"GET {'/' + url.removeprefix('s3://')}/alpha/01.png"}
    assert study({"m": place(url)}, out=study.root / "again", run=replace(study.run, rehash=True)).embedded == 0


def test_a_url_names_its_model(storage: Storage, study: Study, gen: Path) -> None:
    url = storage.copy(gen, f"{storage.fresh()}/a=b/sd14")
    run("score", "--index", study.index, "--gen", f"{url}/", "--out", study.out)
    assert study.results().models == ["sd14"]
    run("score", "--index", study.index, "--gen", f"sd15@formal={url}", "--out", study.out)
    assert study.results().models == ["sd14", "sd15@formal"]
    assert "is a URL" in run("score", "--index", study.index, "--gen-root", url, code=2).stderr


@pytest.mark.parametrize("name", ["metadata.csv", "a.tar", "b.tar.gz", "00000/metadata.jsonl"])
def test_other_layouts_are_refused(name: str, storage: Storage, study: Study) -> None:
    url = storage.fresh()
    storage.put(f"{url}/alpha/00.png", b"x")
    storage.put(f"{url}/{name}", b"x")
    with pytest.raises(InputError, match="one folder a concept; copy this to a disk"):
        list_images(place(url), {})


def test_a_change_meanwhile_is_not_overwritten(
    storage: Storage, study: Study, gen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = storage.fresh()
    first, second = staged(out), staged(out)
    assert first.folder != second.folder
    for one, tau in ((first, 0.5), (second, 0.6)):
        score(study.index, {"m": gen}, one.folder, ScoreOptions(tau_vr=tau), run=running())
    first.put()
    before = storage.contents(out)
    with pytest.raises(LockedError, match=r"scores_dynamic.parquet: changed meanwhile, and nothing was put there"):
        second.put()
    assert storage.contents(out) == before
    second.fetch()
    assert require_results(second.folder).tau["vr"] == 0.5
    score(study.index, {"m": gen}, second.folder, ScoreOptions(tau_vr=0.6), run=running())
    second.put()
    first.fetch()
    assert require_results(first.folder).tau["vr"] == 0.6 and verify_results(first.folder) == []


def test_puts_that_are_cut_short_do_not_verify(
    storage: Storage, study: Study, gen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = storage.fresh()
    held = staged(out)
    score(study.index, {"m": gen}, held.folder, run=running())
    held.put()
    whole = storage.contents(out)
    upload = Remote.upload
    for done in range(5):
        for key, data in whole.items():
            storage.put(f"s3://{key}", data)
        held.fetch()
        score(study.index, {"m": gen}, held.folder, ScoreOptions(tau_cra=0.5, tau_vr=0.5), run=running())
        puts: list[str] = []

        def some(self: Remote, path: Path, puts: list[str] = puts, done: int = done) -> None:
            if len(puts) == done:
                raise StorageError("killed")
            puts.append(self.name)
            upload(self, path)

        with monkeypatch.context() as patch:
            patch.setattr(Remote, "upload", some)
            with pytest.raises(StorageError):
                held.put()
        held.fetch()
        problems = verify_results(held.folder)
        assert bool(problems) == (done > 0), (puts, problems)
        score(study.index, {"m": gen}, held.folder, ScoreOptions(tau_cra=0.5, tau_vr=0.5), run=running())
        held.put()
        held.fetch()
        assert verify_results(held.folder) == [] and require_results(held.folder).tau["vr"] == 0.5


def test_only_our_files_are_fetched_and_only_once(storage: Storage, study: Study, gen: Path) -> None:
    out = storage.fresh()
    first = staged(out)
    score(study.index, {"m": gen}, first.folder, run=running())
    first.put()
    for name in ("../evil.csv", "sub/scores_dynamic.parquet", "thesis.csv", ".hidden", "results_x_dynamic.csv/y"):
        storage.put(f"{out}/{name}", b"x")
    storage.gate.seen.clear()
    first.fetch()
    assert len(storage.gate.seen) == 1  # nothing has changed
    second = staged(out)
    names = {p.name for p in second.folder.iterdir()}
    assert names == {p.name for p in first.folder.iterdir() if not p.name.startswith(".")} and len(names) == 5
    assert not list(default_directory().rglob("evil.csv"))
    (second.folder / "results_cra_dynamic.csv").write_text("spoiled")
    second.fetch()
    assert (second.folder / "results_cra_dynamic.csv").read_bytes() == (
        first.folder / "results_cra_dynamic.csv"
    ).read_bytes()


def test_a_command_that_fails_puts_nothing(storage: Storage, study: Study, gen: Path) -> None:
    out = storage.fresh()
    run("score", "--index", study.index, "--gen", f"m={gen}", "--out", out)
    before = storage.contents(out)
    run("score", "--index", study.index, "--gen", f"m={gen}", "--out", out, "--mode", "static", code=1)
    assert storage.contents(out) == before
    storage.gate.forbid = frozenset({"PUT", "POST"})
    said = run("score", "--index", study.index, "--gen", f"m={gen}", "--out", out, "--patch-tau", 0.5, code=1)
    assert "refused" in said.stderr and storage.contents(out) == before
    storage.gate.open()
    run("score", "--index", study.index, "--gen", f"m={gen}", "--out", out, "--patch-tau", 0.5)
    assert require_results(staged(out).folder).tau["vr"] == 0.5
    let_go()


def test_the_vectors_of_images_there_are_known_by_their_bytes(storage: Storage, study: Study, gen: Path) -> None:
    cache = VectorCache(study.root / "cache")
    study({"m": gen}, run=replace(study.run, cache=cache))
    url = storage.copy(make_gen(study.root / "copy"), storage.fresh())
    assert study({"m": place(url)}, out=study.root / "there", run=replace(study.run, cache=cache)).embedded == 0
    assert pq.read_table(study.root / "there" / "scores_dynamic.parquet").num_rows == 9
