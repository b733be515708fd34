"""A drive command on one target of an order: joined again after a restart, carried through, looked at."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import PurePath

import msgspec

from expunge_agent.commands.port import CommandError, NoPassThrough, ScsiPort
from expunge_agent.core.drive import Answer, NvmeNamespace
from expunge_agent.core.erasure import changes
from expunge_agent.core.erasure_progress import Ended, ErasureProgress
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.progress import TargetProgress
from expunge_agent.core.reach import listed_others, whole_subsystem
from expunge_agent.devices.awake import awake
from expunge_agent.devices.drives import examine
from expunge_agent.devices.lanes import lane
from expunge_agent.devices.opening import Opened, TargetRefused, identity_of
from expunge_agent.devices.rescan import rescan
from expunge_agent.engine.blocks import Blocks
from expunge_agent.engine.opening import target_over
from expunge_agent.engine.problems import EngineError
from expunge_agent.engine.target import Target
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, Identity, differences
from expunge_agent.protocol.receipt_erasure import LaidOpen
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques import cell_evidence, erase_evidence, erasing
from expunge_agent.techniques.beyond import Beyond
from expunge_agent.techniques.hand import Rejected, State
from expunge_agent.techniques.hidden_areas import restored
from expunge_agent.techniques.patient import Asker, GatedScsi, PatientBlocks, PatientHand
from expunge_agent.techniques.table import hand_for


def rejoin(path: str, ordered: Identity, so_far: TargetProgress, steps: Steps, around: Surroundings) -> None:
    """After a restart, before the target is opened: wait for a drive that is still at work for this order.

    Until it has ended it may show no capacity, and no guard could tell it from an empty one.
    """
    plan = so_far.plan
    if plan is None or not so_far.erasure.under_way:
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    with Asker(around.patience) as asker:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_the_one(ordered, identity_of(fd, path)):
                return
            with (
                steps.wakeful(),
                awake(f"{plan.technique} is under way"),
                _turn(path, steps, around, at_work=True),
            ):
                hand = PatientHand(asker.ask(lambda: hand_for(plan, fd, asker.still_awaited)), asker)
                erasing.rejoin(hand, plan, so_far.erasure, steps, _watch(around))
        except (CommandError, Rejected, TargetRefused, OSError):
            return
        finally:
            if not asker.stuck:  # else its number must not become another file's
                os.close(fd)
    rescan(path)


def _is_the_one(ordered: Identity, seen: Identity) -> bool:
    """Whether a drive is the one ordered, whatever size it shows while it is at work."""
    if not isinstance(ordered, BlockIdentity) or not isinstance(seen, BlockIdentity):
        return False
    return not differences(ordered, msgspec.structs.replace(seen, size=ordered.size))


def erase(
    opened: Opened,
    take_over: Callable[[Opened], Target],
    recheck: Callable[[], None],
    so_far: TargetProgress,
    steps: Steps,
    around: Surroundings,
) -> None:
    """Take every step that is still missing; returns early when ``around.stop`` is set.

    `recheck` is asked before the drive is given the command. Raises what it raises, and the engine's `TargetGone` and its kin.
    """
    plan, erasure = so_far.plan, so_far.erasure
    if plan is None:
        raise AssertionError("nothing was planned")
    with Asker(around.patience) as asker:
        try:
            at_work = _may_be_at_work(plan, opened, erasure, asker)
            with (
                _turn(opened.path, steps, around, at_work=at_work) as mine,
                steps.wakeful(),
                awake(f"{plan.technique} is under way"),
            ):
                if not mine:
                    return
                _lay_open(plan, opened, erasure, steps, asker)
                if erasure.placed is None and not erasure.attempts and erasure.ended is None:
                    with _blocks(take_over, opened, erasure, asker) as blocks, _beside(plan) as beside:
                        erase_evidence.place(blocks, plan, steps, around.stop, beside)
                if around.stop.is_set():
                    return
                opened.recheck()
                _carry_through(opened, take_over, recheck, so_far, steps, around, asker)
        finally:
            if asker.stuck:
                opened.abandon()


def _may_be_at_work(plan: TargetPlan, opened: Opened, erasure: ErasureProgress, asker: Asker) -> bool:
    """Whether the drive erases already for this order, or has: then it is counted among those that do.

    One that the command may have reached is asked: `rejoin` may have given up before it came to that. What
    knows nothing of it will be given it again, and waits for that; what took it and does not answer may be
    at work.
    """
    if not (erasure.under_way and erasure.sending):
        return erasure.ended is not None
    ours = erasure.accepted or erasure.seen
    try:
        hand = PatientHand(asker.ask(lambda: hand_for(plan, opened.fd, asker.still_awaited)), asker)
        state = hand.poll().state
    except (CommandError, Rejected):
        return ours
    return state is State.RUNNING or (ours and state is not State.IDLE)


@contextmanager
def _turn(path: str, steps: Steps, around: Surroundings, *, at_work: bool) -> Iterator[bool]:
    """A turn for the drive at `path`, where drives take turns; False when the run was stopped first."""
    if around.turns is None:
        yield True
        return
    with around.turns.hold(lane(path), around.stop, steps.say, at_work=at_work) as mine:
        yield mine


def _carry_through(
    opened: Opened,
    take_over: Callable[[Opened], Target],
    recheck: Callable[[], None],
    so_far: TargetProgress,
    steps: Steps,
    around: Surroundings,
    asker: Asker,
) -> None:
    plan, erasure = so_far.plan, so_far.erasure
    if plan is None:
        return
    hand = _hand(plan, opened, so_far, steps, asker, _watch(around))
    if hand is not None:
        erasing.carry_through(hand, plan, erasure, steps, _watch(around), recheck)
        if erasure.ended is not None and erasure.settled is None:
            _look_at_cells(hand, plan, so_far, steps, around)
            erasing.settle(hand, erasure, steps)
    if erasure.ended is None or erasure.evidence is not None or erasure.ended.end == "running":
        return
    if asker.stuck or not erasure.touched:
        return
    rescan(opened.path)
    _lay_open(plan, opened, erasure, steps, asker)
    with _blocks(take_over, opened, erasure, asker) as blocks, _beside(plan) as beside:
        erase_evidence.check(
            blocks, plan, erasure, steps, _watch(around), lambda: _changes(plan, opened.path, asker), beside
        )


def _look_at_cells(
    hand: PatientHand, plan: TargetPlan, so_far: TargetProgress, steps: Steps, around: Surroundings
) -> None:
    """Where the drive stopped to have its cells looked at, look, once; whatever comes of it, it is settled next."""
    erasure = so_far.erasure
    if erasure.cells is not None or erasure.ended is None or erasure.ended.end != "done":
        return
    with suppress(CommandError):  # a drive that does not answer is told of by who settles it
        cells = hand.cells()
        if cells is not None:
            cell_evidence.look(cells, plan, erasure, steps, _watch(around))


@contextmanager
def _beside(plan: TargetPlan) -> Iterator[dict[str, Blocks]]:
    """The other namespaces of an NVMe drive whose data the command should leave alone, as far as they can be read."""
    drive, named = plan.drive, list[NvmeNamespace]()
    if drive is not None and drive.protocol == "nvme" and not whole_subsystem(plan.technique, drive):
        named = [one for one in listed_others(drive, PurePath(plan.path).name) or [] if one.node]
    with ExitStack() as open_ones:
        found: dict[str, Blocks] = {}
        for one in named:
            with suppress(OSError, EngineError, ValueError):
                found[one.node] = open_ones.enter_context(closing(neighbour(one.node)))
        yield found


def neighbour(node: str) -> Target:
    """The block device `node`, for reading. Raises OSError, EngineError, ValueError."""
    fd = os.open(f"/dev/{node}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
    except BaseException:
        os.close(fd)
        raise
    return target_over(fd, size)


def ata_port(fd: int) -> ScsiPort:
    """The kernel's way to an ATA drive, on an open descriptor."""
    from expunge_agent.commands.kernel_sg import SgPort

    return SgPort(fd)


