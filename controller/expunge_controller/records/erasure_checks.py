"""What a receipt may claim of a drive's own command: never more than the canaries and the read-back beside it.

Every function yields the problems it found, as sentences. The reason for each demand is the same: a drive
that says *done* has said so of itself, and every known way of failing silently ends with that word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from expunge_agent.protocol.base import Level
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.protocol.receipt_erasure import MAX_ANSWERS, Canaries, CellsRead, Erasure, ReadBack
from expunge_controller.records import canaries as places
from expunge_profiles.techniques import KEYS, LUKS, OVERWRITE, WORDS, can_earn

MOST_NAMED = 100
"""Canaries and samples still there that a receipt names by their offsets."""
_MEDIA: Final = ("hdd", "ssd", "usb-flash", "file", "virtual", "memory")


def was_begun(erasure: Erasure | None) -> bool:
    """Whether the drive may have done anything of the command."""
    return erasure is not None and (erasure.accepted or erasure.progress_seen or erasure.ended != "not-begun")


def changed_data(result: TargetResult) -> bool:
    """Whether a byte of the target was written or may have been erased, whoever did it."""
    erasure = result.erasure
    planted = erasure is not None and erasure.canaries is not None and erasure.canaries.written > 0
    return any(run.bytes_written for run in result.passes) or planted or was_begun(erasure)


def technique_problems(result: TargetResult) -> Iterator[str]:
    """Where technique, passes and command tell different stories, whatever the outcome."""
    erasure = result.erasure
    if result.technique not in (OVERWRITE, LUKS, "") and result.passes:
        yield f"its technique is {result.technique}, yet it tells of passes"
    if erasure is None:
        return
    if erasure.technique not in WORDS or erasure.technique in (OVERWRITE, *KEYS):
        yield f"{erasure.technique!r} is no command of a drive that is known here"
    # A command that the drive would not take may be told beside the overwrite that came instead.
    if erasure.technique != result.technique and (result.technique != OVERWRITE or was_begun(erasure)):
        yield f"its technique is {result.technique or 'none'}, yet the command {erasure.technique} is told"
    if was_begun(erasure) and result.passes:
        yield "passes were written and a command of the drive was begun: one of them is not true"


def level_problems(result: TargetResult) -> Iterator[str]:
    """A level beyond what the technique earns on this medium (NIST SP 800-88 r2; `can_earn`)."""
    if result.technique not in WORDS:
        yield f"its technique {result.technique!r} is none that is known here"
        return
    seen = result.medium.type if result.medium is not None else ""
    kind = seen if seen in _MEDIA else "unknown"
    most = Level(can_earn(result.technique, kind))
    if most.reaches(result.level_achieved):
        return
    if result.technique == OVERWRITE:
        yield f"an overwrite never achieves {result.level_achieved}"
    else:
        yield f"{result.technique} earns {most} on a medium of type {kind}, not {result.level_achieved}"


def laid_open_problems(result: TargetResult) -> Iterator[str]:
    """A capacity that cannot have come about by giving back what an ATA drive hides, whatever the outcome."""
    laid_open = result.erasure.laid_open if result.erasure is not None else None
    if laid_open is None:
        return
    if laid_open.before != result.target.identity.size:
        yield f"it gave back what it hid of {laid_open.before} bytes, the target has {result.target.identity.size}"
    if laid_open.after <= laid_open.before:
        yield f"it gave back what it hid, and went from {laid_open.before} to {laid_open.after} bytes"
    if not laid_open.done:
        yield "it gave back what it hid, and nothing tells how"


def figure_problems(erasure: Erasure) -> Iterator[str]:
    """Figures of a command that cannot be, whatever the outcome and whatever became of the medium's size."""
    if erasure.ended == "not-begun" and (erasure.accepted or erasure.progress_seen):
        yield "its command is called not begun, yet it was accepted or seen at work"
    if erasure.attempts < 0 or (was_begun(erasure) and erasure.attempts < 1):
        yield f"its command was begun {erasure.attempts} times, and it ran"
    if len(erasure.answers) > MAX_ANSWERS:
        yield f"it holds more than {MAX_ANSWERS} answers of the drive"
    if erasure.canaries is not None:
        yield from _canary_figures(erasure.canaries)
    if erasure.read_back is not None:
        yield from _read_back_figures(erasure.read_back)
    if erasure.cells is not None:
        yield from _cell_figures(erasure.cells)


