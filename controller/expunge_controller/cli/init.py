"""expunge init"""

from __future__ import annotations

import re
import socket

import click

from expunge_controller.cli.app import App, json_option, print_json

DEFAULT_PORT = 4722


@click.command(name="init")
@click.option("--name", help="What the controller is called in its signatures. Default: this host's name.")
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Host name or address that machines dial."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port that machines dial; 0: choose a free one now.",
)
@click.option(
    "--listen",
    default="127.0.0.1",
    show_default=True,
    help="Address the endpoint listens on; 0.0.0.0 for every interface.",
)
@json_option
@click.pass_obj
def command(app: App, name: str | None, address: str, port: int, listen: str, as_json: bool) -> None:
    """Make a controller: its folder (0700), keys, a database and config.toml.

    A folder left half made is completed; a complete one is never touched.
    """
    from expunge_agent.protocol import sshsig
    from expunge_controller import init, keys
    from expunge_controller.settings import Config, checked_name

    config = Config(
        name=checked_name(name or _host_name(), "controller"),
        address=address,
        port=port or init.free_port(listen),
        listen=listen,
    )
    home = app.home
    init.init(home, config)
    order_key = keys.load_key(home.order_key).public_line
    host_key = keys.load_key(home.ssh_host_key).public_line
    if as_json:
        print_json(
            {
                "home": str(home.path),
                "name": config.name,
                "principal": config.principal,
                "address": config.address,
                "port": config.port,
                "listen": config.listen,
                "order_key": order_key,
                "ssh_host_key": host_key,
            }
        )
        return
    click.echo(f"Controller {config.name} made in {home.path}")
    click.echo(f"  signs as   {config.principal} {sshsig.fingerprint(order_key)}")
    click.echo(f"  endpoint   {config.address}:{config.port} {sshsig.fingerprint(host_key)}")
    if address != "127.0.0.1" and listen == "127.0.0.1":
        click.echo("  It listens on 127.0.0.1 only; set `listen` in config.toml to let machines reach it.")
    click.echo("Keep a backup of keys/; without order_key nobody can be shown that the orders were yours.")
    click.echo("Next: expunge serve, and expunge enrol NAME for each machine.")


def _host_name() -> str:
    """This host's name as far as it may stand in a principal."""
    return re.sub(r"[^A-Za-z0-9-]", "", socket.gethostname().partition(".")[0]).strip("-") or "controller"
