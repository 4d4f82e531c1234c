"""An index and its references on object storage: as on a disk, or one clear error."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from objects import BUCKET, KEYS, Storage, build_there
from run import run
from toys import draw, forwards, make_gen, make_refs, running, toy_encoders, write

import iconicity.indexer.builder as builder
from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.errors import CorruptIndexError, InputError, LockedError, StorageError
from iconicity.indexer.options import Run, Select
from iconicity.indexer.places import Place, Remote, named, place, stands_for
from iconicity.indexer.sources.folders import folder_images
from iconicity.indexer.sources.suffixes import PASSED_OVER
from iconicity.indexer.store.cache import default_directory
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.rows import ReferenceStore
from iconicity.indexer.store.vectors import open_vectors
from iconicity.indexer.store.verify import verify_index

_SPAWN = get_context("spawn")


def rows(index: Place, with_path: bool = True) -> list[tuple[Any, ...]]:
    """Every column but the clock's, vectors as bytes."""
    out = []
    for row in open_index(index).store.rows():
        facts = {k: v for k, v in vars(row.reference).items() if with_path or k != "path"}
        out.append((facts, *(None if v is None else v.tobytes() for v in (row.clip, row.patches))))
    return sorted(out, key=lambda r: str(r[0]["ref_id"]))


def assert_as_local(url: str, refs: Path, tmp_path: Path) -> None:
    """The index at a URL is what a build on a disk makes of the same files, and is whole."""
    local = tmp_path / "local.index"
    report = build_index(refs, local, toy_encoders())
    assert rows(place(url)) == rows(local)
    held = open_index(url)
    assert held.index_id == report.index_id
    assert [held.manifest[k] for k in ("counts", "skipped", "concepts_digest", "settings")] == [
        open_index(local).manifest[k] for k in ("counts", "skipped", "concepts_digest", "settings")
    ]
    assert verify_index(place(url)) == []


def test_a_url_is_no_path() -> None:
    there = place("s3://bucket/a b/x.tar/c?d#e%20/")
    assert there == Remote("s3://bucket/a b/x.tar/c?d#e%20") and str(there / "f") == f"{there}/f"
    assert (there.name, str(there.parent)) == ("c?d#e%20", "s3://bucket/a b/x.tar")
    assert place("refs/x") == Path("refs/x") and place(Path("x")) == Path("x")
    for wrong in ("http://host/x", "file:///x", "s3://", "s3:///x", "s3://key:secret@bucket/x"):
        with pytest.raises(InputError) as e:
            place(wrong)
        assert "secret" not in str(e.value)


def test_messages_name_the_url_that_a_folder_stands_for(tmp_path: Path) -> None:
    stands_for(tmp_path / "staged", "s3://bucket/results")
    assert named(f"{tmp_path}/staged/scores.parquet: gone") == "s3://bucket/results/scores.parquet: gone"


def test_an_index_there_is_the_index_here(storage: Storage, refs: Path, tmp_path: Path) -> None:
    url = storage.fresh()
    report = build_index(refs, place(url), toy_encoders())
    assert (report.embedded, report.kept, report.dropped) == (9, 9, 3)
    assert_as_local(url, refs, tmp_path)
    here, there = (open_index(i).block(["alpha", "gamma"]) for i in (tmp_path / "local.index", url))
    assert here.references == there.references
    assert here.clip.tobytes() == there.clip.tobytes() and here.patches.tobytes() == there.patches.tobytes()
    storage.gate.seen.clear()
    encoders = toy_encoders()
    assert not build_index(refs, place(url), encoders).changed and forwards(encoders) == 0
    assert not [s for s in storage.gate.seen if s.startswith("PUT") and ".probe-" not in s]


