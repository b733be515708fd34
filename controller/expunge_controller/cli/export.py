"""expunge export"""

from __future__ import annotations

from pathlib import Path

import click

from expunge_agent.protocol.order import MAX_TARGETS
from expunge_controller.cli.app import App, json_option, language_option, print_json


@click.command(name="export")
@click.argument("order")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The bundle to write; an older file is replaced only when the new one is whole.",
)
@click.option(
    "--target",
    type=click.IntRange(1, MAX_TARGETS),
    default=1,
    show_default=True,
    help="Which target of the order.",
)
@click.option("--pdf", is_flag=True, help="With the certificate as PDF/A, too.")
@click.option("--sign-pdf", is_flag=True, help="The same, signed inside (PAdES).")
@language_option
@json_option
@click.pass_obj
def command(
    app: App,
    order: str,
    output: Path,
    target: int,
    pdf: bool,
    sign_pdf: bool,
    language: str | None,
    as_json: bool,
) -> None:
    """Write the bundle about one medium of ORDER: everything an auditor needs, checkable with stock tools."""
    from expunge_controller.bundle import write_bundle
    from expunge_controller.bundling import collect
    from expunge_controller.certificate_pdf import pdf_maker
    from expunge_controller.context import utc_now
    from expunge_controller.render.pdf_words import Language

    with app.controller() as controller:
        parts = collect(controller, order, target - 1, utc_now())
        if pdf or sign_pdf:
            parts = parts._replace(
                pdf=pdf_maker(controller, Language(language or controller.config.language), sign=sign_pdf)
            )
        files = write_bundle(output, parts)
    if as_json:
        print_json({"bundle": str(output), "files": sorted(files)})
    else:
        click.echo(f"{output}: {len(files)} files. Check it: expunge verify {output}")
