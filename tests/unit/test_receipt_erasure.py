"""Receipts of drive commands: a good one passes, and whatever claims more than it shows has its own finding."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from expunge_agent.core.medium import MediumType
from expunge_agent.core.technique import BY_KEY, Technique, earns
from expunge_agent.engine import canaries as planted
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.receipt import Reason, Receipt, Refusal, TargetResult
from expunge_agent.protocol.receipt_erasure import MAX_ANSWERS, CellsRead, DriveAnswer, LaidOpen
from expunge_agent.protocol.receipt_parts import ByteRange, RangeProblem
from expunge_controller.records.canaries import canary_places, sample_places
from expunge_controller.records.consistency import evidence_problems
from expunge_controller.records.receipt_checks import KnownReceipts, check_receipt
from expunge_profiles.schema import Pass
from expunge_profiles.schema import Verification as ProfileVerification
from support.evidence import (
    CANARY_KEY,
    DISK,
    MACHINE,
    PROFILE,
    PURGE,
    SIZE,
    World,
    a_pass,
    a_read_back,
    a_verification,
    an_erasure,
    at,
    erased_result,
    some_canaries,
)

WORLD: Final = World()
TARGET: Final = Target(identity=DISK, hint="/dev/sdz")
BAD_RANGE: Final = RangeProblem(range=ByteRange(start=U64(4096), length=U64(4096)), what="I/O error")


def told_of(receipt: Receipt, order: bytes | None = None) -> str:
    """What the controller finds, empty where it takes the receipt."""
    signed = WORLD.signed_receipt(receipt)
    verdict = check_receipt(
        signed.body,
        signed.signature,
        agent_signers=[WORLD.agent_signer],
        order_body=order or WORLD.purge_order(),
        known=KnownReceipts(),
        delivered_by=MACHINE,
        profile=PURGE,
        second=WORLD.second_of(signed),
    )
    assert verdict.accepted is not bool(verdict.summary)
    return verdict.summary


def purged(**changes: Any) -> Receipt:
    return WORLD.purged(WORLD.purge_order(), **changes)


def ended_as(outcome: Outcome, **changes: Any) -> Receipt:
    fields: dict[str, Any] = {"outcome": outcome, "level_achieved": Level.NONE, "failure": "It broke."}
    return purged(**(fields | changes))


def problems(result: TargetResult) -> str:
    """What is wrong with this result alone, without order or profile."""
    receipt = WORLD.receipt(
        WORLD.purge_order(), targets=[result], outcome=result.outcome, level_achieved=result.level_achieved
    )
    return "; ".join(evidence_problems(receipt))


def test_a_clean_purge_is_taken() -> None:
    assert told_of(purged()) == ""


def test_an_order_for_clear_may_be_answered_by_a_purge() -> None:
    order = WORLD.purge_order(level=Level.CLEAR)
    assert told_of(WORLD.purged(order), order) == ""


def test_no_downgrade_passes_unless_the_order_allows_it() -> None:
    for allowed in (False, True):
        order = WORLD.purge_order(allow_downgrade=allowed)
        receipt = WORLD.purged(order, level_achieved=Level.CLEAR)
        assert ("where purge was ordered" in told_of(receipt, order)) is not allowed


LIES: Final[dict[str, dict[str, Any]]] = {
    # What the drive said.
    "neither accepted nor seen at work": {"accepted": False, "progress_seen": False},
    "its command ended as failed": {"ended": "failed"},
    "its command ended as running": {"ended": "running"},
    "its command ended as unknown": {"ended": "unknown"},
    "called not begun, yet it was accepted": {"ended": "not-begun"},
    "was begun 0 times": {"attempts": 0},
    "was begun -1 times": {"attempts": -1},
    "was not left usable": {"settled": False},
    "differs from before": {"changes": ["serial: before A, after B"]},
    "holds more than 200 answers": {"answers": [DriveAnswer(name="log")] * (MAX_ANSWERS + 1)},
    "yet the command nvme-sanitize-block is told": {"technique": "nvme-sanitize-block"},
    "'overwrite' is no command of a drive": {"technique": "overwrite"},
    "'shred' is no command of a drive": {"technique": "shred"},
    # Canaries.
    "no canary was looked for": {"canaries": None},
    "sanitized, yet 0 of": {"canaries": some_canaries(written=0, looked_for=0)},
    "sanitized, yet 9 of": {"canaries": some_canaries(written=9, looked_for=9)},
    "1 canaries and 0 samples of old data were still there": {"canaries": some_canaries(found=1)},
    "0 canaries and 1 samples of old data were still there": {"canaries": some_canaries(kept=1)},
    "3 canaries could not be read": {"canaries": some_canaries(unreadable=3)},
    "canaries were looked for": {"canaries": some_canaries(looked_for=7)},
    "7 canaries planned, its key makes": {"canaries": some_canaries(planned=7, written=7, looked_for=7)},
    "5000 canaries planned, its key makes": {"canaries": some_canaries(planned=5000)},
    "2000 canaries written": {"canaries": some_canaries(written=2000)},
    "2000 canaries looked for": {"canaries": some_canaries(looked_for=2000)},
    "2000 canaries found or unreadable": {"canaries": some_canaries(unreadable=2000)},
    "300 samples of old data": {"canaries": some_canaries(samples=300)},
    "270 samples that could tell, ": {"canaries": some_canaries(telling=270)},
    "201 samples still there": {"canaries": some_canaries(kept=201)},
    "a number of canaries is negative": {"canaries": some_canaries(telling=-1)},
    "its canaries have 512 bytes": {"canaries": some_canaries(block=512)},
    "1 offsets named, 0 found": {"canaries": some_canaries(found_at=[U64(0)])},
    # Read-back.
    "nothing was read back after the command": {"read_back": None},
    "demands a sampled read-back": {"read_back": None},
    "its read-back is not complete": {"read_back": a_read_back(complete=False)},
    "its read-back read 0 of": {
        "read_back": a_read_back(bytes_read=U64(0), zeros=U64(0), ones=U64(0), other=U64(0))
    },
    "read-back may have been served from a cache": {"read_back": a_read_back(reads_medium=False)},
    "4096 unreadable bytes, yet": {"read_back": a_read_back(unreadable_bytes=U64(4096))},
    "lists more unreadable bytes than it counts": {"read_back": a_read_back(unreadable=[BAD_RANGE])},
    "a full read-back of": {"read_back": a_read_back(kind="full")},
    "a sampled read-back of 0 bytes": {"read_back": a_read_back(bytes_expected=U64(0))},
    "without the seed, rule and block": {"read_back": a_read_back(seed="")},
    "and tells of": {"read_back": a_read_back(other=U64(0))},
    "read more than it should have": {"read_back": a_read_back(bytes_expected=U64(4096))},
    "read-back names bytes beyond": {
        "read_back": a_read_back(
            unreadable_bytes=U64(512),
            unreadable=[RangeProblem(range=ByteRange(start=U64(SIZE), length=U64(512)), what="x")],
        )
    },
    # Times.
    "target 1 command finishes before it starts": {"finished_at": at(0)},
    "target 1 read-back finishes before it starts": {"read_back": a_read_back(finished_at=at(1))},
}


@pytest.mark.parametrize("phrase", LIES)
def test_success_demands_all_of_its_evidence(phrase: str) -> None:
    assert phrase in told_of(purged(erasure=an_erasure(**LIES[phrase])))


@pytest.mark.parametrize("change", [{"rule": ""}, {"block": 0}])
def test_sampled_places_can_be_found_again(change: dict[str, Any]) -> None:
    lie = purged(erasure=an_erasure(read_back=a_read_back(**change)))
    assert "by which its places can be found again" in told_of(lie)


def test_accepted_or_seen_at_work_is_enough() -> None:
    """A command that ends at once is never seen at work; one found again after a crash may not be told accepted."""
    for change in ({"accepted": False}, {"progress_seen": False}):
        assert told_of(purged(erasure=an_erasure(**change))) == ""


def test_a_command_without_an_erasure_is_no_success() -> None:
    assert "no command of the drive is reported" in told_of(purged(erasure=None))
    never = ended_as(Outcome.FAILED, erasure=None)
    assert told_of(never) == ""


def test_passes_and_a_command_do_not_go_together() -> None:
    passes = {"passes": [a_pass(0), a_pass(1)], "verifications": [a_verification()]}
    assert "yet it tells of passes" in told_of(purged(**passes))
    assert "one of them is not true" in told_of(purged(**passes))
    assert "yet it tells of passes" in told_of(ended_as(Outcome.FAILED, erasure=None, **passes))
    overwritten = erased_result(TARGET, technique="overwrite", level_achieved=Level.CLEAR, **passes)
    assert "yet the command nvme-sanitize-crypto is told" in problems(overwritten)
    assert "it verifies passes" in told_of(purged(verifications=[a_verification()]))


def test_an_overwrite_may_tell_of_a_command_that_the_drive_did_not_take() -> None:
    rejected = an_erasure(
        accepted=False, progress_seen=False, ended="not-begun", canaries=None, read_back=None, settled=False
    )
    fields: dict[str, Any] = {
        "technique": "overwrite",
        "level_achieved": Level.CLEAR,
        "passes": [a_pass(0), a_pass(1)],
        "verifications": [a_verification()],
    }
    assert problems(erased_result(TARGET, erasure=rejected, **fields)) == ""
    assert "no command of a drive" in problems(
        erased_result(TARGET, erasure=replace(rejected, technique="overwrite"), **fields)
    )


def test_the_profile_decides_on_the_technique() -> None:
    for technique in ("nvme-format-crypto", "overwrite"):
        lie = purged(technique=technique, erasure=an_erasure(technique=technique))
        assert f"its technique is {technique}, the profile allows nvme-sanitize-crypto" in told_of(lie)
    receipt = WORLD.receipt(WORLD.order())
    assert "the profile allows nvme-sanitize-crypto" in " ".join(evidence_problems(receipt, PURGE))
    assert "the profile allows overwrite" in " ".join(evidence_problems(purged(), PROFILE))


def test_the_profile_decides_on_the_read_back() -> None:
    whole = a_read_back(
        kind="full",
        bytes_expected=U64(SIZE),
        bytes_read=U64(SIZE),
        zeros=U64(SIZE),
        ones=U64(0),
        other=U64(0),
        seed="",
        rule="",
        block=0,
    )
    full = replace(PURGE, verification=ProfileVerification(kind="full", after="last"))
    unasked = replace(PURGE, verification=ProfileVerification(kind="none"))
    assert "demands a full read-back" in " ".join(evidence_problems(purged(), full))
    for profile in (full, PURGE, unasked):
        assert evidence_problems(purged(erasure=an_erasure(read_back=whole)), profile) == []
    listed = purged(
        outcome=Outcome.EXCEPTIONS,
        level_achieved=Level.NONE,
        exceptions=["Nothing was read back."],
        erasure=an_erasure(read_back=None),
    )
    assert evidence_problems(listed, unasked) == []


def test_a_profile_of_both_takes_either() -> None:
    both = replace(
        PURGE,
        techniques=("nvme-sanitize-crypto", "overwrite"),
        passes=(Pass(fixed="00"), Pass(keyed_stream=True)),
    )
    assert evidence_problems(purged(), both) == []
    assert evidence_problems(WORLD.receipt(WORLD.order()), both) == []


@pytest.mark.parametrize("medium", [*MediumType, "raid volume", ""])
@pytest.mark.parametrize("technique", [one for one in Technique if one not in BY_KEY])
def test_no_level_beyond_what_the_technique_earns(technique: Technique, medium: str) -> None:
    """Every technique on every medium and every level, against the agent's table."""
    seen = erased_result(TARGET).medium
    assert seen is not None
    kind = MediumType(medium) if medium in list(MediumType) else MediumType.UNKNOWN
    for level in (Level.CLEAR, Level.PURGE):
        commanded = technique is not Technique.OVERWRITE
        fields: dict[str, Any] = {"technique": str(technique), "level_achieved": level}
        fields["medium"] = replace(seen, type=medium or "unknown") if medium else None
        if commanded:
            whole = a_read_back().bytes_read
            zeros = a_read_back(zeros=whole, ones=U64(0), other=U64(0))
            fields["erasure"] = an_erasure(technique=str(technique), read_back=zeros)
        else:
            fields |= {
                "erasure": None,
                "passes": [a_pass(0), a_pass(1)],
                "verifications": [a_verification()],
            }
        found = problems(erased_result(TARGET, **fields))
        assert bool(found) is not earns(technique, kind).reaches(level), (level, found)


