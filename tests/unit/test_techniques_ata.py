"""ATA sanitize, security erase, hidden areas and examination against a simulated drive with its faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from expunge_agent.commands import ata_features as features
from expunge_agent.commands.ata import Ata, AtaCommand
from expunge_agent.commands.ata_identify import identify
from expunge_agent.commands.port import CommandError, CommandTimeout, DriveGone, NoPassThrough, ScsiReply
from expunge_agent.core.technique import Technique
from expunge_agent.devices.examine_scsi import examine_ata, speaks_ata
from expunge_agent.protocol.canonical import dumps
from expunge_agent.techniques.ata_sanitize import AtaSanitize
from expunge_agent.techniques.ata_security import AtaSecurityErase
from expunge_agent.techniques.hand import Rejected, State
from expunge_agent.techniques.hidden_areas import restored
from lab.drives import faults as fault
from lab.drives import sat
from lab.drives.ata import AtaDrive, Result
from lab.drives.ata_core import Abort
from lab.drives.ata_words import AtaModel, hdd, ssd
from lab.drives.clock import VirtualClock
from lab.drives.ports import SimulatedPort
from lab.drives.store import StateFile, Store

SECTORS = 4096
SIZE = SECTORS * 512
MARK = b"secret customer data "
# What the firmware of a machine sends, and the agent never does (ACS-3 §7.36, ATA8-ACS §7.11, ACS-3 §7.2).
SANITIZE_FREEZE_LOCK = AtaCommand(
    0xB4, "SANITIZE FREEZE LOCK EXT", features=0x0020, lba=0x46724C6B, device=0x40, extended=True
)
DCO_FREEZE_LOCK = AtaCommand(0xB1, "DEVICE CONFIGURATION FREEZE LOCK", features=0xC1)
AMA_FREEZE = AtaCommand(
    0x78, "FREEZE ACCESSIBLE MAX ADDRESS EXT", features=0x0002, device=0x40, extended=True
)
PASSWORD = b"expunge-0123456789abcdef"


class Bench:
    """A simulated drive on its own clock, full of marks."""

    def __init__(self, folder: Path, *faults: str, model: AtaModel | None = None, **how: object) -> None:
        self.clock = VirtualClock()
        self.store = Store(folder / "disk", SIZE)
        self.drive = AtaDrive(
            self.store, StateFile(folder / "notes"), model=model or ssd(), clock=self.clock, faults=faults
        )
        self.port = SimulatedPort(sat.SatDrive(self.drive, **how), self.clock)  # type: ignore[arg-type]
        (folder / "disk").write_bytes((MARK * (SIZE // len(MARK) + 1))[:SIZE])
        self.path = folder / "disk"

    def marks(self) -> int:
        return self.path.read_bytes().count(MARK)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *faults, **how: Bench(tmp_path, *faults, **how)


@pytest.mark.parametrize(
    ("technique", "model"),
    [
        (Technique.ATA_SANITIZE_CRYPTO, ssd),
        (Technique.ATA_SANITIZE_BLOCK, ssd),
        (Technique.ATA_SANITIZE_OVERWRITE, hdd),
    ],
)
def test_a_sanitize_runs_to_its_end(
    bench: Callable[..., Bench], technique: Technique, model: Callable[[], AtaModel]
) -> None:
    one = bench(model=model())
    hand = AtaSanitize(one.port, technique)
    hand.prepare()
    assert hand.poll().state is State.IDLE
    hand.start()
    seen = hand.poll()
    assert seen.state is State.RUNNING
    one.clock.pause(model().sanitize_seconds / 2)
    assert hand.poll().ppm == pytest.approx(500_000, abs=1000)
    again = AtaSanitize(one.port, technique)  # after a restart of the agent
    one.clock.pause(model().sanitize_seconds)
    assert again.poll().state is State.DONE
    again.settle()
    assert one.marks() == 0


def test_a_sanitize_goes_on_after_a_power_cut(bench: Callable[..., Bench]) -> None:
    one = bench()
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    hand.prepare()
    hand.start()
    one.clock.pause(60)
    one.drive.power_cut()
    assert hand.poll().state is State.RUNNING
    with pytest.raises(Rejected, match="already running"):
        AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK).prepare()


def test_once_prepared_nobody_can_freeze_the_drive(bench: Callable[..., Bench]) -> None:
    one = bench()
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    answers = hand.prepare()
    assert sum("ANTIFREEZE" in answer.name for answer in answers) == 1
    frozen = Ata(one.port).run(SANITIZE_FREEZE_LOCK)
    assert (frozen.ok, features.sanitize_reason(frozen)) == (False, "the antifreeze lock is set")
    assert not any("ANTIFREEZE" in answer.name for answer in hand.prepare()), "it was set already"
    hand.start()
    assert hand.poll().state is State.RUNNING


def test_a_drive_without_antifreeze_is_not_sent_it_and_can_be_frozen(bench: Callable[..., Bench]) -> None:
    one = bench(model=ssd(antifreeze=False))
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    assert not any("ANTIFREEZE" in answer.name for answer in hand.prepare())
    assert Ata(one.port).run(SANITIZE_FREEZE_LOCK).ok
    with pytest.raises(Rejected, match="frozen"):
        hand.start()


def test_a_drive_that_refuses_the_antifreeze_lock_is_erased_all_the_same(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It claims it in word 59 and refuses it: the answer is kept."""
    one = bench()
    monkeypatch.setattr(one.drive.sanitize, "_antifreeze", _aborted)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    (answer,) = (answer for answer in hand.prepare() if "ANTIFREEZE" in answer.name)
    assert answer.hex, "its registers"
    assert Ata(one.port).run(SANITIZE_FREEZE_LOCK).ok, "it is not protected"
    one.drive.power_cut()
    hand.start()
    assert hand.poll().state is State.RUNNING


