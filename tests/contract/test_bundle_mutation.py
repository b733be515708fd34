"""Nothing in a bundle can be changed by a bit, taken out, added or swapped without both verifiers saying so.

The seed is printed; EXPUNGE_MUTATION_SEED repeats a run. Each flip is tried twice: as damage, and with SHA256SUMS made
anew by somebody who means it. `verify.sh` runs from outside the folder, as an auditor has it from elsewhere.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from expunge_controller import bundling
from expunge_controller.bundle import bundle_files
from expunge_controller.certificate_pdf import pdf_maker
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.custody import CustodyKind
from expunge_controller.records.findings import Status, Step, failures
from expunge_controller.records.key_event import KeyEventKind
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.sums import format_sums
from expunge_controller.records.verify_script import script
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.render.pdf_words import Language
from expunge_controller.rotating import rotate_controller
from expunge_controller.stamping import stamp_head
from support.authorities import TimeAuthority
from support.controllers import FakeAgent, enrolled, make_controller, now, ordered
from support.evidence import World, before_the_script
from support.key_story import Story, seen
from support.logs import fresh_signer
from support.pdfs import font_problem
from support.people import Folk


def problem() -> str:
    """Why verify.sh cannot run here; empty where it can."""
    missing = [name for name in ("bash", "openssl", "ssh-keygen") if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    found = subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout
    return "" if re.match(r"OpenSSL ([3-9]|\d\d)\.", found) else f"needs OpenSSL 3, here is {found.strip()}"


pytestmark = pytest.mark.skipif(bool(problem()), reason=problem() or "-")
SEED = int(os.environ.get("EXPUNGE_MUTATION_SEED") or random.SystemRandom().randrange(1 << 32))
FLIPS = 400
"""Of each bundle, for expunge verify: each file has its share, and never fewer than eight."""
MADE_ANEW = (
    "certificate.html",
    "README.txt",
    "verify.sh",
    "SHA256SUMS",
    "stamps/001.tsr",
    "trust/log-policy.toml",
)
"""What verify.sh knows by SHA256SUMS alone (docs/bundle.md): it cannot make pages again."""
UNSIGNED = ("SHA256SUMS", "stamps/001.tsr", "trust/log-policy.toml")
"""A time stamp has a few bytes that its authority did not sign; nobody signs the policy, which has that one's name and roots."""


def of_a_world() -> dict[str, bytes]:
    """With second signatures, a witnessed log, key events and, where it can be made here, a PDF."""
    world = World()
    maker = None
    if not font_problem():
        holder: Any = SimpleNamespace(home=None, signer=world.controller)
        maker = pdf_maker(holder, Language.BOTH, sign=False)
    return bundle_files(world.parts()._replace(pdf=maker))


def of_a_rotation() -> dict[str, bytes]:
    """With a key that was rotated after it signed."""
    story = Story()
    end = story.about(KeyEventKind.ROTATED, seen(10), successor=fresh_signer().public_line)
    return story.bundle((5, end))


