"""Builds the docs site: the Markdown pages of docs/, and a reference that is made from the code.

    python docs/site/build.py OUT

The pages stay readable without the site. Sphinx builds a staged copy of them, in which links to files of the repository's
root lead to pages, the sections of docs/index.md are the navigation, and commands.md and api.md hold the whole reference.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from inspect import cleandoc
from pathlib import Path

import click
from sphinx.cmd.build import main as sphinx

import iconicity as ic
from iconicity.cli import SECTIONS, cli
from iconicity.indexer.help import GROUPS, group_of, summary

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
OF_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # pages of the site that lie beside docs/


def with_navigation(text: str) -> str:
    """docs/index.md with a hidden table of contents for each of its sections: the pages that the section links to."""
    head, *sections = re.split(r"^(?=## )", text, flags=re.M)
    trees = []
    for section in sections:
        caption = section.split("\n", 1)[0].removeprefix("## ")
        pages = dict.fromkeys(re.findall(r"\]\((?:\.\./)?([\w.-]+)\.md\)", section))
        trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]))
    return "".join([head, *sections, "\n", *(f"{tree}\n" for tree in trees)])


def commands_below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            yield from commands_below(f"{name} {below}", each)
    else:
        yield name, command


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """The options of a command as definition lists, in the groups of its --help."""
    groups: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and "--help" not in parameter.opts:
            definition = f"`{record[0]}`\n: {escaped(record[1])}\n"
            groups.setdefault(group_of(parameter), []).append(definition)
    for group in GROUPS:
        if group in groups:
            yield f"**{group}**\n"
            yield from groups[group]


def escaped(text: str) -> str:
    """Plain text as Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def command_reference() -> str:
    """Every command of the program: what it does, an example, its options."""
    parts = []
    for section, names in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name in names:
            for full_name, command in commands_below(f"iconicity {name}", cli.commands[name]):
                context = click.Context(command, info_name=full_name)
                text, _, example = cleandoc(command.help or "").partition("\b\nExample:\n")
                usage = " ".join(command.collect_usage_pieces(context))
                parts += [f"### {full_name}\n", escaped(summary(command)) + "\n"]
                parts += [escaped(" ".join(each.split())) + "\n" for each in text.strip().split("\n\n")[1:]]
                parts.append(f"```\n{full_name} {usage}\n```\n")
                if example.strip():
                    lines = "\n".join(line.strip() for line in example.strip().splitlines())
                    parts.append(f"Example:\n\n```sh\n{lines}\n```\n")
                parts += options(command, context)
    return "\n".join(parts)


def fields_of(kind: type) -> Iterator[str]:
    """A table of the fields of an options class, where their command-line options explain them."""
    rows = []
    for each in fields(kind):
        told = " ".join(flag.help for flag in each.metadata.get("flags", ()))
        default = "required" if each.default is MISSING else f"`{each.default!r}`"
        if told:
            rows.append(f"| `{each.name}` | {default} | {escaped(told)} |")
    if rows:
        yield "\n".join(["| field | default | meaning |", "|---|---|---|", *rows, ""])


def python_reference() -> str:
    """Every public name of ``import iconicity``."""
    parts = []
    for name in ic.__all__:
        kind = getattr(ic, name)
        if not isinstance(kind, type) and not callable(kind):
            continue
        parts.append(f"## {name}\n")
        if not isinstance(kind, type):
            body = f".. autofunction:: iconicity.{name}"
        else:
            body = f".. autoclass:: iconicity.{name}\n   :members:"
            if is_dataclass(kind):  # the table below shows the fields
                hidden = ",".join(each.name for each in fields(kind))
                body += f"\n   :exclude-members: {hidden}"
        parts.append(f"```{{eval-rst}}\n{body}\n```\n")
        if isinstance(kind, type) and is_dataclass(kind):
            parts += fields_of(kind)
    return "\n".join(parts)


def staged() -> dict[str, str]:
    """The Markdown of every page of the site, by file name."""
    pages = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
    pages["index.md"] = with_navigation(pages["index.md"])
    pages["commands.md"] += "\n" + command_reference()
    pages["api.md"] += "\n" + python_reference()
    for name in OF_ROOT:
        pages[name] = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    titles = {name: text.split("\n", 1)[0].removeprefix("# ") for name, text in pages.items()}

    def with_title(link: re.Match[str]) -> str:
        return f"[{titles[link[1]]}]({link[1]}"

    link = re.compile(r"\[(?:docs/)?([\w.-]+\.md)\]\(\1")  # its text is a file's name, as a forge shows it
    return {name: link.sub(with_title, text.replace("](../", "](")) for name, text in pages.items()}


def main(out: Path) -> int:
    """Build the site below ``out``. Any warning of Sphinx is an error, such as a link that leads nowhere."""
    source = out / "source"
    source.mkdir(parents=True, exist_ok=True)
    pages = staged()
    for old in source.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        page = source / name
        if not page.is_file() or page.read_text(encoding="utf-8") != text:  # Sphinx reads only pages that have changed
            page.write_text(text, encoding="utf-8")
    for beside in (*DOCS.glob("*.png"), *DOCS.glob("*.ipynb")):  # pictures, and what a page offers as a download
        (source / beside.name).write_bytes(beside.read_bytes())
    conf = str(Path(__file__).parent)
    return int(
        sphinx(["-q", "-W", "--keep-going", "-c", conf, "-d", str(out / "doctrees"), str(source), str(out / "html")])
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
