"""``iconicity app``: parse, serve, open."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path

import click

from iconicity.indexer.command_line import DIRECTORY, say_note
from iconicity.indexer.errors import InputError
from iconicity.indexer.help import command
from iconicity.indexer.store.files import hold
from iconicity.indexer.text import echo_line


@command("app")
@click.argument("study", type=DIRECTORY, default=Path("study"))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port of the page.  [default: a free one]"
)
@click.option("--no-open", is_flag=True, help="Print the address of the page only, and open no browser.")
def app_command(study: Path, port: int, no_open: bool) -> int:
    """Do a whole study on a page in the browser: choose folders, run, look, label.

    The page is on this machine alone. Everything is written to the folder STUDY. A run that is going on stops with
    the program; start both again to go on.

    \b
    Example:
      iconicity app study/
    """
    from iconicity.scorer.app.server import App
    from iconicity.scorer.app.study import Study

    held = Study(study)
    alone = hold(held.folder / ".app.lock")  # until the program ends
    if alone is None:
        say_note(f"{study}: another 'iconicity app' is open on this study; both show and change the same files")
    try:
        app = App(held, port)
    except OSError as e:
        raise InputError(f"port {port}: {e.strerror or e}; name another with --port, or none") from e
    with app:
        echo_line(f"The page: {app.address}")
        echo_line("It is for this machine alone. Ctrl-C ends it.")
        if not no_open:  # beside the server: a browser in a terminal ends only with the user
            threading.Thread(target=_open, args=(app.address,), daemon=True).start()
        try:
            app.serve_forever()
        except KeyboardInterrupt:
            echo_line("ended; start it again to go on")
        finally:
            held.close()
    return 0


def _open(address: str) -> None:
    if not webbrowser.open(address):
        say_note("no browser was found; open the address yourself")
