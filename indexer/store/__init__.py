"""Rows and files: the index, the vector cache. Knows no model."""
