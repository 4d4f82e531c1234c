"""Bytes to unit vectors: decode, prepare, embed. Knows no table."""
