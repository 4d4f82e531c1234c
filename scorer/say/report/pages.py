"""Where the pages go: a folder that a browser opens from a disk, or one file with everything inside."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import plotly

from iconicity.indexer.errors import InputError
from iconicity.indexer.store.files import LOCK, replacing, sweep, write_atomically
from iconicity.scorer.say.report.thumbnails import thumbnail_name

MARK = ".iconicity-report"  # only a folder with it, or an empty one, is written into
SCRIPTS = ("core.js", "charts.js", "models.js", "gallery.js", "image.js", "surfaced.js", "app.js")  # in this order
LIBRARY = "plotly.min.js"  # large: loaded when the first chart is drawn
STYLE = "report.css"
Parts = Iterable[tuple[str, Any]]  # (name, value): data the pages ask for by name

# Nothing is loaded from a network, and no text of the data is ever run. Plotly writes inline styles.
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def require_room(folder: Path) -> None:
    """Raises :class:`InputError` for a file, and for a folder that holds something else than a report."""
    if folder.is_file() or (
        folder.is_dir() and not (folder / MARK).is_file() and any(p.name != LOCK for p in folder.iterdir())
    ):
        raise InputError(f"{folder}: holds something that is no report; name a new folder with `out`")


def claim(folder: Path) -> None:
    """Mark a folder as a report's, and remove what killed runs left; the caller holds its lock."""
    (folder / MARK).touch()
    for place in (folder, *folder.glob("thumbs/*")):
        sweep(place)


def write_folder(folder: Path, title: str, parts: Parts) -> Path:
    """The page with its scripts, and a script of data for each part, loaded when it is needed.

    A page opened from a disk may load scripts beside it, but fetch nothing.
    """
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    for name, value in parts:
        write_atomically(data / f"{name}.js", f"ICONICITY.received({json.dumps(name)},{_json(value)});\n")
    for name in (*SCRIPTS, LIBRARY, STYLE):
        write_atomically(folder / name, asset(name))
    page = folder / "index.html"
    policy = _POLICY.format(scripts="'self'")
    write_atomically(page, template("index.html.j2").render(title=title, policy=policy, scripts=SCRIPTS, style=STYLE))
    return page


def write_single(page: Path, title: str, parts: Parts, pictures: Path) -> Path:
    """One file: scripts allowed by their SHA-256, data and thumbnails as blocks that a browser does not run.

    ``pictures``: the folder that holds the thumbnails.
    """
    scripts = {name: asset(name).replace("</script", "<\\/script") for name in (*SCRIPTS, LIBRARY)}
    hashes = " ".join(f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'" for text in scripts.values())

    def blocks() -> Iterator[tuple[str, str]]:
        for name, value in parts:
            yield f"data-{name}", _json(value)
        for path in sorted((pictures / "thumbs").glob("*/*.jpg")):
            yield f"thumb-{path.stem}", f"data:image/jpeg;base64,{_base64(path.read_bytes())}"

    stream = template("single.html.j2").stream(
        title=title,
        policy=_POLICY.format(scripts=hashes),
        scripts=[scripts[name] for name in SCRIPTS],
        library=scripts[LIBRARY],
        style=asset(STYLE),
        blocks=blocks(),
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    with replacing(page) as tmp:
        stream.dump(str(tmp), encoding="utf-8")
    return page


def drop_other_thumbnails(folder: Path, wanted: set[str]) -> None:
    """Drop the thumbnails that are no longer shown: all but those of the keys in ``wanted``."""
    keep = {thumbnail_name(key) for key in wanted}
    for path in (folder / "thumbs").glob("*/*"):
        if path.relative_to(folder).as_posix() not in keep:
            path.unlink()


def render(page: str, **values: Any) -> str:
    """A page without scripts of its own, with the site's style inside."""
    return template(page).render(style=asset(STYLE), **values)


def template(name: str, package: str = "iconicity.scorer.say.report") -> jinja2.Template:
    """A template of a package's ``site`` folder; what it is given is escaped."""
    site = resources.files(package) / "site"
    loader = jinja2.FunctionLoader(lambda n: (site / n).read_text(encoding="utf-8"))
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template(name)


def asset(name: str) -> str:
    """Text of one of the site's own files, or of the chart library."""
    if name == LIBRARY:
        return (Path(plotly.__file__).parent / "package_data" / name).read_text(encoding="utf-8")
    return (resources.files("iconicity.scorer.say.report") / "site" / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that is harmless inside of a script: no text can end it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