def _aborted() -> Result:
    raise Abort


def test_a_failed_sanitize_is_left(bench: Callable[..., Bench]) -> None:
    one = bench(fault.FAILS_AT_40)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    hand.prepare()
    hand.start()
    one.clock.pause(1000)
    assert hand.poll().state is State.FAILED
    assert examine_ata(one.port).sanitize_state == "failed"
    hand.settle()
    assert hand.poll().state is State.IDLE


def test_a_failure_without_failure_mode_can_only_be_repaired_by_another(bench: Callable[..., Bench]) -> None:
    one = bench(fault.FAILS_AT_40)
    Ata(one.port).run(features.sanitize_block(failure_mode=False))
    one.clock.pause(1000)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    with pytest.raises(Rejected, match="stays in the failed state"):
        hand.settle()
    hand.prepare()
    hand.start()
    assert hand.poll().state is State.RUNNING


def test_frozen_locked_and_not_offered_are_refused(bench: Callable[..., Bench], tmp_path: Path) -> None:
    frozen = bench(fault.SANITIZE_FROZEN)
    with pytest.raises(Rejected, match="frozen"):
        AtaSanitize(frozen.port, Technique.ATA_SANITIZE_BLOCK).prepare()
    with pytest.raises(Rejected, match="word 59"):
        AtaSanitize(frozen.port, Technique.ATA_SANITIZE_OVERWRITE).prepare()
    (tmp_path / "other").mkdir()
    locked = Bench(tmp_path / "other", fault.LOCKED)
    with pytest.raises(Rejected, match="locked"):
        AtaSanitize(locked.port, Technique.ATA_SANITIZE_BLOCK).prepare()
    assert frozen.marks() and locked.marks()


def test_a_claim_that_is_refused_is_rejected(bench: Callable[..., Bench]) -> None:
    one = bench(fault.WRONG_CAPABILITIES)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_CRYPTO)
    hand.prepare()
    with pytest.raises(Rejected, match="refused"):
        hand.start()


def test_an_old_completed_is_not_taken_for_ours(bench: Callable[..., Bench]) -> None:
    one = bench(fault.STALE_STATUS)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    hand.prepare()
    with pytest.raises(CommandError, match="before"):
        hand.start()


def test_a_command_that_is_taken_and_dropped_is_rejected(bench: Callable[..., Bench]) -> None:
    one = bench(fault.DOES_NOTHING)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    hand.prepare()
    with pytest.raises(Rejected, match="reported as taken"):
        hand.start()


def test_a_drive_that_vanishes(bench: Callable[..., Bench]) -> None:
    one = bench(fault.DISAPPEARS)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    hand.prepare()
    hand.start()
    one.clock.pause(1000)
    with pytest.raises(DriveGone):
        hand.poll()


def test_half_of_the_status_is_not_enough(bench: Callable[..., Bench]) -> None:
    one = bench(sense=sat.FIXED)
    hand = AtaSanitize(one.port, Technique.ATA_SANITIZE_BLOCK)
    with pytest.raises(NoPassThrough, match="followed"):  # before anything is begun
        hand.prepare()
    assert one.marks()
    Ata(one.port).run(features.sanitize_block())
    with pytest.raises(NoPassThrough):
        hand.poll()


@pytest.mark.parametrize("sense", sat.VARIANTS)
@pytest.mark.parametrize("technique", [Technique.ATA_SECURITY_ERASE, Technique.ATA_SECURITY_ERASE_ENHANCED])
def test_a_security_erase(bench: Callable[..., Bench], technique: Technique, sense: str) -> None:
    one = bench(sense=sense)
    hand = AtaSecurityErase(one.port, technique, PASSWORD)
    answers = hand.prepare()
    assert identify(Ata(one.port))[0].security.enabled
    assert hand.poll().state is State.FAILED
    answers += hand.start()
    assert one.clock.now() >= ssd().security_seconds
    answers += hand.settle()
    assert hand.poll().state is State.IDLE
    assert one.marks() == 0
    assert not any(PASSWORD.hex() in answer.hex for answer in answers)


