"""Does a text-to-image model recognise a famous image behind a prompt, and does it copy or transform it?

:mod:`iconicity.indexer` embeds reference images into an index; :mod:`iconicity.scorer` compares generated images with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iconicity import indexer, scorer

    __version__: str

__all__ = ["__version__", "indexer", "scorer"]


def __getattr__(name: str) -> object:
    """Import a package, or read the installed version, when it is first used: ``import iconicity`` takes no time."""
    if name == "__version__":
        from importlib.metadata import version

        return version("iconicity")
    if name not in __all__:
        raise AttributeError(f"module 'iconicity' has no attribute {name!r}")
    return import_module(f"iconicity.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
