"""Key events: which may follow which, and the times that follow from them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol.trust import TrustedSigner, format_allowed_signers, parse_allowed_signers
from expunge_controller.bundle import SignedBytes
from expunge_controller.records.key_event import (
    NEVER,
    KeyEventKind,
    check_chain,
    current_key,
    parse_key_event,
    signers_of,
)
from support.evidence import MACHINE, World, at
from support.logs import fresh_signer

WHO = f"agent:{MACHINE}"
K1, K2, K3 = (fresh_signer().public_line for _ in range(3))


def chain(*steps: dict[str, Any]) -> list[bytes]:
    """Events with these fields, each following the one before; ``at`` is in seconds."""
    world, made = World(), list[SignedBytes]()
    for step in steps:
        fields = {name: value for name, value in step.items() if name != "principal"}
        fields |= {"at": at(step["at"]), "since": at(step.get("since", step["at"]))}
        made.append(world.key_event(step.get("principal", WHO), made, **fields))
    return [event.body for event in made]


def enrolled(when: int, key: str = K1) -> dict[str, Any]:
    return {"at": when, "key": key}


def rotated(when: int, key: str = K1, to: str = K2) -> dict[str, Any]:
    return {"event": KeyEventKind.ROTATED, "at": when, "key": key, "successor": to}


def revoked(when: int, key: str = K1) -> dict[str, Any]:
    return {"event": KeyEventKind.REVOKED, "at": when, "key": key}


def compromised(when: int, since: int, key: str = K1) -> dict[str, Any]:
    return {"event": KeyEventKind.COMPROMISED, "at": when, "since": since, "key": key}


def windows(*steps: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(s.public_line, s.valid_after, s.valid_before) for s in signers_of(check_chain(chain(*steps)))]


def test_the_windows_that_follow() -> None:
    assert windows(enrolled(0)) == [(K1, "", "")]
    assert windows(enrolled(0), rotated(100)) == [(K1, "", at(100)), (K2, at(100), "")]
    assert windows(enrolled(0), revoked(100)) == [(K1, "", at(100))]
    assert windows(enrolled(0), revoked(100), enrolled(200, K2)) == [(K1, "", at(100)), (K2, at(200), "")]
    assert windows(enrolled(0), compromised(100, 50)) == [(K1, "", at(49))]
    # Known to be stolen only after it was replaced: its time shrinks, and never grows again.
    assert windows(enrolled(0), rotated(100), compromised(200, 60)) == [(K1, "", at(59)), (K2, at(100), "")]
    assert windows(enrolled(0), compromised(100, 50), compromised(200, 80)) == [(K1, "", at(49))]
    # A key that was never good is listed, so that what it signed can be shown, and never counts.
    assert windows(enrolled(0), rotated(100), compromised(300, 90, K2))[1] == (K2, "", NEVER)
    assert windows(enrolled(0), rotated(100), revoked(100, K2))[1] == (K2, "", NEVER)


def test_the_key_of_now() -> None:
    def now(*steps: dict[str, Any]) -> str:
        return current_key(check_chain(chain(*steps)))

    assert now() == ""
    assert now(enrolled(0)) == K1
    assert now(enrolled(0), rotated(1)) == K2
    assert now(enrolled(0), rotated(1), compromised(2, 0)) == K2, "the old one was stolen, not the new one"
    assert now(enrolled(0), rotated(1), compromised(2, 1, K2)) == ""
    assert now(enrolled(0), revoked(1)) == ""
    assert now(enrolled(0), revoked(1), enrolled(2, K3)) == K3


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ((rotated(0),), "never came"),
        ((enrolled(0), enrolled(1, K2)), "a key is there already"),
        ((enrolled(0), revoked(1), enrolled(2)), "was there before"),
        ((enrolled(0), rotated(1), rotated(2, K2, K1)), "was there before"),
        ((enrolled(0), revoked(1), rotated(2)), "over already"),
        ((enrolled(0), rotated(1), revoked(2)), "over already"),
        ((enrolled(10), revoked(5)), "older than"),
        ((enrolled(0), compromised(5, 6)), "another time"),
        ((enrolled(0), {**revoked(5), "since": 4}), "another time"),
        ((enrolled(0), {**revoked(5), "successor": K2}), "only a rotation"),
        ((enrolled(0), {**rotated(5), "successor": ""}), "only a rotation"),
        ((enrolled(0), {**revoked(5), "principal": "agent:" + "9" * 32}), "another principal"),
    ],
)
def test_what_cannot_follow(steps: tuple[dict[str, Any], ...], problem: str) -> None:
    with pytest.raises(VerificationError, match=problem):
        check_chain(chain(*steps))


def test_an_event_taken_out_or_changed_breaks_the_chain() -> None:
    bodies = chain(enrolled(0), rotated(1), rotated(2, K2, K3))
    assert len(check_chain(bodies)) == 3
    for wrong in ([bodies[0], bodies[2]], bodies[1:], [bodies[1], bodies[0]]):
        with pytest.raises(VerificationError, match="does not follow"):
            check_chain(wrong)
    with pytest.raises(DocumentError, match="canonical"):
        parse_key_event(bodies[0].replace(b":", b": ", 1))


def test_windows_are_written_and_read_as_ssh_keygen_has_them() -> None:
    signer = signers_of(check_chain(chain(enrolled(0), rotated(100), revoked(200, K2))))[1]
    text = format_allowed_signers([signer])
    assert text == (
        f'{WHO} namespaces="expunge-receipt",valid-after="20260302093140Z",valid-before="20260302093320Z" {K2}\n'
    )
    assert parse_allowed_signers(text) == [signer]
    (day,) = parse_allowed_signers(text.replace("20260302093140Z", "20260302Z"))
    assert day.valid_after == "2026-03-02T00:00:00Z"


@pytest.mark.parametrize(
    "time", ["20260302080140", "20261302Z", "2026Z", "20260302080160Z", "202603020801 0Z"]
)
def test_a_time_that_is_none_or_not_utc_is_explained(time: str) -> None:
    with pytest.raises(DocumentError, match="line 1"):
        parse_allowed_signers(f'{WHO} namespaces="expunge-receipt",valid-before="{time}" {K1}\n')


def test_both_ends_of_a_window_count() -> None:
    signer = TrustedSigner(
        principal=WHO, namespaces=(), public_line=K1, valid_after=at(10), valid_before=at(20)
    )
    assert [signer.is_good_at(at(second)) for second in (9, 10, 20, 21)] == [False, True, True, False]
    assert not signer.is_good_at("")
    assert not msgspec.structs.replace(signer, valid_after="").is_good_at("")
    assert msgspec.structs.replace(signer, valid_after="", valid_before="").is_good_at("")
