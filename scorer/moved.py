"""Where files lie now, after they were moved: generated images by model, references by concept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from iconicity.indexer.errors import InputError
from iconicity.indexer.places import Place
from iconicity.indexer.sources.moved import moved_references
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import Reference
from iconicity.scorer.choose import list_images, variant_of


@dataclass(frozen=True)
class Moved:
    """``gen``: model -> its folder now; ``gen_root``: the folder of the models' folders; ``refs``: that of the references.

    Files are found by their name within their concept. Who reads them compares the SHA-256 of their bytes.
    """

    gen: Mapping[str, Place] = field(default_factory=dict)
    gen_root: Path | None = None
    refs: Place | None = None

    def require_models(self, models: Collection[str]) -> None:
        """Raises :class:`InputError` for a model that the results do not hold, and for a folder that is none."""
        for name in self.gen:
            if name not in models:
                raise InputError(f"`gen` {name}: no model of these results; they hold {', '.join(models)}")
        if self.gen_root is not None and not self.gen_root.is_dir():
            raise InputError(f"{self.gen_root}: no such folder; `gen_root` names one with a folder for each model")

    def images(self, model: str, index: Index, paths: Mapping[str, str]) -> dict[str, str]:
        """``paths`` (relpath -> path as it was) of a model's images with their paths as they are now.

        An image that is not in the folder gets the path where it should be. Raises :class:`InputError` for a folder that
        cannot be understood.
        """
        folder = self.gen.get(model) or self._below_root(model, paths)
        if folder is None:
            return dict(paths)
        listing = list_images(folder, index.concepts(), variant_of(model), follow_links=True)
        now = {f"{concept}/{i.name}": i.path for concept, images in listing.concepts.items() for i in images}
        return {relpath: now.get(relpath, f"{folder}/{relpath}") for relpath in paths}

    def references(self, held: Mapping[str, Reference]) -> dict[str, str]:
        """ref_id -> path as it is now."""
        if self.refs is None:
            return {ref_id: r.path for ref_id, r in held.items()}
        path_of = moved_references(self.refs)
        return {ref_id: path_of(ref_id) for ref_id in held}

    def _below_root(self, model: str, paths: Mapping[str, str]) -> Path | None:
        """The folder of a model below ``gen_root``: by the name it had, else by the model's."""
        if self.gen_root is None:
            return None
        names = [*_folder_names(paths), model, model.rpartition("@")[0]]
        found = next((self.gen_root / n for n in names if n and (self.gen_root / n).exists()), None)
        if found is None:
            raise InputError(f"{self.gen_root}: no folder '{model}' here; name it with `gen` {model}=DIR")
        return found


UNMOVED = Moved()


def _folder_names(paths: Mapping[str, str]) -> Iterable[str]:
    """What a model's folder was called, where its images lie in one folder a concept."""
    for relpath, path in paths.items():
        parts = PurePosixPath(path).parts
        n = relpath.count("/") + 1
        if len(parts) > n and parts[-1] == relpath.rpartition("/")[2]:
            return [parts[-n - 1]]
        break
    return []
