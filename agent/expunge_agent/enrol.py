"""Enrolment: make this machine's keys, pin the controller, and tell it who we are."""

from __future__ import annotations

from pathlib import Path

from expunge_agent import __version__, dial
from expunge_agent.devices import host
from expunge_agent.errors import EnrolmentError, PeerIdentityError
from expunge_agent.files import write_durable
from expunge_agent.protocol import canonical, dsse, sshsig, wire
from expunge_agent.protocol.base import Timestamp
from expunge_agent.protocol.enrolment import Enrolment, EnrolmentToken, HostFacts
from expunge_agent.protocol.trust import TrustedSigner
from expunge_agent.second_key import load_or_create_second_key
from expunge_agent.signers.settings import KeyWish
from expunge_agent.signing import first_key, load_or_create_key
from expunge_agent.state import ControllerAddress, State

WAIT = 30.0


def enrol(
    root: Path, token: EnrolmentToken, now: Timestamp, replace: bool = False, key: KeyWish | None = None
) -> str:
    """Enrol this machine with the controller that gave out `token`; returns the name it gave us.

    The controller is pinned only after it accepted us. With a token that carries no address the
    controller will dial: it is pinned at once and gets the signed enrolment at its first call
    (the name returned is then empty). `key`: where the signing key is to be, at first use. Raises EnrolmentError, TransportError, PeerIdentityError.
    """
    state = State.create(root)
    if not replace and (known := state.trusted()):
        raise EnrolmentError(
            f"This machine is already enrolled ({known[0].principal}).",
            "To enrol it anew, add --replace.",
        )
    document = _sign_enrolment(state, token, now, key)
    name = _introduce(state, token, document) if token.host else ""
    _pin(state, token, document)
    return name


def _sign_enrolment(
    state: State, token: EnrolmentToken, now: Timestamp, key: KeyWish | None
) -> tuple[bytes, bytes]:
    signer = first_key(state.root, key)
    dial_key = load_or_create_key(state.dial_key)
    second = load_or_create_second_key(state.mldsa65_key)
    body = canonical.dumps(
        Enrolment(
            format="expunge/enrolment/v1",
            secret=token.secret,
            machine_id=state.machine_id,
            signing_key=signer.public_line,
            dial_key=dial_key.public_line,
            host=HostFacts(
                hostname=host.hostname(),
                kernel=host.kernel(),
                boot_id=host.boot_id(),
                host_keys=host.ssh_host_keys(),
            ),
            at=now,
            mldsa65_key=dsse.spki_of(second.public_key()),
        )
    )
    return body, sshsig.sign(signer, sshsig.ENROLMENT_NAMESPACE, body)


def _introduce(state: State, token: EnrolmentToken, document: tuple[bytes, bytes]) -> str:
    address = ControllerAddress(
        name=token.controller, host=token.host, port=token.port, host_key=token.host_key
    )
    with dial.connection(address, state.dial_key, dial.USER_ENROL) as stream:
        hello = wire.Hello(
            version=wire.PROTOCOL_VERSION,
            role="agent",
            software=f"expunge-agent {__version__}",
            machine_id=state.machine_id,
            boot_id=host.boot_id(),
        )
        stream.send(wire.encode(hello))
        stream.send(wire.encode(wire.EnrolRequest(document=wire.Document.of(*document))))
        decoder = wire.FrameDecoder()
        while data := stream.receive(WAIT):
            for message in decoder.feed(data):
                if isinstance(message, wire.Enrolled):
                    return message.name
                if isinstance(message, wire.Failure):
                    raise EnrolmentError(message.message, message.remedy)
                wire.check_hello(message, "controller")
    raise PeerIdentityError(
        "The controller did not answer the enrolment.", "Ask for a new token and try again."
    )


def _pin(state: State, token: EnrolmentToken, document: tuple[bytes, bytes]) -> None:
    write_durable(state.root / "enrolment.json.sig", document[1])
    write_durable(state.root / "enrolment.json", document[0])
    if token.host:
        address = ControllerAddress(
            name=token.controller, host=token.host, port=token.port, host_key=token.host_key
        )
        write_durable(state.root / "controller.json", canonical.dumps(address))
    else:
        (state.root / "controller.json").unlink(missing_ok=True)
    state.trust(
        [
            TrustedSigner(
                principal=f"controller:{token.controller}",
                namespaces=(sshsig.ORDER_NAMESPACE,),
                public_line=token.order_key,
            )
        ]
    )
