"""A folder that ext4 encrypts, and what the fscrypt tool would have stored of it."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from expunge_agent.devices.fscrypt_traces import identifier

ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613
SECRET = b"SECRET-RECORD-OF-A-CUSTOMER "
PROTECTOR, SHARED = "00000000000000aa", "00000000000000bb"


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protocol-buffer message (short ones)."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def stored_policy(key: str, *protectors: str) -> bytes:
    """As the fscrypt tool writes PolicyData: descriptor, options, one wrapped key a protector."""
    wrapped = [field(3, field(1, one.encode()) + field(2, b"W" * 40)) for one in protectors]
    return field(1, key.encode()) + field(2, b"\x08\x20\x10\x01") + b"".join(wrapped)


class Folder:
    """A mounted ext4 with an encrypted folder, and what the fscrypt tool would have stored of it."""

    def __init__(self, device: str, mount: Path) -> None:
        self.device, self.mount, self.raw = device, mount, os.urandom(64)
        self.path = mount / "private"
        self.path.mkdir()
        self.add_key()
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(
                fd, SET_POLICY, bytearray(struct.pack("<BBBB4x16s", 2, 1, 4, 3, bytes.fromhex(self.key)))
            )
        finally:
            os.close(fd)
        self.path.joinpath("accounts.txt").write_bytes(SECRET * 500)
        base = mount / ".fscrypt"
        (base / "policies").mkdir(parents=True)
        (base / "protectors").mkdir()
        self.policy = base / "policies" / self.key
        self.policy.write_bytes(stored_policy(self.key, PROTECTOR, SHARED))
        (base / "policies" / ("cc" * 16)).write_bytes(stored_policy("cc" * 16, SHARED))
        self.protector, self.shared = base / "protectors" / PROTECTOR, base / "protectors" / SHARED
        self.protector.write_bytes(b"WRAPPED-PROTECTOR-KEY " * 4)
        self.shared.write_bytes(b"SOMEBODY-ELSES-TOO " * 4)
        os.sync()

    @property
    def key(self) -> str:
        return identifier(self.raw)

    def add_key(self, at: Path | None = None) -> None:
        request = bytearray(struct.pack("<II32sII8I", 2, 0, b"", 64, 0, *[0] * 8) + self.raw)
        fd = os.open(at or self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, ADD_KEY, request)
        finally:
            os.close(fd)
        assert request[8:24].hex() == self.key

    def read(self) -> bytes:
        """The contents of the only file, by whatever name; b"" where the key is missing."""
        (name,) = os.listdir(self.path)
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return b""
