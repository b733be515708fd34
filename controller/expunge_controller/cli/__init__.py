"""The command ``expunge``: one file a verb, each imported only when it is called."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from expunge_agent.errors import (
    EXIT_BUG,
    EXIT_STOPPED,
    ExpungeError,
    NoSpaceError,
    PermissionProblemError,
    UsageError,
)
from expunge_controller import __version__
from expunge_controller.cli.app import App

VERBS = {
    "init": "Make a controller: its folder, keys and database.",
    "serve": "Run the controller: the endpoint that machines dial, and the orders.",
    "enrol": "Give out a one-time token that makes a machine known.",
    "machines": "List the machines.",
    "keys": "The life of signing keys: list, rotate, revoke, say that one was compromised.",
    "inventory": "Ask a machine for its media.",
    "media": "Register media, and list them.",
    "wipe": "Order the destruction of data on a machine, and follow it.",
    "jobs": "List orders, show one, follow one.",
    "receipts": "List receipts, and those kept aside.",
    "certificate": "Show or write the certificates of an order (page, PDF, XML, CSV); approve or reject them.",
    "register": "Registers of media: the destruction register, a machine's reconciliation.",
    "custody": "Show the custody of a medium; draft, sign and record events that people sign.",
    "people": "Register the people who sign, and their public keys.",
    "lot": "Draw sanitized media for a second look, and record what it found.",
    "export": "Write the bundle that an auditor gets.",
    "verify": "Check a bundle.",
    "archive": "Write everything for whoever keeps the records from now on, or check that.",
    "log": "The transparency log: show, prove, publish, cosign, check.",
    "witness": "Watch over somebody else's log.",
    "profiles": "List the sanitization profiles, or show one.",
}


MODULES = {"keys": "signing_keys"}  # cli.keys is what a person says of keys in an order


class _Verbs(click.Group):
    """Imports ``cli.VERB`` and takes its ``command`` when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = MODULES.get(cmd_name, cmd_name)
        command: click.Command = importlib.import_module(f"expunge_controller.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 2 usage, 3 refused, 4 failed, 5 sanitized with exceptions, 6 interrupted, "
    "8 unknown; docs/exit-codes.md lists them all.",
)
@click.version_option(__version__, prog_name="expunge")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="The controller's folder. Default: EXPUNGE_HOME, else /var/lib/expunge-controller for root "
    "and ~/.local/share/expunge for everyone else.",
)
@click.option(
    "--log",
    type=click.Choice(["auto", "console", "json"]),
    default="auto",
    show_default=True,
    help="Log style; auto: console on a terminal, else JSON.",
)
@click.option("--verbose", is_flag=True, help="Log more.")
@click.pass_context
def program(ctx: click.Context, home: Path | None, log: str, verbose: bool) -> None:
    """Order secure data destruction, collect the signed receipts, and keep the evidence."""
    ctx.obj = App(home, log, verbose)


def main() -> None:
    """Run the program; an error becomes a sentence, a remedy and an exit code."""
    os.umask(0o077)
    as_json = "--json" in sys.argv
    try:
        result = program.main(standalone_mode=False, prog_name="expunge")
    except ExpungeError as error:
        sys.exit(_complain(error, as_json))
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("expunge: stopped.", err=True)
        sys.exit(EXIT_STOPPED)
    except click.ClickException as error:
        if as_json:
            sys.exit(_complain(UsageError(error.format_message(), "See --help."), as_json))
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on: no second complaint at exit
        sys.exit(EXIT_STOPPED)
    except OSError as error:
        sys.exit(_complain(_explained(error), as_json))
    except Exception as error:
        if os.environ.get("EXPUNGE_DEBUG"):
            raise
        sys.exit(_complain(_defect(error), as_json))
    sys.exit(result if isinstance(result, int) else 0)


class _DefectError(ExpungeError):
    """Something that should not have happened."""

    code = "bug"
    exit_code = EXIT_BUG


class _SystemProblemError(ExpungeError):
    """The system refused a file operation."""

    code = "system"


def _explained(error: OSError) -> ExpungeError:
    """A refusal of the operating system, in a sentence."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"The disk is full{where}.", "Free some space; nothing was half stored.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionProblemError(
            f"This user may not do that{where}.", "Run the command as the owner of the folder."
        )
    if error.errno is None:
        return _defect(error)
    return _SystemProblemError(f"{error.strerror}{where}.", "Check the path and the disk.")


def _defect(error: Exception) -> ExpungeError:
    return _DefectError(
        f"This should not have happened: {type(error).__name__}: {error}",
        "Set EXPUNGE_DEBUG=1 to see where, and report it. Orders go on at their machines.",
    )


def _complain(error: ExpungeError, as_json: bool) -> int:
    if as_json:
        shown: dict[str, Any] = error.as_dict()
        click.echo(json.dumps(shown, ensure_ascii=False))
    else:
        click.echo(f"expunge: error: {error.message}", err=True)
        if error.remedy:
            click.echo(f"  {error.remedy}", err=True)
    return error.exit_code