def test_a_technique_of_no_table_earns_nothing() -> None:
    lie = erased_result(TARGET, technique="degauss", erasure=an_erasure(technique="degauss"))
    assert "'degauss' is none that is known" in problems(lie)


def test_exceptions_are_listed_and_never_hide_what_was_found() -> None:
    for change in (
        {"settled": False},
        {"canaries": some_canaries(written=9, looked_for=9)},
        {"canaries": some_canaries(unreadable=2)},
        {"read_back": a_read_back(unreadable_bytes=U64(4096), unreadable=[BAD_RANGE])},
        {"read_back": a_read_back(reads_medium=False)},
    ):
        honest = ended_as(
            Outcome.EXCEPTIONS, failure="", exceptions=["It is told."], erasure=an_erasure(**change)
        )
        assert told_of(honest) == "", change
        assert "none is listed" in told_of(
            ended_as(Outcome.EXCEPTIONS, failure="", erasure=an_erasure(**change))
        )
    for change, phrase in (
        ({"canaries": some_canaries(found=1)}, "were still there"),
        ({"canaries": some_canaries(kept=1)}, "were still there"),
        ({"canaries": None}, "no canary was looked for"),
        ({"changes": ["serial: before A, after B"]}, "differs from before"),
        ({"ended": "failed"}, "its command ended as failed"),
        ({"accepted": False, "progress_seen": False}, "neither accepted nor seen"),
        ({"read_back": a_read_back(complete=False)}, "not complete"),
    ):
        lie = ended_as(Outcome.EXCEPTIONS, failure="", exceptions=["x"], erasure=an_erasure(**change))
        assert phrase in told_of(lie), phrase


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INTERRUPTED, Outcome.UNKNOWN])
@pytest.mark.parametrize(
    "change",
    [
        {"ended": "failed", "canaries": some_canaries(found=9, found_at=[U64(0)])},
        {"ended": "done", "canaries": some_canaries(found=9, kept=4)},
        {"ended": "running", "canaries": None, "read_back": None, "finished_at": "", "settled": False},
        {"ended": "unknown", "canaries": None, "read_back": None, "attempts": 3},
        {"accepted": False, "progress_seen": False, "changes": ["it does not answer any more"]},
        # A drive that shows another size afterwards: places and ranges are those of that size.
        {
            "changes": ["apparent: before 1, after 2"],
            "canaries": some_canaries(planned=3, written=3, looked_for=3),
        },
        {"read_back": a_read_back(kind="full", seed="", block=0)},
    ],
)
def test_what_did_not_go_well_is_taken_as_it_is(outcome: Outcome, change: dict[str, Any]) -> None:
    receipt = ended_as(outcome, identity_after=None, erasure=an_erasure(**change))
    assert told_of(receipt) == ""
    lie = ended_as(outcome, identity_after=None, erasure=an_erasure(**change), level_achieved=Level.PURGE)
    assert f"{outcome} cannot achieve purge" in told_of(lie)


