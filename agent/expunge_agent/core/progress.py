"""How far an order has come, folded from its journal: what a restart goes on from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from expunge_agent.core.beneath import Beneath
from expunge_agent.core.drive import Answer
from expunge_agent.core.erasure import Ended, ErasureProgress, Evidence, Placed, Settled
from expunge_agent.core.files_progress import KINDS as FILES_KINDS
from expunge_agent.core.files_progress import FilesProgress
from expunge_agent.core.key_progress import KeyProgress, KeyStep
from expunge_agent.core.layout import Layout
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.space_progress import Filling, Folder, Peak, SpaceProgress, Start
from expunge_agent.core.vault_progress import VaultProgress
from expunge_agent.core.volume_progress import VolumeFacts, VolumeProgress
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import Identity
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import (
    Interruption,
    LaidOpen,
    MediumFacts,
    PassResult,
    RangeProblem,
    TargetResult,
    Verification,
)
from expunge_profiles.schema import Profile

MAX_FRUITLESS_RESUMES = 5


class Entry(Protocol):
    """A journal record as this module needs it."""

    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> Timestamp: ...
    @property
    def data(self) -> dict[str, Any]: ...


class Checkpoint(Frozen, frozen=True):
    """What is durable of a pass that is under way: every byte below ``durable`` was written or listed.

    Numbers are those of the whole pass so far; ``new_errors`` only what came since the checkpoint
    before, so that a bad medium does not fill the journal. ``broken_off``: the pass ended here before its
    end, with the ``open_errors`` (the first of ``open_count`` ranges, ``open_bytes``) that stand besides:
    they are met again if the pass goes on, so they are in no other number.
    """

    durable: U64 = U64(0)
    elapsed_ms: U64 = U64(0)
    written: U64 = U64(0)
    new_errors: list[RangeProblem] = []
    error_count: U64 = U64(0)
    error_bytes: U64 = U64(0)
    spot_checked: U64 = U64(0)
    celsius_max: int | None = None
    io_mode: str = ""
    broken_off: bool = False
    open_errors: list[RangeProblem] = []
    open_count: U64 = U64(0)
    open_bytes: U64 = U64(0)


@dataclass
class PassProgress:
    """One pass: when it began, its last checkpoint, what failed, where it was taken up again, its result."""

    started_at: Timestamp
    errors: list[RangeProblem] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    resumed_at: list[U64] = field(default_factory=list)
    result: PassResult | None = None


@dataclass
class TargetProgress:
    """One target: its plan, what was there and was opened, passes and verifications so far, its result.

    ``layout``: where a file lay before the first byte was written; None for a block device. ``beneath``: what
    lay under the target then.
    """

    plan: TargetPlan | None = None
    before: Identity | None = None
    layout: Layout | None = None
    beneath: Beneath | None = None
    medium: MediumFacts | None = None
    opened: Identity | None = None
    passes: dict[int, PassProgress] = field(default_factory=dict)
    verifications: dict[int, Verification] = field(default_factory=dict)
    erasure: ErasureProgress = field(default_factory=ErasureProgress)
    space: SpaceProgress = field(default_factory=SpaceProgress)
    volume: VolumeProgress = field(default_factory=VolumeProgress)
    key: KeyProgress = field(default_factory=KeyProgress)
    vault: VaultProgress = field(default_factory=VaultProgress)
    files: FilesProgress = field(default_factory=FilesProgress)
    result: TargetResult | None = None

    @property
    def touched(self) -> bool:
        """Whether a byte of it may have been changed."""
        return (
            bool(self.passes)
            or self.erasure.touched
            or self.key.touched
            or self.vault.begun
            or self.files.touched
        )


@dataclass
class RunProgress:
    """The whole order. ``sealing`` is the receipt number announced last; ``fruitless`` counts the
    times it was taken up again since the journal last got ahead, but for deliberate pauses; ``damaged`` says why the journal before this was given up."""

    started_at: Timestamp = ""
    order: Order | None = None
    profile: Profile | None = None
    damaged: str = ""
    targets: dict[int, TargetProgress] = field(default_factory=dict)
    interruptions: list[Interruption] = field(default_factory=list)
    sealing: int | None = None
    fruitless: int = 0
    paused: bool = False

    def target(self, index: int) -> TargetProgress:
        """The progress of one target, empty at first."""
        return self.targets.setdefault(index, TargetProgress())


def fold(records: Iterable[Entry]) -> RunProgress:
    """The progress that these records describe."""
    run = RunProgress()
    for record in records:
        apply(run, record)
    return run


def apply(run: RunProgress, record: Entry) -> None:
    """Take one more record into `run`. Unknown kinds raise KeyError: the journal is ours."""
    _HANDLERS[record.kind](run, record)
    if record.kind in ("resumed", "returned"):
        run.fruitless += 0 if run.paused else 1
        run.paused = False
    elif record.kind not in _NOT_YET_AHEAD and not _broken_off(record):
        run.fruitless = 0


_NOT_YET_AHEAD = (
    "beneath",
    "deactivating",
    "opening",
    "opened",
    "canaries-placing",
    "erase-starting",
    "erase-sending",
    "shred-starting",
    "pass-resumed",
    "verify-started",
    "key-step-begun",
    "paused",
    "space-folder",
    "space-made",
    "space-anew",
    "space-spare",
    "space-removing",
    "space-removed",
    "space-kept",
)
"""Opening and beginning again is not yet getting ahead."""


def _broken_off(record: Entry) -> bool:
    """Whether the record says how far a step came that did not come to its end; that is no gain."""
    if record.kind == "checkpoint":
        return bool(record.data["checkpoint"].get("broken_off"))
    return record.kind == "verify-finished" and not record.data["result"]["complete"]


def _accepted(run: RunProgress, record: Entry) -> None:
    run.started_at = record.at
    run.order = canonical.convert(record.data["order"], Order)
    run.profile = msgspec.json.decode(record.data["profile"], type=Profile)


def _damaged(run: RunProgress, record: Entry) -> None:
    run.damaged = record.data["why"]


def _resumed(run: RunProgress, record: Entry) -> None:
    for target in run.targets.values():
        _unheld(target)
    run.interruptions.append(canonical.convert(record.data["interruption"], Interruption))


def _returned(run: RunProgress, record: Entry) -> None:
    _unheld(run.target(record.data["target"]))
    run.interruptions.append(canonical.convert(record.data["interruption"], Interruption))


def _unheld(target: TargetProgress) -> None:
    """Nobody held the medium meanwhile: what was read back last has to be read back again."""
    target.files.resumed = True
    if target.space.removing:
        return  # the files are gone or going, and what was read back of them stays read back
    if target.result is None and target.plan is not None:
        target.verifications.pop(len(target.plan.passes) - 1, None)
        target.erasure.unheld()


def _paused(run: RunProgress, _record: Entry) -> None:
    run.paused = True


def _planned(run: RunProgress, record: Entry) -> None:
    target = run.target(record.data["target"])
    target.plan = canonical.convert(record.data["plan"], TargetPlan)
    target.before = canonical.convert(record.data["before"], Identity)  # type: ignore[arg-type]
    target.medium = canonical.convert(record.data["medium"], MediumFacts)
    target.layout = canonical.convert(record.data["layout"], Layout) if "layout" in record.data else None
    if "volume" in record.data:
        target.volume.facts = canonical.convert(record.data["volume"], VolumeFacts)


def _beneath(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).beneath = canonical.convert(record.data["beneath"], Beneath)


def _deactivating(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).volume.begin(record.data)


def _deactivated(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).volume.end(record.data)


def _opened(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).opened = canonical.convert(record.data["identity"], Identity)  # type: ignore[arg-type]


def _pass_started(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).passes[record.data["pass"]] = PassProgress(record.at)


def _pass_resumed(run: RunProgress, record: Entry) -> None:
    _pass(run, record).resumed_at.append(U64(record.data["durable"]))


def _checkpoint(run: RunProgress, record: Entry) -> None:
    taken = _pass(run, record)
    taken.checkpoint = canonical.convert(record.data["checkpoint"], Checkpoint)
    taken.errors += taken.checkpoint.new_errors


def _pass_finished(run: RunProgress, record: Entry) -> None:
    _pass(run, record).result = canonical.convert(record.data["result"], PassResult)


def _verify_finished(run: RunProgress, record: Entry) -> None:
    result = canonical.convert(record.data["result"], Verification)
    run.target(record.data["target"]).verifications[result.of_pass] = result


def _laid_open(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).laid_open = canonical.convert(record.data["laid_open"], LaidOpen)


def _canaries_placing(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).placing = True


def _canaries_placed(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).placed = canonical.convert(record.data["placed"], Placed)


def _erase_starting(run: RunProgress, record: Entry) -> None:
    erasure = _erasure(run, record)
    erasure.attempts += 1
    erasure.started_at = record.at
    erasure.sending = erasure.accepted = erasure.seen = False


def _erase_sending(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).sending = True


def _erase_accepted(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).accepted = True


def _erase_seen(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).seen = True


def _erase_ended(run: RunProgress, record: Entry) -> None:
    erasure = _erasure(run, record)
    erasure.ended, erasure.ended_at = canonical.convert(record.data["ended"], Ended), record.at


def _erase_settled(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).settled = canonical.convert(record.data["settled"], Settled)


def _erase_checked(run: RunProgress, record: Entry) -> None:
    _erasure(run, record).evidence = canonical.convert(record.data["evidence"], Evidence)


def _erasure(run: RunProgress, record: Entry) -> ErasureProgress:
    """The erasure of the record's target; whatever the drive answered is kept with it."""
    erasure = run.target(record.data["target"]).erasure
    erasure.answers += [canonical.convert(one, Answer) for one in record.data.get("answers", [])]
    return erasure