def _lay_open(plan: TargetPlan, opened: Opened, erasure: ErasureProgress, steps: Steps, asker: Asker) -> None:
    """Have the drive give back what it hides, so that all of it is looked at before and afterwards.

    Done again after an interruption: some drives keep it only until they lose power. Not while it is at work.
    """
    if not plan.grows_to or erasure.under_way:
        return
    port, before = (
        GatedScsi(ata_port(opened.fd), asker.still_awaited),
        int(plan.drive.apparent) if plan.drive else 0,
    )
    why, answers = "", list[Answer]()
    try:
        found = asker.ask(lambda: restored(port), asker.long)
    except Rejected as error:
        why, answers = error.why, error.answers
    except CommandError as error:
        why = f"the drive did not answer: {error}"
    else:
        after, answers = found.after.accessible * found.after.sector, found.answers
        if erasure.laid_open is None and after > before:
            done = found.done or ["Given back before an interruption."]
            steps.laid_open(LaidOpen(before=U64(before), after=U64(after), done=done), answers)
        elif erasure.laid_open is None:
            why = "what the drive hid is not there any more, and it has become no larger"
    if why and erasure.ended is None:
        steps.ended(Ended(end="not-begun", detail=why[:4000]), answers)


@contextmanager
def _blocks(
    take_over: Callable[[Opened], Target], opened: Opened, erasure: ErasureProgress, asker: Asker
) -> Iterator[Blocks]:
    """All of the medium, each of whose answers is waited for as long as `asker` does. Raises an EngineError."""
    with closing(take_over(opened)) as target:
        try:
            yield PatientBlocks(_whole(target, erasure, opened), asker)
        finally:
            if asker.stuck:
                target.abandon()