def test_no_command_goes_to_what_was_not_ordered() -> None:
    other = replace(DISK, serial="OTHER")
    lie = ended_as(Outcome.FAILED, identity_opened=other)
    assert "identity when opened: serial" in told_of(lie)
    planted_only = an_erasure(
        accepted=False, progress_seen=False, ended="not-begun", read_back=None, settled=False
    )
    lie = ended_as(Outcome.FAILED, identity_opened=None, erasure=planted_only)
    assert "identity when opened was not recorded" in told_of(lie)


def test_nothing_is_begun_on_what_was_refused() -> None:
    refusal = Refusal(reason=Reason.OTHER_NAMESPACES, detail="d")
    lie = ended_as(Outcome.REFUSED, failure="", refusal=refusal)
    assert "yet bytes were written" in told_of(lie)
    honest = ended_as(Outcome.REFUSED, failure="", refusal=refusal, erasure=None, technique="")
    assert told_of(honest) == ""


# Canaries: the same places from the document as from the agent's own code.

KEYS = st.binary(min_size=32, max_size=32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 45), KEYS)
def test_places_are_those_of_the_agent(size: int, key: bytes) -> None:
    assert canary_places(size, key) == planted.places(size, key)
    assert sample_places(size, key) == planted.sampled_places(size, key)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000 * 4096), KEYS)