def _space(run: RunProgress, record: Entry) -> SpaceProgress:
    return run.target(record.data["target"]).space


def _space_measured(run: RunProgress, record: Entry) -> None:
    _space(run, record).start = canonical.convert(record.data["start"], Start)


def _space_folder(run: RunProgress, record: Entry) -> None:
    space = _space(run, record)
    space.folder = canonical.convert(record.data["folder"], Folder)
    space.begun, space.cleaned_up = True, False


def _space_anew(run: RunProgress, record: Entry) -> None:
    target = run.target(record.data["target"])
    target.space.anew()
    target.passes.clear()
    target.verifications.clear()


def _space_spare(run: RunProgress, record: Entry) -> None:
    _space(run, record).spare = int(record.data["spare"])


def _space_filled(run: RunProgress, record: Entry) -> None:
    _space(run, record).filling = canonical.convert(record.data["filling"], Filling)


def _space_peak(run: RunProgress, record: Entry) -> None:
    _space(run, record).peak = canonical.convert(record.data["peak"], Peak)


def _space_removing(run: RunProgress, record: Entry) -> None:
    _space(run, record).removing = True


def _space_removed(run: RunProgress, record: Entry) -> None:
    space = _space(run, record)
    space.folder, space.spare = None, None
    space.cleaned_up, space.cleaning = True, ""


