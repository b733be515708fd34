"""The fleet: one-time tokens, enrolment of machines, and whose signatures count."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta

from expunge_agent.errors import (
    EnrolmentError,
    ExpungeError,
    NotFoundError,
    PeerIdentityError,
    UsageError,
    VerificationError,
)
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.enrolment import Enrolment, EnrolmentToken
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller import keys
from expunge_controller.context import Controller
from expunge_controller.settings import checked_name
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import MachineRow, Reach, SshAddress, TokenRow

AGENT_NAMESPACES = (sshsig.RECEIPT_NAMESPACE,)
CONTROLLER_NAMESPACES = (
    sshsig.ORDER_NAMESPACE,
    sshsig.CUSTODY_NAMESPACE,
    sshsig.CERTIFICATE_NAMESPACE,
    sshsig.PERSON_NAMESPACE,
    sshsig.LOT_NAMESPACE,
)


def create_token(
    controller: Controller, name: str, *, valid_for: timedelta, ssh: SshAddress | None, now: datetime
) -> EnrolmentToken:
    """A fresh one-time token for the machine to be called `name`.

    An older unused token for the same name stops being good. Only the hash of the secret is
    kept. Raises UsageError for a bad name, EnrolmentError for a name that is taken.
    """
    checked_name(name, "machine")
    secret = secrets.token_hex(16)
    with controller.store.write() as unit:
        if unit.fleet.machine_named(name) is not None:
            raise EnrolmentError(f"A machine called {name} is enrolled already.", "Choose another name.")
        for old in unit.fleet.tokens():
            if old.name == name and old.used_at is None:
                unit.fleet.drop_token(old.secret_digest)
        unit.fleet.add_token(
            TokenRow(
                secret_digest=_secret_digest(secret),
                name=name,
                reach=Reach.DIAL_IN if ssh is None else Reach.SSH,
                ssh=ssh,
                created_at=timestamp(now),
                expires_at=timestamp(now + valid_for),
                used_at=None,
                machine_id=None,
            )
        )
    return EnrolmentToken(
        controller=controller.config.name,  # the agent makes the principal of it
        host="" if ssh is not None else controller.config.address,
        port=0 if ssh is not None else controller.config.port,
        host_key="" if ssh is not None else keys.load_key(controller.home.ssh_host_key).public_line,
        order_key=controller.signer.public_line,
        secret=secret,
    )


def enrol(
    controller: Controller,
    body: bytes,
    signature: bytes,
    *,
    proven_key: str | None,
    dialled: TokenRow | MachineRow | None,
    now: datetime,
) -> MachineRow:
    """Enrol the machine that signed `body`; asking again with the same keys gives the same answer.

    `proven_key` is the key line with which a dial-in peer proved itself to SSH (None when we
    dialled), `dialled` what we dialled. Raises EnrolmentError for a token that is unknown, used or
    expired, PeerIdentityError where keys or machine ids do not fit, VerificationError or
    DocumentError for a bad document.
    """
    enrolment = _checked(body, signature)
    if proven_key is not None and proven_key != enrolment.dial_key:
        raise PeerIdentityError(
            "The machine names another dial key than the one it called with.",
            "Run the enrolment on it again.",
        )
    with controller.store.write() as unit:
        token = _token(unit, enrolment.secret)
        known = unit.fleet.machine(enrolment.machine_id)
        if known is not None and token.machine_id == known.machine_id and _same(known, enrolment):
            return known  # our answer was lost, not the enrolment
        _check_token(token, dialled, now)
        _check_strangers(unit, enrolment, known)
        machine = MachineRow(
            machine_id=enrolment.machine_id,
            name=token.name,
            signing_key=enrolment.signing_key,
            dial_key=enrolment.dial_key,
            reach=token.reach,
            ssh=token.ssh,
            enrolled_at=timestamp(now),
            enrolment=body,
            enrolment_signature=signature,
            facts=canonical.dumps(enrolment.host).decode(),
            last_seen=timestamp(now),
        )
        unit.fleet.add_machine(machine)
        if not unit.fleet.use_token(token.secret_digest, machine.machine_id, timestamp(now)):
            raise _used(token)
    return machine


def readdress(controller: Controller, name: str, ssh: SshAddress) -> bool:
    """Give the enrolled machine `name` another address and pinned host key; False when there is none.

    Raises EnrolmentError for a machine that calls in.
    """
    with controller.store.write() as unit:
        machine = unit.fleet.machine_named(name)
        if machine is None:
            return False
        if machine.reach is not Reach.SSH:
            raise EnrolmentError(f"{name} is enrolled already, and calls in.", "Choose another name.")
        unit.fleet.set_address(machine.machine_id, ssh)
    return True


def machine_named(unit: Unit, name: str) -> MachineRow:
    """The machine called `name` (its id will do as well). Raises NotFoundError."""
    machine = unit.fleet.machine_named(name) or unit.fleet.machine(name)
    if machine is None:
        raise NotFoundError(f"There is no machine called {name!r}.", "See `expunge machines`.")
    return machine


def pending_ssh(unit: Unit, now: datetime) -> list[TokenRow]:
    """Unused, unexpired tokens of machines that we must dial to complete their enrolment."""
    return [
        token
        for token in unit.fleet.tokens()
        if token.reach is Reach.SSH and token.used_at is None and token.expires_at > timestamp(now)
    ]


def signers(unit: Unit, controller: Controller) -> list[TrustedSigner]:
    """Everybody whose signature counts here: this controller and every enrolled agent."""
    fleet = [
        TrustedSigner(
            principal=agent_principal(machine.machine_id),
            namespaces=AGENT_NAMESPACES,
            public_line=machine.signing_key,
        )
        for machine in unit.fleet.machines()
    ]
    return [controller_signer(controller), *fleet]


def controller_signer(controller: Controller) -> TrustedSigner:
    """This controller as a signer."""
    return TrustedSigner(
        principal=controller.principal,
        namespaces=CONTROLLER_NAMESPACES,
        public_line=controller.signer.public_line,
    )


def agent_signer(machine: MachineRow) -> TrustedSigner:
    """A machine's agent as a signer."""
    return TrustedSigner(
        principal=agent_principal(machine.machine_id),
        namespaces=AGENT_NAMESPACES,
        public_line=machine.signing_key,
    )


