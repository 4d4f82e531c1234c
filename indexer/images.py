"""Find image files in concept folders and read them, the same way on both sides."""

from __future__ import annotations

import csv
import hashlib
import io
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from iconicity.indexer.errors import ImageError, InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
MAX_PIXELS = 178_956_970  # where Pillow itself refuses a decompression bomb

# What Pillow's decoders raise on hostile files. Nothing else is swallowed.
_DECODE_ERRORS: tuple[type[Exception], ...] = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip


def concept_name(folder: str) -> str:
    """Concept of a folder name: stripped, spaces to ``_``, lower case, Unicode NFC.

    >>> concept_name(" The Great Wave ")
    'the_great_wave'
    """
    return unicodedata.normalize("NFC", folder).strip().replace(" ", "_").lower()


@dataclass(frozen=True)
class ConceptFolder:
    """One ``<root>/<folder>/`` with its image files, sorted by name."""

    concept: str
    path: Path
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Discovery:
    """What lies under a root: concept folders in order of concept, and what was passed over."""

    root: Path
    folders: tuple[ConceptFolder, ...]
    ignored: tuple[Path, ...] = field(default=())  # other suffixes, nested folders, names that are not UTF-8

    def concept_set(self) -> set[str]:
        return {f.concept for f in self.folders}


def discover(root: Path, concepts: Iterable[str] | None = None) -> Discovery:
    """List ``root/<concept>/*`` with an image suffix; hidden files are ignored, nothing is opened.

    Raises :class:`InputError` if ``root`` is no folder or two folders give one concept.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; it must hold one folder of images for each concept")
    wanted = None if concepts is None else set(concepts)
    seen: dict[str, Path] = {}
    folders: list[ConceptFolder] = []
    ignored: list[Path] = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if not _is_text(folder.name):
            ignored.append(folder)
            continue
        concept = concept_name(folder.name)
        if concept in seen:
            raise InputError(f"{seen[concept]} and {folder} are both the concept '{concept}': merge or rename one")
        seen[concept] = folder
        if wanted is not None and concept not in wanted:
            continue
        files: list[Path] = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            usable = path.suffix.lower() in SUFFIXES and _is_text(path.name) and not path.is_dir()
            (files if usable else ignored).append(path)
        folders.append(ConceptFolder(concept, folder, tuple(files)))
    folders.sort(key=lambda f: f.concept)
    return Discovery(root, tuple(folders), tuple(ignored))


def _is_text(name: str) -> bool:
    """False for names that are not valid UTF-8 (they reach Python as lone surrogates)."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_concepts(csv_path: Path, column: str) -> list[str]:
    """Concepts named in a column of a CSV file, in file order, without repeats.

    Raises :class:`InputError` if the file or the column is missing, or nothing is named.
    """
    try:
        with csv_path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            if column not in (reader.fieldnames or []):
                columns = ", ".join(reader.fieldnames or []) or "none"
                raise InputError(f"{csv_path}: no column '{column}' (columns: {columns}); name one with --slug-col")
            names = [concept_name(row[column] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise InputError(f"{csv_path}: cannot be read as CSV ({e}); give a UTF-8 file with a header line") from e
    concepts = list(dict.fromkeys(n for n in names if n))
    if not concepts:
        raise InputError(f"{csv_path}: column '{column}' names no concept")
    return concepts


def read_bytes(path: Path) -> bytes:
    """Bytes of a file. Raises :class:`ImageError` when it cannot be read or is empty."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ImageError(path, f"cannot be read: {e.strerror or e}") from e
    if not data:
        raise ImageError(path, "empty file")
    return data


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes, path: Path | str, exif: bool = True) -> Image.Image:
    """Image bytes to RGB, 8 bit: first frame, EXIF orientation applied, ``convert("RGB")``.

    ``convert`` is what the published scripts call: alpha is dropped, not composited, and 16-bit grey is
    clipped, not scaled. ``exif=False`` leaves the orientation as stored, as those scripts do.
    Raises :class:`ImageError` with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bomb warnings below the limit, palette transparency, broken EXIF
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                image.load()
                upright = _upright(image) if exif else image
                return upright.convert("RGB")
    except UnidentifiedImageError as e:
        raise ImageError(path, "not an image of a known format") from e
    except Image.DecompressionBombError as e:
        raise ImageError(path, f"more pixels than the limit of {MAX_PIXELS}") from e
    except _DECODE_ERRORS as e:
        raise ImageError(path, f"cannot be decoded: {type(e).__name__}: {' '.join(str(e).split())[:120]}") from e


def _upright(image: Image.Image) -> Image.Image:
    """EXIF orientation applied; an EXIF block that cannot be parsed says nothing about orientation."""
    try:
        return ImageOps.exif_transpose(image)
    except _DECODE_ERRORS:
        return image


ImageFile.LOAD_TRUNCATED_IMAGES = False  # half an image must not pass for a whole one