def test_frozen_security_is_refused_with_a_remedy(bench: Callable[..., Bench]) -> None:
    one = bench(fault.FROZEN)
    hand = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD)
    with pytest.raises(Rejected, match="suspend and resume"):
        hand.prepare()
    one.drive.sleep()
    hand.prepare()


def test_a_strangers_password_is_tried_once(bench: Callable[..., Bench]) -> None:
    one = bench(fault.LOCKED)
    hand = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD)
    with pytest.raises(Rejected, match="not ours"):
        hand.prepare()
    assert sum(cdb[14] == 0xF2 for cdb in one.port.sent) == 1
    for _ in range(4):
        with pytest.raises(Rejected):
            hand.prepare()
    with pytest.raises(Rejected, match="power off"):
        hand.prepare()


def test_a_failed_erase_leaves_no_locked_drive(bench: Callable[..., Bench]) -> None:
    one = bench(fault.FAILS_AT_40)
    hand = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD)
    hand.prepare()
    with pytest.raises(CommandError, match="half way"):
        hand.start()
    assert identify(Ata(one.port))[0].security.locked
    hand.settle()
    assert not identify(Ata(one.port))[0].security.enabled
    assert hand.poll().state is State.IDLE  # never DONE


def test_a_power_cut_between_password_and_erase(bench: Callable[..., Bench]) -> None:
    one = bench()
    AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD).prepare()
    one.drive.power_cut()
    hand = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD)
    assert hand.poll().state is State.FAILED
    with pytest.raises(Rejected, match="not prepared"):
        hand.start()
    hand.prepare()
    hand.start()
    assert one.marks() == 0


def test_an_erase_that_does_nothing_keeps_its_password(bench: Callable[..., Bench]) -> None:
    one = bench(fault.DOES_NOTHING)
    hand = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD)
    hand.prepare()
    with pytest.raises(CommandError, match="still set"):
        hand.start()
    hand.settle()
    assert not identify(Ata(one.port))[0].security.enabled


def test_an_erase_that_does_not_end_is_a_timeout(bench: Callable[..., Bench]) -> None:
    one = bench(fault.STUCK_AT_99)
    hand = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD)
    hand.prepare()
    with pytest.raises(CommandTimeout):
        hand.start()


def test_a_bridge_that_drops_the_password_is_found_out(bench: Callable[..., Bench]) -> None:
    one = bench()

    class Dropping(SimulatedPort):
        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            if data_out:
                return ScsiReply(0)
            return super().scsi(cdb, data_in=data_in, timeout=timeout)

    hand = AtaSecurityErase(Dropping(one.port.unit, one.clock), Technique.ATA_SECURITY_ERASE, PASSWORD)
    with pytest.raises(Rejected, match="drops security commands"):
        hand.prepare()


def test_a_password_that_somebody_set_meanwhile_is_not_replaced(bench: Callable[..., Bench]) -> None:
    one = bench()
    hand = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, PASSWORD)
    other = AtaSecurityErase(one.port, Technique.ATA_SECURITY_ERASE, b"another's")
    other.prepare()
    with pytest.raises(Rejected, match="not this order's"):
        hand.prepare()
    with pytest.raises(Rejected, match="ours does not take off"):
        hand.settle()
    other.settle()
    hand.prepare()  # ours it takes again, as after a restart
    hand.prepare()
    hand.settle()


