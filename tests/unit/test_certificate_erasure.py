"""Certificates of drive commands: what the drive said, what was found, in both languages; and no other page changed."""

from __future__ import annotations

import re
from html import unescape
from typing import Any, Final

import pytest
from msgspec.structs import replace

from expunge_agent.core.technique import Technique
from expunge_agent.errors import DocumentError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import Interruption
from expunge_agent.protocol.receipt_erasure import LaidOpen
from expunge_controller.records.certificate import (
    NOT_RECORDED,
    Certificate,
    MediumRecord,
    Sanitization,
    freeze_certificate,
    parse_certificate,
)
from expunge_controller.records.certify import certificate_from
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.render.markup import number
from expunge_controller.render.technique_words import TECHNIQUES, in_words
from support.evidence import (
    BOOT,
    CANARY_KEY,
    CONTROLLER,
    SIZE,
    START,
    World,
    a_read_back,
    an_erasure,
    at,
    some_canaries,
)

WORLD: Final = World()
INTERRUPTIONS: Final = [
    Interruption(noticed_at=at(2), boot_id_before=BOOT, boot_id_after="another", decision="resumed"),
    Interruption(noticed_at=at(3), boot_id_before=BOOT, boot_id_after=BOOT, decision="resumed"),
    Interruption(
        noticed_at=at(3),
        boot_id_before=BOOT,
        boot_id_after=BOOT,
        decision="resumed",
        what="The drive came back.",
    ),
]


def certify(interruptions: list[Interruption] | None = None, **changes: Any) -> Certificate:
    """The certificate of a purge; `changes` are those of the target's result."""
    order = WORLD.purge_order()
    receipt = replace(WORLD.purged(order, **changes), interruptions=interruptions or [])
    signed = WORLD.signed_receipt(receipt)
    return certificate_from(
        signed.body,
        signed.signature,
        0,
        order=parse_order(order),
        facts=MediumRecord(),
        number="C-2026-0002",
        issued_at=START,
        issuer=CONTROLLER,
    )


def overwritten() -> Certificate:
    """The certificate of an overwrite by an agent without second signatures, without what differs from run to run."""
    world = World(second=False)
    order = world.order()
    made = parse_certificate(world.certificate(world.signed_receipt(world.receipt(order)), order).body)
    fixed = replace(
        made.evidence,
        receipt="a" * 64,
        receipt_signature="b" * 64,
        order="c" * 64,
        agent_key="SHA256:fixed",
    )
    return replace(made, evidence=fixed)


def rows(page: str) -> dict[str, str]:
    """Captions of the page's two-column tables, both languages, with their values."""
    found = re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", page)
    return {plain(caption): plain(value) for caption, value in found}


