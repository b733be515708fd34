"""The PSID of a self-encrypting drive: how it is handed in, and where it stands and does not stand afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click import Command
from click.testing import CliRunner

from expunge_agent.cli import plan, wipe
from expunge_agent.commands import opal
from expunge_agent.commands.port import NvmeCommand
from expunge_agent.core.case import ALONE
from expunge_agent.core.drive import Ability, Drive
from expunge_agent.core.drive import Opal as Seen
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.plan import Draw, TargetPlan, plan_target
from expunge_agent.core.technique import Technique
from expunge_agent.errors import DocumentError, UsageError
from expunge_agent.protocol import canonical, psid
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import parse_statement
from expunge_controller.records.receipt_checks import order_problems
from expunge_profiles.load import builtin
from lab.drives.nvme import Make, NvmeDrive
from lab.drives.nvme_port import SimulatedNvmePort
from lab.drives.opal import LOCKED_OUT, NOT_AUTHORIZED
from lab.drives.opal_kernel import KernelSession
from lab.drives.opal_tokens import Packet, Token, control, pack, tokens_of, unpack
from support.evidence import DISK, World, target_result

LABEL = "K7Q2M9X4V8B3N6Z1C5L0P2T7R4W9Y6J8"
OTHER = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "names", "due"),
    [
        (LABEL, ["/dev/sda"], {"/dev/sda": LABEL}),
        (f"\n{LABEL}\r\n\n", ["a"], {"a": LABEL}),
        ("K7Q2-M9X4-V8B3-N6Z1-C5L0-P2T7-R4W9-Y6J8", ["a"], {"a": LABEL}),
        ("K7Q2M9X4 V8B3N6Z1 C5L0P2T7 R4W9Y6J8", ["a"], {"a": LABEL}),
        (f"a {LABEL}", ["a"], {"a": LABEL}),
        (f"a\t{LABEL}\nb  {OTHER}\n", ["b", "a"], {"a": LABEL, "b": OTHER.upper()}),
        (LABEL.lower(), ["a"], {"a": LABEL}),
        (f"b {OTHER}\n", ["a", "b"], {"b": OTHER.upper()}),
    ],
)
def test_how_it_is_handed_in(text: str, names: list[str], due: dict[str, str]) -> None:
    assert psid.read(text.encode(), names) == due


@pytest.mark.parametrize(
    ("data", "names", "why"),
    [
        (b"", ["a"], "empty"),
        (b" \n", ["a"], "empty"),
        (LABEL[:-1].encode(), ["a"], "this has 31"),
        (LABEL.encode() + b"X", ["a"], "this has 33"),
        (LABEL[:-1].encode() + b"!", ["a"], "is none"),
        (LABEL.encode(), ["a", "b"], "begins with none"),
        (f"a {LABEL}\nc {OTHER}".encode(), ["a", "b"], "Line 2"),
        (f"a {LABEL}\na {OTHER}".encode(), ["a", "b"], "Two PSIDs"),
        ("Ä".encode() * 16, ["a"], "something else"),
        (b"A" * (psid.MOST + 1), ["a"], "too large"),
    ],
)
def test_what_is_none_is_refused_and_never_repeated(data: bytes, names: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        psid.read(data, names)
    assert LABEL[:12] not in caught.value.message + caught.value.remedy


@pytest.mark.parametrize("verb", [plan.command, wipe.command])
def test_the_agent_refuses_a_wrong_one_before_it_looks_at_anything(tmp_path: Path, verb: Command) -> None:
    args = ["/nowhere", "--profile", "nist-purge", "--psid", "-"]
    said = CliRunner().invoke(verb, args, obj={"state": tmp_path / "state"}, input="too short")
    assert isinstance(said.exception, UsageError)
    assert "32 letters and digits" in said.exception.message


def test_an_order_that_holds_something_else_is_no_order() -> None:
    world = World()
    good = world.order(targets=[Target(identity=DISK, hint="/dev/sdz", psid=LABEL)])
    assert canonical.loads(good, Order).targets[0].psid == LABEL
    with pytest.raises(DocumentError):
        canonical.loads(good.replace(LABEL.encode(), b"short"), Order)


def test_a_receipt_does_not_name_it_and_is_taken_for_the_order_all_the_same() -> None:
    world = World()
    order = world.order(targets=[Target(identity=DISK, hint="/dev/sdz", psid=LABEL)])
    target = canonical.loads(order, Order).targets[0]
    silent = world.signed_receipt(world.receipt(order, targets=[target_result(target.without_psid())]))
    told = world.signed_receipt(world.receipt(order, targets=[target_result(target)]))
    assert LABEL.encode() not in silent.body
    assert LABEL.encode() in told.body
    assert not order_problems(parse_statement(silent.body).predicate, order)
    assert order_problems(parse_statement(told.body).predicate, order) == [
        "its targets are not those ordered"
    ]


def test_the_plan_hands_it_to_the_revert_alone() -> None:
    """The journal has to hold it, for a restart; a random secret is drawn for everything else."""
    who = BlockIdentity(bus="nvme", model="M", serial="S", wwn="", size=U64(1 << 20))
    medium = Medium(identity=who, path="/dev/nvme0n1", type=MediumType.SSD, logical_sector=512)
    draw = Draw(byte=lambda: 0, key=lambda _: b"", bytes=bytes, cipher="-", unread_cipher="-")
    encrypts = Seen(
        ssc="Opal 2", locking_enabled=True, locked=False, mbr_enabled=False, media_encryption=True
    )
    both = (Technique.OPAL_REVERT, Technique.ATA_SANITIZE_CRYPTO)
    for offered, label, due in (
        (both[:1], LABEL, (Technique.OPAL_REVERT, LABEL)),
        (both[:1], LABEL.lower(), (Technique.OPAL_REVERT, LABEL)),
        (both, LABEL, (Technique.ATA_SANITIZE_CRYPTO, "00" * 16)),
    ):
        drive = Drive(
            protocol="ata", opal=encrypts, abilities=[Ability(technique=one, offered=True) for one in offered]
        )
        target = Target(identity=who, psid=label)
        steps = plan_target(target, medium, drive, builtin()["nist-purge"], Level.PURGE, False, ALONE, draw)
        assert isinstance(steps, TargetPlan)
        assert (steps.technique, steps.secret) == due


# The simulator, beside what others wrote of the same specification


def opal_drive(folder: Path, **changes: object) -> NvmeDrive:
    make = Make(psid=LABEL, **changes)  # type: ignore[arg-type]
    return NvmeDrive(folder / "disk", folder / "notes", size=1 << 20, make=make)


def test_tokens_are_those_of_the_specification() -> None:
    """Core 2.01 §3.2.2.3: tiny, short and medium atoms; the bytes of a StartSession as sedutil sends them."""
    tokens: list[Token] = [control(0xF8), bytes.fromhex("00000000000000ff"), 0x41, 1, LABEL.encode()]
    raw = pack(Packet(0x07FE0000, 0, 0, tokens))
    assert raw[:20].hex() == "00000000" + "07fe0000" + "00000000" * 2 + f"{raw[16:20].hex()}"
    assert raw[56:].rstrip(b"\0").startswith(bytes.fromhex("f8a800000000000000ff814101d020") + LABEL.encode())
    assert unpack(raw).tokens == tokens
    assert tokens_of(bytes.fromhex("ff0082012c")) == [0, 300]


def test_the_simulated_subsystem_is_seen_and_reverted_by_its_label_alone(tmp_path: Path) -> None:
    drive = opal_drive(tmp_path)
    port = SimulatedNvmePort(drive)
    seen = opal.parse(opal.discover_nvme(port))
    assert (seen.ssc, seen.locking_enabled, seen.media_encryption) == (("Opal 2",), True, True)
    assert seen.removal_seconds[2] == 4
    kernel = KernelSession(port)
    for _ in range(5):
        assert kernel.psid_revert(OTHER.encode()) == NOT_AUTHORIZED
    assert kernel.psid_revert(LABEL.encode()) == LOCKED_OUT, "it took too many tries"
    drive.power_cut()
    drive.power_on()
    assert kernel.psid_revert(LABEL.encode()) == 0
    assert not opal.parse(opal.discover_nvme(port)).locking_enabled
    drive.close()


def test_a_drive_without_a_label_has_no_such_commands(tmp_path: Path) -> None:
    drive = NvmeDrive(tmp_path / "disk", tmp_path / "notes", size=1 << 20)
    reply = SimulatedNvmePort(drive).admin(
        NvmeCommand(opcode=0x82, cdw10=1 << 24 | 1 << 8, cdw11=512), data_in=512
    )
    assert reply.status == 1
    drive.close()


def test_documents_say_it_with_the_key() -> None:
    """Every key is always written: a target without a PSID says so."""
    assert json.loads(canonical.dumps(Target(identity=DISK)))["psid"] == ""
