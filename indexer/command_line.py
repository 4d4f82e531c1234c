"""Parts that commands share: options, and notes on inputs that were passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from iconicity.indexer.display import progress_bar
from iconicity.indexer.encode.names import NAMED, EncoderOptions
from iconicity.indexer.errors import IconicityError, InputError
from iconicity.indexer.flags import FLAGS_OF, OWN, Flag
from iconicity.indexer.options import Run, Select
from iconicity.indexer.places import Place, is_url, place
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.suffixes import PASSED_OVER
from iconicity.indexer.text import counted, echo_line

if TYPE_CHECKING:
    from iconicity.indexer.encode.encoder import Encoders
    from iconicity.indexer.encode.engine import Engine
    from iconicity.indexer.left_out import Skipped
    from iconicity.indexer.spec import EncoderSpec
    from iconicity.indexer.store.cache import VectorCache

EXIT_SKIPPED = 3
EXIT_FOUND = 4  # a rule is broken, or a result differs when it is made again: this is no error
F = TypeVar("F", bound=Callable[..., Any])


class _Local(click.Path):
    """A path of this machine. A URL is refused, since it would become folders named after its parts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_url(value):
            self.fail(f"'{value}' is a URL; this takes a folder or file of this machine", param, ctx)
        return super().convert(value, param, ctx)


