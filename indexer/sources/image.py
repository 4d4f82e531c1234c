"""The one record of an image, reference or generated, from the place where it lies until it has vectors."""

from __future__ import annotations

from typing import NamedTuple


class Image(NamedTuple):
    """One image. ``path`` leads to its bytes: a file, a member of a tar, or a URL.

    An image that cannot be used has a ``problem``. The folder of a concept, which may hold no image, is listed without
    a ``name``. A ``stored`` image is known from a stored row alone, and is taken at the row's word: its SHA-256, or its
    problem. Its file may be gone or another by now.
    """

    path: str
    concept: str = ""
    name: str = ""  # unique within its concept
    model: str = ""  # that generated it; "" of a reference
    seed: int | None = None
    prompt: str | None = None
    variant: str | None = None
    sha256: str | None = None  # SHA-256 of its bytes, once they are known
    problem: str | None = None
    identity: str | None = None  # of an object in a listing: another text when the object is written anew
    stored: bool = False

    @property
    def id(self) -> str:
        """``<concept>/<name>``: a reference's ref_id, and the relative path of a model's image."""
        return f"{self.concept}/{self.name}"


def stored_image(path: str, concept: str, image_id: str, sha256: str | None, problem: str | None = None) -> Image:
    """The image of a stored row."""
    return Image(path, concept, image_id.removeprefix(f"{concept}/"), sha256=sha256, problem=problem, stored=True)
