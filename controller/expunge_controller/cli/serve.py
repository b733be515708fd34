"""expunge serve"""

from __future__ import annotations

import signal
import threading

import click

from expunge_controller.cli.app import App


@click.command(name="serve")
@click.option("--listen", default="", help="Listen on this address instead of the configured one.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    help="Listen on this port instead; 0: any free one.",
)
@click.pass_obj
def command(app: App, listen: str, port: int | None) -> None:
    """Run the controller until SIGTERM or Ctrl-C: the SSH endpoint that machines dial, and the orders.

    Stopping it, even the hard way, loses nothing: machines go on by themselves and hand over
    their receipts when they find it again.
    """
    import structlog

    from expunge_controller.cosigner import Cosigner
    from expunge_controller.runner import Runner, only_server
    from expunge_controller.stamper import Stamper
    from expunge_controller.transport.registry import Registry
    from expunge_controller.transport.ssh_in import Endpoint

    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    with app.controller("info") as controller, only_server(controller.home):
        log = structlog.get_logger()
        registry = Registry()
        endpoint = Endpoint(controller, registry, log, listen=listen, port=port)
        runner = Runner(controller, registry, log)
        vouchers = (Cosigner(controller, log), Stamper(controller, log))
        endpoint.start()
        runner.start()
        for voucher in vouchers:
            voucher.start()
        log.info("serving", name=controller.config.name, address=endpoint.address)
        try:
            leave.wait()
        finally:
            log.info("stopping")
            for voucher in vouchers:
                voucher.stop()
            runner.stop()
            endpoint.stop()