def plain(markup: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", markup))


def test_a_certificate_without_a_command_is_what_it_always_was() -> None:
    """Bundles are checked by making page and document again: raise text_forms.FORM where the page changes after a release."""
    made = overwritten()
    assert canonical.sha256_hex(freeze_certificate(made)) == OVERWRITE_DOCUMENT
    assert canonical.sha256_hex(certificate_html(made).encode()) == OVERWRITE_PAGE
    assert b"erasure" not in freeze_certificate(made)


OVERWRITE_DOCUMENT: Final = "517c545568d49a5ac74912e5996ecda80b3722cedd48aa1c92584e3dd50533ae"
OVERWRITE_PAGE: Final = "c54e87aad4aa87adddc5d3bf4e3965867c54926df5d360a99bf2bfeb304f4a9a"


def test_an_absent_command_is_absent_and_not_null() -> None:
    body = freeze_certificate(overwritten())
    nulled = body.replace(b'"exceptions":[]', b'"erasure":null,"exceptions":[]')
    assert nulled != body and freeze_certificate(parse_certificate(nulled)) == body


def test_fields_of_the_receipt() -> None:
    made = certify(INTERRUPTIONS)
    done = made.sanitization
    assert (done.method, done.level_requested, done.level_achieved) == (Level.PURGE, "purge", Level.PURGE)
    assert (done.technique, done.verification_status, done.passes) == ("nvme-sanitize-crypto", "passed", [])
    command = done.erasure
    assert command is not None and command.canaries is not None and command.read_back is not None
    assert (command.technique, command.ended, command.attempts, command.answers) == (
        "nvme-sanitize-crypto", "done", 1, 2,
    )  # fmt: skip
    assert (command.canaries.written, command.canaries.found, command.canaries.telling) == (
        some_canaries().written,
        0,
        200,
    )
    assert (command.read_back.status, command.read_back.coverage_ppm) == ("passed", 125_000)
    assert [(one.restarted, one.what) for one in command.interruptions] == [
        (True, ""),
        (False, ""),
        (False, "The drive came back."),
    ]
    body = freeze_certificate(made)
    assert parse_certificate(body) == made and freeze_certificate(parse_certificate(body)) == body
    assert CANARY_KEY.encode() not in body, "the key stands in the receipt"
    with pytest.raises(DocumentError):
        parse_certificate(body.replace(b'"attempts":1', b'"attempts":"1"'))


def test_what_the_page_says() -> None:
    planted = some_canaries().planned
    told = rows(certificate_html(certify(INTERRUPTIONS)))
    assert told["Method type 方法类别"] == "purge"
    words = (
        "cryptographic erase: NVMe Sanitize, Crypto Erase · 净化，加密擦除：NVMe Sanitize 加密擦除 "
        "(nvme-sanitize-crypto)"
    )
    assert told["Method used 所用技术"] == told["Command 命令"] == words
    assert told["What the drive said 设备答复"] == (
        "accepted, seen at work, ended: done 完成. status 1: the most recent sanitize operation completed"
    )
    assert told["Times begun 下达次数"] == "1"
    assert told["Duration 用时"] == "2.900 s"
    assert told["Interruptions of the order 指令中断"] == (
        f"{at(2)} the machine was started anew: resumed; {at(3)} the agent ended unexpectedly: resumed; "
        f"{at(3)} The drive came back.: resumed"
    )
    assert told["Left usable 恢复可用"] == "yes."
    assert told["Differs from before 前后差异"] == "nothing found 未发现"
    assert told["Raw answers of the drive 设备原始应答"] == "2, all in the receipt 全部见回执"
    assert told["Canaries 金丝雀块"] == f"{planted:,} written of {planted:,} planned, 4096 B each"
    assert told["Canaries found afterwards 事后仍可读出"] == f"0 of {planted:,} looked for; 0 unreadable"
    assert told["Old data still there 旧数据残留"] == (
        f"0 of 200 samples that could tell ({some_canaries().samples} read before); 0 unreadable"
    )
    assert told["Read-back after the command 命令后读回"] == (
        "sampled (nist-800-88r1): passed; 0.700 s, direct, read from medium: yes"
    )
    assert told["Bytes read 读取字节"] == f"{SIZE // 8:,} (12.50 % of the medium), 0 unreadable"
    assert told["What was found, in bytes 读出内容（字节）"] == (
        f"zeros {SIZE // 8 - 12288:,}, FFh 4,096, another byte throughout 0, other data 8,192"
    )
    page = plain(certificate_html(certify()))
    assert "are what deallocated blocks read as, too: they do not prove that cells were erased" in page
    assert "不能证明存储单元已被擦除" in page
    for wrong in ("no pass was run", "nothing was read back", "lower than the level requested"):
        assert wrong not in page


def test_shortfalls_are_said_and_shown() -> None:
    erasure = an_erasure(
        accepted=False,
        attempts=2,
        settled=False,
        settling="It still answers SANITIZE FAILED.",
        changes=["firmware: before A, after B", "an ATA password is set on it"],
        canaries=None,
        started_at="",
        read_back=a_read_back(unreadable_bytes=U64(4096), reads_medium=False),
    )
    made = certify(
        outcome=Outcome.EXCEPTIONS, level_achieved=Level.NONE, exceptions=["It is told."], erasure=erasure
    )
    assert made.sanitization.verification_status == "passed with exceptions"
    told = rows(certificate_html(made))
    assert told["What the drive said 设备答复"].startswith("not seen accepted, seen at work")
    assert told["Left usable 恢复可用"] == "NO. It still answers SANITIZE FAILED."
    assert told["Differs from before 前后差异"] == "firmware: before A, after B; an ATA password is set on it"
    assert told["Times begun 下达次数"] == "2"
    assert told["Interruptions of the order 指令中断"] == "none 无"
    assert told["Canaries 金丝雀块"] == "none was placed 未写入"
    assert "failed" in told["Read-back after the command 命令后读回"]
    assert "read from medium: NO" in told["Read-back after the command 命令后读回"]
    assert made.sanitization.erasure is not None and made.sanitization.erasure.started_at == NOT_RECORDED
    assert "lower than the level requested" in certificate_html(made)
    bare = certify(
        outcome=Outcome.EXCEPTIONS,
        level_achieved=Level.NONE,
        exceptions=["x"],
        erasure=an_erasure(read_back=None),
    )
    assert bare.sanitization.verification_status == "none"
    assert rows(certificate_html(bare))["Read-back after the command 命令后读回"] == (
        "nothing was read back 未做读回"
    )


def test_every_field_of_the_command_is_on_the_page() -> None:
    made = certify(
        INTERRUPTIONS, erasure=an_erasure(settling="unlocked", changes=["names: before a, after b"])
    )
    page = plain(certificate_html(made))
    for value in texts(canonical.parse(freeze_certificate(made))["sanitization"]["erasure"]):
        shown = f"{int(value):,}" if value.isdigit() and len(value) > 3 else value
        if value not in ("2900", "700"):  # milliseconds, shown as seconds
            assert shown in page, value


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


HOSTILE: Final = "</td><script>alert(1)</script> \u202egpj.exe \x1b[31m"


def test_hostile_strings_stay_text() -> None:
    """A drive's own words may be anything."""
    erasure = an_erasure(technique=HOSTILE, detail=HOSTILE, settling=HOSTILE, changes=[HOSTILE])
    page = certificate_html(
        certify([replace(INTERRUPTIONS[2], what=HOSTILE)], technique=HOSTILE, erasure=erasure)
    )
    for raw in ("<script", "\u202e", "\x1b"):
        assert raw not in page
    assert page.count("&lt;script&gt;") == 6


def test_every_technique_has_its_words() -> None:
    assert set(TECHNIQUES) == {str(one) for one in Technique}
    assert len({words.command for words in TECHNIQUES.values()}) == len(TECHNIQUES)
    for words in TECHNIQUES.values():
        for label in words:
            assert label.english and label.chinese
            assert label.english.isascii()
    for word, words in TECHNIQUES.items():
        assert words.kind.english != "cryptographic erase" or word.endswith(("crypto", "revert", "shred"))
    assert in_words("shred", "purge") == "shred"
    assert in_words("ata-sanitize-block", "clear") == (
        "block erase: ATA Sanitize Device, BLOCK ERASE EXT · 清除，块擦除：ATA Sanitize Device 块擦除 "
        "(ata-sanitize-block)"
    )


def test_only_the_special_parts_may_be_left_out() -> None:
    """`omit_defaults` must never drop anything else of what was done."""
    assert Sanitization.__struct_fields__[-6:] == (
        "erasure",
        "downgrade",
        "space",
        "volume",
        "key",
        "files",
    )
    assert Sanitization.__struct_defaults__ == (None, "", None, None, None, None)


def test_a_downgrade_is_on_the_page_and_only_there_where_there_was_one() -> None:
    why = "The order asks for purge and allows less: ata-security-erase earns clear."
    with_it, without = certify(downgrade=why), certify()
    assert with_it.sanitization.downgrade == why
    assert b"downgrade" not in freeze_certificate(without)
    assert "Less than asked" not in certificate_html(without)
    assert why in unescape(certificate_html(with_it))


def test_a_capacity_that_was_laid_open_is_on_the_page() -> None:
    laid_open = LaidOpen(
        before=U64(SIZE), after=U64(2 * SIZE), done=["HPA of 524288 sectors removed for good"]
    )
    page = unescape(certificate_html(certify(erasure=an_erasure(laid_open=laid_open))))
    assert "HPA of 524288 sectors removed for good" in page
    assert f"{number(SIZE)} B before, {number(2 * SIZE)} B after" in page
