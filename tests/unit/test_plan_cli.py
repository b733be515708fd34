"""expunge-agent plan: every technique with its reason, the one taken, and an exit code that a script can use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from expunge_agent import shredding
from expunge_agent.cli.plan import _of_medium, command, show
from expunge_agent.cli.planned import Order, Planned
from expunge_agent.core.drive import SAID_OF_THE_WHOLE, Ability, Answer, Drive, HiddenArea, NvmeNamespace
from expunge_agent.core.medium import Found, Kind, Medium, MediumType, Usage
from expunge_agent.core.plan import NOTHING_DRAWN, plan_target
from expunge_agent.core.selection import ALONE, Scope, Selection, select
from expunge_agent.core.technique import Technique
from expunge_agent.devices import drives
from expunge_agent.devices.usage import Eyes
from expunge_agent.errors import ExpungeError, ProfileProblemError, UsageError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, SpaceWish, Target
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.terminal import about_time
from expunge_profiles.load import builtin
from lab.drives.ata import AtaDrive
from lab.drives.ata_words import hdd
from lab.drives.clock import VirtualClock
from lab.drives.ports import SimulatedPort
from lab.drives.sat import SatDrive
from lab.drives.scsi import ScsiDrive
from lab.drives.scsi_data import sas_hdd
from lab.drives.store import StateFile, Store
from support.luks import NAMES, recorded

SIZE = 1 << 40
DISK = 64 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"RECORD " * 100_000)
    return path


def plan(tmp_path: Path, *args: object) -> Result:
    return CliRunner().invoke(
        command, [str(one) for one in args], obj={"state": tmp_path / "state"}, standalone_mode=False
    )


def rows(result: Result) -> dict[str, list[str]]:
    """Technique → the words of its line."""
    names = {one.value for one in Technique}
    lines = [line.lstrip("* ").split() for line in result.output.splitlines()]
    return {line[0]: line for line in lines if line and line[0] in names}


def test_every_technique_has_a_line_and_the_one_taken_a_star(tmp_path: Path, image: Path) -> None:
    before = image.read_bytes()
    done = plan(tmp_path, image)
    assert done.return_value == 0
    words = done.output.replace(",", " ").split()
    assert {one.value for one in Technique} <= set(words)
    assert rows(done)["overwrite"][1:3] == ["yes", "clear"]
    assert rows(done)["luks-erase"][1] == "no"
    assert next(line for line in done.output.splitlines() if line.startswith("*")).split()[1] == "overwrite"
    assert "Level clear: overwrite, which earns clear at the most." in done.output
    assert image.read_bytes() == before
    assert not (tmp_path / "state").exists()


def test_purge_of_a_file_is_refused_with_every_reason(tmp_path: Path, image: Path) -> None:
    done = plan(tmp_path, image, "--level", "purge")
    assert done.return_value == 3
    assert "refused (level-not-achievable)" in done.output
    assert "Order the drive that holds the file." in done.output
    assert "physically" in done.output
    allowed = plan(tmp_path, image, "--level", "purge", "--allow-downgrade")
    assert allowed.return_value == 0
    assert "asks for purge and allows less: overwrite earns clear" in allowed.output


def test_json_is_the_selection_itself(tmp_path: Path, image: Path) -> None:
    done = plan(tmp_path, image, "--level", "purge", "--profile", "nist-purge", "--json")
    assert done.return_value == 3
    told = json.loads(done.output)
    assert (told["profile"], told["level"], told["allow_downgrade"]) == ("nist-purge", "purge", False)
    (one,) = told["plans"]
    selection = canonical.loads(json.dumps(one["selection"]).encode(), Selection, "selection")
    assert isinstance(selection.chosen, Refusal)
    assert selection.chosen.reason is Reason.PROFILE_NOT_APPLICABLE
    assert {candidate.technique for candidate in selection.candidates} == set(Technique)
    good = json.loads(plan(tmp_path, image, "--profile", "nist-clear", "--json").output)
    assert good["plans"][0]["selection"]["chosen"] == "overwrite"


def test_what_the_guard_refuses_is_refused_here(tmp_path: Path, image: Path) -> None:
    (tmp_path / "second").hardlink_to(image)
    linked = plan(tmp_path, image)
    assert linked.return_value == 3
    assert "Refused as things stand" in linked.output
    assert rows(linked)["overwrite"][1] == "yes", "what could be used is shown all the same"
    missing = plan(tmp_path, tmp_path / "nothing", image)
    assert missing.return_value == 3
    assert "nothing: no medium" in missing.output


@pytest.mark.parametrize(
    ("args", "error", "says"),
    [
        (["--profile", "nist-purg"], ProfileProblemError, "did you mean nist-purge"),
        (["disk.img"], UsageError, "named twice"),
        (["vault:/srv/vault#4711"], UsageError, "subject of a vault"),
        ([""], UsageError, "named by nothing"),
        (["SERIAL=WD-1234"], UsageError, "SERIAL=WD-1234 names no target: there is no SERIAL=."),
        (["wwn=0x5000c500"], UsageError, "there is no wwn="),
    ],
)
def test_mistakes(
    tmp_path: Path,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    error: type[ExpungeError],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = plan(tmp_path, image, *args)
    assert isinstance(done.exception, error)
    assert says in str(done.exception)


def test_a_file_may_be_called_like_a_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("case=4711").write_bytes(b"x" * 4096)
    assert plan(tmp_path, "case=4711").return_value == 0


def test_techniques_that_are_out_for_one_reason_stand_together(tmp_path: Path, image: Path) -> None:
    done = plan(tmp_path, image)
    reason = "a file: commands of a drive reach all of it"
    assert done.output.count(reason) == 1
    told = json.loads(plan(tmp_path, image, "--json").output)["plans"][0]["selection"]["candidates"]
    alike = {one["technique"] for one in told if one["why_not"] == reason}
    assert len(alike) > 15
    assert f"Not usable, {len(alike)} techniques: {reason}." in done.output
    lines = done.output.splitlines()
    at = lines.index(f"Not usable, {len(alike)} techniques: {reason}.") + 1
    named = " ".join(line for line in lines[at:] if line.startswith("  ")).replace(",", " ").split()
    assert alike <= set(named)
    assert not alike & set(rows(done)), "none has a row of its own besides"
    assert len(lines) < 20


def test_a_purge_refusal_does_not_send_to_an_overwrite(tmp_path: Path, image: Path) -> None:
    for args in (["--level", "purge"], ["--level", "purge", "--profile", "nist-purge"]):
        done = plan(tmp_path, image, *args)
        assert done.return_value == 3
        assert "Overwrite the target as a whole" not in done.output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "unknown"),
        (0, "under a minute"),
        (59, "under a minute"),
        (60, "about 1 min"),
        (2749, "about 46 min"),
        (7140, "about 119 min"),
        (7141, "about 2 h"),
        (7200, "about 2 h"),
        (45 * 3600 + 49 * 60, "about 45 h 49 min"),
        (2 * 86400, "about 2 days"),
        (100 * 3600 + 1, "about 4 days 5 h"),
    ],
)
def test_an_estimate_says_its_unit(seconds: int, text: str) -> None:
    assert about_time(seconds) == text


def shown(capsys: pytest.CaptureFixture[str], drive: Drive, kind: MediumType, **scope: Any) -> str:
    identity = BlockIdentity(bus=drive.protocol, model="M", serial="S", wwn="", size=U64(SIZE))
    medium = Medium(path="/dev/nvme0n1", identity=identity, type=kind)
    profile = builtin()["nist-purge"]
    selection = select(Target(identity=identity), medium, drive, profile, Level.PURGE, False, Scope(**scope))
    show(Planned(medium.path, medium, [], selection))
    return capsys.readouterr().out


def test_a_drive_that_declares_its_time_and_hides_space(capsys: pytest.CaptureFixture[str]) -> None:
    technique = Technique.ATA_SANITIZE_OVERWRITE
    drive = Drive(
        protocol="ata",
        abilities=[Ability(technique=technique, offered=True, seconds=7384)],
        hidden=[HiddenArea(kind="hpa", size=U64(4096), restorable=True)],
        rotation=7200,
    )
    text = shown(capsys, drive, MediumType.HDD)
    assert "about 2 h 4 min" in text
    assert "The HPA of 4096 bytes is given back first." in text


def test_where_a_time_comes_from_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def of(technique: Technique, protocol: Any, kind: MediumType) -> str:
        ability = Ability(technique=technique, offered=True, seconds=300)
        return shown(capsys, Drive(protocol=protocol, abilities=[ability]), kind)

    declared = of(Technique.ATA_SANITIZE_BLOCK, "ata", MediumType.SSD)
    assert "Time: about 5 min (declared by the drive), reading back" in declared
    nominal = of(Technique.SCSI_SANITIZE_BLOCK, "scsi", MediumType.SSD)
    assert "about 5 min nominal" in nominal
    assert "Time: about 5 min (the drive's nominal timeout, " in nominal


def test_namespaces_that_would_go_too_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    drive = Drive(
        protocol="nvme",
        nsid=1,
        namespaces=[NvmeNamespace(nsid=n, attached=True, node=f"nvme0n{n}") for n in (1, 2)],
        abilities=[Ability(technique=Technique.NVME_SANITIZE_CRYPTO, offered=True)],
        answers=[Answer(name="Identify Controller", hex="00" * 4096)],
    )
    assert "refused (other-namespaces)" in shown(capsys, drive, MediumType.SSD)
    text = shown(capsys, drive, MediumType.SSD, ordered=frozenset({"nvme0n1", "nvme0n2"}))
    assert "takes nvme0n2 too" in text
    assert "Level purge: nvme-sanitize-crypto, which earns purge at the most." in text
    assert "Time: unknown" in text


def test_free_space_that_is_no_mount_point_is_refused(tmp_path: Path) -> None:
    done = plan(tmp_path, f"free-space:{tmp_path}")
    assert done.return_value == 3
    assert "is not a mount point" in done.output


def test_a_folder_without_a_key_is_refused_beside_what_goes(tmp_path: Path, image: Path) -> None:
    done = plan(tmp_path, f"fscrypt:{tmp_path}", image)
    assert done.return_value == 3
    assert "has no key of its own" in done.output
    assert rows(done)["overwrite"][1] == "yes"
    told = json.loads(plan(tmp_path, f"fscrypt:{tmp_path}", "--json").output)
    assert [one["blocked"][0]["reason"] for one in told["plans"]] == ["wrong-kind"]
    twice = plan(tmp_path, f"fscrypt:{tmp_path}", f"fscrypt:{tmp_path}")
    assert isinstance(twice.exception, UsageError)


def test_a_key_that_a_mapping_holds_is_refused_as_the_run_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "luks.img"
    head, size = recorded(NAMES[0])
    volume.write_bytes(head.ljust(size, b"\0"))
    words = (volume, "--profile", "luks-crypto-erase", "--allow-downgrade")
    assert plan(tmp_path, *words).return_value == 0
    monkeypatch.setattr(shredding, "holding", lambda _uuid, _numbers: ["dm-3 (secret)"])
    done = plan(tmp_path, *words)
    assert done.return_value == 3
    assert "Refused as things stand" in done.output
    assert "in use by dm-3 (secret)" in done.output
    assert plan(tmp_path, volume, "--profile", "nist-clear").return_value == 0, "an overwrite needs no key"


def sas_hdd_on_an_old_kernel(store: Store, notes: StateFile) -> tuple[Medium, Drive]:
    """No page B1h in sysfs: only the drive tells that it rotates."""
    port = SimulatedPort(ScsiDrive(store, notes, model=sas_hdd(), clock=(clock := VirtualClock())), clock)
    return whole("scsi", MediumType.UNKNOWN), drives.ask_scsi(port, Drive(protocol="scsi"))


def ata_hdd_without_a_rate(store: Store, notes: StateFile) -> tuple[Medium, Drive]:
    """Word 217 is 0: only the kernel's flag says that it rotates."""
    made = AtaDrive(store, notes, model=hdd(rotation=0), clock=(clock := VirtualClock()))
    return whole("ata", MediumType.HDD), drives.ask_scsi(
        SimulatedPort(SatDrive(made), clock), Drive(protocol="ata")
    )


