"""The log in a bundle: what an auditor finds when the log, its proof or its witnesses are not what they should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from expunge_controller.bundle import BundleParts, LogParts, bundle_files
from expunge_controller.bundle_read import read_log_policy
from expunge_controller.records import log_check, merkle, tiles
from expunge_controller.records.certificate import LogReference, freeze_certificate, parse_certificate
from expunge_controller.records.checkpoint import parse_proof
from expunge_controller.records.findings import Status, Step
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_policy import LogPolicy, Witness, format_policy, parse_policy
from expunge_controller.records.log_words import NO_WITNESS
from expunge_controller.records.note import COSIGNATURE, Note, format_note, key_of, parse_note, sign
from support.bundles import failed, steps_of
from support.evidence import World
from support.logs import WITNESSED_AT, LogWorld, fresh_signer


def check(parts: BundleParts, outside: LogOutside | None = None, **files: bytes) -> dict[str, Step]:
    made = {**bundle_files(parts), **files}
    made = {name: data for name, data in made.items() if data != b"LEFT OUT"}
    return steps_of(made, outside=outside)


def with_log(
    world: World, parts: BundleParts, log: LogParts | None, reference: LogReference | None = None
) -> BundleParts:
    """The bundle with another log, and with a certificate that says `reference` of it."""
    if log is not None:
        witnessed = bool(log.policy.witnesses)
        proofs = [world.log.proof(parts.receipt, place, witnessed=witnessed) for place in (1, 2)]
        events = [event._replace(proof=proof) for event, proof in zip(parts.key_events, proofs, strict=True)]
        parts = parts._replace(key_events=events)
    if reference is None:
        return parts._replace(log=log)
    return parts._replace(log=log, certificate=world.certificate(parts.receipt, world.order(), reference))


def test_everything_passes_with_the_auditors_own_policy(world: World, parts: BundleParts) -> None:
    steps = check(parts, LogOutside(world.log.policy))
    assert not failed(steps)
    assert steps[log_check.TRUSTED].status is Status.PASSED
    assert "audit.example/w1 at 2026-03-02" in steps[log_check.WITNESSED].detail
    assert steps[log_check.IN_LOG].detail == "entry 3 of 7"


def test_the_log_is_one_that_the_auditor_knows(world: World, parts: BundleParts) -> None:
    other = LogWorld()
    found = failed(check(parts, LogOutside(other.policy)))
    assert log_check.TRUSTED in found
    assert "0 of the 1 witnesses" in found[log_check.WITNESSED]


def test_an_unwitnessed_log_is_called_so(world: World, parts: BundleParts) -> None:
    reference = world.log.reference(parts.receipt, witnessed=False)
    made = with_log(world, parts, world.log.parts(parts.receipt, witnessed=False), reference)
    steps = check(made)
    assert not failed(steps)
    assert steps[log_check.WITNESSED].status is Status.SKIPPED
    certificate = parse_certificate(made.certificate.body if made.certificate else b"")
    assert "not independently witnessed" in certificate.assurance[0]
    assert "0 of the 1" in failed(check(made, LogOutside(world.log.policy)))[log_check.WITNESSED]


def test_a_certificate_cannot_claim_witnesses_that_did_not_sign(world: World, parts: BundleParts) -> None:
    reference = world.log.reference(parts.receipt)
    made = with_log(world, parts, world.log.parts(parts.receipt, witnessed=False), reference)
    assert "audit.example/w1 did not sign at" in failed(check(made))[log_check.NAMED]
    earlier = replace(reference.witnesses[0], at="2020-01-01T00:00:00Z")
    made = with_log(world, parts, parts.log, replace(reference, witnesses=[earlier]))
    assert "did not sign at 2020" in failed(check(made))[log_check.NAMED]
    made = with_log(world, parts, parts.log, replace(reference, required=2))
    assert "asks for 2 witnesses" in failed(check(made))[log_check.NAMED]


def test_a_certificate_must_say_it_in_words(world: World, parts: BundleParts) -> None:
    assert parts.certificate is not None
    certificate = parse_certificate(parts.certificate.body)
    silent = replace(certificate, assurance=[NO_WITNESS])
    body = world.by_controller("expunge-certificate", freeze_certificate(silent))
    assert "does not say who" in failed(check(parts._replace(certificate=body)))[log_check.NAMED]


def test_a_proof_from_another_tree_size(world: World, parts: BundleParts) -> None:
    seven, nine = world.log.parts(parts.receipt), world.log.parts(parts.receipt, size=9)
    assert parse_proof(nine.proof).hashes != parse_proof(seven.proof).hashes
    found = failed(check(with_log(world, parts, seven._replace(proof=nine.proof))))
    assert "another checkpoint" in found[log_check.IN_LOG]
    head, _, _ = nine.proof.partition(b"\n\n")
    mixed = head + b"\n\n" + seven.checkpoint
    found = failed(check(with_log(world, parts, seven._replace(proof=mixed))))
    assert "does not lead from the entry" in found[log_check.IN_LOG]
    found = failed(check(with_log(world, parts, nine)))
    assert "its witnesses signed another checkpoint" in found[log_check.NAMED]


def test_an_entry_of_another_receipt(world: World, parts: BundleParts) -> None:
    other = world.parts(nonce="e" * 32)
    found = failed(check(with_log(world, parts, world.log.parts(other.receipt))))
    assert {log_check.ENTRY_IS, log_check.IN_LOG} <= found.keys()


@pytest.mark.parametrize(
    "name", ["entry.txt", "receipt.tlog-proof", "checkpoint.txt", "trust/log-policy.toml"]
)
def test_a_file_of_the_log_left_out(parts: BundleParts, name: str) -> None:
    assert f"{name} is missing" in " ".join(failed(check(parts, **{name: b"LEFT OUT"})).values())


def test_the_log_left_out_altogether(world: World, parts: BundleParts) -> None:
    found = failed(check(with_log(world, parts, None)))
    assert found == {log_check.IN_LOG: "the bundle holds no log entry"}
    old = parts._replace(log=None, certificate=world.certificate(parts.receipt, world.order()))
    steps = check(old)
    assert not failed(steps), "a bundle from before there was a log"
    assert steps[log_check.IN_LOG].status is Status.SKIPPED
    assert log_check.IN_LOG in failed(check(old, LogOutside(world.log.policy)))


def test_a_certificate_from_before_the_log(world: World, parts: BundleParts) -> None:
    made = parts._replace(certificate=world.certificate(parts.receipt, world.order()))
    steps = check(made)
    assert not failed(steps)
    assert "before there was a log" in steps[log_check.NAMED].detail


def test_a_signature_by_an_unknown_key_has_no_place(world: World, parts: BundleParts) -> None:
    assert parts.log is not None
    note = parse_note(parts.log.checkpoint)
    signer = fresh_signer()
    stranger = sign(signer, key_of(signer, "stranger", COSIGNATURE), note.text, WITNESSED_AT)
    checkpoint = format_note(Note(note.text, (*note.signatures, stranger)))
    head, _, _ = parts.log.proof.partition(b"\n\n")
    log = parts.log._replace(checkpoint=checkpoint, proof=head + b"\n\n" + checkpoint)
    assert "not named here" in failed(check(with_log(world, parts, log)))[log_check.SIGNED]


def test_a_checkpoint_that_only_the_witness_signed(world: World, parts: BundleParts) -> None:
    assert parts.log is not None
    note = parse_note(parts.log.checkpoint)
    checkpoint = format_note(Note(note.text, note.signatures[1:]))
    head, _, _ = parts.log.proof.partition(b"\n\n")
    log = parts.log._replace(checkpoint=checkpoint, proof=head + b"\n\n" + checkpoint)
    assert "did not sign it" in failed(check(with_log(world, parts, log)))[log_check.SIGNED]


def test_one_key_cannot_be_two_witnesses(world: World) -> None:
    twice = Witness(key=world.log.witness_key._replace(name="another.example/w"))
    text = format_policy(LogPolicy((world.log.key,), (*world.log.policy.witnesses, twice), 2))
    with pytest.raises(Exception, match="a key stands in it twice"):
        parse_policy(text)


def mirror(tree: merkle.MemoryTree) -> LogOutside:
    """A copy of the log in memory, whose head is that of the whole tree."""

    def read(tile: tiles.Tile) -> bytes:
        return tiles.tile_bytes(tile, tree.node)

    return LogOutside(copy=read)


def test_a_forked_log_is_found_by_a_checkpoint_from_elsewhere(world: World, parts: BundleParts) -> None:
    log = world.log
    same, fork = log.tree(parts.receipt, 12), log.tree(parts.receipt, 12, other=b" of a fork")
    steps = check(parts, LogOutside(log.policy, (log.checkpoint(same, 7),)))
    assert steps[log_check.SHOWN].status is Status.PASSED
    found = failed(check(parts, LogOutside(log.policy, (log.checkpoint(fork, 7),))))
    assert "FORKED: at 7 entries" in found[log_check.SHOWN]
    # With another size nothing can be said without a copy, and that is said.
    steps = check(parts, LogOutside(log.policy, (log.checkpoint(fork, 12, time=WITNESSED_AT + 5),)))
    assert steps[log_check.SHOWN].status is Status.SKIPPED
    assert "only a copy" in steps[log_check.SHOWN].detail
    for tree, problem in ((same, ""), (fork, "FORKED: the copy has another root at 7")):
        seen = log.checkpoint(tree, 12, time=WITNESSED_AT + 5)
        outside = mirror(tree)._replace(policy=log.policy, seen=(seen,), copy_head=seen)
        assert problem in failed(check(parts, outside)).get(log_check.SHOWN, "")
        assert bool(failed(check(parts, outside))) is bool(problem)


def test_a_checkpoint_older_than_the_witness_had_seen(world: World, parts: BundleParts) -> None:
    """A smaller tree that the same witness signed later than a larger one: its history was rolled back."""
    log = world.log
    larger = log.checkpoint(log.tree(parts.receipt, 12), 12, time=WITNESSED_AT - 60)
    found = failed(check(parts, LogOutside(log.policy, (larger,))))
    assert "audit.example/w1 saw 7 entries at" in found[log_check.SHOWN]
    smaller = log.checkpoint(log.tree(parts.receipt), 5, time=WITNESSED_AT + 60)
    assert "saw 7 entries" in failed(check(parts, LogOutside(log.policy, (smaller,))))[log_check.SHOWN]


def test_a_copy_that_is_shorter_than_the_bundle(world: World, parts: BundleParts) -> None:
    tree = world.log.tree(parts.receipt)
    head = world.log.checkpoint(tree, 5, time=WITNESSED_AT - 60)
    outside = mirror(tree)._replace(policy=world.log.policy, copy_head=head)
    assert "the copy has 5 entries, a checkpoint 7" in failed(check(parts, outside))[log_check.SHOWN]


def test_checkpoints_of_others_do_not_count(world: World, parts: BundleParts) -> None:
    other = LogWorld()
    seen = other.checkpoint(other.tree(parts.receipt), 7)
    assert "not signed by this log" in failed(check(parts, LogOutside(seen=(seen,))))[log_check.SHOWN]
    assert "no signed note" in failed(check(parts, LogOutside(seen=(b"nothing",))))[log_check.SHOWN]


@pytest.fixture
def policy_file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "policy.toml"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("quorum = 1", "names 0 witnesses"),
        ("quorum = -1", "quorum"),
        ("[[log]]\nvkey = 'x'", "not a verifier key"),
        ("[[witness]]\nvkey = 'LOG'", "has not the type of key that a witness"),
        ("[[log]]\nvkey = 'WITNESS'", "has not the type of key that a log"),
        ("[[witness]]\nvkey = 'WITNESS'\nurl = 'ftp://x'", "not an http"),
        ("colour = 'red'", "unknown field"),
        ("quorum = ", "not right"),
    ],
)
def test_wrong_policies_are_explained(world: World, policy_file: Path, text: str, problem: str) -> None:
    policy_file.write_text(
        text.replace("LOG", world.log.key.text).replace("WITNESS", world.log.witness_key.text)
    )
    with pytest.raises(Exception, match=problem):
        read_log_policy(policy_file)
