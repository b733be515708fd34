"""SCSI vital product data pages as sysfs hands them out (SPC-5 §7.7, SBC-4 §6.6)."""

from __future__ import annotations

from expunge_agent.devices.roots import clean

_HEADER = 4
_T10_VENDOR = 1
"""DESIGNATOR TYPE 1h: T10 vendor ID based (SPC-5 §7.7.6.4)."""
_ATA_MODEL = 40
_ATA_SERIAL = 20


def unit_serial(page: bytes) -> str:
    """The product serial number of page 80h; empty when the page is missing, cut or of another kind."""
    return clean(_body(page, 0x80))


def ata_names(page: bytes) -> tuple[str, str]:
    """(model, serial) of an ATA drive from page 83h, where SAT-4 §10.3.4 repeats them in full length.

    INQUIRY cuts the model to 16 characters. Empty strings when there is no such designator.
    """
    body = _body(page, 0x83)
    while len(body) >= _HEADER:
        kind, length = body[1] & 0x0F, body[3]
        text, body = body[_HEADER : _HEADER + length], body[_HEADER + length :]
        if kind == _T10_VENDOR and text[:8].rstrip() == b"ATA" and len(text) == 8 + _ATA_MODEL + _ATA_SERIAL:
            return clean(text[8 : 8 + _ATA_MODEL]), clean(text[8 + _ATA_MODEL :])
    return "", ""


def rotation_rate(page: bytes) -> int | None:
    """MEDIUM ROTATION RATE of page B1h: 0 not reported, 1 non-rotating, else rpm; None without the page."""
    body = _body(page, 0xB1)
    return int.from_bytes(body[:2], "big") if len(body) >= 2 else None


def rotates(rate: int) -> bool:
    """Whether `rate` is one of a rotating medium: 0401h to FFFEh, the others are reserved (SBC-4 §6.6.2)."""
    return 0x0401 <= rate <= 0xFFFE


def _body(page: bytes, code: int) -> bytes:
    if len(page) < _HEADER or page[1] != code:
        return b""
    length = int.from_bytes(page[2:4], "big")
    return page[_HEADER : _HEADER + length]
