"""Wikimedia Commons: which pictures show an item, and what is known of each; the picture itself, checked."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import quote

from pydantic import BaseModel, Field

from iconicity.data.collect.answers import checked, plain_text, tidy, web_address
from iconicity.data.collect.client import Client, joined, origin, shown_url
from iconicity.data.collect.options import CATEGORY, DEPICTS, IMAGE, REPRESENTATION
from iconicity.data.collect.wikidata import Item
from iconicity.indexer.errors import AnswerError, ImageError
from iconicity.indexer.sources.suffixes import READ, suffix_of

LISTED = 50  # files that one way of finding gives
ASKED = 20  # files in one request
# Media types that are taken -> the format's name in READ.
FORMATS = {
    "image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF", "image/tiff": "TIFF",
}  # fmt: skip
NO_PICTURE = "is no picture that is read"
_FILE = "File:"
_STEM_BYTES = 120
_SHAPE = 0.04  # how far the proportions of a thumbnail may be from those of its original


class Picture(BaseModel):
    """What the server says of a file. ``problem``: why it cannot be a reference."""

    page: str
    problem: str = ""
    url: str = ""
    original: bool = False  # ``url`` is that of the file itself and not of a thumbnail
    width: int = 0  # of the original, as ``height``, ``size`` and ``sha1``
    height: int = 0
    size: int = 0  # in bytes
    sha1: str = ""
    author: str = ""
    licence: str = ""
    licence_url: str = ""
    source: str = ""


class _Title(BaseModel):
    title: str


class _Listed(BaseModel):
    search: list[_Title] = Field(default_factory=list)
    categorymembers: list[_Title] = Field(default_factory=list)


class _Lists(BaseModel):
    query: _Listed


class _Value(BaseModel):
    value: str | int | float = ""


class _Info(BaseModel):
    url: str
    descriptionurl: str = ""
    thumburl: str = ""
    width: int = Field(gt=0, lt=10**7)
    height: int = Field(gt=0, lt=10**7)
    size: int = Field(gt=0)
    sha1: str = Field(pattern=r"^[0-9a-f]{40}$")
    extmetadata: dict[str, _Value] = Field(default_factory=dict)


class _Page(BaseModel):
    title: str
    missing: bool = False
    imageinfo: list[dict[str, object]] = Field(default_factory=list)


class _Renamed(BaseModel):
    from_: str = Field(alias="from")
    to: str


class _Found(BaseModel):
    pages: list[_Page] = Field(default_factory=list)
    normalized: list[_Renamed] = Field(default_factory=list)
    redirects: list[_Renamed] = Field(default_factory=list)


class _Infos(BaseModel):
    query: _Found


def pictures_of(client: Client, item: Item, found_by: str) -> list[str]:
    """Titles of the files that show an item, found in one way, as ``File:...``; in the server's order."""
    if found_by == IMAGE:
        return [title for name in item.pictures if (title := _title(name))]
    if found_by == CATEGORY:
        queries = [
            {"list": "categorymembers", "cmtitle": f"Category:{name}", "cmtype": "file", "cmlimit": str(LISTED)}
            for name in item.categories
        ]
    else:
        statement = {REPRESENTATION: "P6243", DEPICTS: "P180"}[found_by]
        search = {"srsearch": f"haswbstatement:{statement}={item.id}", "srnamespace": "6", "srprop": ""}
        queries = [{"list": "search", "srlimit": str(LISTED), **search}]
    at, titles = client.services.commons, list[str]()
    for query in queries:
        answer = client.json(at, {"action": "query", "format": "json", "formatversion": "2", **query})
        # MediaWiki may leave out an empty list
        listed = checked(_Lists, {"query": {}, **answer} if "batchcomplete" in answer else answer, at).query
        titles += [title for t in (*listed.search, *listed.categorymembers) if (title := _title(t.title))]
    return list(dict.fromkeys(titles))


def _title(name: str) -> str:
    """A file's title, "" for a text that is none; one of another namespace, or with marks that no title has."""
    bare = tidy(name.removeprefix(_FILE).replace("_", " "), 255)
    return "" if not bare or set(bare) & set("|#<>[]{}") else f"{_FILE}{bare[:1].upper()}{bare[1:]}"


