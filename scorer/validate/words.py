"""What the words of labels count as, unless the user says otherwise."""

from __future__ import annotations

COPIED = ("copy", "replica", "variant")
NOT_COPIED = (
    "other", "unrelated", "reinterpretation", "wrong concept", "transformed", "different", "original",
    "no copy", "not a copy", "not copied", "none", "no",
)  # fmt: skip
