"""What a SCSI drive says of itself: VPD and mode pages, log pages, its list of commands (SPC-5, SBC-4)."""

from __future__ import annotations

from dataclasses import dataclass

from lab.drives import scsi_wire as wire


@dataclass(frozen=True)
class ScsiModel:
    """What was built. ``rotation``: nominal rate, 1 for flash; ``sanitize``: which of overwrite, block, crypto;
    ``thin``: UNMAP is offered; ``wwn`` 0: made from the serial number; times in seconds.

    ``nominal`` and ``recommended``: what is declared of SANITIZE and FORMAT UNIT (SPC-5 §6.35.4); 0: not indicated."""

    vendor: str = "EXPUNGE"
    product: str = "LAB SAS SSD"
    revision: str = "0107"
    serial: str = "ZC1LAB000042"
    wwn: int = 0
    rotation: int = 1
    block: int = 512
    exponent: int = 3
    thin: bool = True
    sanitize: frozenset[str] = frozenset({"overwrite", "block", "crypto"})
    sanitize_seconds: float = 120.0
    format_seconds: float = 300.0
    nominal: int = 0
    recommended: int = 0
    temperature: int = 34

    @property
    def naa(self) -> int:
        """The world wide name, NAA 5."""
        return self.wwn or wire.naa(self.serial)


def sas_ssd(**changes: object) -> ScsiModel:
    """A flash drive: block and crypto erase, overwrite, UNMAP."""
    return ScsiModel(**changes)  # type: ignore[arg-type]


def sas_hdd(**changes: object) -> ScsiModel:
    """A rotating drive: overwrite only, no UNMAP."""
    built: dict[str, object] = {
        "product": "LAB SAS HDD",
        "rotation": 10500,
        "thin": False,
        "sanitize": frozenset({"overwrite"}),
        "sanitize_seconds": 1200.0,
        "format_seconds": 1200.0,
    }
    return ScsiModel(**{**built, **changes})  # type: ignore[arg-type]


def vpd_page(model: ScsiModel, page: int, serial: bytes) -> bytes | None:
    """A vital product data page, whole; None when there is no such page."""
    if page == 0x00:
        return wire.vpd(page, bytes([0x00, 0x80, 0x83, 0x86, 0xB0, 0xB1] + ([0xB2] if model.thin else [])))
    if page == 0x80:
        return wire.vpd(page, serial)
    if page == 0x83:
        named = wire.text(model.vendor, 8) + wire.text(model.product, 16) + serial
        return wire.vpd(page, wire.designators(model.naa, text_form=named))
    if page == 0x86:
        return wire.vpd(page, bytes(60))
    if page == 0xB0:
        limits = bytearray(60)
        limits[4:8] = (8192).to_bytes(4, "big")
        if model.thin:
            limits[16:20] = (0x400000).to_bytes(4, "big")
            limits[20:24] = (64).to_bytes(4, "big")
            limits[24:28] = (8).to_bytes(4, "big")
        limits[32:40] = (0x400000).to_bytes(8, "big")
        return wire.vpd(page, bytes(limits))
    if page == 0xB1:
        return wire.vpd(page, wire.block_device(model.rotation))
    if page == 0xB2 and model.thin:
        return wire.vpd(page, bytes([0x00, 0xE4, 0x02, 0x00]))
    return None


def mode_pages(page: int, *, write_cache: bool, descriptor: bool, changeable: bool) -> bytes:
    """Mode pages (SPC-5 §7.5, SBC-4 §6.5): 01h, caching 08h, control 0Ah, 1Ch, or all with 3Fh; empty: none such."""
    recovery = bytearray([0x01, 0x0A] + [0] * 10)
    caching = bytearray([0x08, 0x12] + [0] * 18)
    control = bytearray([0x0A, 0x0A] + [0] * 10)
    exceptions = bytearray([0x1C, 0x0A] + [0] * 10)
    if changeable:
        caching[2], control[2] = 0x04, 0x04
    else:
        recovery[2], recovery[3], recovery[8] = 0xC0, 0x08, 0x08
        caching[2] = 0x04 if write_cache else 0x00
        control[2] = 0x04 if descriptor else 0x00
        control[3] = 0x10
        exceptions[3] = 0x06
    known = {0x01: recovery, 0x08: caching, 0x0A: control, 0x1C: exceptions}
    if page == 0x3F:
        return b"".join(bytes(known[number]) for number in sorted(known))
    return bytes(known.get(page, b""))


