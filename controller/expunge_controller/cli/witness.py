"""expunge witness"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import click

from expunge_controller.cli.app import App, json_option, print_json

DEFAULT_PORT = 4723
folder_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group(name="witness")
def command() -> None:
    """Watch over somebody else's log: run it away from the controller, by other people."""


@command.command(name="init")
@folder_argument
@click.option("--name", required=True, help="What it is called in its signatures, such as audit.example/w1.")
@click.option("--log", "logs", multiple=True, help="Verifier key of a log to watch (`expunge log head`).")
@json_option
def init(folder: Path, name: str, logs: tuple[str, ...], as_json: bool) -> None:
    """Make a witness in FOLDER (0700): its key, and the logs it watches."""
    from expunge_controller import witness

    key = witness.make(folder, name, list(logs))
    if as_json:
        print_json({"folder": str(folder), "vkey": key.text, "logs": list(logs)})
        return
    click.echo(f"Witness {name} made in {folder}")
    click.echo(f"  key  {key.text}")
    click.echo("Give the key to whoever checks certificates, and to the log for its log-policy.toml.")


@command.command(name="watch")
@folder_argument
@click.argument("vkey")
def watch(folder: Path, vkey: str) -> None:
    """Let the witness in FOLDER watch the log with this verifier key too, from its next start on."""
    from expunge_controller import witness

    witness.add_log(folder, vkey)
    click.echo(f"{folder} watches {vkey.partition('+')[0]}")


@command.command(name="show")
@folder_argument
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Show the witness's verifier key and how far it has seen each log."""
    from expunge_controller.witness import WitnessState

    state = WitnessState(folder, lambda: int(time.time()))
    sizes = state.sizes()
    if as_json:
        print_json({"vkey": state.key.text, "logs": sizes})
        return
    click.echo(f"key  {state.key.text}")
    for origin, size in sizes.items():
        click.echo(f"log  {origin}: {size} entries")


@command.command(name="serve")
@folder_argument
@click.option(
    "--listen", default="127.0.0.1", show_default=True, help="Address; 0.0.0.0 for every interface."
)
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="Port.")
@click.pass_obj
def serve(app: App, folder: Path, listen: str, port: int) -> None:
    """Answer logs until SIGTERM or Ctrl-C (C2SP tlog-witness); nothing is answered before it is on the disk."""
    import structlog

    from expunge_controller.cli.logs import set_up
    from expunge_controller.witness import WitnessState
    from expunge_controller.witness_http import WitnessServer

    set_up(app.log, "debug" if app.verbose else "info")
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    log = structlog.get_logger()
    server = WitnessServer(WitnessState(folder, lambda: int(time.time())), listen, port, log)
    server.start()
    log.info("witnessing", address=server.address)
    try:
        leave.wait()
    finally:
        server.stop()