def agent_principal(machine_id: str) -> str:
    """The principal of an agent in ``allowed_signers``."""
    return f"agent:{machine_id}"


def _checked(body: bytes, signature: bytes) -> Enrolment:
    enrolment = canonical.loads(body, Enrolment, "enrolment")
    line = sshsig.verify(signature, sshsig.ENROLMENT_NAMESPACE, body)
    for key in (enrolment.signing_key, enrolment.dial_key):
        if sshsig.normal_line(key) != key:
            raise VerificationError(
                "A key in the enrolment carries a comment.", "Enrol with a matching release."
            )
    if line != enrolment.signing_key:
        raise VerificationError(
            "The enrolment is not signed with the key that it names.",
            "Run the enrolment on the machine again.",
        )
    return enrolment


def _secret_digest(secret: str) -> str:
    return canonical.sha256_hex(secret.encode())


def _token(unit: Unit, secret: str) -> TokenRow:
    """The token with this secret, compared in constant time."""
    wanted = _secret_digest(secret)
    found = [token for token in unit.fleet.tokens() if hmac.compare_digest(token.secret_digest, wanted)]
    if not found:
        raise EnrolmentError(
            "The enrolment token is not known here.", "Make a new one with `expunge enrol NAME`."
        )
    return found[0]


def _check_token(token: TokenRow, dialled: TokenRow | MachineRow | None, now: datetime) -> None:
    if token.used_at is not None:
        raise _used(token)
    if timestamp(now) >= token.expires_at:
        raise EnrolmentError(
            f"The enrolment token for {token.name} expired at {token.expires_at}.",
            f"Make a new one with `expunge enrol {token.name}`.",
        )
    expected = dialled.secret_digest if isinstance(dialled, TokenRow) else None
    if token.reach is Reach.SSH and expected != token.secret_digest:
        raise EnrolmentError(
            f"The token for {token.name} is good only for the machine that the controller dials.",
            "Let the controller connect, or make a token without --ssh.",
        )
    if token.reach is Reach.DIAL_IN and dialled is not None:
        raise EnrolmentError(
            f"The token for {token.name} is for a machine that calls in.",
            "Use the token that `expunge enrol --ssh` printed.",
        )


def _check_strangers(unit: Unit, enrolment: Enrolment, known: MachineRow | None) -> None:
    """Refuse keys and ids that belong to a machine already."""
    if known is not None:
        raise EnrolmentError(
            f"This machine is enrolled already, as {known.name}.",
            "A copied disk image carries its agent's identity: give the copy a fresh state folder.",
        )
    owner = unit.fleet.machine_by_signing_key(enrolment.signing_key) or unit.fleet.machine_by_dial_key(
        enrolment.dial_key
    )
    if owner is not None:
        raise PeerIdentityError(
            f"The key of this agent belongs to the machine {owner.name} already.",
            "A copied disk image carries its agent's keys: give the copy a fresh state folder.",
        )


def _same(known: MachineRow, enrolment: Enrolment) -> bool:
    return (known.signing_key, known.dial_key) == (enrolment.signing_key, enrolment.dial_key)


def _used(token: TokenRow) -> ExpungeError:
    return EnrolmentError(
        f"The enrolment token for {token.name} was used already.",
        "Make a new one with `expunge enrol NAME`; if nobody you know used it, look at `expunge machines`.",
    )


def ssh_address(text: str, host_key: str) -> SshAddress:
    """``[USER@]HOST[:PORT]`` (an IPv6 address in brackets) with its pinned key. Raises UsageError."""
    user, at, rest = text.rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    number = int(port) if port.isascii() and port.isdigit() else 0
    if not host or (at and not user) or (port and not 1 <= number <= 65535) or host.startswith("-"):
        raise UsageError(f"{text!r} is not an SSH address.", "Write USER@HOST or USER@HOST:PORT.")
    return SshAddress(user=user, host=host, port=number, host_key=host_key)
