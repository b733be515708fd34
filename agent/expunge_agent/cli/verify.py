"""expunge-agent verify"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from expunge_agent.cli.common import print_json
from expunge_agent.engine.meter import Progress
from expunge_agent.errors import MismatchError, UsageError
from expunge_agent.files import read_limited
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64, sha256_hex
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.seal_check import check_seal
from expunge_agent.terminal import ProgressView, size_text, status_lines

MAX_RECEIPT = 4 * 1024 * 1024
SHOWN = 20


@click.command(name="verify")
@click.argument("path", type=click.Path())
@click.option(
    "--receipt",
    "receipt_path",
    required=True,
    type=click.Path(path_type=Path),
    help="receipt.json; its signature is expected beside it as receipt.json.sig.",
)
@click.option(
    "--signers", type=click.Path(path_type=Path), help="allowed_signers file with the agents' keys you trust."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def command(path: str, receipt_path: Path, signers: Path | None, as_json: bool) -> int:
    """Read PATH whole and say whether it still is what the receipt says was left on it.

    Works on any machine that the medium is attached to: after a keyed stream left as a seal, a match
    shows that this is that medium's content, and that nothing was written since. Nothing is changed.
    """
    body = read_limited(receipt_path, MAX_RECEIPT)
    signature = read_limited(receipt_path.with_name(receipt_path.name + ".sig"), 65536)
    who = _signer(body, signature, signers)
    receipt = parse_statement(body).predicate
    view = ProgressView()

    latest: list[Event] = []

    def show(progress: Progress) -> None:
        event = Event(
            kind=EventKind.PROGRESS,
            order=sha256_hex(body),
            time=timestamp(datetime.now(UTC)),
            target=0,
            title="reading back",
            done=U64(progress.done),
            total=U64(progress.total),
            rate=U64(progress.rate),
            eta=progress.eta,
        )
        latest[:] = [event]
        with suppress(OSError):  # nobody looks any more
            view.show(event)

    began = time.monotonic()
    stop = _heed_signals(latest)
    try:
        report = check_seal(path, receipt, show, stop)
    finally:
        view.close()
    if as_json:
        print_json(
            {
                "path": report.path,
                "untouched": report.untouched,
                "left_by": report.left_by,
                "signed_by": who,
                "identity_differences": report.identity,
                "bytes_read": U64(report.bytes_read),
                "mismatched_bytes": U64(report.mismatched_bytes),
                "explained_bytes": U64(report.explained),
                "unreadable_bytes": U64(report.unreadable_bytes),
                "mismatches": [
                    {"start": U64(one.start), "length": U64(one.length), "what": one.what}
                    for one in report.mismatches
                ],
                "io_mode": report.io_mode,
                "reads_medium": report.reads_medium,
            }
        )
    else:
        click.echo(f"Receipt: {who}")
        for line in report.identity:
            click.echo(f"Identity differs in {line}")
        click.echo(
            f"Read {size_text(report.bytes_read)} ({report.io_mode}) in {time.monotonic() - began:.1f} s, "
            f"compared with the last pass ({report.left_by})."
        )
        for one in report.mismatches[:SHOWN]:
            click.echo(f"  differs: {one.length} bytes at {one.start}: {one.what}")
        if len(report.mismatches) > SHOWN:
            click.echo(f"  … and {len(report.mismatches) - SHOWN} more ranges (--json lists them)")
        if report.untouched:
            but = f", but for {report.explained} bytes it lists as not written" if report.explained else ""
            click.echo(f"Untouched: every byte is what the receipt's last pass wrote{but}.")
    if report.untouched:
        return 0
    if stop.is_set():
        raise click.Abort
    if report.complete and not report.reads_medium:
        raise MismatchError(
            f"What was read may have come from the system's memory ({report.io_mode}).",
            "End the programs that use the medium, detach it and attach it again.",
        )
    raise MismatchError(
        f"{report.mismatched_bytes} bytes differ and {report.unreadable_bytes} could not be read.",
        "This is another medium, or something was written to it after the wipe.",
    )


def _heed_signals(latest: list[Event]) -> threading.Event:
    """SIGINT and SIGTERM end the reading, SIGUSR1 prints how far it is; the event says that it is to end."""
    stop = threading.Event()

    def status(_number: int, _frame: object) -> None:
        for line in status_lines(latest) or ["nothing was read yet"]:
            click.echo(line, err=True)

    signal.signal(signal.SIGINT, lambda *_: stop.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGUSR1, status)
    return stop


def _signer(body: bytes, signature: bytes, signers: Path | None) -> str:
    """Who signed. A receipt whose signature is wrong is no basis for anything (VerificationError)."""
    if signers is None:
        line = sshsig.verify(signature, sshsig.RECEIPT_NAMESPACE, body)
        return f"signed by {sshsig.fingerprint(line)}; whose key that is was not checked (no --signers)"
    try:
        known = trust.parse_allowed_signers(read_limited(signers, 1 << 20).decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{signers} is not a text file.", "Name an allowed_signers file.") from error
    return f"signed by {trust.verify(known, sshsig.RECEIPT_NAMESPACE, body, signature).principal}"