def _whole(target: Target, erasure: ErasureProgress, opened: Opened) -> Blocks:
    """All of the medium, also what the kernel does not show of it."""
    laid_open = erasure.laid_open
    if laid_open is None or int(laid_open.after) <= target.size:
        return target
    return Beyond(target, ata_port(opened.fd), int(laid_open.after))


def _hand(
    plan: TargetPlan,
    opened: Opened,
    so_far: TargetProgress,
    steps: Steps,
    asker: Asker,
    watch: erasing.Watch,
) -> PatientHand | None:
    """The hand for the drive; None when the drive does not let itself be asked, with the end journalled, or
    when it was stopped.

    A drive that may be at work for this order can be too busy to answer (ATA security erase): it is waited for.
    """
    erasure, began = so_far.erasure, watch.clock()
    while True:
        try:
            return PatientHand(asker.ask(lambda: hand_for(plan, opened.fd, asker.still_awaited)), asker)
        except (NoPassThrough, Rejected) as error:
            why = str(error)
            break
        except CommandError as error:
            why = str(error)
        if asker.stuck or not erasure.under_way or watch.clock() - began > watch.patience:
            break
        if watch.stop.wait(watch.poll):
            return None
    if erasure.ended is None:
        end = "unknown" if erasure.attempts else "not-begun"
        steps.ended(Ended(end=end, detail=why[:4000]), [])  # type: ignore[arg-type]
    return None


def _changes(plan: TargetPlan, path: str, asker: Asker) -> tuple[list[str], list[Answer]]:
    """How the drive differs from what it was when it was planned, and the answers that say so."""
    if plan.drive is None:
        return [], []
    try:
        after = asker.ask(lambda: examine(path))
    except CommandError:
        after = None
    if after is None:
        return ["it does not answer any more"], []
    answers = [Answer(name=f"{one.name[:180]}, afterwards", hex=one.hex) for one in after.answers]
    return changes(plan.drive, after), answers


def _watch(around: Surroundings) -> erasing.Watch:
    return erasing.Watch(
        stop=around.stop,
        now=around.now,
        poll=around.poll,
        patience=around.patience,
        timeout=around.erase_timeout,
    )