def whole(bus: str, kind: MediumType) -> Medium:
    identity = BlockIdentity(bus=bus, model="", serial="", wwn="naa.5000c50000000001", size=U64(DISK))
    return Medium("/dev/none", identity, kind, rotational=True, logical_sector=512)


@pytest.mark.parametrize(
    ("built", "profile", "kind"),
    [
        (sas_hdd_on_an_old_kernel, "dod-5220.22-m", MediumType.HDD),
        (ata_hdd_without_a_rate, "dod-5220.22-m", MediumType.UNKNOWN),
        (ata_hdd_without_a_rate, "nist-clear", MediumType.UNKNOWN),
    ],
)
def test_a_partition_is_planned_for_the_type_that_the_run_settles(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: Callable[[Store, StateFile], tuple[Medium, Drive]],
    profile: str,
    kind: MediumType,
) -> None:
    """It was planned for what the kernel says alone, and wiped for what the drive says as well."""
    store = Store(tmp_path / "disk", DISK)
    try:
        disk, told = built(store, StateFile(tmp_path / "notes"))
    finally:
        store.close()
    told = drives.judged(disk, told)
    assert not told.distrusted
    told = msgspec.structs.replace(told, doubtful=[SAID_OF_THE_WHOLE])
    monkeypatch.setattr(drives, "examine", lambda _path: told)
    part = replace(disk, path=str(tmp_path / "none1"), partition=True)
    found = Found(part, Usage(path=part.path, kind=Kind.BLOCK))
    order = Order(builtin()[profile], Level.CLEAR, False, None, SpaceWish())
    shown = _of_medium(found, [part.path], Eyes.open(), order, "").selection
    assert shown is not None
    run = plan_target(
        Target(identity=part.identity, hint=part.path),
        part,
        told,
        builtin()[profile],
        Level.CLEAR,
        False,
        ALONE,
        NOTHING_DRAWN,
    )
    assert shown.type is kind
    if isinstance(run, Refusal):
        assert isinstance(shown.chosen, Refusal)
        assert (shown.chosen.reason, kind) == (run.reason, MediumType.UNKNOWN)
    else:
        assert (shown.type, shown.chosen) == (run.type, run.technique)
