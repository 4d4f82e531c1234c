"""The models whose images lie at a place: one model's folder, or a folder with one folder for each model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from iconicity.indexer.errors import InputError
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.sources.folders import LEADS_OUT, Inside, concept_name, has_images, is_text, shown
from iconicity.indexer.sources.layouts import is_geneval
from iconicity.indexer.sources.metadata import find_metadata
from iconicity.indexer.sources.suffixes import is_image
from iconicity.indexer.sources.tar import COMPRESSED, SUFFIX
from iconicity.indexer.text import counted
from iconicity.scorer.measure.study import brief

WRITE = "name each model with `generated` NAME=FOLDER"


@dataclass(frozen=True)
class Models:
    """Model -> location of its images, and a line on each folder or file that belongs to no model."""

    generated: Mapping[str, Place]
    notices: list[str] = field(default_factory=list)


def models_at(gen: Place, refs: Place, follow_links: bool = False) -> Models:
    """The models at ``gen``, told apart by the names of the concept folders of ``refs``.

    A folder of concept folders, a tar, an imagefolder or a folder of GenEval is one model, called like it. Object storage
    holds one model. Raises :class:`InputError` where ``gen`` holds neither one model nor folders of models, or both.
    """
    if isinstance(gen, Remote) or not gen.is_dir():
        if not isinstance(gen, Remote) and not gen.exists():
            raise InputError(
                f"{shown(gen)}: no such folder; it must hold the generated images of one model or of several"
            )
        return Models({_name(gen): gen})
    folders = [p for p in sorted(gen.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    if find_metadata(gen) is not None or any(map(is_geneval, folders)) or (_packed(gen) and not folders):
        return Models({_name(gen): gen})
    concepts = _concepts(refs)
    kinds = {p: "references" if _holds(p, refs) else _kind(p, concepts) for p in folders}
    of = {kind: [p for p, k in kinds.items() if k == kind] for kind in ("concept", "model", "references", "neither")}
    if of["concept"] and of["model"]:
        raise InputError(
            f"{gen}: holds folders of concepts ({_some(of['concept'])}) beside folders of models ({_some(of['model'])}); {WRITE}"
        )
    if of["concept"]:
        return Models({_name(gen): gen})
    if not of["model"]:
        raise InputError(_nothing(gen, refs, concepts, of["neither"]))
    stays = Inside(gen, follow_links)
    for p in of["model"]:
        if not is_text(p.name):
            raise InputError(f"{shown(p)}: the name of this model is not UTF-8; rename the folder")
        if not stays(p.name):
            raise InputError(f"{shown(p)}: {LEADS_OUT}")
        if "@" in p.name and not all(p.name.rpartition("@")[::2]):
            raise InputError(f"{p}: the name of a model lacks a name or a variant beside the @; rename the folder")
    return Models({p.name: p for p in of["model"]}, list(_not_used(gen, refs, of["neither"], of["references"])))


def require_apart(refs: Place, folders: Collection[Place], out: Path) -> None:
    """Raises :class:`InputError` where files of one place would count as those of another: references, generated, results."""
    where = _real(refs)
    for folder in folders:
        at = _real(folder)
        if where is None or at is None:
            continue
        if at == where:
            raise InputError(f"{folder}: holds the references and the generated images; name two folders")
        if at.is_relative_to(where):
            raise InputError(
                f"{folder}: lies inside the references {refs}, where its folders count as concepts; move one of them"
            )
    for folder in (refs, *folders):
        at = _real(folder)
        if at is not None and out.resolve().is_relative_to(at):
            raise InputError(
                f"{out}: lies inside {folder}, where its pictures would count as images; name an `out` elsewhere"
            )


def _kind(folder: Path, concepts: Collection[str]) -> Literal["concept", "model", "neither"]:
    below = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    named, direct = concept_name(folder.name) in concepts, has_images(folder)
    if any(concept_name(p.name) in concepts for p in below) and not (named and direct):
        return "model"
    if named:
        return "concept"
    if find_metadata(folder) is not None or any(map(is_geneval, below)) or (_packed(folder) and not below):
        return "model"
    return "neither"


def _concepts(refs: Place) -> set[str]:
    """Names that the folders of references give concepts; a folder that is not there has none."""
    if isinstance(refs, Remote):
        return {concept_name(name) for name in refs.names()}
    if not refs.is_dir():
        return set()
    return {concept_name(p.name) for p in refs.iterdir() if p.is_dir() and not p.name.startswith(".")} - {""}


def _folders(refs: Place) -> list[Path]:
    return [] if isinstance(refs, Remote) else [p for p in sorted(refs.iterdir()) if p.is_dir()]


def _packed(folder: Path) -> bool:
    return any(p.name.lower().endswith((SUFFIX, *COMPRESSED)) for p in folder.iterdir())


def _nothing(gen: Path, refs: Place, concepts: Collection[str], folders: Collection[Path]) -> str:
    """Why no model lies at a folder, and what to do."""
    needed = "a model's images lie in GEN/<concept>/, or GEN/<model>/<concept>/"
    if not isinstance(refs, Remote) and not refs.is_dir():
        return f"{refs}: no such folder; it must hold one folder of images for each concept"
    if has_images(gen):
        return f"{gen}: images lie directly in it; {needed}"
    if not folders:
        return f"{gen}: holds no folder of images; {needed}"
    like = (
        f"the concepts of {refs} are named like '{min(concepts)}'"
        if concepts
        else f"{refs} holds no folder of a concept"
    )
    names = {concept_name(p.name) for p in folders}
    if any(names & {concept_name(below.name) for below in p.iterdir()} for p in _folders(refs)):
        return (
            f"{gen}: its folders are named like those in the models below {refs}; are the references and GEN swapped?"
        )
    return f"{gen}: no folder in it has the name of a concept ({_some(folders)}), and no folder below these; {like}"


def _not_used(gen: Path, refs: Place, neither: Collection[Path], references: Collection[Path]) -> Iterator[str]:
    for p in references:
        yield f"{p}: holds the references {refs}, and is no model"
    if neither:
        its = "it" if len(neither) == 1 else "they"
        yield (
            f"{counted(len(neither), 'folder')} of {gen} without a folder named like a concept of {refs}, so that {its} "
            f"did not count as {'a model' if len(neither) == 1 else 'models'}: {_some(neither)}"
        )
    loose = sorted(p.name for p in gen.iterdir() if is_image(p.name) and p.is_file())
    if loose:
        yield f"ignored {counted(len(loose), 'image')} beside the folders of models, first {shown(gen / loose[0])}"


def _some(folders: Collection[Path]) -> str:
    return brief([shown(Path(p.name)) for p in folders], 3)


def _holds(folder: Path, refs: Place) -> bool:
    at = _real(refs)
    return at is not None and at.is_relative_to(folder.resolve())


def _real(at: Place | str) -> Path | None:
    return at.resolve() if isinstance(at, Path) else None


def _name(gen: Place) -> str:
    """What the one model at a place is called."""
    name = gen.name if isinstance(gen, Remote) else gen.resolve().name
    return name.removesuffix(".tar") or "model"