def success_problems(result: TargetResult, clean: bool) -> Iterator[str]:
    """What success by a drive command demands; `clean` is ``sanitized``, without any exception."""
    erasure = result.erasure
    if erasure is None:
        yield f"{result.outcome} by {result.technique}, yet no command of the drive is reported"
        return
    size = erasure.reach(int(result.target.identity.size))
    if any(check.kind != "none" for check in result.verifications):
        yield "it verifies passes, and there was none"
    if erasure.ended != "done":
        yield f"{result.outcome}, yet its command ended as {erasure.ended}"
    if not (erasure.accepted or erasure.progress_seen):
        # An idle drive goes on reporting an old success.
        yield "its command was neither accepted nor seen at work"
    if erasure.changes:
        yield f"{result.outcome}, yet the drive differs from before"
    if erasure.canaries is None:
        yield f"{result.outcome}, yet no canary was looked for"
    else:
        yield from _canaries_gone(erasure.canaries, size, clean)
    if erasure.read_back is not None:
        yield from _read_back_whole(erasure.read_back, size, clean)
        yield from _read_back_fits(erasure, erasure.read_back, clean)
    elif clean:
        yield "sanitized, yet nothing was read back after the command"
    if erasure.cells is not None:
        yield from _cells_clear(erasure.cells, clean)
    if clean and erasure.beside:
        yield "sanitized, yet the command took data that was not its target's"
    if clean and not erasure.settled:
        yield "sanitized, yet the drive was not left usable"


def _canaries_gone(canaries: Canaries, size: int, clean: bool) -> Iterator[str]:
    if canaries.found or canaries.kept or canaries.found_at:
        yield (
            f"{canaries.found} canaries and {canaries.kept} samples of old data were still there, "
            "yet it is called sanitized"
        )
    if canaries.looked_for != canaries.written:
        yield f"{canaries.looked_for} of {canaries.written} canaries were looked for"
    # The places follow from the key, so their number can be counted again.
    key = bytes.fromhex(canaries.key)
    planted, sampled = len(places.canary_places(size, key)), len(places.sample_places(size, key))
    if canaries.planned != planted:
        yield f"{canaries.planned} canaries planned, its key makes {planted} places"
    if canaries.samples > sampled:
        yield f"{canaries.samples} samples of old data, its key makes {sampled} places"
    if clean and (not canaries.written or canaries.written < canaries.planned):
        yield f"sanitized, yet {canaries.written} of {canaries.planned} canaries were written"
    if clean and canaries.samples_unreadable:
        yield f"{canaries.samples_unreadable} samples of old data could not be read, yet it is called sanitized"
    if clean and canaries.unreadable:
        yield f"{canaries.unreadable} canaries could not be read, yet it is called sanitized"


def _cells_clear(cells: CellsRead, clean: bool) -> Iterator[str]:
    if cells.found or cells.kept:
        yield f"its cells still held {cells.found} canaries and {cells.kept} samples, yet it is called sanitized"
    if clean and (cells.unreadable or cells.samples_unreadable or cells.unreadable_bytes or cells.detail):
        yield "not all of its cells could be looked at, yet it is called sanitized"


