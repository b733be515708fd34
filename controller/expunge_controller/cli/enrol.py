"""expunge enrol"""

from __future__ import annotations

import base64
import binascii
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, Duration, json_option, print_json

if TYPE_CHECKING:
    from expunge_agent.protocol.enrolment import EnrolmentToken
    from expunge_controller.context import Controller
    from expunge_controller.store.rows import MachineRow, SshAddress

FORCED = 'restrict,command="expunge-agent serve"'


@click.command(name="enrol")
@click.argument("name")
@click.option(
    "--expires-in", type=Duration(), default="24h", show_default=True, help="How long the token is good."
)
@click.option(
    "--ssh", "address", metavar="[USER@]HOST[:PORT]", help="The controller dials the machine's sshd."
)
@click.option(
    "--host-key",
    metavar="FILE|SHA256:…",
    help="The machine's SSH host key: its public key file, a known_hosts line in a file, or its fingerprint.",
)
@click.option("--connect", is_flag=True, help="Complete the enrolment of a machine that we dial, now.")
@json_option
@click.pass_obj
def command(
    app: App,
    name: str,
    expires_in: timedelta,
    address: str | None,
    host_key: str | None,
    connect: bool,
    as_json: bool,
) -> None:
    """Make the machine NAME known: print a one-time token, and what to type on the machine.

    The token is shown once and kept only as a hash. With --ssh the controller dials the machine;
    its host key must be given, so that nobody else can answer in its place. For a machine that is
    enrolled and dialled already, --ssh and --host-key replace its address and its pinned key.
    """
    from expunge_agent.errors import UsageError

    if connect:
        if address or host_key:
            raise UsageError("--connect completes an earlier enrolment.", "Leave --ssh and --host-key out.")
        _connect(app, name, as_json)
        return
    if (address is None) != (host_key is None):
        raise UsageError(
            "--ssh and --host-key belong together.", "Get the key on the machine: ssh-keygen -lf FILE.pub"
        )
    from expunge_controller import fleet
    from expunge_controller.context import utc_now

    ssh = None if address is None else fleet.ssh_address(address, _pinned(host_key or ""))
    with app.controller() as controller:
        if ssh is not None and fleet.readdress(controller, name, ssh):
            _say_readdressed(name, ssh, as_json)
            return
        token = fleet.create_token(controller, name, valid_for=expires_in, ssh=ssh, now=utc_now())
        client_key = _client_key(app)
    if as_json:
        print_json(
            {
                "name": name,
                "token": token.text(),
                "command": f"expunge-agent enrol {token.text()}",
                "authorized_keys": f"{FORCED} {client_key}" if ssh else "",
            }
        )
        return
    _explain(name, token, ssh, client_key, expires_in)


def _explain(
    name: str, token: EnrolmentToken, ssh: SshAddress | None, client_key: str, expires_in: timedelta
) -> None:
    hours = int(expires_in.total_seconds() // 3600)
    good = f"{hours} hours" if hours else f"{int(expires_in.total_seconds() // 60)} minutes"
    click.echo(f"Token for {name}, good once, for {good}. On the machine, type:")
    click.echo(f"\n  expunge-agent enrol {token.text()}\n")
    if ssh is None:
        click.echo("then keep it connected (the systemd units do that; without them):\n")
        click.echo("  expunge-agent serve --dial --run-orders\n")
        return
    click.echo(f"and put this line into authorized_keys of {ssh.user or 'the account'} there:\n")
    click.echo(f"  {FORCED} {client_key}\n")
    click.echo(f"then, here: expunge enrol {name} --connect (a running `expunge serve` does it by itself)")


def _say_readdressed(name: str, ssh: SshAddress, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "token": "", "command": "", "authorized_keys": ""})
    else:
        click.echo(f"{name} is enrolled; it will be dialled at {ssh.host} and must show the key given now.")


def _connect(app: App, name: str, as_json: bool) -> None:
    """Dial the machine called `name` until its enrolment is complete or fails."""
    from expunge_agent.errors import NotFoundError, TransportError
    from expunge_controller import fleet
    from expunge_controller.cli.reach import running_for, wait_for
    from expunge_controller.context import utc_now
    from expunge_controller.store.rows import Reach

    with app.controller() as controller:
        with controller.store.read() as unit:
            pending = any(token.name == name for token in fleet.pending_ssh(unit, utc_now()))
            known = unit.fleet.machine_named(name)
        if known is None and not pending:
            raise NotFoundError(
                f"No enrolment of {name} is open.",
                f"Start one: expunge enrol {name} --ssh USER@HOST --host-key FILE",
            )
        if known is None:
            with running_for(controller, name, Reach.SSH) as problem:
                known = wait_for(lambda: _machine(controller, name), seconds=60.0, problem=problem)
        if known is None:
            raise TransportError(
                f"{name} could not be reached within a minute.", "See the log of `expunge serve`."
            )
        machine_id = known.machine_id
    if as_json:
        print_json({"name": name, "machine_id": machine_id})
    else:
        click.echo(f"Enrolled: {name} ({machine_id})")


def _machine(controller: Controller, name: str) -> MachineRow | None:
    with controller.store.read() as unit:
        return unit.fleet.machine_named(name)


def _client_key(app: App) -> str:
    from expunge_controller import keys

    return keys.load_key(app.home.ssh_client_key).public_line


def _pinned(text: str) -> str:
    """A host key from a file, or a fingerprint as ``ssh-keygen -l`` prints it. Raises UsageError."""
    from expunge_agent.errors import UsageError, VerificationError
    from expunge_agent.protocol import sshsig

    if text.startswith("SHA256:"):
        try:
            if len(base64.b64decode(text[7:] + "=", validate=True)) == 32:
                return text
        except binascii.Error:
            pass
        raise UsageError(f"{text} is not a fingerprint.", "It has 43 characters after SHA256:")
    try:
        lines = Path(text).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{text} cannot be read as a key file ({error}).", "Give /etc/ssh/ssh_host_ed25519_key.pub."
        ) from error
    for line in lines:
        fields = line.split()
        for at, field in enumerate(fields[:-1]):
            if field in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"):
                try:
                    sshsig.fingerprint(f"{field} {fields[at + 1]}")
                except VerificationError:
                    continue
                return f"{field} {fields[at + 1]}"
    raise UsageError(f"There is no public host key in {text}.", "Give /etc/ssh/ssh_host_ed25519_key.pub.")
