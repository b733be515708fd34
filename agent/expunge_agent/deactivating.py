"""Freeing one target of what stands on it: tree, plan, steps, each journalled before it is taken and at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from expunge_agent.core.deactivation import Step, StepKind, Taking, plan_deactivation
from expunge_agent.core.guard import SystemPaths, elsewhere_objection, listing, readable, unreached
from expunge_agent.core.progress import TargetProgress
from expunge_agent.core.volume import doubts as doubts_of
from expunge_agent.core.volume import not_covered
from expunge_agent.core.volume_progress import VolumeFacts
from expunge_agent.devices.deactivate import is_there, take_down
from expunge_agent.devices.patience import PATIENCE
from expunge_agent.devices.standing import standing_at, surface
from expunge_agent.devices.usage import Eyes, used_elsewhere
from expunge_agent.devices.volumes import volume_at
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.receipt_steps import DeactivationStep
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings

_ROUNDS = 3
"""How often what was taken down may come back (udev sets arrays and volume groups up by itself) before it is given up."""
_PAUSE = 0.1
_LEAVE_THE_DEVICE = (StepKind.UNMOUNT, StepKind.SWAPOFF)
_ONE_AT_A_TIME = threading.Lock()
"""Targets of one order may have the same array on them."""


def volume_facts(path: str) -> tuple[VolumeFacts | None, Refusal | None]:
    """What the receipt says of the volume at `path`, dmsetup being asked too; and why it cannot be overwritten."""
    volume = volume_at(path)
    if volume is None:
        return None, None
    facts = VolumeFacts(
        members=list(volume.members), not_covered=not_covered(volume), doubts=doubts_of(volume)
    )
    return facts, unreached(path, volume)


def taking_of(path: str, system: SystemPaths, ordered: frozenset[str]) -> Taking:
    """What stands on the device at `path`, as a plan; a process that only glances at it is waited for."""
    until = time.monotonic() + PATIENCE
    while True:
        eyes = Eyes.open(system=system)
        tree, beside = standing_at(path, eyes), used_elsewhere(path, eyes)
        found = Taking() if tree is None else plan_deactivation(tree, surface(eyes), ordered)
        if beside is not None and (against := elsewhere_objection(beside)):
            found.refusals.append(against)
        in_use = any(one.reason is Reason.IN_USE for one in found.refusals)
        if not in_use or time.monotonic() > until:
            return found
        time.sleep(_PAUSE)


def closed_by(taking: Taking) -> frozenset[str]:
    """The devices that will be gone."""
    return frozenset(step.device for step in taking.steps if step.what not in _LEAVE_THE_DEVICE)


def free(
    path: str,
    so_far: TargetProgress,
    steps: Steps,
    around: Surroundings,
    ordered: frozenset[str],
    objection: Callable[[frozenset[str]], Refusal | None],
) -> Refusal | None:
    """Take down what stands on the device at `path`; why that could not be done, with what was taken down already.

    `ordered`: paths of the order's other targets. `objection` is asked before each round what else speaks against it
    once the devices that it is given (``dm-3``) are gone. Nothing is written to the target here.
    """
    with _ONE_AT_A_TIME:
        for _ in range(_ROUNDS):
            taking = taking_of(path, around.system, ordered)
            if first := next(iter(taking.refusals), None) or objection(closed_by(taking)):
                return _told(first.reason, first.detail, first.remedy, so_far)
            if not taking.steps:
                return None
            for step in taking.steps:
                if around.stop.is_set():
                    return _told(
                        Reason.DEACTIVATION_FAILED,
                        "The run was stopped before all that stands on it was taken down.",
                        "Order it again.",
                        so_far,
                    )
                if why := _take(step, steps):
                    return _told(
                        Reason.DEACTIVATION_FAILED,
                        f"To {step.words} failed: {why}.",
                        "Take it down by hand, or remove what keeps it, then order again.",
                        so_far,
                    )
        return _told(
            Reason.DEACTIVATION_FAILED,
            f"What was taken down came back {_ROUNDS} times; something sets it up again.",
            "Stop what does (systemd mounts, udev rules, auto-activation of LVM or md), then order again.",
            so_far,
        )


def _take(step: Step, steps: Steps) -> str:
    """One step, from its announcement to its end in the journal; why it failed, or empty."""
    steps.say(step.words)
    steps.write("deactivating", step=step)
    if not is_there(step):
        steps.write("deactivated", ended="gone", said="")
        return ""
    why = take_down(step)
    steps.write("deactivated", ended="failed" if why else "done", said=why)
    return why


def settle(so_far: TargetProgress, steps: Steps) -> None:
    """A step in which a run broke off: what it was to take down is looked for, and how that ended is written."""
    open_step = so_far.volume.left_open
    if open_step is None:
        return
    there = is_there(_as_step(open_step, so_far))
    steps.write(
        "deactivated",
        ended="interrupted" if there else "gone",
        said="the run broke off while this step was taken",
    )


def _as_step(told: DeactivationStep, so_far: TargetProgress) -> Step:
    return Step(what=StepKind(told.what), on=told.on, device=told.device, uuid=so_far.volume.last_uuid)


def _told(reason: Reason, detail: str, remedy: str, so_far: TargetProgress) -> Refusal:
    """A refusal that names what is down by now: that is not put up again."""
    down = so_far.volume.taken_down()
    before = f" Taken down before, and left so: {listing(down)}." if down else ""
    return Refusal(reason=reason, detail=readable(f"{detail}{before}", 4000), remedy=remedy)
