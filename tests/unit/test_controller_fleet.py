"""Enrolment: a token works once, in time, for one machine; copied keys and foreign ids are refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from expunge_agent.errors import (
    DocumentError,
    EnrolmentError,
    PeerIdentityError,
    UsageError,
    VerificationError,
)
from expunge_agent.protocol import canonical
from expunge_agent.protocol.enrolment import EnrolmentToken, parse_token
from expunge_controller import fleet
from expunge_controller.context import Controller
from expunge_controller.store.rows import MachineRow, Reach, SshAddress
from support.controllers import FakeAgent, enrolled, fresh_machine_id, now

HOUR = timedelta(hours=1)
ADDRESS = SshAddress(user="expunge", host="store-17.example", port=22, host_key="SHA256:" + "A" * 43)


def token_for(controller: Controller, name: str = "alpha", valid_for: timedelta = HOUR) -> EnrolmentToken:
    return fleet.create_token(controller, name, valid_for=valid_for, ssh=None, now=now())


def enrol(
    controller: Controller,
    agent: FakeAgent,
    token: EnrolmentToken,
    after: timedelta = timedelta(0),
    **changes: object,
) -> MachineRow:
    body, signature = agent.enrolment(token, **changes)
    return fleet.enrol(
        controller, body, signature, proven_key=agent.dial_line, dialled=None, now=now() + after
    )


def machines(controller: Controller) -> list[MachineRow]:
    with controller.store.read() as unit:
        return unit.fleet.machines()


def test_a_machine_enrols_and_its_document_is_kept(controller: Controller) -> None:
    agent = FakeAgent()
    token = parse_token(token_for(controller).text())
    row = enrol(controller, agent, token)
    assert machines(controller) == [row]
    assert (row.name, row.reach, row.signing_key) == ("alpha", Reach.DIAL_IN, agent.signing.public_line)
    assert canonical.parse(row.enrolment)["machine_id"] == agent.machine_id


def test_the_secret_is_nowhere_in_the_folder(controller: Controller) -> None:
    token = token_for(controller)
    for path in controller.home.path.rglob("*"):
        assert not path.is_file() or token.secret.encode() not in path.read_bytes()


def test_a_token_works_once(controller: Controller) -> None:
    token = token_for(controller)
    enrol(controller, FakeAgent(), token)
    with pytest.raises(EnrolmentError, match="used already"):
        enrol(controller, FakeAgent(machine_id=fresh_machine_id()), token)
    assert len(machines(controller)) == 1


def test_asking_again_with_the_same_keys_gives_the_same_answer(controller: Controller) -> None:
    """The answer got lost, not the enrolment."""
    agent, token = FakeAgent(), token_for(controller)
    first = enrol(controller, agent, token)
    assert enrol(controller, agent, token, after=2 * HOUR).name == first.name


def test_a_token_expires(controller: Controller) -> None:
    token = token_for(controller)
    with pytest.raises(EnrolmentError, match="expired"):
        enrol(controller, FakeAgent(), token, after=HOUR)
    assert machines(controller) == []


def test_an_unknown_token_is_refused(controller: Controller) -> None:
    token = token_for(controller)
    with pytest.raises(EnrolmentError, match="not known"):
        enrol(controller, FakeAgent(), token, secret="0" * 32)


def test_a_newer_token_for_the_name_replaces_the_older(controller: Controller) -> None:
    older, newer = token_for(controller), token_for(controller)
    with pytest.raises(EnrolmentError, match="not known"):
        enrol(controller, FakeAgent(), older)
    enrol(controller, FakeAgent(), newer)


def test_a_taken_name_gets_no_token(controller: Controller) -> None:
    enrolled(controller, FakeAgent())
    with pytest.raises(EnrolmentError, match="enrolled already"):
        token_for(controller)
    with pytest.raises(UsageError):
        token_for(controller, "no good name")


def test_the_same_machine_does_not_enrol_under_a_second_name(controller: Controller) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    with pytest.raises(EnrolmentError, match="already, as alpha"):
        enrol(controller, agent, token_for(controller, "beta"))


def test_a_machine_id_cannot_be_taken_over_with_other_keys(controller: Controller) -> None:
    enrolled(controller, FakeAgent())
    with pytest.raises(EnrolmentError, match="already, as alpha"):
        enrol(controller, FakeAgent(), token_for(controller, "beta"))


def test_a_copied_agent_key_does_not_enrol_a_second_machine(controller: Controller) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    copy = FakeAgent(machine_id=fresh_machine_id(), world=agent.world)
    with pytest.raises(PeerIdentityError, match="belongs to the machine alpha"):
        enrol(controller, copy, token_for(controller, "beta"))
    copy = FakeAgent(machine_id=fresh_machine_id(), dial_private=agent.dial_private)
    with pytest.raises(PeerIdentityError, match="belongs to the machine alpha"):
        enrol(controller, copy, token_for(controller, "beta"))
    assert len(machines(controller)) == 1


def test_the_dial_key_must_be_the_one_that_was_proven(controller: Controller) -> None:
    agent, token = FakeAgent(), token_for(controller)
    body, signature = agent.enrolment(token)
    with pytest.raises(PeerIdentityError, match="another dial key"):
        fleet.enrol(controller, body, signature, proven_key=FakeAgent().dial_line, dialled=None, now=now())


def test_the_document_must_be_signed_with_the_key_it_names(controller: Controller) -> None:
    agent, token = FakeAgent(), token_for(controller)
    with pytest.raises(VerificationError, match="not signed with the key"):
        enrol(controller, agent, token, signing_key=FakeAgent().signing.public_line)
    body, signature = agent.enrolment(token)
    with pytest.raises(VerificationError):
        fleet.enrol(
            controller,
            body.replace(b"store-17", b"store-18"),
            signature,
            proven_key=agent.dial_line,
            dialled=None,
            now=now(),
        )
    with pytest.raises(DocumentError):
        fleet.enrol(controller, body[:-1], signature, proven_key=None, dialled=None, now=now())
    assert machines(controller) == []


def test_a_token_for_a_dialled_machine_is_no_good_for_calling_in(controller: Controller) -> None:
    token = fleet.create_token(controller, "alpha", valid_for=HOUR, ssh=ADDRESS, now=now())
    assert (token.host, token.port) == ("", 0)
    with pytest.raises(EnrolmentError, match="only for the machine that the controller dials"):
        enrol(controller, FakeAgent(), token)
    with controller.store.read() as unit:
        pending = fleet.pending_ssh(unit, now())
    body, signature = FakeAgent().enrolment(token)
    row = fleet.enrol(controller, body, signature, proven_key=None, dialled=pending[0], now=now())
    assert (row.reach, row.ssh) == (Reach.SSH, ADDRESS)


def test_a_token_for_calling_in_is_no_good_on_a_dialled_machine(controller: Controller) -> None:
    fleet.create_token(controller, "alpha", valid_for=HOUR, ssh=ADDRESS, now=now())
    with controller.store.read() as unit:
        pending = fleet.pending_ssh(unit, now())
    body, signature = FakeAgent().enrolment(token_for(controller, "beta"))
    with pytest.raises(EnrolmentError, match="calls in"):
        fleet.enrol(controller, body, signature, proven_key=None, dialled=pending[0], now=now())


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("store-17", "", "store-17", 0),
        ("root@store-17:2222", "root", "store-17", 2222),
        ("u@[fd00::17]:22", "u", "fd00::17", 22),
        ("fd00::17", "", "fd00::17", 0),
    ],
)
def test_ssh_addresses(text: str, user: str, host: str, port: int) -> None:
    assert fleet.ssh_address(text, "k") == SshAddress(user=user, host=host, port=port, host_key="k")


@pytest.mark.parametrize("text", ["", "@host", "u@", "host:0", "host:99999", "host:x", "-oProxyCommand=x"])
def test_what_is_no_ssh_address(text: str) -> None:
    with pytest.raises(UsageError):
        fleet.ssh_address(text, "k")
