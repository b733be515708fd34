"""The Merkle tree: the public vectors, trees of every small size, and every way to be wrong by one."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_controller.records import merkle

VECTORS = json.loads((Path(__file__).parents[1] / "recorded" / "merkle-vectors.json").read_text())
BYTES = [base64.b64decode(text) for text in VECTORS["bytes"]]


def tree_of(size: int) -> merkle.MemoryTree:
    tree = merkle.MemoryTree()
    for number in range(size):
        tree.append(merkle.leaf_hash(b"entry %d" % number))
    return tree


def plain_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + plain_root(leaves[:split]) + plain_root(leaves[split:])).digest()


def test_there_are_as_many_vectors_as_published() -> None:
    assert (len(VECTORS["inclusion"]), len(VECTORS["consistency"])) == (98, 98)


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda vector: vector[0])
def test_public_vectors_of_inclusion(vector: list) -> None:
    _, index, size, leaf, root, proof, good = vector
    found = merkle.is_included(BYTES[leaf], index, size, [BYTES[one] for one in proof], BYTES[root])
    assert found is good


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda vector: vector[0])
def test_public_vectors_of_consistency(vector: list) -> None:
    _, old, new, old_root, new_root, proof, good = vector
    found = merkle.is_consistent(old, new, [BYTES[one] for one in proof], BYTES[old_root], BYTES[new_root])
    assert found is good


@pytest.mark.parametrize("size", range(35))
def test_roots_and_proofs_of_small_trees(size: int) -> None:
    tree = tree_of(40)  # larger than what is asked about: nothing beyond `size` may matter
    leaves = [tree.node(0, number) for number in range(size)]
    root = merkle.root(tree.node, size)
    assert root == plain_root(leaves)
    for index in range(size):
        proof = merkle.inclusion_proof(tree.node, index, size)
        assert merkle.is_included(leaves[index], index, size, proof, root)
        assert not any(
            merkle.is_included(leaves[index], other, size, proof, root)
            for other in range(size)
            if other != index
        )
    for old in range(1, size + 1):
        proof = merkle.consistency_proof(tree.node, old, size)
        assert merkle.is_consistent(old, size, proof, plain_root(leaves[:old]), root)
        if old < size:
            assert not merkle.is_consistent(old, size, proof, tree.node(0, 39), root)
            assert not merkle.is_consistent(old, size, proof, plain_root(leaves[:old]), tree.node(0, 39))


def test_an_empty_tree_proves_nothing() -> None:
    root = merkle.root(tree_of(5).node, 5)
    assert merkle.consistency_proof(tree_of(5).node, 0, 5) == []
    assert not merkle.is_consistent(0, 5, [], merkle.EMPTY_ROOT, root)
    assert not merkle.is_consistent(0, 0, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)


def test_what_is_not_there_cannot_be_proven() -> None:
    tree = tree_of(5)
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(ValueError):
            merkle.inclusion_proof(tree.node, index, size)
    with pytest.raises(ValueError):
        merkle.consistency_proof(tree.node, 6, 5)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_bit_of_a_proof_may_change(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 600))
    tree = tree_of(size)
    old, index = data.draw(st.integers(1, size - 1)), data.draw(st.integers(0, size - 1))
    root, old_root = merkle.root(tree.node, size), merkle.root(tree.node, old)
    included = merkle.inclusion_proof(tree.node, index, size)
    consistent = merkle.consistency_proof(tree.node, old, size)
    assert merkle.is_included(tree.node(0, index), index, size, included, root)
    assert merkle.is_consistent(old, size, consistent, old_root, root)
    for proof in (included, consistent):
        place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
        changed = list(proof)
        changed[place] = (int.from_bytes(changed[place], "big") ^ 1 << bit).to_bytes(32, "big")
        if proof is included:
            assert not merkle.is_included(tree.node(0, index), index, size, changed, root)
        else:
            assert not merkle.is_consistent(old, size, changed, old_root, root)
    for longer in ([*included, root], included[:-1]):
        assert not merkle.is_included(tree.node(0, index), index, size, longer, root)
    for longer in ([*consistent, root], consistent[:-1]):
        assert not merkle.is_consistent(old, size, longer, old_root, root)
