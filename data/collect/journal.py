"""What a folder of references was told by servers and fetched from them, line by line, so that nothing is asked twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from iconicity.indexer.errors import InputError, SettingsError, typed
from iconicity.indexer.sources.tables import Names, read_json_lines

JOURNAL = ".collect.jsonl"
FORMAT = 1
_SETTINGS = "settings"
T = TypeVar("T")


class Settings(BaseModel):
    """What all answers of a folder depend on. ``period``: of the page views, first and last day."""

    format: int = FORMAT
    language: str
    width: int
    period: tuple[str, str]


class Fetched(BaseModel):
    """A file that was fetched. Before ``done`` it may be on disk or not."""

    name: str = Field(pattern=r"^[0-9]{3,}_[^/\x00]{1,250}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    page: str
    url: str
    author: str
    licence: str
    licence_url: str
    source: str
    found_by: str
    retrieved: str
    done: bool = False


class Journal:
    """Answers and files by key; the last line of a key counts, and a line that was not written whole counts as none.

    Without ``writing`` the folder is left as it is. Raises :class:`SettingsError` for a folder of other settings.
    """

    def __init__(self, folder: Path, settings: Settings, writing: bool = True) -> None:
        self.path = folder / JOURNAL
        self._lines: dict[str, Any] = {}
        self._groups: dict[str, dict[str, None]] = {}
        self._fd: int | None = None
        whole = self._read()
        held = self.get(_SETTINGS, Settings) if _SETTINGS in self._lines else None
        self.settings = settings if held is None else self._same(held, settings)
        if writing:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            self._fd = os.open(self.path, flags, 0o644)
            if not whole:
                os.write(self._fd, b"\n")
            if held is None:
                self.put(_SETTINGS, settings)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _read(self) -> bool:
        """Take the lines; returns whether the last one has an end."""
        if not self.path.is_file():
            return True
        try:
            with self.path.open("rb") as f:
                for _, row in read_json_lines(f, Names(())):
                    if isinstance(row, dict) and isinstance(row.get("key"), str):
                        self._take(row["key"], row.get("value"))
                size = f.seek(0, os.SEEK_END)
                f.seek(max(0, size - 1))
                return size == 0 or f.read(1) == b"\n"
        except OSError as e:
            raise InputError(f"{self.path}: cannot be read ({e.strerror or e}); name another folder") from e

    def _same(self, held: Settings, asked: Settings) -> Settings:
        if held.format != FORMAT:
            raise SettingsError(f"{self.path}: of another version of iconicity; name another folder")
        for name in ("language", "width"):
            if getattr(held, name) != getattr(asked, name):
                raise SettingsError(
                    f"{self.path.parent}: was collected with {name} {getattr(held, name)}, not {getattr(asked, name)}; ask "
                    f"for that, or name another folder than {typed(self.path.parent)}"
                )
        return held

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def get(self, key: str, kind: Any) -> Any:
        """Value of a key as ``kind``; None where it is of another shape, as if nothing were known."""
        try:
            return _adapter(kind).validate_python(self._lines[key])
        except ValidationError:
            del self._lines[key]
            return None

    def kept(self, key: str, kind: Any, ask: Callable[[], T]) -> T:
        """Value of a key, asked for where it is not known."""
        if key in self._lines:
            found: T = self.get(key, kind)
            if key in self._lines:
                return found
        answer = ask()
        self.put(key, answer)
        return answer

    def put(self, key: str, value: Any, sync: bool = False) -> None:
        """Keep a value. ``sync``: force it to disk."""
        plain = value.model_dump() if isinstance(value, BaseModel) else value
        self._take(key, plain)
        if self._fd is not None:
            os.write(self._fd, json.dumps({"key": key, "value": plain}).encode() + b"\n")
            if sync:
                os.fsync(self._fd)

    def _take(self, key: str, value: Any) -> None:
        self._lines[key] = value
        self._groups.setdefault(key.partition("/")[0], {})[key] = None

    def group(self, name: str, kind: Any) -> dict[str, Any]:
        """Values of the keys ``NAME/...`` that are of a shape."""
        found = {key: self.get(key, kind) for key in self._groups.get(name, ()) if key in self._lines}
        return {key: value for key, value in found.items() if value is not None}


@lru_cache(maxsize=32)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
