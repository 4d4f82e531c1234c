"""Embed reference images once and keep them in a searchable index."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iconicity.indexer.build import add_references, build_index, remove_references
    from iconicity.indexer.encode.encoder import load_encoders
    from iconicity.indexer.encode.names import EncoderOptions
    from iconicity.indexer.options import IndexOptions, Run, Select
    from iconicity.indexer.repair import repair_index
    from iconicity.indexer.store.index import open_index
    from iconicity.indexer.store.verify import verify_index

__all__ = [
    "EncoderOptions",
    "IndexOptions",
    "Run",
    "Select",
    "add_references",
    "build_index",
    "load_encoders",
    "open_index",
    "remove_references",
    "repair_index",
    "verify_index",
]

_HOME = {
    "EncoderOptions": "encode.names",
    "IndexOptions": "options",
    "Run": "options",
    "Select": "options",
    "add_references": "build",
    "build_index": "build",
    "load_encoders": "encode.encoder",
    "open_index": "store.index",
    "remove_references": "build",
    "repair_index": "repair",
    "verify_index": "store.verify",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: ``iconicity --help`` must not wait for torch or LanceDB."""
    if name not in _HOME:
        raise AttributeError(f"module 'iconicity.indexer' has no attribute {name!r}")
    value: object = getattr(import_module(f"iconicity.indexer.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