def test_places_of_small_media(size: int, key: bytes) -> None:
    places, samples = canary_places(size, key), sample_places(size, key)
    assert places == planted.places(size, key) and samples == planted.sampled_places(size, key)
    assert not set(places) & set(samples)
    assert all(place % 4096 == 0 and place + 4096 <= size for place in [*places, *samples])
    assert len(places) <= 1002 and len(samples) <= 256
    assert bool(places) is (size >= 4096)


def test_places_stay_what_they_were() -> None:
    """Receipts outlive programs: these numbers are never to change."""
    key = bytes(range(32))
    assert canary_places(3 * 4096, key) == [0, 8192] and sample_places(3 * 4096, key) == [4096]
    assert canary_places(64 * 4096, key)[:4] == [0, 8192, 20480, 45056]
    places = canary_places(1 << 40, key)
    assert (len(places), places[:3], places[-2:]) == PINNED
    assert sample_places(1 << 40, key)[:2] == PINNED_SAMPLES


PINNED: Final = (1002, [0, 721420288, 1395752960], [1098948132864, 1099511623680])
PINNED_SAMPLES: Final = [1236684800, 5460344832]


TWICE: Final = 2 * int(DISK.size)
LAID_OPEN: Final = LaidOpen(before=DISK.size, after=U64(TWICE), done=["HPA removed for good"])


