"""What a drive's cells hold between its erase and their deallocation, where it shows them (`hand.ShowsCells`).

A read after that may only show a mapping that was dropped. Here the same canaries and old blocks are looked for in
the cells themselves, and as much is read as the profile asks for. What is found refutes the erase; what reads as
noise proves nothing either way: integrity is not checked in this state, so erased cells may read as anything.
"""

from __future__ import annotations

import secrets

from expunge_agent.core.erasure_progress import ErasureProgress, Placed
from expunge_agent.core.plan import TargetPlan
from expunge_agent.engine import canaries
from expunge_agent.engine.problems import EngineError, Stalled
from expunge_agent.engine.survey import Survey, survey
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_erasure import CellsRead
from expunge_agent.techniques.erasing import READING, Recorder, Watch
from expunge_agent.techniques.hand import Cells
from expunge_agent.techniques.read_back import places


def look(cells: Cells, plan: TargetPlan, so_far: ErasureProgress, recorder: Recorder, watch: Watch) -> None:
    """Look at `cells` and have it written down, also what was stopped: the drive is not left waiting in this state.

    Raises Stalled when the drive has stopped answering; whatever else it does is told in what is recorded.
    """
    detail, remains, seen = "", canaries.Remains(0, [], [], 0), Survey()
    placed = so_far.placed
    try:
        remains = _remains(cells, plan, placed)
        seen = _survey(cells, plan, recorder, watch)
    except Stalled:
        raise
    except EngineError as error:
        detail = f"the look at the cells broke off: {error}"
    if not detail and watch.stop.is_set():
        detail = "the look at the cells was stopped"
    if not detail and seen.read + seen.unreadable_bytes < seen.expected:
        detail = f"only {seen.read + seen.unreadable_bytes} of {seen.expected} bytes were looked at"
    recorder.cells(_as_told(cells, placed, remains, seen, detail))


def _remains(cells: Cells, plan: TargetPlan, placed: Placed | None) -> canaries.Remains:
    if placed is None:
        return canaries.Remains(0, [], [], 0)
    key = bytes.fromhex(plan.key)
    failed = {int(one) for one in placed.failed}
    written = [one for one in canaries.places(int(placed.size), key) if one not in failed]
    return canaries.look_for(cells, key, written, [(int(at), digest) for at, digest in placed.samples])


def _survey(cells: Cells, plan: TargetPlan, recorder: Recorder, watch: Watch) -> Survey:
    if plan.verification.kind == "none":
        return Survey()
    seed = secrets.token_bytes(16)
    ranges = places(plan.verification, cells.size, max(cells.block, canaries.BLOCK), seed)
    show = "reading the cells"
    return survey(
        cells, ranges, progress=lambda progress: recorder.progress(READING, show, progress), stop=watch.stop
    )


def _as_told(
    cells: Cells, placed: Placed | None, remains: canaries.Remains, seen: Survey, detail: str
) -> CellsRead:
    return CellsRead(
        looked_for=remains.looked_for,
        found=len(remains.found),
        unreadable=remains.unreadable,
        telling=len(placed.samples) if placed is not None else 0,
        kept=len(remains.kept),
        samples_unreadable=remains.unreadable_samples,
        from_cells=U64(cells.from_cells),
        bytes_read=U64(seen.read),
        unreadable_bytes=U64(seen.unreadable_bytes),
        zeros=U64(seen.zeros),
        ones=U64(seen.ones),
        constant=U64(seen.constant),
        other=U64(seen.other),
        detail=detail[:4000],
    )