def _cell_figures(cells: CellsRead) -> Iterator[str]:
    if cells.found + cells.unreadable > cells.looked_for:
        yield f"{cells.found} canaries found in its cells and {cells.unreadable} unreadable, {cells.looked_for} looked for"
    if cells.kept + cells.samples_unreadable > cells.telling:
        yield f"{cells.kept} samples kept in its cells and {cells.samples_unreadable} unreadable, {cells.telling} could tell"
    if cells.zeros + cells.ones + cells.constant + cells.other != cells.bytes_read:
        yield f"{cells.bytes_read} bytes were read of its cells, and other figures of them are told"
    if (
        min(
            cells.looked_for,
            cells.found,
            cells.unreadable,
            cells.telling,
            cells.kept,
            cells.samples_unreadable,
        )
        < 0
    ):
        yield "a number of what was looked for in its cells is negative"


def _read_back_whole(read: ReadBack, size: int, clean: bool) -> Iterator[str]:
    if read.kind == "full" and read.bytes_expected != size:
        yield f"a full read-back of {read.bytes_expected} bytes, the target has {size}"
    if read.kind == "sampled" and not 0 < read.bytes_expected <= size:
        yield f"a sampled read-back of {read.bytes_expected} bytes, the target has {size}"
    if any(one.range.start + one.range.length > size for one in read.unreadable):
        yield "its read-back names bytes beyond the target's end"
    if not read.complete:
        yield "its read-back is not complete"
    if read.bytes_read + read.unreadable_bytes < read.bytes_expected:
        yield f"its read-back read {read.bytes_read} of {read.bytes_expected} bytes"
    if clean and not read.reads_medium:
        yield "its read-back may have been served from a cache of the host"
    if clean and (read.unreadable_bytes or read.unreadable):
        yield f"its read-back found {read.unreadable_bytes} unreadable bytes, yet it is called sanitized"


def _canary_figures(canaries: Canaries) -> Iterator[str]:
    gone, kept = canaries.found + canaries.unreadable, canaries.kept + canaries.samples_unreadable
    named = min(MOST_NAMED, canaries.found + canaries.kept)
    for number, most, what in (
        (canaries.written, canaries.planned, "canaries written, {} planned"),
        (canaries.looked_for, canaries.written, "canaries looked for, {} written"),
        (gone, canaries.looked_for, "canaries found or unreadable, {} looked for"),
        (canaries.telling, canaries.samples, "samples that could tell, {} read"),
        (kept, canaries.telling, "samples still there or unreadable, {} could tell"),
        (len(canaries.found_at), named, "offsets named, {} found"),
    ):
        if number > most:
            yield f"{number} {what.format(most)}"
    if canaries.block != places.BLOCK:
        yield f"its canaries have {canaries.block} bytes, not {places.BLOCK}"
    if any(getattr(canaries, name) < 0 for name in _COUNTS):
        yield "a number of canaries is negative"


_COUNTS: Final = (
    "planned", "written", "looked_for", "found", "unreadable", "samples", "telling", "kept", "samples_unreadable",
)  # fmt: skip


def _read_back_fits(erasure: Erasure, read: ReadBack, clean: bool) -> Iterator[str]:
    """What the command leaves, where that is known: zeros after an overwrite, anything after a change of key."""
    if erasure.technique.endswith("-sanitize-overwrite") and read.ones + read.constant + read.other:
        yield "an overwrite with zeros, yet its read-back found something else"
    noisy = "-crypto" in erasure.technique or erasure.technique in _NOISY
    if clean and read.other and not noisy:
        yield f"sanitized, yet {read.other} bytes read back may be old data"


_NOISY: Final = ("ata-security-erase-enhanced", "opal-psid-revert")


def _read_back_figures(read: ReadBack) -> Iterator[str]:
    if read.kind == "sampled" and not (read.seed and read.rule and read.block > 0):
        yield "a sampled read-back without the seed, rule and block by which its places can be found again"
    if read.bytes_read > read.bytes_expected:
        yield "its read-back read more than it should have"
    told = read.zeros + read.ones + read.constant + read.other
    if told != read.bytes_read:
        yield f"its read-back read {read.bytes_read} bytes and tells of {told}"
    if sum(one.range.length for one in read.unreadable) > read.unreadable_bytes:
        yield "its read-back lists more unreadable bytes than it counts"
