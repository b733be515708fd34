"""A bundle's DSSE envelope by bash, coreutils and openssl alone: the script in README.txt and docs/bundle.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from expunge_agent.protocol import dsse
from expunge_controller.bundle import bundle_files
from expunge_controller.render.dsse_recipe import DSSE_RECIPE
from expunge_controller.render.log_recipe import RECIPE
from support.evidence import World, before_the_script

DOCS = Path(__file__).parents[2] / "docs"


def openssl(*arguments: str) -> str:
    program = shutil.which("openssl")
    return subprocess.run([program, *arguments], capture_output=True, text=True).stdout if program else ""


VERSION = openssl("version").strip() or "no openssl"
HAS_MLDSA = "ML-DSA-65" in openssl("list", "-signature-algorithms")
pytestmark = pytest.mark.skipif(
    not re.match(r"OpenSSL ([3-9]|\d\d)\.", VERSION), reason=f"needs OpenSSL 3, here is {VERSION}"
)
needs_mldsa = pytest.mark.skipif(not HAS_MLDSA, reason=f"ML-DSA-65 needs OpenSSL 3.5, here is {VERSION}")


class Bundle:
    """An unpacked bundle."""

    def __init__(self, path: Path, world: World) -> None:
        self.path = path
        self.world = world
        self.files = bundle_files(world.parts())
        for name in self.files:
            (path / name).parent.mkdir(exist_ok=True)
            self.restore(name)

    def restore(self, name: str) -> None:
        (self.path / name).write_bytes(self.files[name])

    def run(self, script: str = DSSE_RECIPE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash"],
            input=script,
            cwd=self.path,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )

    def refuses(self, changes: dict[str, bytes], script: str = DSSE_RECIPE) -> bool:
        for name, data in changes.items():
            (self.path / name).write_bytes(data)
        try:
            return self.run(script).returncode != 0
        finally:
            for name in changes:
                self.restore(name)


@pytest.fixture(scope="module", params=["ed25519", "ecdsa-p256"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle(tmp_path_factory.mktemp("bundle"), World(p256=request.param == "ecdsa-p256"))


def raw_files(bundle: Bundle) -> list[str]:
    form = re.compile(r"(trust/)?receipt\.(dsse\.json|(ed25519|ecdsa-p256|mldsa65)\.(sig|pem))")
    return [name for name in bundle.files if form.fullmatch(name)]


def test_the_script_is_the_one_in_the_documents(bundle: Bundle) -> None:
    """README.txt has it in bundles from before there was a verify.sh."""
    indented = textwrap.indent(DSSE_RECIPE, "    ")
    assert indented in before_the_script(bundle.files, bundle.world.signers)["README.txt"].decode()
    assert indented in (DOCS / "bundle.md").read_text()


def test_a_good_bundle(bundle: Bundle) -> None:
    done = bundle.run()
    assert done.returncode == 0, done.stderr
    line = bundle.world.agent.public_line
    assert f"  by {dsse.algorithm(line)} {dsse.keyid(dsse.spki_of_line(line))}\n" in done.stdout
    if HAS_MLDSA:
        assert f"  by mldsa65 {dsse.keyid(bundle.world.mldsa65_key)}\n" in done.stdout
        assert done.stdout.count("Verified Successfully") == 2
    else:
        assert (
            f"SKIPPED: the ML-DSA-65 signature needs OpenSSL 3.5 or newer; here is {VERSION}" in done.stdout
        )
        assert done.stdout.count("Verified Successfully") == 1
    assert bundle.run(RECIPE).returncode == 0, "the log's script knows the entry's line"


def test_changed_bits_are_noticed(bundle: Bundle) -> None:
    """Envelope, signatures and keys stand for each other, so this holds where openssl has no ML-DSA, too."""
    assert len(raw_files(bundle)) == 5
    for name in [*raw_files(bundle), "receipt.json"]:
        data = bundle.files[name]
        for position in range(0, len(data), max(1, len(data) // 10)):
            changed = bytearray(data)
            changed[position] ^= 1 << position % 7
            assert bundle.refuses({name: bytes(changed)}), (name, position)


def test_a_missing_file_is_noticed(bundle: Bundle) -> None:
    for name in raw_files(bundle):
        (bundle.path / name).unlink()
        try:
            assert bundle.run().returncode != 0, name
        finally:
            bundle.restore(name)


def test_keys_of_others_are_noticed(bundle: Bundle) -> None:
    """A whole envelope by other keys: the first is not in allowed_signers, the second not in the receipt."""
    for own in ("agent", "second"):
        thief = World(p256="ecdsa" in bundle.world.agent.public_line)
        setattr(thief, own, getattr(bundle.world, own))
        parts = bundle.world.parts()
        assert thief.second is not None
        second = dsse.sign(thief.agent, thief.second, bundle.files["receipt.json"])
        other = bundle_files(parts._replace(second=second)) if own == "agent" else None
        changes = (
            {name: other[name] for name in raw_files(bundle)} if other else by_hand(bundle, thief, second)
        )
        assert bundle.refuses(changes), own


def by_hand(bundle: Bundle, thief: World, second: dsse.SecondSignatures) -> dict[str, bytes]:
    classic = dsse.algorithm(thief.agent.public_line)
    return {
        "receipt.dsse.json": dsse.envelope(bundle.files["receipt.json"], thief.agent.public_line, second),
        f"receipt.{classic}.sig": second.classic,
        f"trust/receipt.{classic}.pem": dsse.pem_of(dsse.spki_of_line(thief.agent.public_line)),
        "receipt.mldsa65.sig": second.mldsa65,
    }


def test_an_entry_without_the_second_signature_is_noticed(bundle: Bundle) -> None:
    lines = bundle.files["entry.txt"].splitlines(keepends=True)
    assert lines[-1].startswith(b"mldsa65 ")
    assert bundle.refuses({"entry.txt": b"".join(lines[:-1])}, RECIPE)


@needs_mldsa
def test_openssl_takes_our_signature_and_refuses_another(bundle: Bundle) -> None:
    """A signature over other bytes, consistently in envelope and file: openssl itself must say no."""
    assert bundle.world.second is not None
    parts = bundle.world.parts()
    assert parts.second is not None
    wrong = dsse.sign(bundle.world.agent, bundle.world.second, b"other bytes").mldsa65
    second = dsse.SecondSignatures(
        classic=parts.second.classic, mldsa65=wrong, mldsa65_key=parts.second.mldsa65_key
    )
    line = bundle.world.agent.public_line
    changes = {
        "receipt.mldsa65.sig": wrong,
        "receipt.dsse.json": dsse.envelope(bundle.files["receipt.json"], line, second),
    }
    assert bundle.refuses(changes)