def log_page(model: ScsiModel, page: int) -> bytes | None:
    """A log page (SPC-5 §7.3): 00h supported, 0Dh temperature, 2Fh informational exceptions; None: no such page."""
    if page == 0x00:
        body = bytes([0x00, 0x0D, 0x2F])
    elif page == 0x0D:
        body = bytes([0, 0, 0x03, 2, 0, model.temperature, 0, 1, 0x03, 2, 0, 65])
    elif page == 0x2F:
        body = bytes([0, 0, 0x03, 4, 0, 0, model.temperature, 0])
    else:
        return None
    return bytes([page, 0]) + len(body).to_bytes(2, "big") + body


SANITIZE_ACTIONS = {"overwrite": 0x01, "block": 0x02, "crypto": 0x03}
EXIT_FAILURE_MODE = 0x1F


def commands(model: ScsiModel, claimed: frozenset[str]) -> dict[tuple[int, int | None], bytes]:
    """Every command with its service action (None: it has none): its CDB usage data (SPC-5 §6.35.3)."""

    def usage(opcode: int, length: int, **bytes_: int) -> bytes:
        cdb = bytearray(length)
        cdb[0] = opcode
        for name, mask in bytes_.items():
            cdb[int(name[1:])] = mask
        return bytes(cdb)

    six = (0x00, 0x03, 0x08, 0x0A, 0x12, 0x15, 0x1A, 0x04, 0x1B)
    ten = (0x25, 0x28, 0x2A, 0x2F, 0x35, 0x41, 0x4D, 0x55, 0x5A)
    table: dict[tuple[int, int | None], bytes] = {}
    table |= {(op, None): bytes([op]) + b"\xff" * 4 + b"\0" for op in six}
    table |= {(op, None): bytes([op]) + b"\xff" * 8 + b"\0" for op in ten}
    table |= {(op, None): bytes([op]) + b"\xff" * 10 + b"\0" for op in (0xA0, 0xA8, 0xAA)}
    table |= {(op, None): bytes([op]) + b"\xff" * 14 + b"\0" for op in (0x88, 0x8A, 0x8F, 0x91, 0x93)}
    table[(0x9E, 0x10)] = usage(0x9E, 16, b1=0x10, b10=0xFF, b11=0xFF, b12=0xFF, b13=0xFF)
    table[(0xA3, 0x0C)] = usage(
        0xA3, 12, b1=0x0C, b2=0x87, b3=0xFF, b4=0xFF, b5=0xFF, b6=255, b7=255, b8=255, b9=255
    )
    if model.thin:
        table[(0x42, None)] = usage(0x42, 10, b7=0xFF, b8=0xFF)
    for name in sorted(claimed):
        action = SANITIZE_ACTIONS[name]
        table[(0x48, action)] = usage(0x48, 10, b1=0xA0 | action, b7=0xFF, b8=0xFF)
    if claimed:
        table[(0x48, EXIT_FAILURE_MODE)] = usage(0x48, 10, b1=EXIT_FAILURE_MODE)
    return table


def supported_operation_codes(
    model: ScsiModel, table: dict[tuple[int, int | None], bytes], cdb: bytes
) -> bytes | None:
    """REPORT SUPPORTED OPERATION CODES data (SPC-5 §6.35) that `cdb` asks for; None when it asks badly.

    With RCTD a command timeouts descriptor follows the usage data of what erases.
    """
    options, opcode = cdb[2] & 0x07, cdb[3]
    action = int.from_bytes(cdb[4:6], "big")
    if options == 0:
        rows = b""
        for (code, number), usage in sorted(table.items(), key=lambda row: (row[0][0], row[0][1] or 0)):
            flags = 0x00 if number is None else 0x01
            rows += bytes([code, 0]) + (number or 0).to_bytes(2, "big") + bytes([0, flags])
            rows += len(usage).to_bytes(2, "big")
        return len(rows).to_bytes(4, "big") + rows
    has_actions = any(code == opcode and number is not None for code, number in table)
    if (options == 1 and has_actions) or (options == 2 and (opcode, None) in table) or options > 3:
        return None
    usage_data = table.get((opcode, action if has_actions else None))
    if options == 3 and not has_actions and action:
        usage_data = None
    if usage_data is None:
        return bytes([0, 0x01, 0, 0])
    told = cdb[2] & 0x80 and opcode in (0x48, 0x04)
    timeouts = b"".join(one.to_bytes(4, "big") for one in (model.nominal, model.recommended))
    descriptor = bytes([0, 0x0A, 0, 0]) + timeouts if told else b""
    flags = 0x80 | 0x03 if told else 0x03
    return bytes([0, flags]) + len(usage_data).to_bytes(2, "big") + usage_data + descriptor