def test_references_there_are_those_here(storage: Storage, refs: Path, tmp_path: Path) -> None:
    there = storage.copy(refs, storage.fresh())
    storage.gate.seen.clear()
    build_index(place(there), tmp_path / "i", toy_encoders(), run=Run(workers=1))
    lists = [s for s in storage.gate.seen if s.startswith("GET") and "list-type" in s]
    assert len(lists) == 1, lists  # of all folders; the files are read by a process of its own
    build_index(refs, tmp_path / "local.index", toy_encoders())
    assert rows(tmp_path / "i", with_path=False) == rows(tmp_path / "local.index", with_path=False)
    held = open_index(tmp_path / "i")
    assert held.references()["beta/01.png"].path == f"{there}/beta/01.png"
    assert (
        held.manifest["log"][-1]["files_sha256"]
        == open_index(tmp_path / "local.index").manifest["log"][-1]["files_sha256"]
    )
    assert verify_index(tmp_path / "i", deep=True) == []
    storage.put(f"{there}/beta/01.png", b"other")
    assert f"{there}/beta/01.png: bytes differ" in verify_index(tmp_path / "i", deep=True)[0]
    storage.filesystem().rm_file(f"{there}/beta/01.png".removeprefix("s3://"))
    assert "cannot be read: no such object" in verify_index(tmp_path / "i", deep=True)[0]


