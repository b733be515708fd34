"""expunge-agent report"""

from __future__ import annotations

from pathlib import Path

import click

from expunge_agent.cli.common import print_json, table
from expunge_agent.errors import NotFoundError
from expunge_agent.files import explained
from expunge_agent.outbox import Outbox, Sealed
from expunge_agent.protocol import dsse, sshsig
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.state import State


@click.command(name="report")
@click.argument("number", required=False, type=click.IntRange(1))
@click.option(
    "--pending", is_flag=True, help="Only what the controller has not acknowledged, and open orders."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy receipt NUMBER and its signatures into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def command(
    obj: dict[str, object], number: int | None, pending: bool, out: Path | None, as_json: bool
) -> int:
    """List the receipts of this machine, or show receipt NUMBER."""
    state = State.open(Path(str(obj["state"])))
    outbox = Outbox(state.root)
    if number is not None:
        known = {sealed.counter: sealed for sealed in outbox.all()}
        if number not in known:
            raise NotFoundError(f"There is no receipt number {number} here.", "See: expunge-agent report")
        if out is not None:
            with explained(out):
                out.mkdir(parents=True, exist_ok=True)
                for name, data in _files(known[number]).items():
                    (out / name).write_bytes(data)
            click.echo(f"{', '.join(str(out / name) for name in _files(known[number]))} written.")
        else:
            print_json(parse_statement(known[number].body))
        return 0
    waiting = set(outbox.pending())
    rows = []
    for sealed in outbox.all():
        if pending and sealed.counter not in waiting:
            continue
        receipt = parse_statement(sealed.body).predicate
        rows.append(
            {
                "number": str(sealed.counter),
                "order": sealed.order,
                "order_id": receipt.order.order_id,
                "outcome": receipt.outcome.value,
                "finished_at": receipt.finished_at,
                "acknowledged": sealed.counter not in waiting,
                "receipt": sealed.digest,
            }
        )
    unfinished = state.unfinished()
    if as_json:
        print_json({"receipts": rows, "unfinished": unfinished})
        return 0
    table(
        ["NO", "ORDER", "OUTCOME", "FINISHED", "ACKNOWLEDGED"],
        [
            [
                str(row["number"]),
                str(row["order_id"] or row["order"])[:40],
                str(row["outcome"]),
                str(row["finished_at"]),
                "yes" if row["acknowledged"] else "not yet",
            ]
            for row in rows
        ],
    )
    for digest in unfinished:
        click.echo(f"unfinished: {digest} ({'running' if state.is_running(digest) else 'waiting'})")
    return 0


def _files(sealed: Sealed) -> dict[str, bytes]:
    """The receipt, its signature, and its DSSE envelope where there are second signatures."""
    files = {"receipt.json": sealed.body, "receipt.json.sig": sealed.signature}
    if sealed.second is not None:
        line = sshsig.verify(sealed.signature, sshsig.RECEIPT_NAMESPACE, sealed.body)
        files["receipt.dsse.json"] = dsse.envelope(sealed.body, line, sealed.second)
    return files
