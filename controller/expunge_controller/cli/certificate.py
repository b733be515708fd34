"""expunge certificate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge_controller.cli.app import App, json_option, plain, size
from expunge_controller.cli.deciding import decide, deciding_options
from expunge_controller.cli.groups import ShowGroup

if TYPE_CHECKING:
    from expunge_controller.records.custody import CustodyKind
    from expunge_controller.records.custody_parts import Remedy
    from expunge_controller.store.port import Unit
    from expunge_controller.store.rows import CertificateRow


@click.group(name="certificate", cls=ShowGroup)
def command() -> None:
    """Certificates: show or write those of an order; approve, reject or concur. `expunge certificate ORDER` shows."""


@command.command(name="show")
@click.argument("order")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the files into this folder.",
)
@click.option("--html", "form", flag_value="html", help="Print the page.")
@click.option("--json", "form", flag_value="json", help="Print the signed document.")
@click.pass_obj
def show(app: App, order: str, output: Path | None, form: str | None) -> None:
    """Show the certificates of ORDER (its id, or a certificate's number), or write them as files."""
    from expunge_agent.errors import NotFoundError
    from expunge_controller import dispatch

    with app.controller() as controller, controller.store.read() as unit:
        single = unit.evidence.certificate(order)
        if single is not None:
            rows = [single]
        else:
            found = dispatch.find_order(unit, order)
            rows = unit.evidence.certificates_of_order(found.digest)
            if not rows and _waits(unit, found.digest):
                raise NotFoundError(
                    f"The certificates of {found.order_id} wait for the log's witnesses.",
                    "`expunge serve` asks them by itself, `expunge log cosign` does it now.",
                )
            if not rows:
                outcome = found.outcome or found.status
                raise NotFoundError(
                    f"The order {found.order_id} has no certificate; it is {outcome}.",
                    "Only a sanitized medium gets one; the receipt tells what happened.",
                )
    for row in rows:
        if output is not None:
            _write(row, output)
        elif form == "json":
            click.echo(row.body.decode())
        elif form == "html":
            click.echo(_page(row))
        else:
            _summary(row)


_name_only = click.option(
    "--name-only",
    is_flag=True,
    help="No signature: the certificate will say that it is not signed by a person.",
)


@command.command(name="approve")
@click.argument("number")
@deciding_options
@_name_only
@json_option
@click.pass_obj
def approve(app: App, /, number: str, **said: Any) -> None:
    """Validate the result behind certificate NUMBER: a person approves it with their own signature."""
    from expunge_controller.records.custody import CustodyKind

    _decide(app, number, CustodyKind.APPROVED, said)


@command.command(name="reject")
@click.argument("number")
@click.option(
    "--remedy", "action", type=click.Choice(["repeat", "destroy"]), required=True, help="What has to follow."
)
@click.option("--technique", required=True, help="With which technique, such as block-erase or shredding.")
@deciding_options
@_name_only
@json_option
@click.pass_obj
def reject(app: App, /, number: str, action: str, technique: str, **said: Any) -> None:
    """Reject the result behind certificate NUMBER; the remedy stays open until it was carried out."""
    from expunge_agent.protocol import canonical
    from expunge_controller.records.custody import CustodyKind
    from expunge_controller.records.custody_parts import Remedy

    plain_remedy = {"action": action, "technique": technique}
    _decide(app, number, CustodyKind.REJECTED, said, canonical.convert(plain_remedy, Remedy, "remedy"))


@command.command(name="concur")
@click.argument("number")
@deciding_options
@_name_only
@json_option
@click.pass_obj
def concur(app: App, /, number: str, **said: Any) -> None:
    """Add a second person's signature to what was decided on certificate NUMBER."""
    from expunge_controller.records.custody import CustodyKind

    _decide(app, number, CustodyKind.CONCURRED, said)


def _decide(
    app: App, number: str, kind: CustodyKind, said: dict[str, Any], remedy: Remedy | None = None
) -> None:
    from expunge_agent.errors import NotFoundError

    with app.controller() as controller, controller.store.read() as unit:
        row = unit.evidence.certificate(number)
    if row is None:
        raise NotFoundError(f"There is no certificate {number}.", "`expunge certificate ORDER` names them.")
    decide(app, row.medium, kind, receipt=row.receipt_digest, remedy=remedy, **said)


def _waits(unit: Unit, order_digest: str) -> bool:
    receipts = {row.digest for row in unit.evidence.receipts_of_order(order_digest)}
    return any(row.receipt_digest in receipts for row in unit.log.awaiting())


def _page(row: CertificateRow) -> str:
    from expunge_controller.records.certificate import parse_certificate
    from expunge_controller.render.certificate_html import certificate_html

    return certificate_html(parse_certificate(row.body))


def _write(row: CertificateRow, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, data in ((".json", row.body), (".json.sig", row.signature), (".html", _page(row).encode())):
        path = folder / f"{row.number}{suffix}"
        path.write_bytes(data)
        path.chmod(0o644)
        click.echo(str(path))


def _summary(row: CertificateRow) -> None:
    from expunge_controller.records.certificate import parse_certificate
    from expunge_controller.records.review import NOT_SIGNED

    certificate = parse_certificate(row.body)
    done = certificate.sanitization
    lines = {
        "certificate": f"{certificate.number}, {certificate.status}",
        "medium": f"{certificate.media.subject}, {size(int(certificate.media.size))}",
        "outcome": f"{done.outcome}, level {done.level_achieved} (requested {done.level_requested})",
        "technique": done.technique if done.erasure else f"{done.technique}, {len(done.passes)} passes",
        "verification": done.verification_status,
        "finished": done.finished_at,
        "issued": f"{certificate.issued_at} by {certificate.issuer}",
        "receipt": certificate.evidence.receipt,
    }
    if certificate.review is not None:
        for one in (
            certificate.review.validation,
            certificate.review.concurrence,
            *certificate.review.quality,
        ):
            if one is not None:
                lines[one.decision] = f"{one.full_name or one.name}, {one.at}: {one.key or NOT_SIGNED}"
    for name, value in lines.items():
        click.echo(f"{name:<14}{plain(value)}")
