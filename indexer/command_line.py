"""What the commands share: their options, progress bars, and the saying of what was passed over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.encode.names import FITS, PRESETS, EncoderOptions
from iconicity.indexer.errors import IconicityError, InputError
from iconicity.indexer.places import Place, is_url, place
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.suffixes import PASSED_OVER
from iconicity.indexer.text import counted, echo_line, one_line

if TYPE_CHECKING:
    from iconicity.indexer.encode.engine import Engine, LoadEncoders
    from iconicity.indexer.left_out import Skipped
    from iconicity.indexer.progress import Progress

EXIT_SKIPPED = 3
EXIT_FOUND = 4  # a rule is broken, or a result does not come out again: no error, and not what was hoped for
F = TypeVar("F", bound=Callable[..., Any])


class _Local(click.Path):
    """A path of this machine: a URL taken for one would make folders of its parts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_url(value):
            self.fail(f"'{value}' is a URL; this takes a folder or file of this machine", param, ctx)
        return super().convert(value, param, ctx)


class TakesUrls(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """What may be a URL on object storage. Commands that have such a parameter get the options of :func:`with_storage`."""

    name = "path"


class _AnyPlace(TakesUrls):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        return place(value)


DIRECTORY = _Local(path_type=Path)
PLACE = _AnyPlace()


def with_storage(command: click.Command) -> None:
    """Give a command that takes URLs, and those below a group, the options that say where object storage is."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_storage(below)
    elif any(isinstance(p.type, TakesUrls) for p in command.params):
        command.params += [
            click.Option(
                ["--endpoint-url"], metavar="URL", expose_value=False, is_eager=True, callback=_set_endpoint,
                help="Of object storage that is not the cloud's own.  [default: $AWS_ENDPOINT_URL]",
            ),
            click.Option(
                ["--allow-http"], is_flag=True, expose_value=False, is_eager=True, callback=_allow_http,
                help="Also where that is plain http.",
            ),
        ]  # fmt: skip


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
    "--dry-run", is_flag=True, help="Say what would be done; write nothing and load no model."
)
index_option = click.option("--index", "index", type=PLACE, required=True, help="The index directory, or its URL.")


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


shard_option = click.option(
    "--shard", type=_ShardOf(),
    help="Only the concepts whose hash falls to shard I of N, counted from 1: one task of N. Merge what they make.",
)  # fmt: skip
max_pixels_option = click.option(
    "--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True,
    help="Images with more are not decoded: a small file can claim any size.",
)  # fmt: skip
links_option = click.option(
    "--follow-links", is_flag=True, help="Also read what links lead to outside of the folders named."
)
pace_options = options(
    click.option(
        "--batch-size", type=_NumberOrAuto(1), default="auto", show_default=True,
        help="Network inputs a forward pass; auto measures.",
    ),
    click.option(
        "--workers", type=_NumberOrAuto(0), default="auto", show_default=True,
        help="Processes that decode and preprocess; 0: one small one that decodes.",
    ),
)  # fmt: skip
speed_options = options(pace_options, max_pixels_option)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
_engine_options = options(
    click.option("--devices", metavar="LIST", help="Embed on several devices, a process each: 0,1 (GPUs) or cpu,cpu."),
    click.option(
        "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
        help="Embed here, or on a Ray cluster: pip install 'iconicity[ray]'.",
    ),
    click.option("--ray-address", metavar="ADDRESS", help="The cluster.  [default: $RAY_ADDRESS, or one of this machine]"),
    click.option("--actors", metavar="N|N:M", help="Ray actors that embed, or the least and the most.  [default: 1 to as many as there is room]"),
    click.option("--actor-cpus", type=click.FloatRange(0, min_open=True), help="Processor cores of an actor.  [default: 1]"),
    click.option("--actor-gpus", type=click.FloatRange(0), help="GPUs of an actor.  [default: 1 where the cluster has any]"),
)  # fmt: skip
csv_options = options(
    click.option("--prompt-csv", type=DIRECTORY, help="Only the concepts named in this CSV file."),
    click.option("--slug-col", default="label_clean", show_default=True, help="Its column of concepts."),
)
_NAMED = "FAMILY[:MODEL][,OPTION=VALUE...]"
_location_options = options(
    click.option(
        "--global-encoder", metavar=_NAMED,
        help="The index's global encoder, where its files lie elsewhere now. Other weights are refused.",
    ),
    click.option(
        "--patch-encoder", metavar=_NAMED,
        help="The index's patch encoder, where its files lie elsewhere now. Other weights are refused.",
    ),
    device_option,
)  # fmt: skip
_encoder_options = options(
    click.option(
        "--encoders", type=click.Choice(list(PRESETS)), default="paper", show_default=True,
        help="Pair of encoders for whole images and patches. paper: CLIP and DINOv3. copy: CLIP and SSCD. offline: EfficientNet-Lite0 "
             "twice. offline-copy: EfficientNet-Lite0 and a small SSCD. The last two need no download.",
    ),
    click.option(
        "--global-encoder", metavar=_NAMED,
        help="Encoder of whole images (CRA), in place of the pair's: clip:FOLDER or a hub id like clip:openai/clip-vit-base-patch16.",
    ),
    click.option(
        "--patch-encoder", metavar=_NAMED,
        help="Encoder of patches (VR), in place of the pair's: timm:MODEL,weights=FILE,pool=gem,layer=9, say. "
             "docs/encoders.md lists families and options.",
    ),
    click.option(
        "--fit", type=click.Choice(FITS),
        help="Fit of a cell or image to an encoder's input: cut to its centre, or squeezed as a whole.  [default: the encoder's own]",
    ),
    device_option,
)  # fmt: skip


def encoder_options(command: F) -> F:
    """The options that choose both encoders, given to the command as ``encoders``: :class:`EncoderOptions`."""
    return _encoder_options(_with_encoders(command))


def location_options(command: F) -> F:
    """The options that say where an index's encoders lie, given to the command as ``encoders``."""
    return _location_options(_with_encoders(command))


def _with_encoders(command: F) -> F:
    @wraps(command)
    def gathered(**given: Any) -> Any:
        names = [f.name for f in fields(EncoderOptions) if f.name in given]
        return command(encoders=EncoderOptions(**{name: given.pop(name) for name in names}), **given)

    return cast(F, gathered)


_ENGINE = ("devices", "engine", "ray_address", "actors", "actor_cpus", "actor_gpus")


def engine_options(command: F) -> F:
    """The options that say where images are embedded, given to the command as one mapping ``where``."""

    @wraps(command)
    def gathered(**given: Any) -> Any:
        return command(where={name: given.pop(name) for name in _ENGINE}, **given)

    return _engine_options(cast(F, gathered))


def engine_of(moved: EncoderOptions, device: str, asked: Mapping[str, Any]) -> Engine | None:
    """The engine that --engine, --devices and the options of actors ask for; None: this process.

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
    """The least and the most actors of N or N:M."""
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


def loader(moved: EncoderOptions, device: str) -> LoadEncoders:
    """How to load the encoders of an index, from where ``moved`` says that they lie."""
    from iconicity.indexer.encode.encoder import reproduce

    return lambda clip, dino: reproduce(clip, dino, moved, device)


def say_note(notice: str) -> None:
    """Print what a user should know."""
    echo_line(f"note: {notice}", err=True)


def say_skipped(skipped: Sequence[Skipped], notices: Sequence[str]) -> int:
    """The exit code. Images that were passed over by name or place are named by notices, the others one by one."""
    for notice in notices:
        say_note(notice)
    for s in skipped:
        if s.reason not in PASSED_OVER:
            echo_line(f"skipped: {s.path}: {s.reason}", err=True)
    return EXIT_SKIPPED if skipped else 0


def say_problems(what: Place | str, problems: Sequence[str], mending: str = "") -> int:
    """What a test of stored bytes found. Raises :class:`IconicityError` that counts it, with how to go on."""
    for problem in problems:
        echo_line(problem, err=True)
    if problems:
        raise IconicityError(f"{what}: {counted(len(problems), 'problem')}" + (f"; {mending}" if mending else ""))
    echo_line(f"{what}: whole")
    return 0


def progress_bar() -> Progress:
    """A tqdm bar a stage on stderr (images/s, ETA); silent when stderr is no terminal."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = tqdm(total=total, desc=one_line(what), unit="img", file=sys.stderr, disable=None)
        bars[what].update(done - bars[what].n)
        if done >= total:
            bars[what].close()

    return update
