"""Recovery tools of Debian over an image: they find records that were merely removed, and none that were shredded."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Outcome
from support.agents import Bench
from support.trees import MARK, shred, tree

MIB = 1 << 20
# A picture that every carver knows: a JFIF head, the record as a comment, and an end.
HEAD = bytes.fromhex("ffd8ffe000104a46494600010101006000600000")
END = bytes.fromhex("ffd9")
FILES = 30


def picture(number: int) -> bytes:
    text = (MARK + b"%04d;" % number) * 1000
    comment = b"".join(
        b"\xff\xfe" + (len(part) + 2).to_bytes(2, "big") + part
        for part in (text[at : at + 60_000] for at in range(0, len(text), 60_000))
    )
    tables = bytes.fromhex("ffdb004300") + bytes([1] * 64)
    frame = bytes.fromhex("ffc0000b080008000801011100")
    huffman = bytes.fromhex(
        "ffc4001400010000000000000000000000000000000000ffc40014100100000000000000000000000000000000"
    )
    scan = bytes.fromhex("ffda0008010100003f00") + bytes([0x55] * 4000)
    return HEAD + comment + tables + frame + huffman + scan + END


def photorec(image: Path, out: Path) -> None:
    subprocess.run(
        ["photorec", "/d", str(out / "found"), "/cmd", str(image), "partition_none,options,paranoid_no,fileopt,everything,enable,wholespace,search"],
        cwd=out, check=False, capture_output=True, timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def foremost(image: Path, out: Path) -> None:
    subprocess.run(
        ["foremost", "-Q", "-t", "jpg", "-i", str(image), "-o", str(out / "found")],
        check=False,
        capture_output=True,
    )


def scalpel(image: Path, out: Path) -> None:
    rules = out / "scalpel.conf"
    rules.write_text("jpg y 200000 \\xff\\xd8\\xff\\xe0\\x00\\x10 \\xff\\xd9\n")
    subprocess.run(
        ["scalpel", "-c", str(rules), "-o", str(out / "found"), str(image)], check=False, capture_output=True
    )


def ext4magic(image: Path, out: Path) -> None:
    subprocess.run(
        ["ext4magic", str(image), "-M", "-d", str(out / "found")], check=False, capture_output=True, cwd=out
    )


def extundelete(image: Path, out: Path) -> None:
    subprocess.run(
        ["extundelete", "--restore-all", str(image)], check=False, capture_output=True, cwd=out, input=b"y\n"
    )


TOOLS = {tool.__name__: tool for tool in (photorec, foremost, scalpel, ext4magic, extundelete)}


def recovered(name: str, image: Path, out: Path) -> int:
    """Records in what the tool gets back from the image."""
    out.mkdir()
    TOOLS[name](image, out)
    found = [
        path for path in out.rglob("*") if path.is_file() and path.name not in ("scalpel.conf", "audit.txt")
    ]
    return sum(path.read_bytes().count(MARK) for path in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TOOLS))
def test_a_recovery_tool_finds_what_was_removed_and_nothing_of_what_was_shredded(
    lab, tmp_path: Path, name: str
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    # ext4's tools of recovery know neither checksums of metadata nor what came after them.
    image, mount = lab.formatted(
        "ext4", "-F", "-b", "4096", "-O", "^metadata_csum,^64bit,^orphan_file", size=64 * MIB
    )
    found = {}
    for way in ("removed", "shredded"):
        folder = mount / way
        folder.mkdir()
        for number in range(FILES):
            (folder / f"{number:04d}.jpg").write_bytes(picture(number))
        subprocess.run(["sync", "-f", str(folder)], check=True)
        time.sleep(1.5)  # tools that go by times need them apart, in whole seconds
        if way == "removed":
            device = next(
                line.split()[0]
                for line in Path("/proc/self/mounts").read_text().splitlines()
                if f" {mount} " in line
            )
            shutil.rmtree(folder)
        else:
            result = shred(Bench.make(tmp_path / "state"), tree(folder))
            assert result.outcome is Outcome.SANITIZED
        lab.unmount(mount)
        found[way] = recovered(name, image, tmp_path / way)
        if way == "removed":
            # Nothing of the control is to be found in the second round.
            subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard", device], check=True)
            with image.open("r+b") as file:
                for _ in range(64):
                    file.write(bytes(MIB))
            subprocess.run(
                ["mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^metadata_csum,^64bit,^orphan_file", device],
                check=True,
            )
            lab.mount(device, at=mount)
    print(f"{name}: {found}")
    assert found["shredded"] == 0
    assert found["removed"] > 0, "the control: the tool must be able to find something"
