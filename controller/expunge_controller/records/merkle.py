"""The Merkle tree of RFC 6962 §2.1 over SHA-256: roots, proofs that an entry is in it, proofs that it only grew.

Pure: the hashes of complete subtrees come from a function, so that a database, a folder of tiles
or a list may hold them. A complete subtree is named by its level (0: leaves) and its number on
that level, both from 0; it spans 2^level leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves (RFC 6962 §2.1)."""
MAX_PROOF = 63
"""Hashes in a proof at the most, in any tree that can be counted (tlog-witness, add-checkpoint)."""

Nodes = Callable[[int, int], bytes]
"""The hash of the complete subtree with this level and number."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees beside each other: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def completed(index: int, leaf: bytes, nodes: Nodes) -> list[bytes]:
    """The hashes of all complete subtrees that end with leaf number `index`, the leaf itself first.

    `nodes` has to know those before it.
    """
    hashes = [leaf]
    while index >> (len(hashes) - 1) & 1:
        level = len(hashes) - 1
        hashes.append(node_hash(nodes(level, (index >> level) - 1), hashes[-1]))
    return hashes


class MemoryTree:
    """A whole tree in memory: to make one again from its leaves, and to check one."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash; the hashes of the complete subtrees that end with it, the leaf first."""
        hashes = completed(self.size, leaf, self.node)
        for level, found in enumerate(hashes):
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(found)
        return hashes

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return len(self._levels[0])

    def node(self, level: int, number: int) -> bytes:
        """The hash of a complete subtree (`Nodes`)."""
        return self._levels[level][number]


def root(nodes: Nodes, size: int) -> bytes:
    """The root of the tree of the first `size` leaves: MTH(D[size])."""
    return _range_hash(nodes, 0, size) if size else EMPTY_ROOT


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """The hashes that lead from leaf number `index` to the root of `size` leaves, the sibling first: PATH(m, D[n])."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    proof: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            proof.append(_range_hash(nodes, middle, stop))
            stop = middle
        else:
            proof.append(_range_hash(nodes, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(nodes: Nodes, old: int, new: int) -> list[bytes]:
    """The hashes that show the tree of `old` leaves to be the beginning of that of `new`: PROOF(m, D[n]).

    Empty for `old` 0 (nothing is promised of an empty tree) and for equal sizes.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves has no beginning of {old}")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    start, stop = 0, new
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            proof.append(_range_hash(nodes, middle, stop))
            stop = middle
        else:
            proof.append(_range_hash(nodes, start, middle))
            start = middle
    if start:  # else the verifier knows it: it is the old root
        proof.append(_range_hash(nodes, start, stop))
    return proof[::-1]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> bool:
    """Whether `proof` leads from the leaf hash to the root (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size or len(leaf) != HASH_SIZE:
        return False
    place, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(step, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root_hash


def is_consistent(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `proof` shows that the tree of `new` leaves begins with that of `old` (RFC 9162 §2.1.4.2).

    False for an empty `old` tree, whatever `new` is: any tree begins with nothing, so that there is
    nothing to be shown, and whoever takes it for a proof is fooled.
    """
    if not 0 < old <= new or (old < new and not proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    steps = list(proof)
    seed = steps.pop(0) if place else old_root
    found_old = found_new = seed
    for step in steps:
        if last == 0:
            return False
        if place & 1 or place == last:
            found_old, found_new = node_hash(step, found_old), node_hash(step, found_new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found_new = node_hash(found_new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found_old == old_root and found_new == new_root


def _range_hash(nodes: Nodes, start: int, stop: int) -> bytes:
    """MTH of the leaves from `start` up to `stop`, a range that a tree of this kind has as a subtree."""
    count = stop - start
    if not count & (count - 1):
        level = count.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(count)
    return node_hash(_range_hash(nodes, start, middle), _range_hash(nodes, middle, stop))


def _split(count: int) -> int:
    """The largest power of two smaller than `count`, which is 2 or more."""
    return 1 << ((count - 1).bit_length() - 1)
