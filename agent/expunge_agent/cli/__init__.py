"""The command ``expunge-agent``: one file a verb, each imported only when it is called."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from expunge_agent import __version__
from expunge_agent.errors import EXIT_BUG, EXIT_STOPPED, ExpungeError

SYSTEM_STATE = Path("/var/lib/expunge")
OWN_STATE = Path("~/.local/share/expunge-agent")
VERBS = {
    "inventory": "Show the media of this machine and why each could not be wiped.",
    "plan": "Show which techniques could be used on a target, why not, and which would be taken.",
    "wipe": "Destroy the data on files or drives, here and now, without a controller.",
    "verify": "Check that a medium still is what a receipt says was left on it.",
    "serve": "Talk to the controller: on standard input and output, or by dialling it.",
    "run": "Carry out orders that were handed in, and go on with unfinished ones.",
    "leftovers": "Show or remove what orders left on file systems whose free space they filled.",
    "report": "List the receipts of this machine, or show one.",
    "enrol": "Enrol this machine with a controller's one-time token.",
    "rotate-key": "Change the signing key, with a one-time token of the controller's.",
    "vault": "Keep data so that it can be shredded later, by destroying one key.",
    "profiles": "List the sanitization profiles this machine knows, or show one.",
}


class _Verbs(click.Group):
    """Imports ``cli.VERB`` and takes its ``command`` when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(
            f"expunge_agent.cli.{cmd_name.replace('-', '_')}"
        ).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 2 usage, 3 refused, 4 failed, 5 sanitized with exceptions, 6 interrupted; "
    "docs/exit-codes.md lists them all.",
)
@click.version_option(__version__, prog_name="expunge-agent")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="EXPUNGE_STATE",
    help=f"The agent's state folder (also EXPUNGE_STATE).  [default: {SYSTEM_STATE} for root and for the account "
    f"whose home it is, else {OWN_STATE}]",
)
@click.option(
    "--log", type=click.Choice(["console", "json"]), default="console", show_default=True, help="Log style."
)
@click.option("--verbose", is_flag=True, help="Log more.")
@click.pass_context
def program(ctx: click.Context, state: Path | None, log: str, verbose: bool) -> None:
    """Destroy data on media that leave service, and prove it.

    Orders come from a controller (serve, run) or from whoever sits at this machine (wipe); each
    ends in a signed receipt.
    """
    ctx.obj = {"state": (state or _default_state()).absolute(), "log": log, "verbose": verbose}


def _default_state() -> Path:
    """The machine's own folder for root and for the network side (a forced command names no folder)."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where an account has none
    return SYSTEM_STATE if os.geteuid() == 0 or home == str(SYSTEM_STATE) else OWN_STATE.expanduser()


def main() -> None:
    """Run the program; an error becomes a sentence, a remedy and an exit code."""
    os.umask(0o027)
    as_json = "--json" in sys.argv
    try:
        result = program.main(standalone_mode=False, prog_name="expunge-agent")
    except ExpungeError as error:
        _complain(error.as_dict(), as_json)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("expunge-agent: stopped.", err=True)
        sys.exit(EXIT_STOPPED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on: no second complaint at exit
        sys.exit(EXIT_STOPPED)
    except Exception as error:
        if os.environ.get("EXPUNGE_DEBUG"):
            raise
        _complain(
            {
                "error": "bug",
                "message": f"This should not have happened: {type(error).__name__}: {error}",
                "remedy": "Nothing is lost: the journal has every step. Set EXPUNGE_DEBUG=1 to see where, and report it.",
                "exit_code": EXIT_BUG,
            },
            as_json,
        )
        sys.exit(EXIT_BUG)
    sys.exit(result if isinstance(result, int) else 0)


def _complain(error: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(error, ensure_ascii=False))
        return
    click.echo(f"expunge-agent: error: {error['message']}", err=True)
    if error["remedy"]:
        click.echo(f"  {error['remedy']}", err=True)
