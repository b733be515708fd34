"""How far a pass over a target has come, folded from the journal."""

from __future__ import annotations

from dataclasses import dataclass, field

from expunge_agent.core.entry import Entry
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import PassResult
from expunge_agent.protocol.receipt_parts import RangeProblem

KINDS = ("pass-resumed", "checkpoint", "pass-finished")


class Checkpoint(Frozen, frozen=True):
    """What is durable of a pass that is under way: every byte below ``durable`` was written or listed.

    Numbers are those of the whole pass so far; ``new_errors`` only what came since the checkpoint
    before, and none beyond the first `MAX_LISTED_RANGES` of a pass, so that a bad medium does not fill
    the journal. ``broken_off``: the pass ended here before its
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

    def apply(self, record: Entry) -> None:
        """Take in a record of a kind in `KINDS`."""
        if record.kind == "pass-resumed":
            self.resumed_at.append(U64(record.data["durable"]))
        elif record.kind == "checkpoint":
            self.checkpoint = canonical.convert(record.data["checkpoint"], Checkpoint)
            self.errors += self.checkpoint.new_errors
        else:
            self.result = canonical.convert(record.data["result"], PassResult)
