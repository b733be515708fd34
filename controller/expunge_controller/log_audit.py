"""Whether a log is what it should be: the controller's own, entry by entry, or a copy of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from expunge_agent.errors import DocumentError, ExpungeError, NotFoundError, VerificationError
from expunge_controller import translog
from expunge_controller.context import Controller
from expunge_controller.log_tiles import Copy
from expunge_controller.records import merkle, tiles
from expunge_controller.records.checkpoint import Checkpoint, parse_checkpoint
from expunge_controller.records.findings import Checklist, Step
from expunge_controller.records.log_entry import EntryKind, entry_of, parse_entry
from expunge_controller.records.log_policy import LogPolicy
from expunge_controller.records.note import Signed, verified
from expunge_controller.stamping import problems_of
from expunge_controller.store.port import Unit

ENTRIES = "every entry is whole and in its place"
BEGINNING = "the log begins with its own key"
DOCUMENTS = "every document kept is in the log, and none is missing that was entered"
SIGNED = "every checkpoint ever signed is of this log"
STAMPED = "every time stamp is on its checkpoint"
AGAINST = "the checkpoints that you brought are of this log"


def check_own(controller: Controller, against: Sequence[bytes]) -> list[Step]:
    """Check the controller's log from its entries up; `against` are checkpoints kept elsewhere."""
    checks = Checklist()
    with controller.store.read() as unit:
        tree = merkle.MemoryTree()
        problems = list(_entries(unit, tree))
        checks.check(ENTRIES, problems, f"{tree.size} entries")
        key = translog.key_in(unit)
        first = merkle.leaf_hash(entry_of(EntryKind.KEY, key.text.encode()))
        starts_well = tree.size > 0 and tree.node(0, 0) == first
        checks.check(BEGINNING, [] if starts_well else ["entry 0 is another one"], key.text)
        checks.check(DOCUMENTS, _documents(unit))
        policy = translog.policy_in(unit, controller.home)
        checks.check(SIGNED, _checkpoints(unit, controller, policy, tree))
        checks.check(STAMPED, problems_of(unit, policy))
    if against:
        checks.check(AGAINST, _against(against, policy, tree.node, tree.size), f"{len(against)} checkpoints")
    else:
        checks.skip(AGAINST, "none were brought (--against); whoever changed all of the above is not noticed")
    return checks.steps


def check_copy(copy: Copy, policy: LogPolicy | None, against: Sequence[bytes]) -> list[Step]:
    """Check a copy of a log; without a `policy` whose log it is stays open."""
    checks = Checklist()
    tree, problems = merkle.MemoryTree(), []
    checkpoint = copy.checkpoint
    try:
        for tile in tiles.tiles_of(checkpoint.size):
            if tile.level < 0:
                for entry in copy.entries(tile):
                    tree.append(merkle.leaf_hash(entry))
            elif copy.read(tile) != tiles.tile_bytes(tile, tree.node):
                problems.append(f"{tile.path} does not follow from the entries")
        if not problems and merkle.root(tree.node, checkpoint.size) != checkpoint.root:
            problems.append("the entries do not make the checkpoint's root")
    except (DocumentError, NotFoundError) as error:
        problems.append(error.message)
    checks.check(ENTRIES, problems, f"{tree.size} entries of {checkpoint.origin}")
    title = "log and witnesses signed the checkpoint"
    if policy is None:
        checks.skip(title, "bring a --policy that names the log")
    else:
        checks.check(title, _head_problems(copy.head, policy))
    if not against:
        checks.skip(AGAINST, "none were brought (--against)")
    elif problems:
        checks.check(AGAINST, ["the copy is not whole"])
    else:
        checks.check(AGAINST, _against(against, policy, tree.node, tree.size), f"{len(against)} checkpoints")
    return checks.steps


def _entries(unit: Unit, tree: merkle.MemoryTree) -> Iterator[str]:
    for number, row in enumerate(unit.log.entries(0, unit.log.size())):
        if row.number != number:
            yield f"entry {number} is missing"
            return
        leaf = merkle.leaf_hash(row.body)
        if row.leaf != leaf:
            yield f"entry {number} was changed: its hash is another one"
        if row.above != b"".join(tree.append(leaf)[1:]):
            yield f"the tree above entry {number} was changed"


def _documents(unit: Unit) -> Iterator[str]:
    kept = {merkle.leaf_hash(entry) for entry in unit.log.documents()}
    there = set()
    for row in unit.log.entries(0, unit.log.size()):
        try:
            kind = parse_entry(row.body).kind
        except DocumentError:
            yield f"entry {row.number} is none of expunge"
            continue
        there.add(merkle.leaf_hash(row.body))
        if kind is not EntryKind.KEY and merkle.leaf_hash(row.body) not in kept:
            yield f"the document of entry {row.number} ({kind}) is gone, or was changed"
    if kept - there:
        yield f"{len(kept - there)} documents are not in the log"


def _checkpoints(
    unit: Unit, controller: Controller, policy: LogPolicy, tree: merkle.MemoryTree
) -> Iterator[str]:
    try:
        known = [("a checkpoint", controller.home.log_head.read_bytes())]
    except FileNotFoundError:
        known = []
    for row in unit.log.checkpoints_from(0):
        try:
            known.append((f"the checkpoint of {row.size}", translog.covered_by(unit, policy, row).note))
        except ExpungeError as error:
            yield error.message
    for name, data in known:
        yield from (f"{name}: {why}" for why in _misfits(data, policy, tree.node, tree.size))


def _against(
    against: Sequence[bytes], policy: LogPolicy | None, nodes: merkle.Nodes, size: int
) -> Iterator[str]:
    for data in against:
        yield from _misfits(data, policy, nodes, size)


def _misfits(data: bytes, policy: LogPolicy | None, nodes: merkle.Nodes, size: int) -> Iterator[str]:
    """Why a checkpoint is not of the tree of `size` leaves with these `nodes`."""
    try:
        checkpoint, _ = _signed(data, policy)
    except (DocumentError, VerificationError) as error:
        yield error.message
        return
    if checkpoint.size > size:
        yield f"{checkpoint.size} entries were signed, and there are {size}: the newest are gone"
    elif merkle.root(nodes, checkpoint.size) != checkpoint.root:
        yield f"the first {checkpoint.size} entries are not those that were signed"


def _signed(data: bytes, policy: LogPolicy | None) -> tuple[Checkpoint, list[Signed]]:
    checkpoint, note = parse_checkpoint(data)
    signed = verified(note, policy.keys if policy else [])
    if policy is not None:
        names = {one.key.name for one in signed if one.key in policy.logs}
        if checkpoint.origin not in names:
            raise VerificationError(
                f"A checkpoint of {checkpoint.origin} is not signed by a log of the policy."
            )
    return checkpoint, signed


def _head_problems(data: bytes, policy: LogPolicy) -> list[str]:
    try:
        signed = _signed(data, policy)[1]
    except (DocumentError, VerificationError) as error:
        return [error.message]
    found = len(policy.cosigned(signed))
    return [] if policy.is_enough(signed) else [f"{found} of the {policy.quorum} witnesses asked for signed"]