def read_pictures(client: Client, titles: Sequence[str], width: int, language: str) -> dict[str, Picture]:
    """What the server says of files, at most :data:`ASKED`; a thumbnail of ``width`` where the file is wider."""
    query = {
        "action": "query", "format": "json", "formatversion": "2", "redirects": "1", "prop": "imageinfo",
        "titles": "|".join(titles), "iiprop": "url|size|mime|sha1|extmetadata", "iiurlwidth": str(width),
        "iiextmetadatafilter": "Artist|LicenseShortName|LicenseUrl", "iiextmetadatalanguage": language,
    }  # fmt: skip
    at = client.services.commons
    found = checked(_Infos, client.json(at, query), at).query
    pages = {page.title: page for page in found.pages}
    renamed = {r.from_: r.to for r in (*found.normalized, *found.redirects)}
    out = {}
    for title in titles:
        name = title
        for _ in range(3):  # normalised, then redirected
            name = renamed.get(name, name)
        page = pages.get(name)
        out[title] = Picture(page=title, problem="is not there") if page is None else _picture(page, width, client)
    return out


def _picture(page: _Page, width: int, client: Client) -> Picture:
    title = _title(page.title) or _FILE
    if page.missing or not page.imageinfo:
        return Picture(page=title, problem="is not there")
    kind = str(page.imageinfo[0].get("mime"))
    if kind not in FORMATS:  # sounds have no size
        return Picture(page=title, problem=f"{NO_PICTURE} ({tidy(kind, 60)})")
    try:
        info = checked(_Info, page.imageinfo[0], title)
    except AnswerError as e:
        return Picture(page=title, problem=e.reason)
    base = client.services.commons
    whole = info.width <= width
    url = joined(base, info.url if whole else info.thumburl)
    if not whole and not info.thumburl:
        return Picture(page=title, problem="has no thumbnail")
    if origin(url) not in client.services.origins:
        return Picture(page=title, problem=f"lies on another server, {shown_url(url)}")
    said = {name: plain_text(str(value.value)) for name, value in info.extmetadata.items()}
    page_url = f"{origin(base)}/wiki/{quote(title.replace(' ', '_'), safe=':')}"
    return Picture(
        page=title, url=url, original=whole, width=info.width, height=info.height, size=info.size, sha1=info.sha1,
        author=said.get("Artist", ""), licence=said.get("LicenseShortName", ""),
        licence_url=web_address(said.get("LicenseUrl", "")), source=web_address(info.descriptionurl) or page_url,
    )  # fmt: skip


def fetch_picture(client: Client, picture: Picture) -> tuple[bytes, str]:
    """Bytes of a picture that decode, and the suffix of its format.

    Raises :class:`AnswerError` where they are not what the server said of the file, :class:`NetworkError`.
    """
    answer = client.image(picture.url)
    at = shown_url(picture.url)
    if answer.kind not in FORMATS:
        raise AnswerError(at, f"is no picture but {tidy(answer.kind, 60)}")
    if picture.original:
        if len(answer.data) != picture.size:
            raise AnswerError(at, f"has {len(answer.data)} bytes, and the server said {picture.size}")
        if hashlib.sha1(answer.data, usedforsecurity=False).hexdigest() != picture.sha1:
            raise AnswerError(at, "has another SHA-1 than the server said")
    from iconicity.indexer.encode.decoder import shared

    try:
        width, height = shared().decode(answer.data, picture.page).image.size
    except ImageError as e:
        raise AnswerError(at, e.reason) from e
    if width * height > picture.width * picture.height:
        raise AnswerError(at, f"{width} x {height} pixels: larger than its original")
    ratio = width / height * picture.height / picture.width
    turned = width / height * picture.width / picture.height
    if min(abs(ratio - 1), abs(turned - 1)) > _SHAPE and min(width, height) > 1 / _SHAPE:
        raise AnswerError(at, f"{width} x {height} pixels: another shape than the server said")
    return answer.data, READ[FORMATS[answer.kind]][0]


def file_name(title: str, number: int, suffix: str) -> str:
    """Name on disk of the file with this title, which sorts by its number; ``suffix`` is that of its format.

    >>> file_name("File:The Scream/1893?.jpg", 1, ".jpg"), file_name("File:A.tif", 12, ".jpg")
    ('001_The_Scream_1893_.jpg', '012_A.tif.jpg')
    """
    name = unicodedata.normalize("NFC", title.removeprefix(_FILE))
    held = suffix_of(name)
    same = any(suffix in suffixes and held in suffixes for suffixes in READ.values())
    stem = name[: len(name) - len(held)] if same else name
    safe = re.sub(r"_+", "_", re.sub(r"[^\w.,()'&+-]", "_", stem))
    cut = safe.encode()[:_STEM_BYTES].decode(errors="ignore")
    return f"{number:03d}_{cut}{held if same else suffix}"
