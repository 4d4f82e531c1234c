"""A whole study in one file: each table of study.toml is a command, and each key one of its options.

The stages run one after the other as their commands would, and each does only what is missing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from iconicity.indexer.command_line import say_note
from iconicity.indexer.errors import InputError
from iconicity.indexer.places import place
from iconicity.indexer.text import echo_line

COLLECT, VARIANTS, GENERATE, GENERATED, RUN = TABLES = ("collect", "variants", "generate", "generated", "run")
REFS, CONCEPTS, PROMPTS, MADE, IMAGES, OUT = "refs", "refs/concepts.csv", "prompts.csv", "variants.csv", "gen", "study"
_NOT_HERE = frozenset({"study", "dry-run", "help"})  # options that no key sets


@dataclass(frozen=True)
class Stage:
    """A command of a study with its words, as on a command line. ``table``: where it stands in the file."""

    table: str
    command: click.Command
    words: Sequence[str]

    def run(self, *more: str) -> int:
        """Run it, and return its exit code. Raises what the command raises."""
        words = [*more, *self.words]
        return int(self.command.main(words, prog_name=f"iconicity {self.command.name}", standalone_mode=False) or 0)


@dataclass(frozen=True)
class StudyFile:
    """A study.toml. ``commands``: those that its tables name."""

    path: Path
    tables: Mapping[str, Any]
    commands: Mapping[str, click.Command]

    def stages(self) -> Iterator[Stage]:
        """The stages in order. A stage reads what the one before it writes, unless its table says otherwise.

        Raises :class:`InputError` for a table or a key that is none, and where there is nothing to score.
        """
        prompts = PROMPTS
        if COLLECT in self.tables:
            yield self._stage(COLLECT, self._keys(COLLECT), {"out": REFS})
            prompts = CONCEPTS
        if VARIANTS in self.tables:
            keys = self._keys(VARIANTS)
            yield self._stage(VARIANTS, keys, {"prompts": prompts, "out": MADE})
            prompts = str(keys.get("out", MADE))
        given: dict[str, str] = {}
        for model, keys in self._keys(GENERATE).items():
            if not isinstance(keys, dict):
                raise InputError(f"{self.path}: [{GENERATE}] {model}: write a table [{GENERATE}.NAME] for each model")
            given[model] = str(keys.get("out", f"{IMAGES}/{model}"))
            yield self._stage(f"{GENERATE}.{model}", keys, {"prompts": prompts, "out": given[model]})
        for model, folder in self._keys(GENERATED).items():
            if not isinstance(folder, str):
                raise InputError(f"{self.path}: [{GENERATED}] {model}: write the folder of its images, in quotes")
            if model in given:
                raise InputError(
                    f"{self.path}: [{GENERATED}] {model}: [{GENERATE}.{model}] has this name; write another one"
                )
            given[model] = folder
        if not given:
            raise InputError(
                f'{self.path}: names no generated images; write a table [{GENERATE}.NAME], or [{GENERATED}] with NAME = "FOLDER"'
            )
        keys = self._keys(RUN)
        if "gen" in keys:
            raise InputError(f'{self.path}: [{RUN}] gen: write it as [{GENERATED}] NAME = "FOLDER"')
        refs = str(keys.pop("refs", REFS))
        stage = self._stage(RUN, keys, {"out": OUT, "gen": [f"{model}={folder}" for model, folder in given.items()]})
        yield Stage(RUN, stage.command, [*stage.words, "--", refs])

    def require_generated(self) -> None:
        """Raises :class:`InputError` for a folder of :data:`GENERATED` that is not there; seen from the file's folder."""
        for model, folder in self._keys(GENERATED).items():
            at = place(folder)
            if isinstance(at, Path) and not at.exists():
                raise InputError(f"{self.path}: [{GENERATED}] {model}: {folder}: no such folder; write the right one")

    def _keys(self, table: str) -> dict[str, Any]:
        keys = self.tables.get(table, {})
        if not isinstance(keys, dict):
            raise InputError(f"{self.path}: {table}: write it as a table [{table}]")
        return dict(keys)

    def _stage(self, table: str, keys: Mapping[str, Any], default: Mapping[str, Any]) -> Stage:
        command = self.commands[table.partition(".")[0]]
        options = {o.lstrip("-"): p for p in command.params if isinstance(p, click.Option) for o in p.opts}
        words: list[str] = []
        for key, value in {**default, **{str(key).replace("_", "-"): value for key, value in keys.items()}}.items():
            if key not in options or key in _NOT_HERE:
                known = sorted(options.keys() - _NOT_HERE)
                near = get_close_matches(key, known, 1)
                way = f"did you mean {near[0]}?" if near else f"write one of {', '.join(known)}"
                raise InputError(f"{self.path}: [{table}] {key}: no option of 'iconicity {command.name}'; {way}")
            words += _words(f"{self.path}: [{table}] {key}", options[key], value)
        return Stage(table, command, words)


def _words(where: str, option: click.Option, value: Any) -> list[str]:
    """An option as words of a command line. A list is an option that is repeated, or a text with commas."""
    flag = option.opts[0]
    if option.is_flag:
        if not isinstance(value, bool):
            raise InputError(f"{where}: write true or false")
        return [flag] if value else []
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, (str, int, float)) and not isinstance(v, bool) for v in values):
        raise InputError(f"{where}: write a text in quotes, a number, or a list of them")
    texts = [str(v) for v in values]
    return [word for text in (texts if option.multiple else [",".join(texts)]) for word in (flag, text)]


def read_study(path: Path, commands: Mapping[str, click.Command]) -> StudyFile:
    """A study.toml. ``commands``: what its tables may name, by table.

    Raises :class:`InputError` for a file that cannot be read, and for a table that is none.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}; name the file of a study") from e
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: cannot be read as TOML: {e}; mend it there") from e
    unknown = next((name for name in tables if name not in TABLES), None)
    if unknown is not None:
        raise InputError(f"{path}: [{unknown}] is no table of a study; write some of {', '.join(TABLES)}")
    return StudyFile(path, tables, commands)


def run_study(study: StudyFile, *, dry_run: bool = False, opens: bool = False) -> int:
    """Run the stages in the folder of the file, and return the highest of their exit codes.

    Paths are understood from there. Raises what a stage raises; what the stages before it did stays done. With
    ``dry_run`` each says what it would do. ``opens``: the report is opened at the end.
    """
    stages, code = list(study.stages()), 0  # the whole file is understood before anything runs
    with chdir(study.path.resolve().parent):
        study.require_generated()
        for number, stage in enumerate(stages):
            echo_line(f"[{stage.table}]")
            if dry_run:
                code = max(code, _rehearse(stage, first=not number))
                continue
            try:
                code = max(code, stage.run(*(["--open"] if opens and stage.table == RUN else [])))
            except BaseException:
                say_note(f"{study.path}: stopped in [{stage.table}]")
                raise
    return code


def _rehearse(stage: Stage, first: bool) -> int:
    """Say what a stage would do. Before those above it have run, what it reads may not be there."""
    if not any("--dry-run" in param.opts for param in stage.command.params):
        echo_line(f"would run 'iconicity {stage.command.name}'")
        return 0
    try:
        return stage.run("--dry-run")
    except InputError as e:
        if first:
            raise
        echo_line(f"not known before the stages above have run: {e}")
        return 0