@pytest.mark.parametrize("password", [b"", b"x" * 33])
def test_passwords_have_a_length(bench: Callable[..., Bench], password: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AtaSecurityErase(bench().port, Technique.ATA_SECURITY_ERASE, password)


def test_hidden_areas_are_found_and_brought_back(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.drive.hide(accessible=1000, configured=3000)
    seen = examine_ata(one.port)
    assert {area.kind: int(area.size) for area in seen.hidden} == {"hpa": 2000 * 512, "dco": 1096 * 512}
    assert (int(seen.apparent), int(seen.native)) == (1000 * 512, SIZE)
    work = restored(one.port)
    assert (work.before.accessible, work.after.accessible) == (1000, SECTORS)
    assert len(work.done) >= 2
    assert restored(one.port).done == []
    one.drive.power_cut()
    assert int(examine_ata(one.port).apparent) == SIZE


def test_an_accessible_max_address_is_raised(bench: Callable[..., Bench]) -> None:
    one = bench(model=hdd())
    one.drive.hide(accessible=1000)
    (area,) = examine_ata(one.port).hidden
    assert (area.kind, int(area.size)) == ("ama", 3096 * 512)
    assert restored(one.port).after.accessible == SECTORS


@pytest.mark.parametrize(("model", "freeze"), [(hdd, AMA_FREEZE), (ssd, DCO_FREEZE_LOCK)])
def test_frozen_areas_are_refused_or_said_to_be_unknown(
    bench: Callable[..., Bench], model: Callable[[], AtaModel], freeze: AtaCommand
) -> None:
    one = bench(model=model())
    one.drive.hide(accessible=1000 if model is hdd else None, configured=None if model is hdd else 3000)
    assert Ata(one.port).run(freeze).ok
    if model is hdd:
        with pytest.raises(Rejected, match="switch the drive's power off"):
            restored(one.port)
    else:  # a frozen overlay does not tell what it hides
        assert any("DCO" in note for note in restored(one.port).after.notes)
        assert any("DCO" in text for text in examine_ata(one.port).doubtful)


def test_areas_that_stay_although_given_up(bench: Callable[..., Bench]) -> None:
    one = bench(fault.HPA_LIES)
    one.drive.hide(accessible=1000)
    with pytest.raises(Rejected, match="still hides"):
        restored(one.port)


def test_examination(bench: Callable[..., Bench]) -> None:
    one = bench(model=ssd(wwn=0x5000C500A1B2C3D4))
    assert speaks_ata(one.port)
    seen = examine_ata(one.port)
    assert (seen.protocol, seen.model, seen.serial) == ("ata", "EXPUNGE LAB SSD 870", "S5SSNX0R123456")
    assert seen.names == ["naa.5000c500a1b2c3d4"]
    assert (seen.rotation, seen.logical_sector, seen.physical_sector) == (1, 512, 4096)
    assert seen.health.celsius == 34
    assert (seen.health.passed, seen.health.reallocated) == (True, 3)
    assert seen.ability(Technique.ATA_SANITIZE_CRYPTO).offered
    assert not seen.ability(Technique.ATA_SANITIZE_OVERWRITE).offered
    assert seen.ability(Technique.ATA_SECURITY_ERASE).seconds == 240
    assert not seen.ability(Technique.SCSI_FORMAT_UNIT).offered
    assert seen.security is not None
    assert seen.sanitize_state == "idle"
    assert seen.doubtful == []
    dumps(seen)


@pytest.mark.parametrize(
    ("name", "word"), [(fault.GARBLED_SERIAL, "characters"), (fault.GARBLED_IDENTIFY, "checksum")]
)
def test_garbled_answers_are_doubtful(bench: Callable[..., Bench], name: str, word: str) -> None:
    seen = examine_ata(bench(name).port)
    assert any(word in text for text in seen.doubtful)
    dumps(seen)


def test_frozen_and_running_are_seen(bench: Callable[..., Bench]) -> None:
    one = bench(fault.FROZEN, fault.SANITIZE_FROZEN)
    seen = examine_ata(one.port)
    assert seen.sanitize_frozen
    assert seen.security is not None
    assert seen.security.frozen
    one.drive.sleep()
    Ata(one.port).run(features.sanitize_block())
    assert examine_ata(one.port).sanitize_state == "running"


def test_bridges(bench: Callable[..., Bench], tmp_path: Path) -> None:
    one = bench(short=True)
    assert speaks_ata(one.port)
    assert not any("checksum" in text for text in examine_ata(one.port).doubtful)
    (tmp_path / "other").mkdir()
    without = Bench(tmp_path / "other", pass_through=False)
    assert not speaks_ata(without.port)
    with pytest.raises(NoPassThrough):
        examine_ata(without.port)


def test_a_size_that_a_bridge_cuts_is_doubtful(bench: Callable[..., Bench]) -> None:
    one = bench()

    class Cutting(SimulatedPort):
        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            reply = super().scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)
            if cdb[0] == 0x9E:
                data = (2000).to_bytes(8, "big") + (512).to_bytes(4, "big") + bytes(20)
                return ScsiReply(0, data=data)
            if cdb[:3] == b"\x12\x01\x80":
                return ScsiReply(0, data=b"\0\x80\0\x08BRIDGE01")
            return reply

    seen = examine_ata(Cutting(one.port.unit, one.clock))
    assert any("READ CAPACITY says" in text for text in seen.doubtful)
    assert any("BRIDGE01" in text for text in seen.doubtful)


def test_an_optical_drive_is_never_sent_the_short_command() -> None:
    class Optical:
        def __init__(self) -> None:
            self.sent: list[int] = []

        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            self.sent.append(cdb[0])
            if cdb[0] == 0x12:
                return ScsiReply(0, data=(b"\x05\x80\x05\x02\x1f" + bytes(91)))
            return ScsiReply(2, bytes.fromhex("7205200000000000"))

    port = Optical()
    assert not speaks_ata(port)
    assert port.sent == [0x12]
