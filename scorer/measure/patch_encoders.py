"""What VR can show with the patch encoders that were measured; docs/when-to-believe-vr.md has the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COPIES = "VR finds copies, repainted ones too; it does not recognise transformations, CRA does"
# Label of an encoder, with the digest of its weights -> what its VR shows. Others are not known here.
_SHOWS = {
    "SSCD, weights 86386042": _COPIES,
    "SSCD student, weights 240436cc": _COPIES,
}
_LACKS = {
    "tf_efficientnet_lite0, weights 2b7c4bdc": (
        "VR finds pasted patches and no repainted copies, which is what generators make: take `encoders` offline-copy for these"
    ),
}


def what_vr_shows(settings: Mapping[str, Any]) -> list[str]:
    """A line on what VR can show with the patch encoder of results, none where that was not measured."""
    return _line(settings, _SHOWS)


def what_vr_lacks(settings: Mapping[str, Any]) -> list[str]:
    """A line on what VR cannot show with it though a reader would expect that, none where there is nothing such."""
    return _line(settings, _LACKS)


def _line(settings: Mapping[str, Any], known: Mapping[str, str]) -> list[str]:
    label = str(settings["encoders"]["dino"])
    return [f"with this patch encoder {said}" for start, said in known.items() if label.startswith(start)]
