"""Every method, proven pass by pass: a real order, and the whole file read back after each of its passes.

The expectations are the table of overwrite methods, written down here once more and not derived
from the profile files; streams are computed in one go from the key that the journal holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from expunge_agent import wipe
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.order import ProfileRef
from expunge_agent.protocol.receipt import Receipt
from expunge_agent.steps import Steps
from expunge_agent.techniques import pass_watch
from expunge_profiles.load import builtin, parse
from expunge_profiles.schema import Profile
from support.agents import Bench

SIZE = 3 * 64 * 1024 + 777

# One word a pass. Hexadecimal: these bytes repeated from offset 0. c: one byte repeated, free to choose;
# 0/1: the same, 00 or FF only. ~: the pass before, every bit turned over. r: a byte drawn at random,
# repeated. R: a random stream. V: the pass before is read back in full.
METHODS = {
    "zero": "00",
    "one": "FF",
    "random": "R",
    "nist-clear": "c V",
    "nist-clear-complement": "c ~ V",
    "gb-46864-magnetic": "c c R V",
    "dod-5220.22-m": "c ~ r V",
    "dod-5220.22-m-ece": "c ~ r  r  c ~ r V",
    "hmg-is5-baseline": "00 V",
    "hmg-is5-enhanced": "00 FF R V",
    "afssi-5020": "00 FF r V",
    "ncsc-tg-025": "00 V FF V r V",
    "ar-380-19": "R c ~ V",
    "navso-p-5239-26": "c ~ r V",
    "csec-itsg-06": "0/1 ~ r V",
    "rcmp-tssit-ops-ii": "00 FF " * 3 + "R V",
    "bsi-vsitr": "00 FF " * 3 + "AA",
    "gost-r-50739-95": "00 R",
    "schneier": "FF 00" + " R" * 5,
    "pfitzner": "R " * 33,
    "nnsa-nap-14.1-c": "R R 00 V",
    "ism-au-magnetic": "R V",
    "ism-au-flash": "R R V",
    "gutmann": "R R R R 55 AA 924924 492492 249249 "
    "00 11 22 33 44 55 66 77 88 99 AA BB CC DD EE FF "
    "924924 492492 249249 6DB6DB B6DB6D DB6DB6 R R R R",
    "random-verified": "00 R V",  # the house's own
}

# As METHODS, and `c` may not stand here: a custom profile says which byte.
CUSTOM = {
    "three-bytes": "A1B2C3 V",
    "seven-bytes": "01020304050607 V",
    "sixty-four-bytes": bytes(range(0x40, 0x80)).hex() + " V",
    "three-and-complement": "924924 V ~ V",
    "seven-and-complement-twice": "0123456789ABCD V ~ V ~ V",
    "complement-of-a-random-byte": "r V ~ V",
    "random-bytes": "r " * 24,
    "all-kinds": "R V 5A V ~ V r V ~ V C0FFEE V ~ V R V",
}


def ctr(key: bytes, size: int) -> bytes:
    """The stream that a counter mode pass leaves, from offset 0, in one call."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def chacha(key: bytes, size: int) -> bytes:
    return Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor().update(bytes(size))


