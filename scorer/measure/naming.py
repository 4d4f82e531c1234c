"""Which image of a study a text names: as the report writes it (MODEL/CONCEPT/FILE), or by the path of its file."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from iconicity.indexer.places import is_url
from iconicity.indexer.sources.folders import concept_name
from iconicity.scorer.measure.study import Study


class ImageNames:
    """The names of a study's images. ``study`` needs the column gen_path. Rows that could not be used have names too."""

    def __init__(self, study: Study) -> None:
        self._named: dict[tuple[str, str, str], set[int]] = defaultdict(set)  # (model, concept, file within it)
        self._of_any: dict[tuple[str, str], set[int]] = defaultdict(set)  # (concept, file within it)
        self._at: dict[str, set[int]] = defaultdict(set)  # path as given, and from the root
        self._relpaths = study.relpaths
        self._paths: list[str] = study.table.column("gen_path").to_pylist()
        stored = study.table.column("model").to_pylist()
        # NAME@VARIANT, and NAME alone
        self._models = [{_nfc(study.models[m]), _nfc(name)} for m, name in zip(study.model, stored, strict=True)]
        self.models = frozenset[str]().union(*self._models)
        for i, (relpath, path) in enumerate(zip(self._relpaths, self._paths, strict=True)):
            concept = study.concepts[study.concept[i]]
            file = _nfc(relpath.removeprefix(f"{concept}/"))
            for model in self._models[i]:
                self._named[model, concept, file].add(i)
            self._of_any[concept, file].add(i)
            for text in {path, _absolute(path)}:
                self._at[_nfc(text)].add(i)

    def find(self, text: str, model: str = "", concept: str = "") -> list[int]:
        """Rows of the study that a text names: none, one, or several that it cannot tell apart.

        ``model`` and ``concept`` say what the text leaves out. A text that names a model never fits another model's
        image. CONCEPT may be written as the folder was.
        """
        text, model = _nfc(text.strip()), _nfc(model.strip())
        if "/" not in text:
            text = text.replace("\\", "/")
        if "/" not in text and concept:
            text = f"{concept}/{text}"
        at, named, of_model = self._file(text), set[int](), set[int]()
        for prefix, of, file in _splits(text):
            found = self._named.get((prefix, of, file), set())
            if found and prefix == model:
                return sorted(found)
            named |= found
            of_model |= self._named.get((model, of, file), set())
        if not model:
            _, of, file = next(_splits(text), ("", "", ""))
            return sorted(at | named or self._of_any.get((of, file), set()))
        # a file's whole path stands for itself, also where a column calls its model something else
        at = {i for i in at if model in self._models[i]} or {i for i in at if self._paths[i] != self._relpaths[i]}
        return sorted(at | named | of_model)

    def model_named(self, text: str) -> str:
        """The model that a text names, whether it was scored or not; "" where it names none."""
        parts = _nfc(text.strip()).split("/")
        prefixes = ["/".join(parts[:j]) for j in range(1, len(parts) - 1)]
        return next((p for p in prefixes if p in self.models), "/".join(parts[:-2]))

    def _file(self, text: str) -> set[int]:
        if is_url(text):
            return self._at.get(text, set())
        return self._at.get(text) or self._at.get(_absolute(text)) or self._real.get(os.path.realpath(text), set())

    @cached_property
    def _real(self) -> dict[str, set[int]]:
        """Rows by their file's path with links followed."""
        out: dict[str, set[int]] = defaultdict(set)
        for i, path in enumerate(self._paths):
            if not is_url(path):
                out[_nfc(os.path.realpath(path))].add(i)
        return out


def _splits(text: str) -> Iterator[tuple[str, str, str]]:
    """Each way to read a text as MODEL/CONCEPT/FILE, the first without a model; the concept as its folder's name gives it."""
    parts = text.split("/")
    for j in range(len(parts) - 1):
        yield "/".join(parts[:j]), concept_name(parts[j]), "/".join(parts[j + 1 :])


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
