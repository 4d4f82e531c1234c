"""Embed reference images once and keep them in a searchable index."""

from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.encoders import Encoders, EncoderSpec, load_encoders
from iconicity.indexer.index import Index, open_index
from iconicity.indexer.verify import verify_index

__all__ = [
    "EncoderSpec",
    "Encoders",
    "Index",
    "add_references",
    "build_index",
    "load_encoders",
    "open_index",
    "remove_references",
    "verify_index",
]
