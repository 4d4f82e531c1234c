"""Pictures of a concept on disk: which stand there already, which are fetched, which are left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from iconicity.data.collect.client import Client
from iconicity.data.collect.commons import (
    ASKED,
    NO_PICTURE,
    Picture,
    fetch_picture,
    file_name,
    pictures_of,
    read_pictures,
)
from iconicity.data.collect.items import Concept
from iconicity.data.collect.journal import Fetched, Journal
from iconicity.data.collect.licences import is_allowed
from iconicity.data.collect.options import CollectOptions
from iconicity.indexer.errors import AnswerError
from iconicity.indexer.sources.folders import LEADS_OUT, Inside, concept_name, hashed, sha256_hex
from iconicity.indexer.store.files import replacing

CHANGED = "changed since they were fetched, and left alone"
DELETED = "deleted since they were fetched, and not fetched again (`restore` does)"
OCCUPIED = "not fetched, since a file of yours has their name"
OTHERS = "not of this command, and left alone"
NO_LICENCE = "whose licence the server does not name"
NOT_ALLOWED = "left out by `licences`"
OTHER_KINDS = "left out, since they are no pictures that are read"


@dataclass
class Notes:
    """Counts of files by what is to be told of them, each with its first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, name: object) -> None:
        self.counts[kind] += 1
        self.first.setdefault(kind, str(name))

    def lines(self) -> list[str]:
        return [
            f"{n} {'file' if n == 1 else 'files'} {kind}{', first' if n > 1 else ':'} {self.first[kind]}"
            for kind, n in sorted(self.counts.items())
        ]


