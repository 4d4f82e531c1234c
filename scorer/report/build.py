"""Write the site: one page, its script and style, a chart library, data a part at a time, thumbnails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import plotly

from iconicity.indexer.decode import MAX_PIXELS
from iconicity.indexer.errors import InputError
from iconicity.indexer.files import replacing, write_atomically
from iconicity.indexer.images import read_concept_rows
from iconicity.indexer.index import Index
from iconicity.indexer.progress import Progress, no_progress
from iconicity.scorer.findings.study import open_study
from iconicity.scorer.findings.summary import summarise
from iconicity.scorer.report.data import COLUMNS, concept_parts, needed_references, overview
from iconicity.scorer.report.thumbnails import Picture, make_thumbnails

MARK = ".iconicity-report"  # only a folder with it, or an empty one, is written into
_ASSETS = ("report.css", "report.js", "charts.js")


@dataclass
class Report:
    """Where a report is, and what it could not show."""

    page: Path
    images: int = 0
    concepts: int = 0
    problems: dict[str, str] = field(default_factory=dict)  # SHA-256 -> why there is no thumbnail


def report(
    results: Path,
    index: Index,
    out: Path,
    *,
    titles: Mapping[str, Mapping[str, str]] | None = None,
    vi_scope: str = "recognised",
    draws: int = 10_000,
    seed: int = 0,
    workers: int = 0,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = no_progress,
) -> Report:
    """Write a report of one results directory into a folder; nothing is embedded. ``out``/index.html opens it.

    ``titles``: concept -> title, artist, year. Thumbnails that are there already are kept. Raises :class:`InputError`
    for a folder that holds other files, :class:`SettingsError` for an index the results were not scored against.
    """
    study = open_study(results, COLUMNS)
    study.require_index(index)
    _claim(out)
    summary = summarise(study, vi_scope=vi_scope, draws=draws, seed=seed, concepts=False)
    done = Report(out / "index.html", int(study.ok.sum()), len(study.concepts))
    references = needed_references(study, index)

    def pictures() -> Iterator[Picture]:
        for path, sha in zip(
            study.table.column("gen_path").to_pylist(), study.table.column("gen_sha256").to_pylist(), strict=True
        ):
            if sha:
                yield Picture(path, sha)
        for r in references.values():
            yield Picture(r.path, r.sha256)

    done.problems = make_thumbnails(pictures(), out, bool(index.settings["exif"]), workers, max_pixels, progress)
    data = out / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    write_atomically(data / "overview.js", _script("overview", overview(study, summary, index)))
    for c, part in concept_parts(study, references, titles or {}, done.problems):
        progress("concepts", c + 1, len(study.concepts))
        write_atomically(data / f"concept_{c}.js", _script(f"concept_{c}", part))
    site = resources.files("iconicity.scorer.report") / "site"
    for name in _ASSETS:
        _put(out / name, (site / name).read_bytes())
    _put(out / "plotly.min.js", (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes())
    template = jinja2.Environment(autoescape=True).from_string((site / "index.html.j2").read_text(encoding="utf-8"))
    write_atomically(done.page, template.render(title=results.name or "results"))
    return done


def read_titles(path: Path, concept_col: str) -> dict[str, dict[str, str]]:
    """Concept -> title, artist and year, of the columns a CSV has of these. Raises :class:`InputError`."""
    rows = read_concept_rows(path, {concept_col: "--concept-col"})
    return {concept: {k: row[k] for k in ("title", "artist", "year") if row.get(k)} for concept, row in rows}


def _claim(out: Path) -> None:
    if out.is_file() or (out.is_dir() and not (out / MARK).is_file() and any(out.iterdir())):
        raise InputError(f"{out}: holds something that is no report; name a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def _put(path: Path, data: bytes) -> None:
    with replacing(path) as tmp:  # a link that lies there is replaced, not followed
        tmp.write_bytes(data)


def _script(name: str, value: Any) -> str:
    """Data as a script: a page opened from a disk may load scripts, but fetch nothing. No text can end the script."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"ICONICITY.received({json.dumps(name)},{text});\n"
