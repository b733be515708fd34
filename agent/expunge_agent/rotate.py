"""Another signing key for a machine that is enrolled: signed with both, told to the controller at the next call."""

from __future__ import annotations

from pathlib import Path

from expunge_agent.errors import EnrolmentError, ExpungeError, RefusedError, SigningKeyError, UsageError
from expunge_agent.files import write_durable
from expunge_agent.outbox import Outbox
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Timestamp
from expunge_agent.protocol.enrolment import EnrolmentToken
from expunge_agent.protocol.rotation import KeyRotation, granted
from expunge_agent.protocol.trust import TrustedSigner
from expunge_agent.signers.settings import FileKey, KeyWish
from expunge_agent.signing import held_settings, keep, new_key, open_signer, probe, signer_of
from expunge_agent.state import ROTATION, State


def rotate(root: Path, token: EnrolmentToken, now: Timestamp, wish: KeyWish, lost: bool = False) -> str:
    """Sign with another key from now on; returns its line. `lost`: the old key cannot sign that any more.

    The controller's key that the token carries is pinned too. Raises EnrolmentError for a token of another
    controller, RefusedError while receipts or orders wait, SigningKeyError where a key does not sign.
    """
    state = State.open(root)
    _check(state, token)
    before = held_settings(root)
    if not lost:
        _try(root)
    old = (
        (root / "signing_key.pub").read_text(encoding="ascii").strip()
        if lost
        else signer_of(root).public_line
    )
    fresh = new_key(root, wish)
    signer = open_signer(root, fresh)
    probe(signer)
    if signer.public_line == sshsig.normal_line(old):
        raise UsageError(
            "That is the present key.", "Name another: object=NAME in a token, #SHA256:… in an ssh-agent."
        )
    document = KeyRotation(
        format="expunge/key-rotation/v1",
        machine_id=state.machine_id,
        old_key=sshsig.normal_line(old),
        new_key=signer.public_line,
        at=now,
    )
    body = canonical.dumps(granted(document, token.secret))
    endorsement = b"" if lost else sshsig.sign(signer_of(root), sshsig.ROTATION_NAMESPACE, body)
    for name, data in (
        (f"{ROTATION}.sig", sshsig.sign(signer, sshsig.ROTATION_NAMESPACE, body)),
        (f"{ROTATION}.old.sig", endorsement),
        (ROTATION, body),
    ):
        write_durable(root / name, data)
    state.trust(
        [
            TrustedSigner(
                principal=f"controller:{token.controller}",
                namespaces=(sshsig.ORDER_NAMESPACE,),
                public_line=token.order_key,
            )
        ]
    )
    keep(root, fresh)
    if isinstance(before, FileKey):
        (root / before.name).unlink(missing_ok=True)
    return signer.public_line


def _check(state: State, token: EnrolmentToken) -> None:
    principals = {signer.principal for signer in state.trusted()}
    if f"controller:{token.controller}" not in principals:
        raise EnrolmentError(
            f"The token is from {token.controller}, which this machine is not enrolled with.",
            "Use one of its own controller: expunge keys rotate MACHINE",
        )
    if waiting := len(Outbox(state.root).pending()):
        raise RefusedError(
            f"{waiting} receipts signed with the present key wait for the controller; it would not believe them any more.",
            "Connect first (expunge-agent serve), then change the key.",
        )
    if state.unfinished():
        raise RefusedError(
            "Orders were handed in that have no receipt yet.",
            "Carry them out first: expunge-agent run --pending",
        )


def _try(root: Path) -> None:
    """Before a new key is made: whether the present one will sign it."""
    try:
        probe(signer_of(root))
    except ExpungeError as error:
        raise SigningKeyError(
            f"The present key would not sign its successor: {error.message}",
            "Bring it back, or say that it is gone with --lost: then it is revoked.",
        ) from error
