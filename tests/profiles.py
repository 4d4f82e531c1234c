"""ICC profiles written by hand, and what their colours are in sRGB by the formulas of the standard, without littleCMS."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Columns: XYZ (D50) of red, green and blue; and the exponent.
ADOBE = (np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]), 563 / 256)
PROPHOTO = (np.array([[0.79767, 0.13519, 0.03134], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]]), 1.8)
P3 = (np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]), 2.2)
_SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
_D50 = np.array([0.9642, 1.0, 0.8249])


def rgb_profile(matrix: Array, gamma: float) -> bytes:
    """A display profile of three primaries and an exponent."""
    tags = {f"{c}XYZ": _xyz(matrix[:, i]) for i, c in enumerate("rgb")} | {f"{c}TRC": _curve(gamma) for c in "rgb"}
    return _profile(b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", {"kTRC": _curve(gamma)})


def cmyk_profile(inks: Callable[[Array], Array]) -> bytes:
    """A print profile with two steps an ink: ``inks`` gives sRGB (0 to 1) of (c, m, y, k), each 0 or 1."""
    corners = [np.array([i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1], float) for i in range(16)]
    table = b"".join(_lab8(inks(c)) for c in corners)
    ramp = bytes(range(256))
    head = (
        b"mft1"
        + bytes(4)
        + bytes([4, 3, 2, 0])
        + b"".join(struct.pack(">i", v) for v in (65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    )
    return _profile(b"CMYK", b"Lab ", {"A2B0": head + ramp * 4 + table + ramp * 3}, b"prtr")


def in_srgb(values: Array, matrix: Array, gamma: float) -> Array:
    """(n, 3) values from 0 to 255 of a display profile as sRGB, not rounded."""
    linear = (values / 255.0) ** gamma @ (np.linalg.inv(_SRGB) @ matrix).T
    return _encoded(np.clip(linear, 0, 1)) * 255.0


def grey_in_srgb(values: Array, gamma: float) -> Array:
    return _encoded((values / 255.0) ** gamma) * 255.0


def _encoded(linear: Array) -> Array:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _lab8(rgb: Array) -> bytes:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    t = _SRGB @ linear / _D50
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = (116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2]))
    return bytes([round(lab[0] * 2.55), round(lab[1] + 128), round(lab[2] + 128)])


def _xyz(values: Array) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def _profile(space: bytes, pcs: bytes, tags: dict[str, bytes], kind: bytes = b"mntr") -> bytes:
    tags = {"wtpt": _xyz(_D50), "cprt": b"text" + bytes(4) + b"none\0", "desc": _described(b"test\0"), **tags}
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I", 128 + len(table) + len(body)) + bytes(4) + b"\x02\x40\0\0" + kind + space + pcs
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + table + body


def _described(text: bytes) -> bytes:
    return b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(8 + 3 + 67)