def test_the_rules_for_names_are_the_same(storage: Storage, tmp_path: Path) -> None:
    root = tmp_path / "refs"
    for name in ("The Wave/a.png", "The Wave/B.JPG", "The Wave/.hidden.png", "The Wave/note.txt", "The Wave/in/x.png",
                 "The Wave/in/y.png", "The Wave/in/deep/.z.png", "The Wave/c.heic", "The Wave/d.Gif", "top.txt", ".git/x.png", "é/=1 [x]*?.webp", "loose.png", "empty of images/readme.md"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    url = storage.copy(root, storage.fresh())
    storage.put(f"{url}0/other/x.png", b"x")  # begins alike, and lies beside
    for concepts in (None, ["the_wave"]):
        here = [i._replace(path=i.path.replace(str(root), url)) for i in folder_images(root, concepts)]
        there = [i._replace(identity=None) for i in folder_images(place(url), concepts)]
        assert sorted(here) == sorted(there)
        assert sum(i.problem in PASSED_OVER for i in here) == 4  # one of another format, two nested, one loose
    storage.put(f"{url}/the_wave/c.png", b"x")
    with pytest.raises(InputError, match="are both the concept 'the_wave'"):
        list(folder_images(place(url)))
    with pytest.raises(InputError, match="no object lies there"):
        list(folder_images(place(storage.fresh())))


def test_add_remove_and_purge(storage: Storage, refs: Path, tmp_path: Path) -> None:
    url = storage.fresh()
    index = place(url)
    make_refs(tmp_path / "first", ["alpha", "beta"])
    build_index(refs, index, toy_encoders(), select=Select(concepts=["alpha", "beta"]))
    add_references(refs, index, run=running())
    assert_as_local(url, refs, tmp_path)
    before = open_index(url)
    gone = before.store.rows(["alpha/01.png"])[0].patches
    assert gone is not None and before.manifest["files"] == {}
    remove_references(index, ref_ids=["alpha/01.png"], run=running())
    assert len(before.references()) == 12  # older versions stay for those who read them
    assert any(gone.tobytes() in data for data in storage.contents(url).values())
    remove_references(index, concepts=["beta"], purge=True, run=running())
    assert not any(gone.tobytes() in data for data in storage.contents(url).values())
    assert sorted(open_index(url).concepts()) == ["alpha", "gamma"] and verify_index(index) == []
    with pytest.raises(CorruptIndexError) as e:  # what they read is gone
        before.block(["alpha"])
    assert "run the same command again" in str(e.value) and "repair" not in str(e.value)
    assert [entry["command"] for entry in open_index(url).manifest["log"]] == [
        "build",
        "add",
        "remove",
        "remove",
        "purge",
    ]


def test_commits_are_large_there(storage: Storage, refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[str] = []
    upsert = ReferenceStore.upsert

    def counted(self: ReferenceStore, rows: Any) -> None:
        commits.append(str(self.directory))
        upsert(self, rows)

    monkeypatch.setattr(ReferenceStore, "upsert", counted)
    monkeypatch.setattr(builder, "COMMIT_IMAGES", 2)
    build_index(refs, tmp_path / "i", toy_encoders())
    url = storage.fresh()
    build_index(refs, place(url), toy_encoders())
    assert commits.count(str(tmp_path / "i")) >= 5 and commits.count(url) == 1, commits


def test_an_index_may_be_copied_there_and_back(storage: Storage, refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    url = storage.copy(tmp_path / "i", storage.fresh())
    assert rows(place(url)) == rows(tmp_path / "i") and verify_index(place(url)) == []
    write(refs / "delta" / "0.png", draw(77))
    assert build_index(refs, place(url), toy_encoders()).embedded == 1
    for key, data in storage.contents(url).items():
        path = tmp_path / "back" / key.removeprefix(url.removeprefix("s3://") + "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert rows(tmp_path / "back") == rows(place(url)) and verify_index(tmp_path / "back") == []


def test_a_damaged_object_is_found(storage: Storage, refs: Path) -> None:
    url = storage.fresh()
    build_index(refs, place(url), toy_encoders())
    patches = open_index(url).store.rows(["alpha/01.png"])[0].patches
    assert patches is not None
    ((key, data),) = [(k, d) for k, d in storage.contents(url).items() if patches.tobytes() in d]
    at = data.index(patches.tobytes())
    storage.put(f"s3://{key}", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert "alpha/01.png: row does not match its checksum" in verify_index(place(url))
    with pytest.raises(CorruptIndexError, match="does not match its checksum"):
        open_index(url).block(["alpha"])
    done = run("index", "verify", "--index", url, code=1)
    assert "index repair" not in done.stderr
    assert "cannot be mended in place" in run("index", "repair", "--index", url, code=1).stderr


def test_derived_files_lie_in_the_cache(storage: Storage, refs: Path) -> None:
    url = storage.fresh()
    build_index(refs, place(url), toy_encoders())
    index = open_index(url)
    first = open_vectors(index, default_directory())
    assert first.folder is not None and first.folder.is_relative_to(default_directory())
    storage.gate.seen.clear()
    again = open_vectors(index, default_directory())
    assert again.patches.tobytes() == first.patches.tobytes() and storage.gate.seen == []


def no_server(storage: Storage, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


def no_credentials(storage: Storage, patch: pytest.MonkeyPatch) -> None:
    from fsspec import AbstractFileSystem
    from s3fs import S3FileSystem

    assert issubclass(S3FileSystem, AbstractFileSystem)
    S3FileSystem.clear_instance_cache()
    for name in KEYS:
        patch.delenv(name)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    patch.setenv("AWS_CONFIG_FILE", "/nowhere")


def forbidden(storage: Storage, patch: pytest.MonkeyPatch) -> None:
    storage.gate.forbid = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD"})


def no_extra(storage: Storage, patch: pytest.MonkeyPatch) -> None:
    def filesystem(*_: Any, **__: Any) -> Any:
        raise ImportError("Install s3fs to access S3")

    patch.setattr("fsspec.filesystem", filesystem)


def plain_http(storage: Storage, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("AWS_ALLOW_HTTP")


def as_it_is(storage: Storage, patch: pytest.MonkeyPatch) -> None:
    pass


@pytest.mark.parametrize(
    ("how", "bucket", "says"),
    [
        (as_it_is, "no-such", "there is no bucket 'no-such'; make it, or name another"),
        (no_server, BUCKET, "the server does not answer"),
        (no_credentials, BUCKET, "no credentials were found; set AWS_ACCESS_KEY_ID"),
        (forbidden, BUCKET, "): these credentials may not"),
        (no_extra, BUCKET, "pip install 'iconicity[s3]'"),
        (plain_http, BUCKET, "plain http"),
    ],
    ids=["bucket", "server", "credentials", "forbidden", "extra", "http"],
)
def test_one_clear_error(
    how: Callable[[Storage, pytest.MonkeyPatch], None], bucket: str, says: str, storage: Storage, refs: Path, gen: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("iconicity.indexer.encode.encoder.load_encoders", lambda *_: toy_encoders())
    build_index(refs, tmp_path / "i", toy_encoders())
    how(storage, monkeypatch)
    url = f"s3://{bucket}/nothing here"
    for command in (
        ["index", "info", "--index", url],
        ["index", "verify", "--index", url],
        ["index", "build", "--refs", refs, "--index", url],
        ["index", "build", "--refs", url, "--index", tmp_path / "new"],
        ["score", "--index", url, "--gen", f"m={gen}"],
        ["score", "--index", tmp_path / "i", "--gen", f"m={url}"],
        ["score", "--index", tmp_path / "i", "--gen", f"m={gen}", "--out", url],
        ["summary", url],
    ):
        said = run(*command, code=1)
        lines = [line for line in (said.stdout + said.stderr).splitlines() if line]
        assert len(lines) == 1 and lines[0].startswith(f"error: {url}") and says in lines[0], (command, lines)
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in lines[0]


def test_what_may_only_be_read_is_said_before_anything_is_embedded(storage: Storage, refs: Path) -> None:
    url = storage.fresh()
    build_index(refs, place(url), toy_encoders(), select=Select(concepts=["alpha"]))
    storage.gate.forbid = frozenset({"PUT", "POST", "DELETE"})
    encoders = toy_encoders()
    with pytest.raises(StorageError, match=r"refused \(AccessDenied\)"):
        build_index(refs, place(url), encoders)
    assert forwards(encoders) == 0 and sorted(open_index(url).concepts()) == ["alpha"]


def test_a_storage_that_ignores_conditional_writes_is_refused(storage: Storage, refs: Path) -> None:
    url = storage.fresh()
    storage.gate.dropped = frozenset({"if-none-match"})
    with pytest.raises(StorageError, match="ignores conditional writes"):
        build_index(refs, place(url), toy_encoders())
    assert storage.contents(url) == {}


def test_a_place_with_other_things_is_refused(storage: Storage, refs: Path) -> None:
    url = storage.fresh()
    storage.put(f"{url}/thesis.tex", b"mine")
    with pytest.raises(Exception, match="holds other objects and no index"):
        build_index(refs, place(url), toy_encoders())


class DefaultCredentialsError(Exception):
    """As Google's library calls it."""


class HttpResponseError(Exception):
    """As Azure's library calls it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


@pytest.mark.parametrize(
    ("scheme", "error", "says"),
    [
        ("gs", DefaultCredentialsError("?"), "no credentials were found; set GOOGLE_APPLICATION_CREDENTIALS"),
        ("az", HttpResponseError(403), r"refused \(403\)"),
        ("az", HttpResponseError(503), "the server does not answer"),
        ("gs", ConnectionResetError("reset"), "the server does not answer"),
        ("gs", ValueError("what\nelse"), "object storage: what; run the same command again"),
    ],
)
def test_other_clouds_have_the_same_errors(
    scheme: str, error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cloud:
        def cat_file(self, _: str) -> bytes:
            raise error

    monkeypatch.setattr("iconicity.indexer.places._filesystem", lambda _: Cloud())
    there = place(f"{scheme}://bucket/x")
    with pytest.raises(StorageError, match=rf"^{scheme}://bucket/x: .*{says}"):
        there.read_bytes()


def test_options_name_the_server(storage: Storage, refs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iconicity.indexer.encode.encoder.load_encoders", lambda *_: toy_encoders())
    for name in ("AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"):
        monkeypatch.setenv(name, "")  # both are put back after the test
        monkeypatch.delenv(name)
    url = storage.fresh()
    where = ["--endpoint-url", storage.gate.url]
    assert "AWS_ALLOW_HTTP=true" in run("index", "build", "--refs", refs, "--index", url, *where, code=1).stderr
    run("index", "build", "--refs", refs, "--index", url, *where, "--allow-http")
    assert json.loads(run("index", "info", "--index", url, "--json").stdout)["counts"]["kept"] == 9
    assert "is a URL" in run("cache", "info", "--cache", url, code=2).stderr


def test_another_builder_is_noticed(
    storage: Storage, refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = storage.fresh()
    build_index(refs, place(url), toy_encoders(), select=Select(concepts=["alpha"]))
    sealed = open_index(url).index_id
    other = make_refs(tmp_path / "other", ["alpha", "omega"], each=1)
    compact = ReferenceStore.compact
    turns = iter([True])

    def meanwhile(self: ReferenceStore) -> None:
        if next(turns, False):
            with monkeypatch.context() as patch:
                patch.setattr(ReferenceStore, "compact", compact)
                build_index(other, place(url), toy_encoders(), prune=True)
        compact(self)

    monkeypatch.setattr(ReferenceStore, "compact", meanwhile)
    with pytest.raises(LockedError, match="another builder wrote to it at the same time; run the same command again"):
        build_index(refs, place(url), toy_encoders())
    assert open_index(url).index_id != sealed  # the other's, which is whole
    assert build_index(refs, place(url), toy_encoders(), prune=True).changed
    assert_as_local(url, refs, tmp_path)


def test_two_builders_at_once(storage: Storage, refs: Path, tmp_path: Path) -> None:
    url = storage.fresh()
    other = make_refs(tmp_path / "other", ["beta", "omega", "psi"])
    children = [_SPAWN.Process(target=build_there, args=(folder, url, 3)) for folder in (refs, other)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode in (0, 1)  # done, or told that another wrote
    build_index(refs, place(url), toy_encoders(), prune=True)
    assert_as_local(url, refs, tmp_path)


def test_credentials_are_stored_nowhere(
    storage: Storage, refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iconicity.indexer.encode.encoder.load_encoders", lambda *_: toy_encoders())
    monkeypatch.setattr("iconicity.indexer.encode.encoder.reproduce", lambda *_: toy_encoders())
    index, out = storage.fresh(), storage.fresh()
    gen = storage.copy(make_gen(tmp_path / "gen"), storage.fresh())
    run("index", "build", "--refs", storage.copy(refs, storage.fresh()), "--index", index)
    run("score", "--index", index, "--gen", f"m={gen}", "--out", out, "--scope", "all")
    run("report", out, "--out", tmp_path / "report")
    held = storage.contents()
    for folder in (tmp_path, default_directory(), Path.cwd()):
        held |= {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert f"{index}/manifest.json".removeprefix("s3://") in held and len(held) > 40
    for secret in (KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]):
        assert not [name for name, data in held.items() if secret.encode() in data]


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_builder_loses_nothing(seed: int, storage: Storage, refs: Path, tmp_path: Path) -> None:
    url = storage.fresh()
    requests = random.Random(seed).randrange(20, 90)
    storage.gate.seen.clear()
    child = _SPAWN.Process(target=build_there, args=(refs, url))
    child.start()
    while child.is_alive() and len(storage.gate.seen) < requests:
        time.sleep(0.001)
    if child.pid is not None and child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    build_index(refs, place(url), toy_encoders())
    assert_as_local(url, refs, tmp_path)


def test_a_server_that_goes_in_the_middle(
    storage: Storage, refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = storage.fresh()
    monkeypatch.setattr("iconicity.indexer.places._WAITS", (0.01, 0.01))
    monkeypatch.setenv("OBJECT_STORE_CLIENT_MAX_RETRIES", "1")
    monkeypatch.setenv("OBJECT_STORE_CLIENT_RETRY_TIMEOUT", "1")
    monkeypatch.setattr(builder, "REMOTE_COMMIT_IMAGES", 2)
    upsert = ReferenceStore.upsert
    written: list[int] = []

    def upsert_twice(self: ReferenceStore, rows: Any) -> None:
        storage.gate.shut = len(written) == 2
        upsert(self, rows)
        written.append(sum(r.clip is not None for r in rows))

    monkeypatch.setattr(ReferenceStore, "upsert", upsert_twice)
    with pytest.raises(StorageError, match="the server does not answer") as e:
        build_index(refs, place(url), toy_encoders())
    assert "run the same command again" in str(e.value) and len(written) == 2
    with pytest.raises(StorageError):
        open_index(url)
    storage.gate.open()
    monkeypatch.setattr(ReferenceStore, "upsert", upsert)
    assert build_index(refs, place(url), toy_encoders()).embedded == 9 - sum(written)
    assert_as_local(url, refs, tmp_path)


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    storage: Storage, refs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = storage.copy(refs, storage.fresh())
    there = place(f"{url}/alpha/00.png")
    assert isinstance(there, Remote)
    data = there.read_bytes()
    storage.gate.shut = True
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            storage.gate.open()

    monkeypatch.setattr("iconicity.indexer.places.time.sleep", wait)
    assert there.read_bytes() == data and waited == [1.0, 2.0]
