"""Fonts for the texts of a figure: installed ones that have the characters, and a line on what no font can draw."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_LETTERS = ("Last Resort", "Noto Color", "cm", "STIX")  # boxes for all characters, bitmaps, and signs of formulas
_SHOWN = 3  # texts that the line names


def choose_fonts(figure: Figure) -> list[str]:
    """Let each text of a figure fall back on installed fonts that have its characters.

    Matplotlib's own warnings of such characters are switched off from then on. Returns a line on the texts that no installed font can draw, with their scripts; none where all are drawn.
    """
    from matplotlib.text import Text

    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
    texts = [t for t in figure.findobj(Text) if isinstance(t, Text)]
    wanted = {ord(c) for t in texts for c in t.get_text() if c.isprintable()}
    families, lacking = _families(frozenset(wanted))
    if len(families) > 1:
        for text in texts:
            text.set_fontfamily(families)
    if not lacking:
        return []
    undrawn = list(dict.fromkeys(t.get_text() for t in texts if lacking & set(map(ord, t.get_text()))))
    names = ", ".join(f"'{' '.join(u.split())}'" for u in undrawn[:_SHOWN]) + (", ..." if len(undrawn) > _SHOWN else "")
    return [
        f"no installed font draws {names} in {', '.join(_scripts(lacking))}: boxes stand for these characters; "
        "install a font of this script, such as Noto Sans"
    ]


@lru_cache(maxsize=8)
def _families(wanted: frozenset[int]) -> tuple[list[str], set[int]]:
    """Families in the order to try them, the figure's own first, and the characters that none of them has."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.ft2font import FT2Font

    families = list(rcParams["font.family"])
    lacking = set(wanted) - FT2Font(fontManager.findfont(FontProperties(family=families))).get_charmap().keys()
    regular = [f for f in fontManager.ttflist if f.style == "normal" and not f.name.startswith(_NO_LETTERS)]
    for font in sorted(regular, key=lambda f: ("Sans" not in f.name, f.name, abs(_weight(f.weight) - 400), f.fname)):
        if not lacking:
            break
        if font.name in families:
            continue
        try:
            has = lacking & FT2Font(font.fname).get_charmap().keys()
        except (OSError, RuntimeError):
            continue  # a font that cannot be read
        if has:
            families.append(font.name)
            lacking -= has
    return families, lacking


def _weight(weight: int | str) -> int:
    from matplotlib.font_manager import weight_dict

    return weight if isinstance(weight, int) else weight_dict.get(weight, 400)


def _scripts(characters: Iterable[int]) -> list[str]:
    """Scripts of characters, by the first word of their names, such as ``CJK`` or ``THAI``."""
    named = (unicodedata.name(chr(c), "characters without a name") for c in sorted(characters))
    return list(dict.fromkeys(n.split()[0] if n.isupper() else n for n in named))