class TakesUrls(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A path, or a URL on object storage. Commands with such a parameter get the options of :func:`with_storage`."""

    name = "path"


class _AnyPlace(TakesUrls):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        return place(value)


DIRECTORY = _Local(path_type=Path)
PLACE = _AnyPlace()


def with_storage(command: click.Command) -> None:
    """Add the options of object storage to a command that takes URLs, or to all such commands of a group."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_storage(below)
    elif any(isinstance(p.type, TakesUrls) for p in command.params):
        command.params += [
            click.Option(
                ["--endpoint-url"], metavar="URL", expose_value=False, is_eager=True, callback=_set_endpoint,
                help="URL of object storage that is not the cloud's own.  [default: $AWS_ENDPOINT_URL]",
            ),
            click.Option(
                ["--allow-http"], is_flag=True, expose_value=False, is_eager=True, callback=_allow_http,
                help="Allow object storage over plain http.",
            ),
        ]  # fmt: skip


def name_options(command: click.Command) -> None:
    """Messages may name the parameters of a command, or of all commands of a group, see :func:`with_flags`."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        name_options(below)
    for param in command.params:
        if isinstance(param, click.Option):
            FLAGS_OF.setdefault(str(param.name), set()).add(param.opts[0])


def _name_fields(kind: type) -> None:
    """Messages may name the fields of a class. A field that several flags set is called by the first of them."""
    for f in fields(kind):
        for flag in f.metadata.get("flags", ())[:1]:
            for name in (f.name, f"{kind.__name__}.{f.name}"):
                FLAGS_OF.setdefault(name, set()).add(flag.name)


def _set_endpoint(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        os.environ["AWS_ENDPOINT_URL"] = value  # LanceDB and the libraries of fsspec read it there


def _allow_http(_context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        os.environ["AWS_ALLOW_HTTP"] = "true"


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(f: F) -> F:
        for decorator in reversed(decorators):
            f = decorator(f)
        return f

    return apply


dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what the command would do. Nothing is written, and no model is loaded."
)


def refs_option(text: str, kind: click.ParamType[Any] = PLACE) -> Callable[[F], F]:
    """The option for the folder of references, --refs, with its published name --refdir."""
    return click.option("--refs", "--refdir", "refs", type=kind, required=True, help=text)


def json_option(text: str) -> Callable[[F], F]:
    """The option --json, which has the same name in every command."""
    return click.option("--json", "as_json", is_flag=True, help=text)


index_option = click.option("--index", "index", type=PLACE, required=True, help="Index directory, or its URL.")


class _NumberOrAuto(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number, or the word auto, which is None."""

    name = "auto|N"

    def __init__(self, least: int) -> None:
        self._range = click.IntRange(least)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        return None if value in (None, "auto") else int(self._range.convert(value, param, ctx))


class _ShardOf(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """One of n shards, as ``i/n``."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        try:
            return value if isinstance(value, Shard) else Shard.parse(value)
        except InputError as e:
            self.fail(str(e), param, ctx)


_engine_options = options(
    click.option("--devices", metavar="LIST", help="Devices that embed, one process for each: 0,1 (GPUs) or cpu,cpu."),
    click.option(
        "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
        help="Where images are embedded: here, or on a Ray cluster (pip install 'iconicity[ray]').",
    ),
    click.option("--ray-address", metavar="ADDRESS", help="Address of the Ray cluster.  [default: $RAY_ADDRESS, or one of this machine]"),
    click.option("--actors", metavar="N|N:M", help="Number of Ray actors that embed, or the least and the most.  [default: 1 to as many as there is room]"),
    click.option("--actor-cpus", type=click.FloatRange(0, min_open=True), help="Processor cores of one Ray actor.  [default: 1]"),
    click.option("--actor-gpus", type=click.FloatRange(0), help="GPUs of one Ray actor.  [default: 1 where the cluster has any]"),
)  # fmt: skip
_location_options = options(
    click.option(
        "--global-encoder", metavar=NAMED,
        help="Global encoder of the index, where its files lie elsewhere now. Other weights are refused.",
    ),
    click.option(
        "--patch-encoder", metavar=NAMED,
        help="Patch encoder of the index, where its files lie elsewhere now. Other weights are refused.",
    ),
)  # fmt: skip
_ENGINE = ("devices", "engine", "ray_address", "actors", "actor_cpus", "actor_gpus")


def takes(
    kind: type, name: str, *, joins: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    without: Collection[str] = (), only: Collection[str] | None = None,
) -> Callable[[F], F]:  # fmt: skip
    """Give a command the options of a dataclass's fields. It gets an object of the class as the parameter ``name``.

    ``joins`` make the value of a field from those of its options, where the field itself does not say how. ``without``
    names fields and options that the command lacks.
    """
    _name_fields(kind)
    held = [
        (f, [flag for flag in f.metadata["flags"] if flag.name not in without])
        for f in fields(kind)
        if f.metadata.get("flags") and f.name not in without and (only is None or f.name in only)
    ]

    def decorated(command: F) -> F:
        @wraps(command)
        def gathered(**given: Any) -> Any:
            values = {}
            for f, its in held:
                parts = [given.pop(flag.param) for flag in its]
                join = joins.get(f.name, f.metadata["join"])
                values[f.name] = join(*parts) if join else parts[0]
            return command(**{name: kind(**values)}, **given)

        return options(*(_option(flag, f.default) for f, its in held for flag in its))(cast(F, gathered))

    return decorated


def takes_select(without: Collection[str] = ()) -> Callable[[F], F]:
    """Give a command the options of :class:`Select`, as the parameter ``select``."""
    return takes(Select, "select", joins={"concepts": read_prompt_csv}, without=without)


def takes_run(
    *,
    engines: bool = False,
    moved: bool = True,
    only: Collection[str] = ("device", "batch_size", "workers", "max_pixels"),
    without: Collection[str] = (),
) -> Callable[[F], F]:
    """Give a command the options of :class:`Run`, as the parameter ``run``.

    ``engines``: also those that say where images are embedded. ``moved``: also those that say where the encoders of an
    index lie now, from where the run loads them.
    """

    def decorated(command: F) -> F:
        @wraps(command)
        def gathered(run: Run, **given: Any) -> Any:
            lie = EncoderOptions(**{name: given.pop(name) for name in _LOCATIONS}) if moved else EncoderOptions()
            where = {name: given.pop(name) for name in _ENGINE} if engines else None
            engine = None if where is None else engine_of(lie, run.device, where)
            load = Reproduced(lie, run.device) if moved else None
            return command(run=replace(run, load=load, engine=engine, progress=progress_bar()), **given)

        found = takes(Run, "run", joins={"cache": _cache}, only=only, without=without)(cast(F, gathered))
        found = _engine_options(found) if engines else found
        return _location_options(found) if moved else found

    return decorated


_NUMBER = {int: "N", float: "X"}
_LOCATIONS = ("global_encoder", "patch_encoder")


@dataclass(frozen=True)
class Reproduced:
    """Loads the encoders of an index from the places that the user names, else from the recorded ones."""

    moved: EncoderOptions
    device: str

    @property
    def named(self) -> bool:
        """Whether the user names a new place for an encoder."""
        return any(getattr(self.moved, name) for name in _LOCATIONS)

    def __call__(self, clip: EncoderSpec, dino: EncoderSpec) -> Encoders:
        from iconicity.indexer.encode.encoder import reproduce

        return reproduce(clip, dino, self.moved, self.device)


def _cache(folder: Path | None, none: bool = False) -> VectorCache | None:
    """Return the cache that --cache and --no-cache ask for. With --dry-run it is opened for reading only."""
    from iconicity.indexer.store.cache import VectorCache, default_directory

    if none and folder:
        raise click.UsageError("--cache and --no-cache exclude each other")
    if none:
        return None
    folder = folder or default_directory()
    dry_run = click.get_current_context().params.get("dry_run")
    return VectorCache.for_reading(folder) if dry_run else VectorCache(folder)


def option_of(kind: type, name: str) -> Callable[[F], F]:
    """Add the options of one field to a command, each as a parameter of its own."""
    (found,) = (f for f in fields(kind) if f.name == name)
    return options(*(_option(flag, found.default) for flag in found.metadata["flags"]))


def _option(flag: Flag, of_field: Any) -> Callable[[F], F]:
    """Return the option for a flag whose field has this default."""
    text = flag.help + (f"  [default: {flag.shown}]" if flag.shown else "")
    if flag.kind == "switch":
        return click.option(flag.name, *flag.also, flag.param, is_flag=True, help=text)
    default = of_field if flag.default is OWN else flag.default
    return click.option(
        flag.name,
        *flag.also,
        flag.param,
        type=_type(flag),
        default=default,
        show_default=not flag.shown,
        multiple=flag.repeats,
        help=text,
        metavar=flag.metavar or (None if flag.least is None else _NUMBER[type(flag.least)]),
    )


def _type(flag: Flag) -> click.ParamType[Any] | None:
    if flag.choices:
        return click.Choice(flag.choices)
    if flag.kind == "count":
        return _NumberOrAuto(int(flag.least or 0))
    if flag.least is not None:
        number = click.IntRange if isinstance(flag.least, int) else click.FloatRange
        least, most = (int(end) if end is not None and end == int(end) else end for end in (flag.least, flag.most))
        return number(least, most, min_open=flag.above)  # type: ignore[arg-type]
    return {"path": DIRECTORY, "shard": _ShardOf(), "text": None}[flag.kind]


def engine_of(moved: EncoderOptions, device: str, asked: Mapping[str, Any]) -> Engine | None:
    """Return the engine that --engine, --devices and the actor options ask for. None: this process.

    ``moved`` says where the encoders lie.
    """
    from iconicity.indexer.encode.engine import Restart

    of_ray = {k: v for k, v in asked.items() if k not in ("engine", "devices") and v is not None}
    if asked["engine"] != "ray":
        if of_ray:
            raise click.UsageError(f"--{next(iter(of_ray)).replace('_', '-')} belongs to --engine ray")
        if asked["devices"] is None:
            return None
        if device != "auto":
            raise click.UsageError("--device and --devices exclude each other")
        from iconicity.indexer.encode.devices import Devices, device_names

        return Devices(device_names(asked["devices"]), Restart(moved))
    if asked["devices"] is not None:
        raise click.UsageError("--devices belongs to --engine local; a Ray actor has the device Ray gives it")
    from iconicity.indexer.encode.ray import ActorPool, Cluster

    pool = ActorPool(*_actors(asked["actors"]), asked["actor_cpus"] or 1.0, asked["actor_gpus"])
    return Cluster(Restart(moved), pool, asked["ray_address"])


def _actors(text: str | None) -> tuple[int, int | None]:
    """Return the least and the most actors of a text N or N:M."""
    if text is None:
        return 1, None
    least, colon, most = text.partition(":")
    parts = [least, most if colon else least]
    if not all(p.isdecimal() and int(p) for p in parts) or int(parts[0]) > int(parts[1]):
        raise click.UsageError(f"--actors {text}: a number like 8, or the least and the most like 2:8")
    return int(parts[0]), int(parts[1])


def read_prompt_csv(prompt_csv: Path | None, slug_col: str) -> list[str] | None:
    from iconicity.indexer.sources.folders import read_concepts

    return None if prompt_csv is None else read_concepts(prompt_csv, slug_col, say_note)


def say_note(notice: str) -> None:
    """Print a note for the user on stderr."""
    echo_line(f"note: {notice}", err=True)


def say_skipped(skipped: Sequence[Skipped], notices: Sequence[str]) -> int:
    """Return the exit code, and print skipped images one by one. Notices count those passed over by name or place."""
    for notice in notices:
        say_note(notice)
    for s in skipped:
        if s.reason not in PASSED_OVER:
            echo_line(f"skipped: {s.path}: {s.reason}", err=True)
    return EXIT_SKIPPED if skipped else 0


def say_problems(what: Place | str, problems: Sequence[str], mending: str = "") -> int:
    """Print the problems that a test of stored bytes found. Raises :class:`IconicityError` with their number and the fix."""
    for problem in problems:
        echo_line(problem, err=True)
    if problems:
        raise IconicityError(f"{what}: {counted(len(problems), 'problem')}" + (f"; {mending}" if mending else ""))
    echo_line(f"{what}: whole")
    return 0