def of_a_controller(folder: Path) -> dict[str, bytes]:
    """With people who signed, a controller's key that was rotated, and a time stamp."""
    controller: Controller = make_controller(folder / "home")
    authority = TimeAuthority(folder / "authority", "tsa.example")
    try:
        agent = FakeAgent()
        machine = enrolled(controller, agent)
        order = ordered(controller, machine)
        assert not store_receipt(
            controller, machine.machine_id, *agent.receipt(order.body), now=now()
        ).reasons
        folk = Folk(controller)
        for name in ("ann", "bob"):
            folk.add(name, "custodian")
        with controller.store.read() as unit:
            medium = unit.evidence.media()[0].digest
        folk.record(medium, CustodyKind.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")
        rotate_controller(controller, reason="yearly", actor="records officer", now=now())
        controller.home.log_policy.write_text(authority.policy())
        (done,) = stamp_head(controller, datetime.now(UTC))
        assert done.problem is None
        return bundle_files(bundling.collect(controller, order.digest, 0, datetime.now(UTC)))
    finally:
        authority.stop()
        controller.store.close()


KINDS = ("world", "rotation", "controller")


@pytest.fixture(scope="module", params=KINDS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    print(f"seed {SEED}")
    if request.param == "world":
        return of_a_world()
    return of_a_rotation() if request.param == "rotation" else of_a_controller(tmp_path_factory.mktemp("c"))


def steps(files: dict[str, bytes]) -> list[Step]:
    """The check that `expunge verify` makes, without making a PDF again: that takes a second."""
    outside = LogOutside(now=datetime.now(UTC))
    return verify_bundle(files, None, page=certificate_html, readme=readme, profiles={}, log=outside)


def unpack(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The script as it was written, kept beside the folder."""
    pristine = folder.with_name(folder.name + ".verify.sh")
    pristine.write_bytes(script())
    return subprocess.run(
        ["bash", str(pristine), *options, str(folder)], capture_output=True, text=True, timeout=120
    )


def flipped(data: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def resealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """With SHA256SUMS made anew."""
    return {**files, "SHA256SUMS": format_sums(files)}


def places(data: bytes, count: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """`count` places, one in each of as many equal parts of `data`, and a bit of each."""
    count = min(count, len(data))
    for part in range(count):
        first, end = part * len(data) // count, (part + 1) * len(data) // count
        yield chance.randrange(first, end), chance.randrange(8)


def moved(files: dict[str, bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The bundle with a file added, doubled, or two swapped."""
    last = sorted(name for name in files if re.fullmatch(r"custody/\d{3}\.json", name))[-1]
    after = f"custody/{int(last[8:11]) + 1:03}.json"
    twice = {after: files[last], after + ".sig": files[last + ".sig"]}
    yield "an event twice", {**files, **twice}
    for name in ("notes.txt", "custody/notes.json", "more/receipt.json", "Receipt.json", "a b;$(reboot)\n"):
        yield name, {**files, name: files["receipt.json"]}
    one, other = {"custody/001.json", "custody/001.json.sig"}, {"custody/002.json", "custody/002.json.sig"}
    swapped = dict(zip(sorted(one), sorted(other), strict=True))
    back = {there: here for here, there in swapped.items()}
    yield "swapped events", {**files, **{here: files[there] for here, there in (swapped | back).items()}}
    yield (
        "swapped signatures",
        {
            **files,
            "receipt.json.sig": files["certificate.json.sig"],
            "certificate.json.sig": files["receipt.json.sig"],
        },
    )


def test_both_pass_what_nobody_changed(files: dict[str, bytes], tmp_path: Path) -> None:
    assert not failures(steps(files))
    unpack(tmp_path / "bundle", files)
    done = run(tmp_path / "bundle")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "FAILED" not in done.stdout
    inside = subprocess.run(
        ["bash", "verify.sh"], cwd=tmp_path / "bundle", capture_output=True, text=True, timeout=120
    )
    assert inside.returncode == 0 and inside.stdout == done.stdout
    trusted = str(tmp_path / "bundle/trust/allowed_signers")
    policy = str(tmp_path / "bundle/trust/log-policy.toml")
    told = run(tmp_path / "bundle", "--signers", trusted, "--log-policy", policy)
    assert told.returncode == 0 and "auditor trusts: " in told.stdout, told.stdout
    other = tmp_path / "other"
    other.write_text(f'agent:1 namespaces="expunge-receipt" {fresh_signer().public_line}\n')
    assert "is not one of yours" in run(tmp_path / "bundle", "--signers", str(other)).stdout


def test_expunge_verify_finds_every_bit(files: dict[str, bytes]) -> None:
    chance = random.Random(SEED)
    whole = sum(map(len, files.values()))
    for name, data in sorted(files.items()):
        for place, bit in places(data, max(8, FLIPS * len(data) // whole), chance):
            changed = {**files, name: flipped(data, place, bit)}
            assert failures(steps(changed)), (SEED, name, place, bit)
            if name not in UNSIGNED:
                assert failures(steps(resealed(changed))), (SEED, name, place, bit)


def test_verify_sh_finds_every_bit(files: dict[str, bytes], tmp_path: Path) -> None:
    chance = random.Random(SEED)
    tried = [
        (name, place, bit, name not in MADE_ANEW and chance.random() < 0.5)
        for name, data in sorted(files.items())
        for place, bit in places(data, 1, chance)  # it takes a second each; every run takes others
    ]
    folders: SimpleQueue[Path] = SimpleQueue()
    for number in range(2):
        unpack(tmp_path / f"bundle{number}", files)
        folders.put(tmp_path / f"bundle{number}")

    def is_found(one: tuple[str, int, int, bool]) -> bool:
        name, place, bit, seal = one
        folder = folders.get()
        changed = {**files, name: flipped(files[name], place, bit)}
        changed = resealed(changed) if seal else changed
        for each in (name, "SHA256SUMS"):
            (folder / each).write_bytes(changed[each])
        found = run(folder).returncode == 1
        for each in (name, "SHA256SUMS"):
            (folder / each).write_bytes(files[each])
        folders.put(folder)
        return found

    with ThreadPoolExecutor(2) as pool:
        overlooked = [one for one, found in zip(tried, pool.map(is_found, tried), strict=True) if not found]
    assert not overlooked, (SEED, overlooked)


def test_files_that_are_gone_more_or_swapped(files: dict[str, bytes], tmp_path: Path) -> None:
    for name in files:
        assert failures(steps({key: data for key, data in files.items() if key != name})), name
    for what, changed in moved(files):
        for attempt in (changed, resealed(changed)):
            assert failures(steps(attempt)), what
    chance = random.Random(SEED)
    gone = chance.sample(sorted(files), 4)
    attempts = [(name, {key: data for key, data in files.items() if key != name}) for name in gone]
    for number, (what, changed) in enumerate([*attempts, *moved(files)]):
        folder = tmp_path / str(number)
        unpack(folder, changed if what in gone else resealed(changed))
        done = run(folder)
        assert done.returncode == 1, (SEED, what, done.stdout)


def test_a_bundle_from_before_is_skipped_with_the_reason(tmp_path: Path) -> None:
    world = World()
    old = before_the_script(bundle_files(world.parts()), world.signers)
    found = steps(old)
    assert not failures(found)
    assert sum("from before" in step.detail for step in found if step.status is Status.SKIPPED) == 2
    unpack(tmp_path / "bundle", old)
    done = run(tmp_path / "bundle")
    assert done.returncode == 0 and "from before there was a SHA256SUMS" in done.stdout
    newer = {**bundle_files(world.parts()), "verify.sh": b"echo all is well\n"}
    assert any("knows no such script" in step.detail for step in failures(steps(resealed(newer))))


def test_names_are_not_run_and_nothing_is_left(tmp_path: Path) -> None:
    files = of_a_rotation()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    folder = tmp_path / "bundle"
    unpack(folder, {**files, "$(touch made)": b"", "-rf": b"", "a'b\"c`touch made`": b""})
    (folder / "link").symlink_to("/etc/hostname")
    pristine = tmp_path / "v.sh"
    pristine.write_bytes(script())
    done = subprocess.run(
        ["bash", str(pristine), str(folder)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert done.returncode == 1 and "does not belong here" in done.stdout
    assert not list(temporary.iterdir())
    assert not (tmp_path / "made").exists() and not (folder / "made").exists()
    for wrong in (["--signers"], ["--what"], ["--roots", "nowhere"], ["one", "two"], ["nowhere"]):
        assert (
            subprocess.run(["bash", str(pristine), *wrong], capture_output=True, timeout=60).returncode == 2
        )