def laid_open(**changes: Any) -> Receipt:
    """A purge of a drive that was made to give back as much as it showed."""
    key = bytes.fromhex(CANARY_KEY)
    planted, sampled = len(canary_places(TWICE, key)), len(sample_places(TWICE, key))
    seen = some_canaries(planned=planted, written=planted, looked_for=planted, samples=sampled)
    grown = replace(DISK, size=U64(TWICE))
    fields: dict[str, Any] = {
        "erasure": an_erasure(canaries=seen, laid_open=LAID_OPEN),
        "identity_opened": grown,
        "identity_after": grown,
    }
    return purged(**(fields | changes))


def test_a_drive_that_gave_back_what_it_hid_may_show_it() -> None:
    assert told_of(laid_open()) == ""
    assert told_of(laid_open(identity_opened=DISK, identity_after=DISK)) == ""


def test_no_other_size_is_explained_by_it() -> None:
    other = replace(DISK, size=U64(TWICE + 512))
    assert "identity after" in told_of(laid_open(identity_after=other))
    assert "identity before" in told_of(laid_open(identity_before=replace(DISK, size=U64(TWICE))))
    assert "identity after" in told_of(purged(identity_after=replace(DISK, size=U64(TWICE))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"before": U64(512)}, "it gave back what it hid of 512 bytes"),
        ({"after": DISK.size}, f"went from {DISK.size} to {DISK.size} bytes"),
        ({"done": []}, "nothing tells how"),
    ],
)
def test_what_was_laid_open_must_be_possible(changes: dict[str, Any], words: str) -> None:
    erasure = laid_open().targets[0].erasure
    assert erasure is not None
    told = told_of(laid_open(erasure=replace(erasure, laid_open=replace(LAID_OPEN, **changes))))
    assert words in told


def test_canaries_on_the_half_that_was_shown_are_too_few() -> None:
    """Their number says it only on small media; the read-back's bytes on all of them."""
    half = a_read_back(kind="full", seed="", block=0, rule="", bytes_expected=DISK.size, bytes_read=DISK.size,
                       zeros=DISK.size, ones=U64(0), other=U64(0))  # fmt: skip
    erasure = an_erasure(laid_open=LAID_OPEN, read_back=half)
    assert f"a full read-back of {DISK.size} bytes, the target has {TWICE}" in told_of(
        laid_open(erasure=erasure)
    )


def test_old_data_that_could_not_be_read_again_is_no_clean_end() -> None:
    seen = an_erasure(canaries=some_canaries(samples_unreadable=3))
    assert "3 samples of old data could not be read" in told_of(purged(erasure=seen))
    many = an_erasure(canaries=some_canaries(samples_unreadable=201))
    assert "201 samples still there or unreadable, 200 could tell" in told_of(purged(erasure=many))


def test_data_lost_beside_the_target_is_no_clean_end() -> None:
    lost = an_erasure(beside=["Another namespace of the drive lost what it held."])
    assert "took data that was not its target's" in told_of(purged(erasure=lost))


CELLS: Final = CellsRead(
    looked_for=5,
    found=0,
    unreadable=0,
    telling=2,
    kept=0,
    samples_unreadable=0,
    from_cells=U64(8192),
    bytes_read=U64(4096),
    unreadable_bytes=U64(0),
    zeros=U64(0),
    ones=U64(0),
    constant=U64(0),
    other=U64(4096),
)


def test_what_the_cells_held_belongs_to_the_evidence() -> None:
    assert told_of(purged(erasure=an_erasure(cells=CELLS))) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"found": 1}, "still held 1 canaries"),
        ({"kept": 1}, "and 1 samples"),
        ({"unreadable": 1}, "not all of its cells"),
        ({"samples_unreadable": 1}, "not all of its cells"),
        ({"unreadable_bytes": U64(512)}, "not all of its cells"),
        ({"detail": "stopped"}, "not all of its cells"),
        ({"found": 3, "unreadable": 3}, "5 looked for"),
        ({"kept": 3}, "2 could tell"),
        ({"zeros": U64(1)}, "other figures"),
        ({"found": -1}, "negative"),
    ],
)
def test_no_receipt_claims_more_than_its_cells(changes: dict[str, Any], words: str) -> None:
    assert words in told_of(purged(erasure=an_erasure(cells=replace(CELLS, **changes))))
