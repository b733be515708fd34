"""How far an order has come, folded from its journal: what a restart goes on from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from expunge_agent.core import (
    erasure_progress,
    files_progress,
    key_progress,
    pass_progress,
    space_progress,
    vault_progress,
    volume_progress,
)
from expunge_agent.core.beneath import Beneath
from expunge_agent.core.entry import Entry
from expunge_agent.core.erasure_progress import ErasureProgress
from expunge_agent.core.files_progress import FilesProgress
from expunge_agent.core.key_progress import KeyProgress
from expunge_agent.core.layout import Layout
from expunge_agent.core.pass_progress import PassProgress
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.space_progress import SpaceProgress
from expunge_agent.core.vault_progress import VaultProgress
from expunge_agent.core.volume_progress import VolumeFacts, VolumeProgress
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Timestamp
from expunge_agent.protocol.identity import Identity
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Interruption, MediumFacts, TargetResult, Verification
from expunge_profiles.schema import Profile

MAX_FRUITLESS_RESUMES = 5


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


def _opened(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).opened = canonical.convert(record.data["identity"], Identity)  # type: ignore[arg-type]


def _pass_started(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).passes[record.data["pass"]] = PassProgress(record.at)


def _verify_finished(run: RunProgress, record: Entry) -> None:
    result = canonical.convert(record.data["result"], Verification)
    run.target(record.data["target"]).verifications[result.of_pass] = result


def _space_anew(run: RunProgress, record: Entry) -> None:
    target = run.target(record.data["target"])
    target.space.anew()
    target.passes.clear()
    target.verifications.clear()


def _target_finished(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).result = canonical.convert(record.data["result"], TargetResult)


def _sealing(run: RunProgress, record: Entry) -> None:
    run.sealing = record.data["counter"]


def _pass(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).passes[record.data["pass"]].apply(record)


def _erasure(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).erasure.apply(record)


def _space(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).space.apply(record)


def _volume(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).volume.apply(record)


def _key(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).key.apply(record)


def _vault(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).vault.apply(record)


def _files(run: RunProgress, record: Entry) -> None:
    run.target(record.data["target"]).files.apply(record)


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
    "opening": _nothing,
    "opened": _opened,
    "pass-started": _pass_started,
    **dict.fromkeys(pass_progress.KINDS, _pass),
    "verify-started": _nothing,
    "verify-finished": _verify_finished,
    **dict.fromkeys(erasure_progress.KINDS, _erasure),
    "space-anew": _space_anew,
    **dict.fromkeys(space_progress.KINDS, _space),
    **dict.fromkeys(volume_progress.KINDS, _volume),
    **dict.fromkeys(key_progress.KINDS, _key),
    **dict.fromkeys(vault_progress.KINDS, _vault),
    **dict.fromkeys(files_progress.KINDS, _files),
    "target-finished": _target_finished,
    "sealing": _sealing,
}