def xts(key: bytes, size: int) -> bytes:
    """Data units of 256 KiB, the last one cut off."""
    unit, out = 256 * 1024, b""
    for number in range(-(-size // unit)):
        tweak = number.to_bytes(16, "little")
        out += Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor().update(bytes(unit))
    return out[:size]


STREAMS: dict[str, Callable[[bytes, int], bytes]] = {
    "aes-256-ctr": ctr,
    "chacha20": chacha,
    "aes-256-xts": xts,
}


def equal_at_their_place(one: bytes, other: bytes) -> int:
    """How many bytes of two contents are equal at the same offset."""
    mixed = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return mixed.to_bytes(len(one), "little").count(0)


def same(found: bytes, expected: bytes, where: str) -> None:
    """Fails with one line: pytest would compare 200,000 bytes one by one to show the difference."""
    if found != expected:
        raise AssertionError(f"{where}: the bytes differ")


class Proof:
    """Reads the file back after each pass and holds it against the method."""

    def __init__(self, image: Path, journal: Path, method: str) -> None:
        self.image = image
        self.journal = journal
        self.words = method.split()
        self.original = image.read_bytes()
        self.contents: list[bytes] = []
        """The file after each pass."""
        self.keys: list[str] = []

    def look(self, kind: str) -> None:
        """Called right after each journal record, while the order waits."""
        if kind == "verify-finished":
            assert self._next() == "V", "read back where the method does not ask for it"
            assert self.image.read_bytes() == self.contents[-1], "reading back changed the file"
        if kind == "pass-finished":
            word = self._next()
            found = self.image.read_bytes()
            self._check(word, found)
            self.contents.append(found)

    def _next(self) -> str:
        assert self.words, "the method is over, and something more was done"
        return self.words.pop(0)

    def _check(self, word: str, found: bytes) -> None:
        index = len(self.contents)
        where = f"pass {index + 1} ({word})"
        assert len(found) == SIZE, where
        if word == "R":
            self._check_stream(found, where)
        elif word == "~":
            before = self.contents[-1]
            same(found, before.translate(bytes(range(255, -1, -1))), where)
        elif word in ("c", "r", "0/1"):
            same(found, found[:1] * SIZE, where)
            assert word != "0/1" or found[0] in (0x00, 0xFF), where
            # A pass that wrote nothing leaves one byte throughout too: that of the pass before.
            assert found[0] == int(self._planned(index)["fixed"], 16), where
        else:
            pattern = bytes.fromhex(word)
            same(found, (pattern * (SIZE // len(pattern) + 1))[:SIZE], where)

    def _check_stream(self, found: bytes, where: str) -> None:
        planned = self._planned(len(self.contents))
        same(found, STREAMS[planned["cipher"]](bytes.fromhex(planned["key"]), SIZE), where)
        assert planned["key"] not in self.keys, f"{where}: a key was used twice"
        self.keys.append(planned["key"])
        mean = SIZE / 256
        chance = mean + 8 * math.sqrt(mean)
        for old in (self.original, *self.contents[-1:]):
            assert equal_at_their_place(found, old) < chance, f"{where}: old data is left"

    def _planned(self, index: int) -> dict[str, Any]:
        """Pass `index` as the journal on disk has it."""
        records = [json.loads(line)["record"] for line in self.journal.read_bytes().splitlines()]
        (plan,) = [record["data"]["plan"] for record in records if record["kind"] == "planned"]
        return {"cipher": "", "key": "", "fixed": "", **plan["passes"][index]}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    lines = b"".join(b"RECORD %08d of what nobody may read any more\n" % number for number in range(5000))
    path.write_bytes(lines[:SIZE])
    return path


def prove(
    bench: Bench,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: Profile,
    method: str,
    **around: object,
) -> tuple[Receipt, Proof]:
    """Carry out an order with `profile` and check it against `method` after every pass."""
    reference = ProfileRef(id=profile.id, version=profile.version, digest=profile.digest)
    order = bench.order(image, profile=reference)
    digest = bench.hand_in(*bench.sign(order))
    proof = Proof(image, bench.state.order_folder(digest) / "journal.jsonl", method)

    class Watching(Ledger):
        def record(self, kind: str, **data: Any) -> None:
            super().record(kind, **data)
            proof.look(kind)

    monkeypatch.setattr(wipe, "Ledger", Watching)
    receipt = bench.run(order, profiles={**builtin(), profile.id: profile}, **around)
    assert proof.words == [], "the order ended before the method was over"
    return receipt, proof


def check_receipt(receipt: Receipt, method: str) -> None:
    """The receipt claims what the proof saw, and no more."""
    passes = [word for word in method.split() if word != "V"]
    (result,) = receipt.targets
    assert len(result.passes) == len(passes)
    assert all(int(one.bytes_written) == SIZE and one.complete and one.flushed for one in result.passes)
    assert [bool(one.stream) for one in result.passes] == [word == "R" for word in passes]
    read_back = "V" in method
    assert receipt.outcome is (Outcome.SANITIZED if read_back else Outcome.EXCEPTIONS)
    assert receipt.level_achieved is (Level.CLEAR if read_back else Level.NONE)
    assert all(check.mismatched_bytes == 0 and check.bytes_read == SIZE for check in result.verifications)


def custom(name: str) -> Profile:
    """A profile of one's own for a method of `CUSTOM`."""
    method = CUSTOM[name]
    kinds = {"~": "complement = true", "r": "random-byte = true", "R": "keyed-stream = true"}
    passes = [
        kinds.get(word, f'{"fixed" if len(word) == 2 else "pattern"} = "{word}"')
        for word in method.split()
        if word != "V"
    ]
    verification = 'kind = "full"\nafter = "every"' if "V" in method else 'kind = "none"'
    head = {
        "id": f"custom-{name}",
        "title": name,
        "level": "clear",
        "authority": "none",
        "status": "current",
        "source": "own policy",
        "advice": "for this test",
    }
    text = "".join(f'{key} = "{value}"\n' for key, value in head.items())
    text += f'version = 1\nmedia = ["file"]\n[verification]\n{verification}\n'
    return parse(text + "".join(f"[[pass]]\n{one}\n" for one in passes), f"{name}.toml")


def test_every_method_is_proven_here() -> None:
    """Of those that write from the host alone; commands of a drive are proven where there are drives."""
    assert set(METHODS) == {
        name for name, profile in builtin().items() if profile.techniques == ("overwrite",)
    }
    gutmann = METHODS["gutmann"].split()
    assert len(gutmann) == 35
    assert len(set(gutmann)) == 23, "sixteen bytes, six triples and the stream"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_leaves_after_every_pass_what_it_says(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    receipt, proof = prove(bench, image, monkeypatch, builtin()[name], METHODS[name])
    check_receipt(receipt, METHODS[name])
    assert b"RECORD" not in proof.contents[-1]
    assert image.read_bytes() == proof.contents[-1]


@pytest.mark.parametrize("name", CUSTOM)
def test_a_profile_of_ones_own_leaves_what_it_says(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    receipt, proof = prove(bench, image, monkeypatch, custom(name), CUSTOM[name])
    check_receipt(receipt, CUSTOM[name])
    if name == "random-bytes":
        assert len({content[0] for content in proof.contents}) > 12, "bytes hardly drawn at random"


@pytest.mark.parametrize("cipher", STREAMS)
def test_a_stream_of_each_cipher_is_what_its_definition_gives(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch, cipher: str
) -> None:
    tuning = Tuning(chunk=64 * 1024, stripes=3, cipher=cipher, unread_cipher=cipher)
    receipt, proof = prove(bench, image, monkeypatch, custom("all-kinds"), CUSTOM["all-kinds"], tuning=tuning)
    check_receipt(receipt, CUSTOM["all-kinds"])
    streams = [one.stream.cipher for one in receipt.targets[0].passes if one.stream]
    assert streams == [cipher] * 2
    assert len(set(proof.keys)) == 2


def test_a_stream_that_is_read_back_keeps_the_cipher_that_tells(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(chunk=64 * 1024, stripes=3, unread_cipher="aes-256-xts")
    for name, ciphers in (("pfitzner", ["aes-256-xts"] * 33), ("hmg-is5-enhanced", ["aes-256-ctr"])):
        receipt, _ = prove(bench, image, monkeypatch, builtin()[name], METHODS[name], tuning=tuning)
        assert [one.stream.cipher for one in receipt.targets[0].passes if one.stream] == ciphers


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("schneier", "00 FF R R R R R"),  # the other order
        ("gutmann", METHODS["gutmann"].replace("924924", "922492")),
        ("nist-clear", "c ~ V"),  # a pass too few
        ("schneier", "FF 00 R R R R"),  # a pass too many
        ("zero", "00 V"),  # not read back
        ("hmg-is5-enhanced", "00 FF c V"),
    ],
)
def test_a_method_that_differs_is_found(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    with pytest.raises(AssertionError):
        prove(bench, image, monkeypatch, builtin()[name], method)


@pytest.mark.parametrize(
    ("profile", "method", "silent"),
    [
        (builtin()["gb-46864-magnetic"], METHODS["gb-46864-magnetic"], 1),
        (custom("complement-of-a-random-byte"), "c V c V", 1),
        (builtin()["nist-clear-complement"], "c c V", 1),
    ],
)
def test_a_pass_that_writes_nothing_is_found(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile, method: str, silent: int
) -> None:
    """Also after a pass of one byte throughout, which it leaves as it is."""
    original, started = Target.write, 0

    def write(self: Target, view: memoryview, offset: int) -> None:
        if started - 1 != silent:
            original(self, view, offset)

    def begun(self: Steps, index: int) -> None:
        nonlocal started
        started += 1
        noted(self, index)

    noted = Steps.pass_started
    monkeypatch.setattr(Steps, "pass_started", begun)
    monkeypatch.setattr(Target, "write", write)
    monkeypatch.setattr(pass_watch, "spots", lambda *_: [])  # it would be found before the pass is over
    with pytest.raises(AssertionError, match=rf"pass {silent + 1} \(c\)"):
        prove(bench, image, monkeypatch, profile, method)
