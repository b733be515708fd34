"""Keys in a controller's life: enrolled, rotated with and without the old one, revoked, compromised; its own."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from expunge_agent.errors import (
    BusyError,
    EnrolmentError,
    PeerIdentityError,
    RefusedError,
    StateError,
    UsageError,
    VerificationError,
)
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.enrolment import EnrolmentToken
from expunge_agent.protocol.rotation import KeyRotation
from expunge_agent.protocol.sshsig import Signer
from expunge_controller import bundling, files, fleet, intake, key_history, log_audit, rotating
from expunge_controller.bundle import bundle_files
from expunge_controller.context import Controller, opened
from expunge_controller.records import key_check
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.findings import Status, failures
from expunge_controller.records.key_event import KeyEventKind
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.store.rows import MachineRow, OrderRow
from support.controllers import FakeAgent, disk, enrolled, fresh_machine_id, now, ordered
from support.logs import fresh_signer

HOUR = timedelta(hours=1)


@pytest.fixture
def agent(controller: Controller) -> FakeAgent:
    made = FakeAgent()
    enrolled(controller, made)
    return made


def machine_of(controller: Controller) -> MachineRow:
    with controller.store.read() as unit:
        return fleet.machine_named(unit, "alpha")


def kinds(controller: Controller, principal: str | None = None) -> list[str]:
    who = principal or fleet.agent_principal(machine_of(controller).machine_id)
    with controller.store.read() as unit:
        return [str(event.event) for event in key_history.events_of(unit, who)]


def token_for(controller: Controller, at: datetime | None = None) -> EnrolmentToken:
    return rotating.rotation_token(controller, machine_of(controller), valid_for=HOUR, now=at or now())


def rotation(
    agent: FakeAgent, token: EnrolmentToken, new: Signer, endorsed: bool = True, **changes: object
) -> tuple[bytes, bytes, bytes]:
    """What a machine sends."""
    body, signature, endorsement = agent.rotation(new, token.secret, **changes)
    return body, signature, endorsement if endorsed else b""


def take(controller: Controller, agent: FakeAgent, document: tuple[bytes, bytes, bytes]) -> MachineRow:
    return rotating.take_rotation(controller, agent.machine_id, *document, now())


def order_for(controller: Controller, machine: MachineRow, number: int) -> OrderRow:
    """An order for a disk of its own."""
    return ordered(controller, machine, disk(number))


def wiped(
    controller: Controller, agent: FakeAgent, disk: int, counter: int = 1
) -> tuple[OrderRow, list[str]]:
    """An order carried out, and why its receipt was kept aside."""
    order = order_for(controller, machine_of(controller), disk)
    previous = machine_of(controller).last_digest or "0" * 64
    receipt = agent.receipt(
        order.body, counter=canonical.U64(counter), previous=previous, nonce=f"{disk:032x}"
    )
    stored = intake.store_receipt(controller, agent.machine_id, *receipt, now=now())
    return order, list(stored.reasons)


def checked(controller: Controller, order: OrderRow) -> dict[str, Status]:
    parts = bundling.collect(controller, order.order_id, 0, now())
    with controller.store.read() as unit:
        signers = key_history.signers(unit)
    steps = verify_bundle(bundle_files(parts), signers, page=certificate_html, readme=readme, profiles={})
    assert [step.title for step in failures(steps)] in ([], [key_check.GOOD]), failures(steps)
    return {step.title: step.status for step in steps}


def sound(controller: Controller) -> None:
    assert not failures(log_audit.check_own(controller, []))


def test_the_first_events(controller: Controller, agent: FakeAgent) -> None:
    assert kinds(controller, controller.principal) == kinds(controller) == ["enrolled"]
    with controller.store.read() as unit:
        (event,) = key_history.events_of(unit, fleet.agent_principal(agent.machine_id))
        signers = key_history.signers(unit)
    assert event.evidence == canonical.sha256_hex(machine_of(controller).enrolment)
    assert [signer.principal for signer in signers] == [controller.principal, f"agent:{agent.machine_id}"]
    assert not any(signer.has_window for signer in signers)
    sound(controller)


def test_keys_from_before_there_were_events(controller: Controller, agent: FakeAgent) -> None:
    """As after a migration: they get theirs when the folder is opened, once."""
    with controller.store.write() as unit:
        connection = unit.keys._connection
        for name in ("update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER key_events_no_{name}")
        connection.exec_driver_sql("DELETE FROM key_events")
    with controller.store.read() as unit:
        assert unit.keys.principals() == []
    for _ in range(2):
        key_history.begin(controller, now())
        assert kinds(controller, controller.principal) == kinds(controller) == ["enrolled"]


def test_a_key_signs_its_successor(controller: Controller, agent: FakeAgent) -> None:
    order, aside = wiped(controller, agent, 1)
    assert not aside
    fresh = fresh_signer()
    document = rotation(agent, token_for(controller), fresh)
    assert take(controller, agent, document).signing_key == fresh.public_line
    assert take(controller, agent, document).signing_key == fresh.public_line, "asked again"
    assert kinds(controller) == ["enrolled", "rotated"]
    assert checked(controller, order)[key_check.GOOD] is Status.PASSED
    # The old key's receipts do not count any more, the new one's do.
    _, aside = wiped(controller, agent, 2, 2)
    assert "not trusted" in aside[0]
    agent.world.agent = fresh
    order, aside = wiped(controller, agent, 3, 2)
    assert not aside
    assert checked(controller, order)[key_check.GOOD] is Status.PASSED
    sound(controller)


def test_without_the_old_key_it_is_revoked_and_the_new_one_enrolled(
    controller: Controller, agent: FakeAgent
) -> None:
    take(controller, agent, rotation(agent, token_for(controller), fresh_signer(), endorsed=False))
    assert kinds(controller) == ["enrolled", "revoked", "enrolled"]


def test_a_rotation_needs_a_token_of_this_machine_in_time(controller: Controller, agent: FakeAgent) -> None:
    other = FakeAgent(machine_id=fresh_machine_id())
    enrolled(controller, other, "beta")
    with controller.store.read() as unit:
        beta = fleet.machine_named(unit, "beta")
    foreign = rotating.rotation_token(controller, beta, valid_for=HOUR, now=now())
    with pytest.raises(EnrolmentError, match="without a token"):
        take(controller, agent, rotation(agent, foreign, fresh_signer()))
    late = token_for(controller, now() - 2 * HOUR)
    with pytest.raises(EnrolmentError, match="expired"):
        take(controller, agent, rotation(agent, late, fresh_signer()))
    older, newer = token_for(controller), token_for(controller)
    with pytest.raises(EnrolmentError, match="without a token"):
        take(controller, agent, rotation(agent, older, fresh_signer()))
    # The grant is for this very key: whoever reads the document cannot put another into it.
    body, _, _ = rotation(agent, newer, fresh_signer())
    thief = fresh_signer()
    changed = replace(canonical.loads(body, KeyRotation), new_key=thief.public_line)
    stolen = canonical.dumps(changed)
    with pytest.raises(EnrolmentError, match="without a token"):
        take(controller, agent, (stolen, sshsig.sign(thief, sshsig.ROTATION_NAMESPACE, stolen), b""))
    take(controller, agent, rotation(agent, newer, fresh_signer()))
    with pytest.raises(EnrolmentError, match="used already"):
        take(controller, agent, rotation(agent, newer, fresh_signer()))
    sound(controller)


def test_bad_rotations(controller: Controller, agent: FakeAgent) -> None:
    token = token_for(controller)
    body, _, old = rotation(agent, token, fresh_signer())
    with pytest.raises(VerificationError, match="key that it names"):
        take(controller, agent, (body, sshsig.sign(agent.signing, sshsig.ROTATION_NAMESPACE, body), old))
    other = FakeAgent(machine_id=fresh_machine_id())
    enrolled(controller, other, "beta")
    with pytest.raises(PeerIdentityError, match="was that of"):
        take(controller, agent, rotation(agent, token, other.signing))
    with pytest.raises(PeerIdentityError, match="another machine"):
        take(controller, other, rotation(agent, token, fresh_signer()))
    assert kinds(controller) == ["enrolled"]


def test_a_token_for_a_key_enrols_no_machine(controller: Controller, agent: FakeAgent) -> None:
    token = token_for(controller)
    stranger = FakeAgent(machine_id=fresh_machine_id())
    with pytest.raises(EnrolmentError, match="new signing key"):
        fleet.enrol(
            controller,
            *stranger.enrolment(token),
            proven_key=stranger.dial_line,
            dialled=None,
            now=now(),
        )


def test_a_former_key_does_not_come_back(controller: Controller, agent: FakeAgent) -> None:
    take(controller, agent, rotation(agent, token_for(controller), fresh_signer()))
    copy = FakeAgent(machine_id=fresh_machine_id(), world=agent.world)
    with pytest.raises(PeerIdentityError, match="is or was that of"):
        enrolled(controller, copy, "beta")


def test_a_revoked_machine_gets_no_order_and_is_not_believed(
    controller: Controller, agent: FakeAgent
) -> None:
    order, _ = wiped(controller, agent, 1)
    waiting = order_for(controller, machine_of(controller), 2)
    key_history.revoke(controller, machine_of(controller), reason="sold", actor="A", now=now())
    with pytest.raises(RefusedError, match="was revoked"):
        order_for(controller, machine_of(controller), 3)
    previous = machine_of(controller).last_digest
    receipt = agent.receipt(waiting.body, counter=canonical.U64(2), previous=previous, nonce=f"{2:032x}")
    stored = intake.store_receipt(controller, agent.machine_id, *receipt, now=now())
    assert "not trusted" in stored.reasons[0]
    assert checked(controller, order)[key_check.GOOD] is Status.PASSED
    with pytest.raises(RefusedError, match="over already"):
        key_history.revoke(controller, machine_of(controller), reason="again", actor="A", now=now())
    take(controller, agent, rotation(agent, token_for(controller), fresh_signer()))
    assert kinds(controller) == ["enrolled", "revoked", "enrolled"], "a revoked key signs no successor"
    order_for(controller, machine_of(controller), 3)
    sound(controller)


def test_a_compromised_key(controller: Controller, agent: FakeAgent) -> None:
    order, _ = wiped(controller, agent, 1)
    machine = machine_of(controller)

    def say(since: datetime, fingerprint: str = "") -> None:
        key_history.compromised(
            controller, machine, since=timestamp(since), fingerprint=fingerprint, reason="r", actor="A", now=now()
        )  # fmt: skip

    with pytest.raises(UsageError, match="still to come"):
        say(now() + HOUR)
    with pytest.raises(UsageError, match="never had"):
        say(now(), "SHA256:" + "A" * 43)
    with controller.store.read() as unit:
        assert len(key_history.events_of(unit, fleet.agent_principal(machine.machine_id))) == 1
    say(now() - HOUR)
    assert checked(controller, order)[key_check.GOOD] is Status.FAILED
    with pytest.raises(RefusedError, match="was revoked"):
        order_for(controller, machine, 3)
    sound(controller)


def test_the_controllers_own_key(controller: Controller, agent: FakeAgent) -> None:
    before, _ = wiped(controller, agent, 1)
    old = controller.signer.public_line
    with (
        files.locked(controller.home.serve_lock, "x", "y"),
        pytest.raises(BusyError, match="Another process"),
    ):
        rotating.rotate_controller(controller, reason="", actor="A", now=now())
    line = rotating.rotate_controller(controller, reason="yearly", actor="A", now=now())
    assert line != old
    assert (controller.home.keys / "order_key.pub").read_text().startswith(line)
    assert not controller.home.next_order_key.exists()
    with opened(controller.home) as again:
        assert again.signer.public_line == line
        assert checked(again, before)[key_check.GOOD] is Status.PASSED
        order, aside = wiped(again, agent, 2, 2)
        assert not aside
        assert checked(again, order)[key_check.IN_TIME] is Status.PASSED
        sound(again)


def test_the_controllers_key_was_stolen(controller: Controller, agent: FakeAgent) -> None:
    wiped(controller, agent, 1)
    rotating.rotate_controller(
        controller,
        reason="a backup was stolen",
        actor="A",
        now=now(),
        compromised_since=timestamp(now() - HOUR),
    )
    assert kinds(controller, controller.principal) == ["enrolled", "rotated", "compromised"]
    with controller.store.read() as unit:
        old, new = key_history.signers(unit, controller.principal)
    assert old.valid_before < timestamp(now() - HOUR + timedelta(seconds=5))
    assert new.valid_after


def test_a_rotation_that_was_broken_off_is_ended_or_forgotten(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, old = controller.home, controller.signer.public_line
    with monkeypatch.context() as patch:
        patch.setattr(key_history, "append", lambda *_args, **_more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rotating.rotate_controller(controller, reason="", actor="A", now=now())
    with opened(home) as again:
        assert again.signer.public_line == old, "nothing was recorded"
    with monkeypatch.context() as patch:
        patch.setattr(key_history, "settle", lambda *_: None)
        line = rotating.rotate_controller(controller, reason="", actor="A", now=now())
    with opened(home) as again:
        assert again.signer.public_line == line


def test_another_order_key_put_into_the_folder_is_noticed(controller: Controller) -> None:
    from expunge_controller import keys

    controller.home.order_key.unlink()
    keys.ensure_key(controller.home.order_key, "x")
    with (
        pytest.raises(StateError, match="not the key that this controller's key events name"),
        opened(controller.home),
    ):
        pass


def test_a_compromise_is_an_event_of_its_kind(controller: Controller, agent: FakeAgent) -> None:
    assert {str(kind) for kind in KeyEventKind} == {"enrolled", "rotated", "revoked", "compromised"}
    with pytest.raises(RefusedError, match="never came"), controller.store.write() as unit:
        key_history.append(
            unit, controller, controller.principal, KeyEventKind.REVOKED,
            key=agent.signing.public_line, now=now(),
        )  # fmt: skip
