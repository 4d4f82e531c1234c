"""Layout of help texts: options in groups, commands in sections, summaries that are not cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import click

FILES, WHAT, WHICH, HOW, OUTPUT, ADVANCED = GROUPS = (
    "Files", "What is measured", "Which images", "How it runs", "Output", "Advanced",
)  # fmt: skip
# Groups of options by name. An option that is not here belongs to FILES if it takes a location, else to WHAT.
_GROUP_OF = {
    name: group
    for group, names in {
        WHICH: "prompt_csv slug_col shard follow_links image_key concepts ref_ids rungs embeddings image model models "
        "per_concept width licences found_by language "
        "seeds steps guidance negative size revision",
        HOW: "device batch_size workers cache no_cache rehash dry_run prune purge update replace draws seed deep port opens no_open "
        "contact restore",
        OUTPUT: "out as_json table columns digits notes html plots single_file outcsv outmeta note to log",
        ADVANCED: "max_pixels engine devices ray_address actors actor_cpus actor_gpus search_shards endpoint_url allow_http "
        "allow_torchscript _click_default_help",
    }.items()
    for name in names.split()
}


def group_of(option: click.Option) -> str:
    """The group that an option stands in."""
    name = option.name or ""
    of_files = isinstance(option.type, click.Path) or option.type.name == "path" or name.endswith("_col")
    return _GROUP_OF.get(name, FILES if of_files or name in ("gen", "index") else WHAT)


def summary(command: click.Command) -> str:
    """The first paragraph of a command's help, on one line."""
    return " ".join((command.help or "").split("\n\n")[0].split())


class Command(click.Command):
    """A command whose options stand in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                group = group_of(param) if isinstance(param, click.Option) else FILES
                groups.setdefault(group, []).append(record)
        for group in GROUPS:
            if group in groups:
                with formatter.section(group):
                    formatter.write_dl(groups[group])


class Group(click.Group):
    """Commands with their whole summaries; those of ``sections`` under their headings, with all commands below them."""

    command_class = Command
    group_class = type  # a group below is of this class, too

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in (self.sections or {"Commands": list(self.commands)}).items():
            with formatter.section(heading):
                formatter.write_dl([row for name in names for row in _rows(name, self.commands[name])])


def _rows(name: str, command: click.Command) -> Iterator[tuple[str, str]]:
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            yield from _rows(f"{name} {below}", each)
    else:
        yield name, summary(command)


command: Callable[..., Callable[..., Command]] = partial(click.command, cls=Command)
group: Callable[..., Callable[..., Group]] = partial(click.group, cls=Group)
