"""Does a text-to-image model recognise a famous image behind a prompt, and does it copy or transform it?

    import iconicity as ic

    results = ic.evaluate("refs/", {"sd14": "gen/sd14", "esd": "gen/esd"}, "study/")
    results.compare("sd14", "esd")

:class:`Index` holds reference images, :class:`Results` scores of generated ones; docs/python.md shows every name.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iconicity import indexer, scorer
    from iconicity.indexer.encode.names import EncoderOptions
    from iconicity.indexer.errors import IconicityError
    from iconicity.indexer.options import IndexOptions, Run, Select
    from iconicity.indexer.shards import Shard
    from iconicity.indexer.store.cache import VectorCache
    from iconicity.scorer.face import Index, Results, evaluate
    from iconicity.scorer.measure.calibrate.options import CalibrationOptions
    from iconicity.scorer.options import AttributeFiles, ScoreOptions, Writing
    from iconicity.scorer.table import Table

    __version__: str

__all__ = [
    "AttributeFiles", "CalibrationOptions", "EncoderOptions", "IconicityError", "Index", "IndexOptions", "Results", "Run",
    "ScoreOptions", "Select", "Shard", "Table", "VectorCache", "Writing", "__version__", "evaluate", "indexer", "scorer",
]  # fmt: skip

_HOME = {
    "AttributeFiles": "scorer.options",
    "CalibrationOptions": "scorer.measure.calibrate.options",
    "EncoderOptions": "indexer.encode.names",
    "IconicityError": "indexer.errors",
    "Index": "scorer.face",
    "IndexOptions": "indexer.options",
    "Results": "scorer.face",
    "Run": "indexer.options",
    "ScoreOptions": "scorer.options",
    "Select": "indexer.options",
    "Shard": "indexer.shards",
    "Table": "scorer.table",
    "VectorCache": "indexer.store.cache",
    "Writing": "scorer.options",
    "evaluate": "scorer.face",
}


def __getattr__(name: str) -> object:
    """Import a name, or read the installed version, when it is first used: ``import iconicity`` takes no time."""
    if name == "__version__":
        from importlib.metadata import version

        return version("iconicity")
    if name not in __all__:
        raise AttributeError(f"module 'iconicity' has no attribute {name!r}")
    if name not in _HOME:
        return import_module(f"iconicity.{name}")
    found: object = getattr(import_module(f"iconicity.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
