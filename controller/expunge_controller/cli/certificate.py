"""expunge certificate"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge_agent.protocol.order import MAX_TARGETS
from expunge_controller.cli.app import App, json_option, language_option, plain, print_json, size
from expunge_controller.cli.deciding import decide, deciding_options
from expunge_controller.cli.groups import ShowGroup

if TYPE_CHECKING:
    from expunge_controller.records.custody import CustodyKind
    from expunge_controller.records.custody_parts import Remedy
    from expunge_controller.store.port import Unit
    from expunge_controller.store.rows import CertificateRow


@click.group(name="certificate", cls=ShowGroup)
def command() -> None:
    """Certificates: show them, write them as PDF, XML or CSV; approve, reject or concur. `expunge certificate ORDER` shows."""


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
@click.option("--xml", "form", flag_value="xml", help="Print it as XML (docs/certificates.md).")
@click.option("--csv", "form", flag_value="csv", help="Print all of them as a table for spreadsheets.")
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
    if form == "csv" and output is None:
        click.echo(_table(rows), nl=False)
        return
    for row in rows:
        if output is not None:
            _write(row, output)
        elif form == "xml":
            click.echo(_xml(row), nl=False)
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


def _table(rows: Sequence[CertificateRow]) -> str:
    from expunge_controller.records.certificate import parse_certificate
    from expunge_controller.records.certificate_forms import certificates_csv

    return certificates_csv([parse_certificate(row.body) for row in rows])


def _xml(row: CertificateRow) -> str:
    from expunge_controller.records.certificate import parse_certificate
    from expunge_controller.records.certificate_forms import certificate_xml

    return certificate_xml(parse_certificate(row.body))


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
        for one in certificate.review.decisions:
            lines[one.decision] = f"{one.who}, {one.at}: {one.key or NOT_SIGNED}"
    for name, value in lines.items():
        click.echo(f"{name:<14}{plain(value)}")


@command.command(name="pdf")
@click.argument("order")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The PDF to write."
)
@click.option(
    "--target",
    type=click.IntRange(1, MAX_TARGETS),
    default=1,
    show_default=True,
    help="Which target of the order; a certificate's number says it by itself.",
)
@language_option
@click.option(
    "--sign", is_flag=True, help="Sign it inside (PAdES) with pdf_certificate.pem and keys/pdf_key.pem."
)
@click.option("--tsa", default="", help="Address of a time-stamping authority (RFC 3161) for that signature.")
@json_option
@click.pass_obj
def pdf(
    app: App,
    order: str,
    output: Path,
    target: int,
    language: str | None,
    sign: bool,
    tsa: str,
    as_json: bool,
) -> None:
    """Write the certificate of ORDER (its id, or a certificate's number) as PDF/A, and its signature beside it."""
    from expunge_agent.errors import NotFoundError, UsageError
    from expunge_controller.bundle import bundle_files, write_output
    from expunge_controller.bundling import collect
    from expunge_controller.certificate_pdf import pdf_maker
    from expunge_controller.context import utc_now
    from expunge_controller.pdf_signing import timestamper_at
    from expunge_controller.records import bundle_layout as layout
    from expunge_controller.render.pdf_words import Language

    if tsa and not sign:
        raise UsageError("--tsa stamps a signature, and none is asked for.", "Add --sign.")
    with app.controller() as controller:
        with controller.store.read() as unit:
            single = unit.evidence.certificate(order)
        if single is not None:
            order, target = single.order_digest, single.target + 1
        stamper = timestamper_at(tsa) if tsa else None
        chosen = Language(language or controller.config.language)
        maker = pdf_maker(controller, chosen, sign=sign, timestamper=stamper)
        files = bundle_files(collect(controller, order, target - 1, utc_now())._replace(pdf=maker))
    if layout.CERTIFICATE_PDF not in files:
        raise NotFoundError(
            f"There is no certificate of target {target} of {order}.",
            f"See `expunge certificate {order}`.",
        )
    written = [output, output.with_name(output.name + layout.SIGNATURE)]
    write_output(written[0], files[layout.CERTIFICATE_PDF])
    write_output(written[1], files[layout.CERTIFICATE_PDF + layout.SIGNATURE])
    _say(written, as_json)


@command.command(name="summary")
@click.argument("order", required=False)
@click.option("--machine", default="", help="All media of this machine instead of those of an order.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The PDF to write."
)
@language_option
@click.option("--sign", is_flag=True, help="Sign it inside (PAdES).")
@json_option
@click.pass_obj
def summary(
    app: App,
    order: str | None,
    machine: str,
    output: Path,
    language: str | None,
    sign: bool,
    as_json: bool,
) -> None:
    """Write one PDF about all media of ORDER, or of a machine: with a certificate and without."""
    from expunge_agent.errors import UsageError
    from expunge_controller import fleet, holdings
    from expunge_controller.bundle import write_output
    from expunge_controller.context import utc_now
    from expunge_controller.pdf_made import make_pdf
    from expunge_controller.pdf_signing import sign_pdf
    from expunge_controller.render.pdf_summary import summary_data
    from expunge_controller.render.pdf_words import Language

    if bool(order) == bool(machine):
        raise UsageError("Say which: an order, or --machine.", "See --help.")
    with app.controller() as controller:
        with controller.store.read() as unit:
            if order:
                lines, about = holdings.of_order(unit, order), order
            else:
                row = fleet.machine_named(unit, machine)
                lines, about = holdings.of_machine(unit, row.machine_id), row.name
            attached = holdings.certificates(unit, lines)
        data = summary_data(
            about,
            lines,
            Language(language or controller.config.language),
            attached,
            issued_at=utc_now(),
            issuer=controller.principal,
        )
        made = make_pdf(data)
        if sign:
            made = sign_pdf(made, controller.home)
    write_output(output, made)
    _say([output], as_json)


@command.command(name="signing-key")
@click.option("--name", default="", help="The name in it. Default: this controller's.")
@json_option
@click.pass_obj
def signing_key(app: App, name: str, as_json: bool) -> None:
    """Make a certificate and key of our own for signing PDFs; whoever trusts it, trusts its fingerprint."""
    from expunge_controller.context import utc_now
    from expunge_controller.pdf_signing import identity_of, make_identity

    with app.controller() as controller:
        digest = make_identity(controller.home, name or controller.principal, utc_now())
        place = identity_of(controller.home)
    if as_json:
        print_json({"certificate": str(place.certificate), "key": str(place.key), "sha256": digest})
        return
    click.echo(f"{place.certificate}\nSHA-256 {digest}\nGive this fingerprint to those who check the PDFs.")


def _say(written: Sequence[Path], as_json: bool) -> None:
    if as_json:
        print_json({"written": [str(path) for path in written]})
        return
    for path in written:
        click.echo(str(path))