def _space_kept(run: RunProgress, record: Entry) -> None:
    space = _space(run, record)
    space.cleaned_up, space.cleaning = False, record.data["why"]


def _space_trimmed(run: RunProgress, record: Entry) -> None:
    space = _space(run, record)
    space.trimmed = U64(record.data["bytes"]) if record.data["bytes"] else None
    space.trim = record.data["told"]


def _key_step(run: RunProgress, record: Entry) -> None:
    step = canonical.convert(record.data["step"], KeyStep)
    run.target(record.data["target"]).key.steps[step.name] = step


def _shred_starting(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).vault.begun = True


def _target_finished(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).result = canonical.convert(record.data["result"], TargetResult)


def _sealing(run: RunProgress, record: Entry) -> None:
    run.sealing = record.data["counter"]


def _pass(run: RunProgress, record: Entry) -> PassProgress:
    return run.target(record.data["target"]).passes[record.data["pass"]]


def _files(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).files.apply(record.kind, record.data)


def _nothing(_run: RunProgress, _record: Entry) -> None:
    """The record announces a step; only its end changes what a restart does."""


_HANDLERS = {
    "admitting": _nothing,
    "accepted": _accepted,
    "damaged": _damaged,
    "resumed": _resumed,
    "returned": _returned,
    "paused": _paused,
    "beneath": _beneath,
    "planned": _planned,
    "deactivating": _deactivating,
    "deactivated": _deactivated,
    "opening": _nothing,
    "opened": _opened,
    "pass-started": _pass_started,
    "pass-resumed": _pass_resumed,
    "checkpoint": _checkpoint,
    "pass-finished": _pass_finished,
    "verify-started": _nothing,
    "verify-finished": _verify_finished,
    "laid-open": _laid_open,
    "canaries-placing": _canaries_placing,
    "canaries-placed": _canaries_placed,
    "erase-starting": _erase_starting,
    "erase-sending": _erase_sending,
    "erase-accepted": _erase_accepted,
    "erase-seen": _erase_seen,
    "erase-ended": _erase_ended,
    "erase-settled": _erase_settled,
    "erase-checked": _erase_checked,
    "space-measured": _space_measured,
    "space-folder": _space_folder,
    "space-made": _space_folder,
    "space-anew": _space_anew,
    "space-spare": _space_spare,
    "space-filled": _space_filled,
    "space-peak": _space_peak,
    "space-removing": _space_removing,
    "space-removed": _space_removed,
    "space-kept": _space_kept,
    "space-trimmed": _space_trimmed,
    "key-step-begun": _key_step,
    "key-step": _key_step,
    "shred-starting": _shred_starting,
    **dict.fromkeys(FILES_KINDS, _files),
    "target-finished": _target_finished,
    "sealing": _sealing,
}
