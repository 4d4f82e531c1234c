"""The command line: its root, ``demo``, and exit codes. Each package has its own commands beside what they call."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from iconicity.data.commands.collect import collect_command
from iconicity.data.commands.generate import generate_command
from iconicity.data.commands.run import run_command
from iconicity.data.commands.variants import variants_command
from iconicity.indexer.command_line import DIRECTORY, name_options, with_storage
from iconicity.indexer.commands import index
from iconicity.indexer.cores import settle
from iconicity.indexer.display import progress_bar
from iconicity.indexer.errors import IconicityError
from iconicity.indexer.flags import with_flags
from iconicity.indexer.help import group
from iconicity.indexer.store.disks import cure
from iconicity.indexer.text import echo, echo_line, one_line
from iconicity.scorer.commands.app import app_command
from iconicity.scorer.commands.audit import check_command, reproduce_command
from iconicity.scorer.commands.calibrate import calibrate_command
from iconicity.scorer.commands.correlate import correlate_command
from iconicity.scorer.commands.findings import COMMANDS as FINDINGS
from iconicity.scorer.commands.plot import plot
from iconicity.scorer.commands.report import report_command
from iconicity.scorer.commands.results import results
from iconicity.scorer.commands.scoring import cache, score_command, search_command
from iconicity.scorer.commands.validate import validate
from iconicity.scorer.staging import let_go, put_back

SECTIONS = {
    "Start": ["demo", "run", "app"],
    "Prepare": ["collect", "variants", "generate"],
    "Build": ["index"],
    "Score": ["score", "search"],
    "Read": ["summary", "sweep", "compare", "attribute", "correlate", "export", "report", "plot"],
    "Trust": ["calibrate", "validate", "check", "reproduce"],
    "Manage": ["results", "cache"],
}


@group(sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="iconicity")
def cli() -> None:
    """Does a text-to-image model recognise a famous image behind a prompt, and does it copy or transform it?

    \b
    Example:
      iconicity demo
      iconicity run refs/ gen/ --out study/ --encoders offline-copy
    """


@cli.command("demo")
@click.option(
    "--out",
    type=DIRECTORY,
    default=Path("iconicity-demo"),
    show_default=True,
    help="Folder for the images, the index, the results and the report.",
)
def demo_command(out: Path) -> int:
    """Index and score a small sample with known truth. Nothing is downloaded.

    \b
    Example:
      iconicity demo --out demo/
    """
    from iconicity.data.demo import run_demo

    echo(run_demo(out, progress_bar()))
    return 0


for command in (
    run_command, app_command, collect_command, variants_command, generate_command, index, score_command, *FINDINGS, correlate_command, calibrate_command, check_command, reproduce_command, report_command,
    plot, search_command, results, cache, validate,
):  # fmt: skip
    cli.add_command(command)
with_storage(cli)
name_options(cli)


def _stop(signum: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signum)


def _stop_again(lost: sys.UnraisableHookArgs) -> None:
    """A stop that was raised where Python swallows exceptions (a weak reference's callback) is raised once more."""
    stop = lost.exc_value
    if not isinstance(stop, (SystemExit, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)
        return

    def again(_signum: int, _frame: object) -> NoReturn:
        raise stop

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, 0.02)


def main() -> None:
    """Run the command line and exit with the contract's codes."""
    settle()
    signal.signal(signal.SIGTERM, _stop)
    sys.unraisablehook = _stop_again
    try:
        code = cli.main(standalone_mode=False)
        put_back()
    except click.exceptions.NoArgsIsHelpError as e:  # its whole help, many lines
        e.show()
        code = e.exit_code
    except click.ClickException as e:
        vars(e)["message"] = one_line(with_flags(e.message))
        e.show()
        code = e.exit_code
    except (click.Abort, KeyboardInterrupt, SystemExit) as e:
        code = _stopped(e)
    except IconicityError as e:
        echo_line(f"error: {e}", err=True)
        code = 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as e:
        name = e.filename if e.filename is not None else "a file"
        echo_line(f"error: {name}: {e.strerror or e}; {cure(e.errno)}", err=True)
        code = 1
    except RuntimeError as e:  # a stop while a lock was being taken: it is released all the same, which is an error
        stop = e.__context__
        if not isinstance(stop, (KeyboardInterrupt, SystemExit)):
            raise
        code = _stopped(stop)
    finally:
        let_go()
    sys.exit(code)


def _stopped(stop: BaseException) -> str | int | None:
    """Says so, and gives the exit code."""
    echo_line("stopped; run the same command again to go on", err=True)
    return stop.code if isinstance(stop, SystemExit) else 130


if __name__ == "__main__":
    main()
