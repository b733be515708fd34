"""Trees, proofs, tiles and signed notes beside an implementation by others: Go's sumdb (golang.org/x/mod)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from expunge_controller.records import merkle, tiles
from expunge_controller.records.checkpoint import Checkpoint
from expunge_controller.records.note import ED25519, key_of, parse_note, to_base64, verified
from support.logs import LogWorld, fresh_signer

SOURCE = Path(__file__).parent / "go_peer" / "main.go"
LIBRARY = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed (golang-go)"),
    pytest.mark.skipif(not LIBRARY.is_dir(), reason="golang-golang-x-mod-dev is not installed"),
]
SIZE = 300
INCLUDED = [(index, size) for size in (1, 2, 3, 7, 8, 64, 255, 256, 257, 300) for index in range(0, size, 13)]
GROWN = [(old, new) for new in (2, 3, 8, 100, 256, 300) for old in range(1, new, 7)]


@pytest.fixture(scope="module")
def log() -> LogWorld:
    return LogWorld()


@pytest.fixture(scope="module")
def tree() -> merkle.MemoryTree:
    made = merkle.MemoryTree()
    for number in range(SIZE):
        made.append(merkle.leaf_hash(b"entry %d" % number))
    return made


@pytest.fixture(scope="module")
def said(log: LogWorld, tree: merkle.MemoryTree, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the peer answers to everything at once: starting it takes longer than answering."""
    folder = tmp_path_factory.mktemp("go")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GOCACHE": str(folder / "cache"),
        "GOPATH": "/usr/share/gocode",
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPROXY": "off",
    }
    signer = fresh_signer()
    key = key_of(signer, "example.com/go", ED25519)
    seed = signer._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())  # type: ignore[union-attr]
    question = {
        "Entries": [to_base64(b"entry %d" % number) for number in range(SIZE)],
        "Included": INCLUDED,
        "Grown": GROWN,
        "Vkey": log.key.text,
        "Note": to_base64(log.checkpoint(tree, SIZE)),
        "Skey": f"PRIVATE+KEY+{key.name}+{key.key_id.hex()}+{to_base64(bytes([ED25519]) + seed)}",
        "Text": Checkpoint(key.name, 7, merkle.root(tree.node, 7)).text,
    }
    done = subprocess.run(
        ["go", "run", str(SOURCE)],
        input=json.dumps(question),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "key": key}


def test_the_same_roots(said: dict[str, Any], tree: merkle.MemoryTree) -> None:
    for size in range(1, SIZE + 1):
        assert base64.b64decode(said["Roots"][str(size)]) == merkle.root(tree.node, size), size


def test_the_same_proofs(said: dict[str, Any], tree: merkle.MemoryTree) -> None:
    for (index, size), proof in zip(INCLUDED, said["Included"], strict=True):
        hashes = [base64.b64decode(one) for one in proof]
        assert hashes == merkle.inclusion_proof(tree.node, index, size)
        root = merkle.root(tree.node, size)
        assert merkle.is_included(tree.node(0, index), index, size, hashes, root)
    for (old, new), proof in zip(GROWN, said["Grown"], strict=True):
        hashes = [base64.b64decode(one) for one in proof]
        assert hashes == merkle.consistency_proof(tree.node, old, new)
        roots = merkle.root(tree.node, old), merkle.root(tree.node, new)
        assert merkle.is_consistent(old, new, hashes, *roots)


def test_it_opens_our_checkpoint_and_we_open_its_note(
    said: dict[str, Any], log: LogWorld, tree: merkle.MemoryTree
) -> None:
    assert said["Text"] == Checkpoint(log.key.name, SIZE, merkle.root(tree.node, SIZE)).text
    assert said["Signers"] == [log.key.name]
    note = parse_note(base64.b64decode(said["Signed"]))
    assert [one.key for one in verified(note, [said["key"]])] == [said["key"]]


def test_the_same_tiles(said: dict[str, Any]) -> None:
    """Its paths name the tile height (8) too, C2SP tlog-tiles leaves it out; it lists every partial tile on the way."""
    theirs = {path.replace("tile/8/", "tile/", 1) for path in said["Tiles"]}
    sizes = range(1, SIZE + 1)
    now, ever = (
        {tile.path for size in some for tile in tiles.tiles_of(size) if tile.level >= 0}
        for some in (sizes[-1:], sizes)
    )
    assert now <= theirs <= ever
