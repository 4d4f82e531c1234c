"""Find the files of references after the folder that an index was built from was moved."""

from __future__ import annotations

from collections.abc import Callable

from iconicity.indexer.places import Place
from iconicity.indexer.sources.folders import folder_images


def moved_references(root: Place) -> Callable[[str], str]:
    """A function from a ref_id to the path of its file below ``root``, which holds one folder a concept.

    Nothing is read there: who uses a path compares the SHA-256 of its bytes. Raises :class:`InputError` as
    :func:`~iconicity.indexer.sources.folders.folder_images`.
    """
    images = folder_images(root, follow_links=True)
    folders = {i.concept: i.path for i in images if i.concept and not i.name and i.problem is None}

    def path_of(ref_id: str) -> str:
        concept, _, name = ref_id.partition("/")
        return f"{folders.get(concept, f'{root}/{concept}')}/{name}"

    return path_of
