"""From prompts to a folder of images with a tiny pipeline: the same images however a run is cut, stopped and divided."""

from __future__ import annotations

import csv
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.forks import Child
from run import run
from tiny_pipeline import tiny_pipeline

from iconicity.data.generate.generate import Generated, generate, rehearse
from iconicity.data.generate.options import GenerateOptions, GenerateRun
from iconicity.data.generate.pictures import read_png
from iconicity.data.prompts import Prompt, read_prompts
from iconicity.indexer.errors import InputError, LockedError, SettingsError
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.image import Image
from iconicity.indexer.spec import file_sha256
from iconicity.indexer.store.files import hold
from iconicity.indexer.store.rows import ConceptCount
from iconicity.scorer.choose import list_images

OPTIONS = GenerateOptions(seeds=3, steps=2)
PROMPTS = [
    Prompt("the_scream", "original", "the scream"),
    Prompt("the_scream", "synonym", 'the "night", =x\nby \x1b[2J', "wave"),
    Prompt("great_wave", "original", "the great wave"),
    Prompt("große_nacht", "none", "a painting of the starry night " + "in the style of a " * 40 + "wave"),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A fork of more threads would wait for those that it does not have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All images, made in one run."""
    out = tmp_path_factory.mktemp("whole") / "gen"
    report = generate(PROMPTS, str(model), out, OPTIONS)
    assert (report.total, report.made, report.there, report.flagged) == (12, 12, 0, [])
    assert report.notices == [
        f"1 prompt is longer than the model reads, and its end has no effect: first {PROMPTS[3].prompt[:60]!r}"
    ]
    return out


def files(out: Path) -> dict[str, bytes]:
    """Files that are not hidden, by their paths."""
    found = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metadata.csv").open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def listed(out: Path) -> tuple[list[Image], Any]:
    count = ConceptCount(1, 1)
    found = list_images(out, {p.concept: count for p in PROMPTS})
    return [image for images in found.concepts.values() for image in images], found


def test_scoring_lists_the_folder(whole: Path) -> None:
    images, listing = listed(whole)
    assert not listing.notices and not listing.skipped and not listing.ignored
    assert sorted((i.concept, i.variant, i.seed, i.prompt) for i in images) == sorted(
        (p.concept, p.variant, seed, p.prompt) for p in PROMPTS for seed in range(3)
    )


def test_each_image_says_what_made_it(whole: Path, model: Path) -> None:
    for row in rows(whole):
        read = read_png(whole / row["file_name"])
        assert read is not None
        facts, size = read
        assert (facts.identity, size) == (row["identity"], row["size"]) and size == "16x16"
        assert row["model"] == "tiny" and row["revision"] == "" and row["flagged"] == ""
        assert (row["scheduler"], row["steps"], row["guidance"]) == ("PNDMScheduler", "2", "7.5")
        assert row["torch"] == torch.__version__ and row["diffusers"] and len(row["weights_sha256"]) == 64
        assert str(model.parent) not in str(row.values()) + str(facts)
        assert file_sha256(whole / row["file_name"]) == row["sha256"]
    assert {row["negative_prompt"] for row in rows(whole)} == {"", "wave"}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_order_and_batch_size_change_nothing(whole: Path, model: Path, tmp_path: Path, batch_size: int) -> None:
    report = generate(PROMPTS[::-1], str(model), tmp_path / "gen", OPTIONS, GenerateRun(batch_size=batch_size))
    assert files(tmp_path / "gen") == files(whole)
    assert any("`batch_size` was not used" in notice for notice in report.notices) == (batch_size > 1)


def test_one_image_can_be_made_again_alone(whole: Path, model: Path, tmp_path: Path) -> None:
    generate(PROMPTS[1:2], str(model), tmp_path / "gen", replace(OPTIONS, seeds=1))
    (row,) = rows(tmp_path / "gen")
    assert (tmp_path / "gen" / row["file_name"]).read_bytes() == (whole / row["file_name"]).read_bytes()


def test_runs_that_are_killed_lose_and_double_nothing(whole: Path, model: Path, tmp_path: Path) -> None:
    out, moments, kills, at_work = tmp_path / "gen", random.Random(1), 0, 0
    for _ in range(60):
        child = Child(generate, PROMPTS, str(model), out, OPTIONS)
        time.sleep(moments.uniform(0.05, 0.6))
        child.kill()
        ended = child.wait()
        if ended.signal is None:
            break
        kills += 1
        made = files(out) if (out / "metadata.csv").is_file() else {}
        at_work += 0 < len(made) <= len(PROMPTS) * OPTIONS.seeds
        for name, data in made.items():
            assert name == "metadata.csv" or data == files(whole)[name]
    report = generate(PROMPTS, str(model), out, OPTIONS)
    assert report.made + report.there == 12 and kills and at_work
    assert files(out) == files(whole) and not list(out.rglob("*.tmp"))


def test_shards_in_one_folder_at_the_same_time(whole: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    children = [Child(generate, PROMPTS, str(model), out, OPTIONS, GenerateRun(shard=Shard(n, 3))) for n in (1, 2, 3)]
    reports: list[Generated] = [child.wait().get() for child in children]
    assert sum(report.made for report in reports) == sum(report.total for report in reports) == 12
    assert files(out) == files(whole)


def test_shards_in_folders_of_their_own_are_put_together_by_copying(whole: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    for n in (1, 2):
        own = tmp_path / f"part{n}"
        generate(PROMPTS, str(model), own, OPTIONS, GenerateRun(shard=Shard(n, 2)))
        shutil.copytree(own, out, dirs_exist_ok=True)
    report = generate(PROMPTS, str(model), out, OPTIONS)
    assert (report.made, report.there) == (0, 12) and files(out) == files(whole)


def test_what_is_there_is_told_by_its_content(whole: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    shutil.copytree(whole, out)
    names = [row["file_name"] for row in rows(out)]
    (out / names[0]).rename(out / Path(names[0]).parent / "renamed.png")
    (out / names[1]).unlink()
    (out / names[2]).write_bytes((out / names[2]).read_bytes()[:-20])  # cut short
    twice, strange = ((out / names[3]).with_name(name) for name in ("twice.png", "strange.png"))
    shutil.copy(out / names[3], twice)
    strange.write_bytes(b"\x89PNG")
    report = generate(PROMPTS, str(model), out, OPTIONS)
    assert (report.made, report.there) == (2, 10)
    after = {row["identity"]: row for row in rows(out)}
    assert len(after) == 12 and {"renamed.png"} == {Path(r["file_name"]).name for r in after.values()} - {
        Path(n).name for n in names
    }
    assert {r["sha256"] for r in after.values()} == {r["sha256"] for r in rows(whole)}
    assert report.notices == [
        f"{out}: 1 image held by another file as well, not listed in metadata.csv: first {twice.relative_to(out)}",
        f"{out}: 1 image not whole or not made here, not listed in metadata.csv: first {strange.relative_to(out)}",
    ]


def test_a_file_that_has_the_name_of_another_image_is_kept(whole: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    shutil.copytree(whole, out)
    (one, other, *_) = (out / row["file_name"] for row in rows(out))
    held = one.read_bytes()
    one.rename(other)
    report = generate(PROMPTS, str(model), out, OPTIONS)
    assert (report.made, report.there) == (1, 11) and other.read_bytes() == held
    assert {(r["identity"], r["sha256"]) for r in rows(out)} == {(r["identity"], r["sha256"]) for r in rows(whole)}
    assert all(file_sha256(out / row["file_name"]) == row["sha256"] for row in rows(out))
    assert generate(PROMPTS, str(model), out, OPTIONS).there == 12


def test_more_prompts_and_seeds_join_what_is_there(whole: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    first = generate(PROMPTS[:1], str(model), out, replace(OPTIONS, seeds=1))
    assert (first.made, first.there) == (1, 0)
    assert generate(PROMPTS, str(model), out, OPTIONS).there == 1
    assert files(out) == files(whole)
    fewer = generate(PROMPTS[:1], str(model), out, OPTIONS)
    assert fewer.notices[0].endswith(
        f"9 images of other prompts or seeds, listed in metadata.csv, too: first {rows(out)[0]['file_name']}"
    )


def test_columns_that_the_user_added_stay(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    generate(PROMPTS[:1], str(model), out, OPTIONS)
    lines = (out / "metadata.csv").read_text().splitlines()
    lines = [line + f",{'=a' if n else 'liked'}" for n, line in enumerate(lines)]
    (out / "metadata.csv").write_text("\n".join(lines[:3]) + "\n")
    generate(PROMPTS[:1], str(model), out, replace(OPTIONS, seeds=4))
    assert [row["liked"] for row in rows(out)] == ["'=a", "'=a", "", ""]
    assert len(listed(out)[0]) == 4 and listed(out)[1].notices == [
        f"{out}/metadata.csv: columns that were not used: liked"
    ]


def test_negative_prompts_without_an_effect_are_told(model: Path, tmp_path: Path) -> None:
    report = generate(PROMPTS[1:2], str(model), tmp_path / "gen", replace(OPTIONS, guidance=1.0))
    assert report.notices == ["negative prompts have no effect with `guidance` 1.0: most pipelines need more than 1"]


def test_a_study_in_one_file_generates_its_images(model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("concept,prompt\na,the wave\n")
    (tmp_path / "study.toml").write_text(
        f'[generate.tiny]\nmodel = "{model}"\nprompts = "prompts.csv"\nseeds = 2\n[run]\nrefs = "refs"\n'
    )
    said = run("run", "--study", tmp_path / "study.toml", "--dry-run").stdout
    assert "[generate.tiny]\ndry run: gen/tiny: would make 2 of 2 images, 0 are there; nothing was written" in said


def test_a_folder_has_one_model_and_one_way(whole: Path, model: Path, tmp_path: Path) -> None:
    def refused(text: str, options: GenerateOptions = OPTIONS, by: Path = model) -> None:
        with pytest.raises(SettingsError, match=text):
            generate(PROMPTS, str(by), whole, options)
        with pytest.raises(SettingsError, match=text):
            rehearse(PROMPTS, str(by), whole, options)

    before = files(whole)
    refused(r"made with steps 2, not 3; ask for that, or name another folder", replace(OPTIONS, steps=3))
    refused(r"guidance 7.5, not 1.0", replace(OPTIONS, guidance=1.0))
    refused(r"size of the model, not 32x32", replace(OPTIONS, size=(32, 32)))
    refused(r"precision fp32, not bf16", replace(OPTIONS, precision="bf16"))
    refused(r"weights_sha256 \w{12}, not \w{12}", by=tiny_pipeline(tmp_path / "other", seed=1))
    assert files(whole) == before


def test_a_list_of_other_images_is_not_written_over(model: Path, tmp_path: Path) -> None:
    for name, text in (
        ("metadata.csv", "file_name,prompt\na/1.png,x\n"),
        ("metadata.jsonl", '{"file_name": "1.png"}\n'),
    ):
        out = tmp_path / name / "gen"
        out.mkdir(parents=True)
        (out / name).write_text(text)
        with pytest.raises(InputError, match="lists images that were not made here"):
            generate(PROMPTS, str(model), out, OPTIONS)
        assert files(out) == {name: text.encode()}


def test_a_link_in_place_of_a_concept_is_not_followed(model: Path, tmp_path: Path) -> None:
    out, outside = tmp_path / "gen", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (out / "great_wave").symlink_to(outside)
    with pytest.raises(InputError, match=r"great_wave: a link out of the folder; delete the link"):
        generate(PROMPTS, str(model), out, OPTIONS)
    assert not list(outside.iterdir())


def test_the_same_run_twice_at_the_same_time_is_refused(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    out.mkdir()
    assert hold(out / ".generate.lock") is not None
    with pytest.raises(LockedError, match="another process makes the same images"):
        generate(PROMPTS, str(model), out, OPTIONS)


def test_images_that_the_safety_checker_flags_are_named_and_do_not_count(tmp_path: Path) -> None:
    model, out = tiny_pipeline(tmp_path / "tiny", flags=True), tmp_path / "gen"
    report = generate(PROMPTS[:1], str(model), out, OPTIONS)
    names = [row["file_name"] for row in rows(out)]
    assert report.flagged == names and {row["flagged"] for row in rows(out)} == {"true"}
    assert report.notices == [
        f"{out}: the model's safety checker flagged 3 images, first {names[0]}; metadata.csv says which, and they do not "
        "count where images are scored"
    ]
    images, listing = listed(out)
    assert not images and [(s.path, s.reason) for s in listing.skipped] == [
        (str(out / name), "flagged by the model's safety checker") for name in names
    ]
    again = generate(PROMPTS[:1], str(model), out, OPTIONS)
    assert (again.made, again.flagged) == (0, names)


def test_a_safety_checker_that_flags_nothing_says_so(tmp_path: Path) -> None:
    model, out = tiny_pipeline(tmp_path / "tiny", flags=False), tmp_path / "gen"
    assert generate(PROMPTS[:1], str(model), out, OPTIONS).flagged == []
    assert {row["flagged"] for row in rows(out)} == {"false"} and len(listed(out)[0]) == 3


def test_a_rehearsal_writes_nothing_and_tells_what_is_known(whole: Path, model: Path, tmp_path: Path) -> None:
    found = rehearse(PROMPTS, str(model), tmp_path / "gen", OPTIONS)
    assert (found.total, found.there, found.to_make, found.model_here) == (12, 0, 12, True)
    assert found.seconds_an_image is None and found.bytes_an_image is None and not (tmp_path / "gen").exists()
    found = rehearse(PROMPTS, str(model), whole, replace(OPTIONS, seeds=4))
    assert (found.total, found.there, found.to_make) == (16, 12, 4)
    assert found.seconds_an_image and found.bytes_an_image and 500 < found.bytes_an_image < 5000
    of_hub = rehearse(PROMPTS, "somebody/nothing", whole, OPTIONS, Shard(1, 1))
    assert (of_hub.there, of_hub.model_here) == (12, False)


def test_progress_goes_on_from_what_is_there(model: Path, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    generate(PROMPTS[:1], str(model), tmp_path / "gen", replace(OPTIONS, seeds=1))
    job = GenerateRun(progress=lambda *now: said.append(now))
    generate(PROMPTS[:1], str(model), tmp_path / "gen", OPTIONS, job)
    assert said == [("images", n, 3) for n in (1, 2, 3)]


def test_the_command_and_a_hostile_table(model: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "prompts.csv", tmp_path / "gen"
    table.write_text(
        "concept,variant,prompt,artist\n"
        'a/../../b,../../../x,"=HYPERLINK(""http://x"")",x\n'
        '"C: \\ NUL|*?","<script>\u202e","line\nand\x1b[2Jmore",x\n',
        encoding="utf-8",
    )
    words = ["generate", "--prompts", table, "--model", model, "--out", out, "--seeds", "2", "--steps", "1"]
    dry = run(*words, "--dry-run").stdout
    assert dry == f"dry run: {out}: would make 4 of 4 images, 0 are there; nothing was written\n"
    assert not out.exists()
    done = run(*words)
    assert done.stdout == f"{out}: 4 images: 4 made, 0 there before, 0 flagged\n" and "\x1b" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gen", "prompts.csv"]
    found = {p.concept: p for p in read_prompts(table, lambda _: None)}
    assert {p.name for p in out.iterdir() if p.is_dir()} == set(found)
    images = list_images(out, {c: ConceptCount(1, 1) for c in found})
    assert {(i.concept, i.variant, i.prompt) for each in images.concepts.values() for i in each} == {
        (p.concept, p.variant, p.prompt) for p in found.values()
    }
    dry = run(*words, "--seeds", "3", "--dry-run").stdout
    assert "would make 2 of 6 images, 4 are there; about 1 min and " in dry


def test_what_a_picture_says_of_itself_is_checked(whole: Path, tmp_path: Path) -> None:
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    path = tmp_path / "x.png"
    good = json.loads(Pillow.open(whole / rows(whole)[0]["file_name"]).info["iconicity"])
    faults: Sequence[object] = (
        [], "x", None, {**good, "seed": "1"}, {**good, "settings": None}, {**good, "concept": ["a"]},
        {k: v for k, v in good.items() if k != "prompt"},
    )  # fmt: skip
    for said in (*map(json.dumps, faults), "{", "[" * 5000, None):
        chunks = PngInfo()
        if said is not None:
            chunks.add_text("iconicity", said)
        Pillow.new("RGB", (2, 2)).save(path, pnginfo=chunks)
        assert read_png(path) is None
    for data in (b"", b"\x89PNG", path.read_bytes()[:40], path.read_bytes()[8:]):
        path.write_bytes(data)
        assert read_png(path) is None
