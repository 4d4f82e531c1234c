"""Parts of answers: dates, names, licences, texts, file names; and the journal of a folder."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

from iconicity.data.collect import answers, client, commons, licences, pageviews, wikidata
from iconicity.data.collect.journal import JOURNAL, Journal, Settings
from iconicity.data.collect.options import CollectOptions
from iconicity.data.collect.wikidata import date_text
from iconicity.indexer.errors import AnswerError, InputError, SettingsError
from iconicity.scorer.measure.attributes import years

SETTINGS = Settings(language="en", width=960, period=("20250101", "20251231"))


@pytest.mark.parametrize("module", [answers, client, commons, licences, pageviews, wikidata])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("time", "precision", "text", "year"),
    [
        ("+1893-06-12T00:00:00Z", 11, "1893-06-12", 1893.446),
        ("+1893-06-00T00:00:00Z", 10, "1893-06", 1893.455),
        ("+1893-00-00T00:00:00Z", 9, "1893", 1893.5),
        ("+0512-00-00T00:00:00Z", 9, "0512", 512.5),
        ("+1895-00-00T00:00:00Z", 8, "1890-1899", 1895.0),
        ("+1700-00-00T00:00:00Z", 7, "1601-1700", 1651.0),
        ("+1601-00-00T00:00:00Z", 7, "1601-1700", 1651.0),
    ],
)
def test_dates_are_read_by_correlate(time: str, precision: int, text: str, year: float) -> None:
    assert date_text({"time": time, "precision": precision}) == text
    assert years(text) == pytest.approx(year, abs=0.01)


def test_other_dates() -> None:
    assert date_text({"time": "-0490-00-00T00:00:00Z", "precision": 9}) == "490 BC"
    for value in ({"time": "+1500-00-00T00:00:00Z", "precision": 6}, {"time": "soon", "precision": 9}, {"time": 5}, "x", None):  # fmt: skip
        assert date_text(value) == ""
    assert wikidata._span(["1503", "1506"]) == "1503-1506" and wikidata._span(["1889-06-01", "1889"]) == "1889"
    assert wikidata._span([]) == "" and wikidata._span(["490 BC", "480 BC"]) == "490 BC"


@pytest.mark.parametrize(
    ("name", "patterns", "allowed"),
    [
        ("CC BY-SA 4.0", "cc-by-sa", True),
        ("CC BY 2.0", "cc-by", True),
        ("CC BY-NC 2.0", "cc-by", False),
        ("CC BY-NC 2.0", "cc-*", True),
        ("Public domain", "public-domain,cc0", True),
        ("Public domain in Freedonia only", "public-domain", False),
        ("CC0", "public-domain", False),
        ("", "cc-*", False),
        ("", "*", False),
    ],
)
def test_licences(name: str, patterns: str, allowed: bool) -> None:
    assert licences.is_allowed(name, patterns.split(",")) is allowed


def test_options_are_checked() -> None:
    for wrong in ({"language": "en/../x"}, {"licences": ["cc by"]}, {"licences": ["[a-z]"]}):
        with pytest.raises(InputError):
            CollectOptions(**wrong)


def test_texts_that_would_take_long() -> None:
    assert len(answers.plain_text("<b>" * 10**6 + "x")) <= 3
    assert len(answers.tidy("y" * 10**6)) == answers.TEXT
    assert answers.plain_text("</script>a<script>b</script></script>c\ud800") == "a c"
    name = commons.file_name("File:" + "ü" * 400 + ".JPG", 7, ".jpg")
    assert name.startswith("007_ü") and name.endswith("ü.jpg") and len(name.encode()) < 200


def test_the_journal_keeps_whole_lines(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        journal.put("a", ["x"])
        assert journal.kept("b", list[str], lambda: ["y"]) == ["y"]
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    for end in range(len(whole)):  # ended in the middle of any byte
        path.write_bytes(whole[:end])
        with Journal(tmp_path, SETTINGS) as journal:
            assert journal.kept("b", list[str], lambda: ["again"]) in (["y"], ["again"])
        with Journal(tmp_path, SETTINGS, writing=False) as journal:
            assert "b" in journal and journal.get("b", list[str])
    path.write_bytes(whole + json.dumps({"key": "a", "value": {"of": "another shape"}}).encode() + b"\n[]\nnull\n")
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.kept("a", list[str], lambda: ["new"]) == ["new"]
    with pytest.raises(SettingsError, match="was collected with width 960, not 250"):
        Journal(tmp_path, SETTINGS.model_copy(update={"width": 250}))
    later = Journal(tmp_path, SETTINGS.model_copy(update={"period": ("1", "2")}), writing=False)
    assert later.settings.period == SETTINGS.period  # page views are those of one period


def asking(*found: object) -> client.Client:
    """A client whose answers are these."""
    given = iter(found)
    asked = client.Client("x", client.Services())
    asked.json = lambda *_, **__: next(given)  # type: ignore[method-assign,assignment]
    return asked


def test_renamed_files_are_one_file() -> None:
    info = {
        "url": "//upload.wikimedia.org/a.jpg", "thumburl": "https://upload.wikimedia.org/250px-a.jpg", "width": 300, "height": 200,
        "size": 5, "sha1": "0" * 40, "mime": "image/jpeg",
    }  # fmt: skip
    pages = [{"title": "File:New.jpg", "imageinfo": [info]}, {"title": "File:Video.ogv", "imageinfo": [{"mime": "video/ogg", "width": 0}]}]  # fmt: skip
    names = {"normalized": [{"from": "File:Old_x.jpg", "to": "File:Old x.jpg"}], "redirects": [{"from": "File:Old x.jpg", "to": "File:New.jpg"}]}  # fmt: skip
    titles = ["File:Old_x.jpg", "File:New.jpg", "File:Video.ogv", "File:Lost.jpg"]
    answer = {"batchcomplete": True, "query": {"pages": pages, **names}}
    found = commons.read_pictures(asking(answer, answer), titles, 250, "en")
    assert found[titles[0]] == found[titles[1]] and found[titles[0]].url == info["thumburl"]
    assert found[titles[0]].source == "https://commons.wikimedia.org/wiki/File:New.jpg" and not found[titles[0]].licence
    assert [found[t].problem for t in titles[2:]] == ["is no picture that is read (video/ogg)", "is not there"]
    assert commons.pictures_of(asking({"batchcomplete": True}), wikidata.Item(id="Q1"), "depicts") == []
    with pytest.raises(AnswerError, match="another shape"):
        commons.pictures_of(asking({}), wikidata.Item(id="Q1"), "depicts")
    whole = commons.read_pictures(asking(answer), titles[1:2], 330, "en")[titles[1]]
    assert whole.original and whole.url == "https://upload.wikimedia.org/a.jpg"


def test_items_of_other_shapes() -> None:
    text = {"en": {"language": "en", "value": "New"}}
    entity = {
        "id": "Q2", "redirects": {"from": "Q1", "to": "Q2"}, "labels": text, "claims": [], "descriptions": [],
        "sitelinks": {"zhwiki": {"site": "zhwiki", "title": "新"}},
    }  # fmt: skip
    found = wikidata.read_items(asking({"entities": {"Q2": entity}}), ["Q1"], "zh-hant")["Q1"]
    assert found is not None and (found.id, found.label, found.wiki, found.article) == ("Q2", "New", "zh", "新")
    claims = [
        {"rank": "normal", "mainsnak": {"snaktype": "value", "datavalue": {"value": "A.jpg"}}},
        {"rank": "preferred", "mainsnak": {"snaktype": "value", "datavalue": {"value": "B.jpg"}}},
        {"rank": "preferred", "mainsnak": {"snaktype": "somevalue"}},
        {"rank": "preferred", "mainsnak": {"snaktype": "value", "datavalue": {"value": {"id": 5}}}},
    ]
    strange = {"id": "Q3", "claims": {"P18": claims, "P170": claims, "P31": claims}, "sitelinks": []}
    found = wikidata.read_items(asking({"entities": {"Q3": strange}}), ["Q3"], "en")["Q3"]
    assert found is not None and found.pictures == ["B.jpg"] and found.creators == [] and found.sitelinks == 0
    others: tuple[dict[str, Any], ...] = (
        {},
        {"entities": []},
        {"entities": {"Q3": {"id": "../x"}}},
        {"entities": {"Q3": {"id": "Q3", "claims": {"P18": 5}}}},
    )
    for wrong in others:
        with pytest.raises(AnswerError, match="another shape"):
            wikidata.read_items(asking(wrong), ["Q3"], "en")
