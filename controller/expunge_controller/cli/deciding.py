"""What approving, rejecting, concurring and quality checks share: one person decides, and signs with their own key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge_controller.cli.app import App, print_json
from expunge_controller.cli.custody_words import print_recorded, write_draft

if TYPE_CHECKING:
    from expunge_controller.records.custody import CustodyKind
    from expunge_controller.records.custody_parts import Quality, Remedy

_FILE = click.Path(path_type=Path, dir_okay=False)


def deciding_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whoever decides."""
    for option in reversed(
        (
            click.option("--by", required=True, help="Who decides: a person of `expunge people list`."),
            click.option(
                "--key", type=_FILE, help="Their private key, or the public half of one in an ssh-agent."
            ),
            click.option(
                "--draft", "output", type=_FILE, help="Write the event here, to be signed elsewhere."
            ),
            click.option("--location", default="", help="Where."),
            click.option("--note", default="", help="Remarks."),
        )
    ):
        function = option(function)
    return function


def decide(
    app: App,
    medium: str,
    kind: CustodyKind,
    *,
    by: str,
    key: Path | None,
    output: Path | None,
    location: str,
    note: str,
    as_json: bool,
    receipt: str = "",
    name_only: bool = False,
    remedy: Remedy | None = None,
    quality: Quality | None = None,
) -> None:
    """Draft the event about a medium (its digest) and record it, signed with `key`; or write it to `output` only.

    `receipt`: the decision has to be about this one. Raises UsageError, RefusedError and what
    `custodian` and `person_keys` raise.
    """
    from expunge_agent.errors import RefusedError, UsageError
    from expunge_agent.protocol import canonical
    from expunge_controller import custodian
    from expunge_controller.context import utc_now
    from expunge_controller.ledger import find_medium
    from expunge_controller.records.custody import parse_custody_event
    from expunge_controller.records.custody_parts import Participant
    from expunge_profiles.custody_rules import custody_rules

    if [key is not None, output is not None, name_only].count(True) != 1:
        raise UsageError(
            "It is not said how this is signed.", "Give --key FILE, or --draft FILE to sign it elsewhere."
        )
    role = custody_rules().steps[kind].signed_by[0]
    people = [] if name_only else [canonical.convert({"role": role, "person": by}, Participant, "name")]
    words = custodian.Words(
        people=people, actor=by, location=location, note=note, remedy=remedy, quality=quality
    )
    with app.controller() as controller:
        with controller.store.read() as unit:
            body = custodian.draft(unit, find_medium(unit, medium), kind, words, utc_now())
        if receipt and parse_custody_event(body).receipt != receipt:
            raise RefusedError(
                "The medium was wiped again since: that result is not its last one.",
                "Decide on its newest certificate; `expunge custody` shows what happened.",
            )
        if output is not None:
            write_draft(output, body)
            _told(output, by, as_json)
            return
        done = custodian.record(controller, body, _signed(key, body), utc_now())
    print_recorded(done, as_json)


def _signed(key: Path | None, body: bytes) -> list[bytes]:
    """The signature with `key`, none without."""
    from expunge_agent.protocol import sshsig
    from expunge_controller.person_keys import signer_of

    if key is None:
        return []
    signer = signer_of(key, lambda: str(click.prompt(f"Passphrase of {key}", hide_input=True, err=True)))
    return [sshsig.sign(signer, sshsig.CUSTODY_NAMESPACE, body)]


def _told(output: Path, by: str, as_json: bool) -> None:
    if as_json:
        print_json({"draft": str(output), "signers": [by]})
        return
    click.echo(f"{output}: nothing is recorded yet. To sign it, one of:")
    click.echo(f"  expunge custody sign {output} --key KEY")
    click.echo(f"  ssh-keygen -Y sign -n expunge-custody -f KEY < {output} > {output}.{by}.sig")
    click.echo(f"then: expunge custody record {output} --signature {output}.{by}.sig")
