"""What an auditor finds where the key that signed was rotated, revoked or compromised: before, after, and unproven."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from expunge_agent.protocol import sshsig
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.bundle import KeyEventParts, SignedBytes, bundle_files
from expunge_controller.records import key_check, merkle, tiles
from expunge_controller.records.findings import Status
from expunge_controller.records.key_event import KeyEventKind, check_chain, narrowed, signers_of
from expunge_controller.records.log_check import LogOutside
from support.bundles import failed, steps_of
from support.evidence import CONTROLLER, at, key_entry
from support.key_story import AGENT, Story, seen
from support.logs import WITNESSED_AT, fresh_signer


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


def test_a_key_that_is_still_good(story: Story) -> None:
    steps = steps_of(story.bundle(), outside=LogOutside(story.log.policy))
    assert not failed(steps)
    assert steps[key_check.GOOD].status is Status.PASSED
    assert steps[key_check.LOGGED].detail == "entry 1, entry 2"


@pytest.mark.parametrize("kind", [KeyEventKind.REVOKED, KeyEventKind.ROTATED])
@pytest.mark.parametrize("witnessed", [True, False])
def test_what_the_log_has_before_the_end_of_a_key_counts_and_nothing_after(
    kind: KeyEventKind, witnessed: bool
) -> None:
    story = Story()
    after = fresh_signer().public_line if kind is KeyEventKind.ROTATED else ""
    # A minute before the witness signed: no clock has to be believed, the place in the log says it.
    end = story.about(kind, seen(-60), successor=after)
    steps = steps_of(story.bundle((5, end), witnessed=witnessed))
    assert not failed(steps)
    assert steps[key_check.GOOD].status is Status.PASSED
    # The same event before the receipt, whatever times the documents give.
    early = Story()
    end = early.about(kind, seen(60), successor=after)
    files = moved_up(early, end, witnessed)
    assert "and the receipt is entry 3" in failed(steps_of(files))[key_check.GOOD]


def moved_up(story: Story, end: SignedBytes, witnessed: bool) -> dict[str, bytes]:
    """A bundle in whose log the controller's key is entry 0, the agent's 1, and `end` 2, before the receipt."""
    story.log.fixed = {
        0: key_entry(story.key_events[0]),
        1: key_entry(story.key_events[1]),
        2: key_entry(end),
    }
    parts = story.parts()
    reference = story.log.reference(parts.receipt, witnessed=witnessed)
    chain = [story.key_events[1].body, end.body]
    made = parts._replace(
        signers=narrowed(
            [*signers_of(check_chain([story.key_events[0].body])), *signers_of(check_chain(chain))], False
        ),
        certificate=story.certificate(parts.receipt, story.order(), reference),
        log=story.log.parts(parts.receipt, witnessed=witnessed),
        key_events=[
            KeyEventParts(*event, story.log.proof(parts.receipt, place, witnessed=witnessed))
            for place, event in enumerate([*story.key_events, end])
        ],
    )
    return bundle_files(made)


def test_a_compromised_key_counts_for_what_witnesses_saw_before(story: Story) -> None:
    """The event comes later in the log than the receipt: that proves nothing where the thief was there before."""
    for since, good in ((seen(1), True), (seen(0), False), (seen(-60), False), (at(-10), False)):
        event = story.about(KeyEventKind.COMPROMISED, seen(3600), since=since)
        found = failed(steps_of(story.bundle((5, event))))
        assert (key_check.GOOD not in found) is good, since
        if not good:
            assert "the log proves only that the receipt was there at" in found[key_check.GOOD]


def test_without_a_witness_their_own_times_must_fit_and_that_is_not_called_proven(story: Story) -> None:
    event = story.about(KeyEventKind.COMPROMISED, seen(3600), since=at(3000))
    steps = steps_of(story.bundle((5, event), witnessed=False))
    assert not failed(steps)
    assert steps[key_check.GOOD].status is Status.SKIPPED
    assert "no witness and no time stamp proves it" in steps[key_check.GOOD].detail
    # The auditor who asks for witnesses finds none.
    assert failed(steps_of(story.bundle((5, event), witnessed=False), outside=LogOutside(story.log.policy)))
    for since in (at(9), at(0), at(-100)):
        event = story.about(KeyEventKind.COMPROMISED, seen(3600), since=since)
        found = failed(steps_of(story.bundle((5, event), witnessed=False)))
        assert "and the receipt is of" in found[key_check.GOOD]


def test_the_auditors_newer_list_counts_against_an_older_bundle(story: Story) -> None:
    """The bundle was written before anybody knew."""
    files = story.bundle()

    def brought(**window: str) -> list[TrustedSigner]:
        return [story.controller_signer, replace(story.agent_signer, **window)]

    assert not failed(steps_of(files, brought(valid_before=seen(10))))
    assert key_check.GOOD in failed(steps_of(files, brought(valid_before=seen(-10))))
    assert key_check.GOOD in failed(steps_of(files, brought(valid_after=seen(86_400))))
    # The bundle knows of a theft, and the auditor of an earlier one.
    files = story.bundle((5, story.about(KeyEventKind.COMPROMISED, seen(3600), since=seen(60))))
    assert not failed(steps_of(files, brought(valid_before=seen(59))))
    assert key_check.GOOD in failed(steps_of(files, brought(valid_before=seen(-10))))


def test_a_receipt_signed_again_by_another_enrolled_agent(story: Story) -> None:
    files = story.bundle()
    thief = fresh_signer()
    other = TrustedSigner(
        principal="agent:" + "7" * 32,
        namespaces=(sshsig.RECEIPT_NAMESPACE,),
        public_line=thief.public_line,
    )
    files["receipt.json.sig"] = sshsig.sign(thief, sshsig.RECEIPT_NAMESPACE, files["receipt.json"])
    found = failed(steps_of(files, [*story.signers, other]))
    assert "its key is agent:7777" in found["the receipt is about the machine that signed it"]


def test_events_left_out_or_not_fitting_the_enclosed_keys(story: Story) -> None:
    event = story.about(KeyEventKind.REVOKED, seen(10))
    files = story.bundle((5, event))
    short = {name: data for name, data in files.items() if not name.startswith("key-events/003")}
    assert "is not what follows from them" in failed(steps_of(short))[key_check.WHOLE]
    gone = {name: data for name, data in files.items() if not name.startswith("key-events/")}
    assert "no event says why" in failed(steps_of(gone))[key_check.WHOLE]
    swapped = {**files, "key-events/003.tlog-proof": files["key-events/002.tlog-proof"]}
    assert "003.tlog-proof" in failed(steps_of(swapped))[key_check.LOGGED]
    stray = {**files, "key-events/004.tlog-proof": files["key-events/002.tlog-proof"]}
    assert "004.tlog-proof proves nothing" in failed(steps_of(stray))[key_check.WHOLE]
    unproven = {name: data for name, data in files.items() if name != "key-events/003.tlog-proof"}
    assert "003.tlog-proof" in failed(steps_of(unproven))[key_check.LOGGED]


def test_an_event_from_a_fork_is_found_with_a_copy_of_the_log(story: Story) -> None:
    """The revocation was entered in a history that others were not shown."""
    event = story.about(KeyEventKind.REVOKED, seen(10))
    files = story.bundle((5, event))
    receipt = SignedBytes(files["receipt.json"], files["receipt.json.sig"])

    def brought(tree: merkle.MemoryTree) -> LogOutside:
        def read(tile: tiles.Tile) -> bytes:
            return tiles.tile_bytes(tile, tree.node)

        head = story.log.checkpoint(tree, 9, time=WITNESSED_AT + 5)
        return LogOutside(story.log.policy, copy=read, copy_head=head)

    same = story.log.tree(receipt, 9)
    assert not failed(steps_of(files, outside=brought(same)))
    story.log.fixed.pop(5)
    assert "FORKED" in failed(steps_of(files, outside=brought(story.log.tree(receipt, 9))))[key_check.LOGGED]


def test_an_event_that_the_machine_signed_itself_is_none(story: Story) -> None:
    event = story.key_event(
        AGENT,
        story.key_events[1:],
        by=story.agent,
        event=KeyEventKind.REVOKED,
        at=seen(10),
    )
    files = story.bundle()
    files |= {"key-events/003.json": event.body, "key-events/003.json.sig": event.signature}
    assert "not trusted for expunge-key-event" in failed(steps_of(files))[key_check.WHOLE]


def controller_story(since: str) -> dict[str, bytes]:
    """The controller's key replaced long after, and said to have been stolen since `since`."""
    story, fresh = Story(), fresh_signer()
    first = story.key_events[0]
    rotated = story.key_event(
        CONTROLLER,
        [first],
        key=story.controller.public_line,
        event=KeyEventKind.ROTATED,
        successor=fresh.public_line,
        at=seen(7200),
    )
    stolen = story.key_event(
        CONTROLLER,
        [first, rotated],
        by=fresh,
        key=story.controller.public_line,
        event=KeyEventKind.COMPROMISED,
        since=since,
        at=seen(7200),
    )
    return story.bundle(others=(rotated, stolen))


