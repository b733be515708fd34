"""How a verb that works is told to work: options, signals."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from expunge_agent.cli.vault_common import access_of
from expunge_agent.devices import priority
from expunge_agent.engine.pace import Pace
from expunge_agent.engine.sources import CIPHERS
from expunge_agent.engine.tuning import choose
from expunge_agent.engine.watchdog import PATIENCE
from expunge_agent.events import EventLog
from expunge_agent.surroundings import Surroundings, protected
from expunge_agent.terminal import status_lines
from expunge_agent.turns import Turns
from expunge_profiles.schema import Profile


class Rate(click.ParamType[int]):
    """``100M``, ``1.5G``: bytes per second."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes that `value` spells, decimal units."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([kMGT]?)B?(?:/s)?", str(value))
        if match is None:
            self.fail(f"{value!r} is not a rate such as 100M or 1.5G (bytes per second).", param, ctx)
        return int(float(match[1]) * UNITS[match[2]])


UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
RUN_OPTIONS = (
    click.option(
        "--checkpoint-seconds",
        type=click.FloatRange(0.01, 3600),
        default=5.0,
        show_default=True,
        help="How much work a crash may cost at the most.",
    ),
    click.option(
        "--parallel",
        type=click.IntRange(1, 256),
        default=32,
        show_default=True,
        envvar="EXPUNGE_PARALLEL",
        help="Targets of one order worked on at a time.",
    ),
    click.option(
        "--per-bus",
        type=click.IntRange(0, 256),
        default=0,
        envvar="EXPUNGE_PER_BUS",
        help="Of these at most so many on one controller or file system.  [default: no limit]",
    ),
    click.option(
        "--rate", type=Rate(), default=0, envvar="EXPUNGE_RATE", help="Bytes per second in all, such as 100M."
    ),
    click.option(
        "--io-priority",
        type=click.Choice(list(priority.CLASSES)),
        default="normal",
        show_default=True,
        envvar="EXPUNGE_IO_PRIORITY",
        help="Stand back for other users of a machine that is still in use.",
    ),
    click.option(
        "--cipher",
        type=click.Choice(list(CIPHERS)),
        envvar="EXPUNGE_CIPHER",
        help="Cipher of keyed streams.  [default: AES-256-CTR, or ChaCha20 where AES is slow; for passes that "
        "are not read back AES-256-XTS where it is faster]",
    ),
    click.option(
        "--chunk",
        type=click.Choice(["256", "512", "1024", "2048", "4096"]),
        envvar="EXPUNGE_CHUNK",
        help="KiB a call.  [default: measured]",
    ),
    click.option(
        "--stripes",
        type=click.IntRange(1, 16),
        envvar="EXPUNGE_STRIPES",
        help="Calls under way for each target.  [default: measured]",
    ),
    click.option(
        "--patience",
        type=click.FloatRange(1, 86400),
        default=PATIENCE,
        show_default=True,
        envvar="EXPUNGE_PATIENCE",
        help="Seconds after which a medium that answers nothing is given up.",
    ),
    click.option(
        "--absence",
        type=click.FloatRange(0, 86400),
        default=120.0,
        show_default=True,
        envvar="EXPUNGE_ABSENCE",
        help="Seconds for which a medium that disappeared under the work is waited for.",
    ),
    click.option(
        "--erase-timeout",
        type=click.FloatRange(1, 30 * 86400),
        envvar="EXPUNGE_ERASE_TIMEOUT",
        help="Seconds after which a drive that erases itself is given up.  [default: from what it declares]",
    ),
    click.option(
        "--erasing",
        type=click.IntRange(0, 256),
        default=0,
        envvar="EXPUNGE_ERASING",
        help="Drives of this machine that erase themselves at a time, for the power supply's sake; those of other "
        "orders count.  [default: no limit]",
    ),
    click.option(
        "--erasing-per-controller",
        type=click.IntRange(0, 256),
        default=1,
        show_default=True,
        envvar="EXPUNGE_ERASING_PER_CONTROLLER",
        help="Of these at most so many on one controller; 0: no limit.",
    ),
    click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        envvar="EXPUNGE_VAULT_PASSPHRASE_FILE",
        help="For keys of a vault: file with its passphrase on the first line.",
    ),
)


def run_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of how to work to a verb that works."""
    for option in reversed(RUN_OPTIONS):
        command = option(command)
    return command


def surroundings(state: Path, profiles: Mapping[str, Profile], how: Mapping[str, Any]) -> Surroundings:
    """What a run needs, from the options `how` (see `RUN_OPTIONS`)."""
    priority.set_io_priority(how["io_priority"])
    return Surroundings(
        profiles=profiles,
        checkpoint_seconds=how["checkpoint_seconds"],
        system=protected(state),
        parallel=how["parallel"],
        per_lane=how["per_bus"],
        pace=Pace(how["rate"]),
        patience=how["patience"],
        absence=how["absence"],
        turns=Turns(state / "turns", how["erasing"], how["erasing_per_controller"]),
        erase_timeout=how["erase_timeout"],
        vaults=access_of({"state": state}, how["passphrase_file"]),
        calibrate=not (how["chunk"] or how["stripes"] or how["rate"]),
        tuning=choose(
            cipher=how["cipher"],
            chunk=int(how["chunk"]) * 1024 if how["chunk"] else None,
            stripes=how["stripes"],
        ),
    )


def heed_signals(around: Surroundings, events: EventLog) -> None:
    """SIGTERM and SIGINT end the run with a receipt that says interrupted.

    SIGHUP ends it without one, so that it goes on at the next start (the systemd unit uses it for a
    shutdown). SIGUSR1 prints how far it is; SIGUSR2 pauses and resumes.
    """

    def stop(_number: int, _frame: object) -> None:
        around.pace.resume()
        around.stop.set()

    def pause_order(number: int, frame: object) -> None:
        around.pause.set()
        stop(number, frame)

    def status(_number: int, _frame: object) -> None:
        for line in status_lines(list(events.latest.values())):
            click.echo(line, err=True)

    def pause(_number: int, _frame: object) -> None:
        if around.pace.paused:
            around.pace.resume()
        else:
            around.pace.pause()
        click.echo("paused" if around.pace.paused else "resumed", err=True)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, pause_order)
    signal.signal(signal.SIGUSR1, status)
    signal.signal(signal.SIGUSR2, pause)