@dataclass
class Pictures:
    """Fetches pictures into ``out``. ``skip`` gets what could not be used, and why; ``fetched`` counts new files.

    ``credits``: a row of each file that stands. ``gone``: files that are listed and do not stand any more.
    """

    client: Client
    journal: Journal
    out: Path
    options: CollectOptions
    skip: Callable[[str, str], object]
    notes: Notes = field(default_factory=Notes)
    credits: list[dict[str, str]] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    fetched: int = 0

    def __post_init__(self) -> None:
        self._folders = {concept_name(p.name): p.name for p in sorted(self.out.iterdir()) if p.is_dir()}
        self._inside = Inside(self.out)

    def collect(self, concept: Concept, progress: Callable[[int], object]) -> int:
        """Have up to ``per_concept`` pictures of a concept; returns how many stand. ``progress`` gets their number."""
        folder = self.out / self._folders.get(concept.wanted.concept, concept.wanted.concept)
        if not self._inside(f"{folder.name}/_"):
            self.skip(str(folder), LEADS_OUT)
            return 0
        if _is_there(folder) and not folder.is_dir():
            self.skip(str(folder), "a file stands where the folder of this concept is to be; move it")
            return 0
        try:
            return self._collect(concept, folder, progress)
        finally:  # also where a server is away: what stands is listed
            self._list(concept, folder)

    def _collect(self, concept: Concept, folder: Path, progress: Callable[[int], object]) -> int:
        standing, seen = self._standing(concept, folder), set[str]()
        if standing >= self.options.per_concept:
            return standing
        for number, (found_by, picture) in enumerate(self._candidates(concept), 1):
            if picture.page not in seen:
                seen.add(picture.page)
                standing += self._take(concept, folder, picture, found_by, number)
                progress(standing)
            if standing >= self.options.per_concept:
                break
        return standing

    def _standing(self, concept: Concept, folder: Path) -> int:
        """How many pictures of a concept stand, of those that were fetched."""
        standing = 0
        for key, held in self._held(concept).items():
            path = folder / held.name
            if not _is_there(path):
                if held.done and not self.options.restore:
                    self.notes.add(DELETED, path)
                continue
            same = hashed(str(path)) == held.sha256
            standing += same or held.done
            if same and not held.done:
                self.journal.put(key, held.model_copy(update={"done": True}))
            elif not same and held.done:
                self.notes.add(CHANGED, path)
        return standing

    def _held(self, concept: Concept) -> dict[str, Fetched]:
        return self.journal.group(f"file {concept.wanted.concept}", Fetched)

    def _candidates(self, concept: Concept) -> Iterator[tuple[str, Picture]]:
        """Files that show a concept, by the way they are found. Servers are asked when the next one is wanted."""
        item = concept.item
        for found_by in self.options.found_by:
            try:
                titles = self.journal.kept(
                    f"{found_by} {item.id}", list[str], lambda way=found_by: pictures_of(self.client, item, way)  # type: ignore[misc]
                )  # fmt: skip
            except AnswerError as e:
                self.skip(concept.wanted.where, str(e))
                continue
            for start in range(0, len(titles), ASKED):
                try:
                    infos = self._infos(titles[start : start + ASKED])
                except AnswerError as e:
                    self.skip(concept.wanted.where, str(e))
                    continue
                yield from ((found_by, picture) for picture in infos)

    def _infos(self, titles: Sequence[str]) -> list[Picture]:
        settings = self.journal.settings

        def ask(new: Sequence[str]) -> dict[str, Picture]:
            return read_pictures(self.client, new, settings.width, settings.language)

        unknown = [title for title in titles if f"info {title}" not in self.journal]
        for title, found in (ask(unknown) if unknown else {}).items():
            self.journal.put(f"info {title}", found)
        return [self.journal.kept(f"info {t}", Picture, lambda t=t: ask([t])[t]) for t in titles]  # type: ignore[misc]

    def _take(self, concept: Concept, folder: Path, picture: Picture, found_by: str, number: int) -> bool:
        """Whether a picture that did not stand does so now."""
        key = f"file {concept.wanted.concept}/{picture.page}"
        held: Fetched | None = self.journal.get(key, Fetched) if key in self.journal else None
        if held is not None and (_is_there(folder / held.name) or (held.done and not self.options.restore)):
            return False
        if picture.problem:
            if picture.problem.startswith(NO_PICTURE):
                self.notes.add(OTHER_KINDS, picture.page)
            else:
                self.skip(picture.page, picture.problem)
            return False
        if not is_allowed(picture.licence, self.options.licences):
            self.notes.add(NOT_ALLOWED, picture.page)
            return False
        return self._fetch(key, folder, picture, found_by, held.name if held is not None else None, number)

    def _fetch(
        self, key: str, folder: Path, picture: Picture, found_by: str, name: str | None, number: int
    ) -> bool:  # fmt: skip
        try:
            data, suffix = fetch_picture(self.client, picture)
        except AnswerError as e:
            self.skip(picture.page, e.reason)
            return False
        path = folder / (name or file_name(picture.page, number, suffix))
        record = Fetched(
            name=path.name, sha256=sha256_hex(data), page=picture.page, url=picture.url, author=picture.author,
            licence=picture.licence, licence_url=picture.licence_url, source=picture.source, found_by=found_by,
            retrieved=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )  # fmt: skip
        if _is_there(path):
            if hashed(str(path)) != record.sha256:
                self.notes.add(OCCUPIED, path)
                return False
            self.journal.put(key, record.model_copy(update={"done": True}))  # fetched before the journal was deleted
            return True
        folder.mkdir(exist_ok=True)
        self.journal.put(key, record, sync=True)  # before the file: a file without a record is the user's
        with replacing(path) as tmp:
            tmp.write_bytes(data)
        self.journal.put(key, record.model_copy(update={"done": True}))
        self.fetched += 1
        return True

    def _list(self, concept: Concept, folder: Path) -> None:
        """Take the credits of a concept's files, and count those that are not ours."""
        ours = set()
        for held in self._held(concept).values():
            if not held.done:
                continue
            ours.add(held.name)
            file = f"{folder.name}/{held.name}"
            if not (folder / held.name).is_file():
                self.gone.add(file)
                continue
            if not held.licence:
                self.notes.add(NO_LICENCE, folder / held.name)
            elif not is_allowed(held.licence, self.options.licences):
                self.notes.add(
                    "under a licence that `licences` leaves out, fetched before; delete them", folder / held.name
                )
            row = held.model_dump(exclude={"name", "page", "done"})
            self.credits.append({"file": file, **row})
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name not in ours and not path.name.startswith("."):
                self.notes.add(OTHERS, path)


def _is_there(path: Path) -> bool:
    """Whether a name is taken, if only by a link that leads nowhere."""
    return path.exists() or path.is_symlink()