def test_what_a_stolen_controllers_key_signed() -> None:
    steps = steps_of(controller_story(seen(3600)))
    assert not failed(steps)
    assert steps[key_check.IN_TIME].status is Status.SKIPPED
    assert "compromised later, and dates itself" in steps[key_check.IN_TIME].detail
    found = failed(steps_of(controller_story(at(-90))))
    assert f"order.json is of {at(-60)}, its key counts until {at(-91)}" in found[key_check.IN_TIME]


def test_a_controllers_key_is_replaced_by_nobody_but_itself(story: Story) -> None:
    fresh = fresh_signer()
    forged = story.key_event(
        CONTROLLER,
        story.key_events[:1],
        by=fresh,
        key=story.controller.public_line,
        event=KeyEventKind.ROTATED,
        successor=fresh.public_line,
        at=seen(60),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("expunge_controller.bundle.readme", lambda files, signers: "")
        files = story.bundle(others=(forged,))
    assert "goes with its own signature" in failed(steps_of(files))[key_check.WHOLE]


def test_the_readme_names_the_time_where_it_matters(story: Story) -> None:
    plain = story.bundle()["README.txt"].decode()
    assert "verify-time" not in plain
    event = story.about(KeyEventKind.REVOKED, seen(10))
    text = story.bundle((5, event))["README.txt"].decode()
    assert text.count("-O verify-time=") == 1, "only the receipt's key has a window"
    assert "-n expunge-receipt -O verify-time=2026" in text
