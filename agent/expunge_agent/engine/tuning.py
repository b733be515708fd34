"""How the engine works on this machine: chunk, stripes, cipher."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from expunge_agent.engine.buffers import KIB, MIB, aligned

MIN_CHUNK = 64 * KIB
MAX_CHUNK = 4 * MIB
MAX_STRIPES = 16
SEAL_CIPHER = "aes-256-ctr"
"""The cipher whose stream an auditor can make with openssl alone."""
AES_IN_HARDWARE = 1_000_000_000
"""Bytes per second that no processor reaches without instructions for AES."""
PROBE_MS = 10
BRIEF_PROBE_MS = 3


@dataclass(frozen=True, slots=True)
class Tuning:
    """`chunk` bytes a call (a power of two, 64 KiB to 4 MiB), `stripes` workers, ciphers of keyed streams:
    `cipher` where a pass is read back or left as a seal, `unread_cipher` where it is not.

    Memory is about chunk × stripes. 512 KiB to 2 MiB measured best: below, the cost of a call shows,
    above, the processor's cache is missed.
    """

    chunk: int = MIB
    stripes: int = 4
    cipher: str = SEAL_CIPHER
    unread_cipher: str = SEAL_CIPHER
    asked: bool = False
    """Whether somebody asked for this number of stripes."""

    def __post_init__(self) -> None:
        if not MIN_CHUNK <= self.chunk <= MAX_CHUNK or self.chunk & (self.chunk - 1):
            raise ValueError(
                f"chunk must be a power of two from {MIN_CHUNK} to {MAX_CHUNK}, not {self.chunk}"
            )
        if not 1 <= self.stripes <= MAX_STRIPES:
            raise ValueError(f"stripes must be 1 to {MAX_STRIPES}, not {self.stripes}")
        from expunge_agent.engine.sources import CIPHERS  # loads OpenSSL, which an inventory does not need

        for cipher in (self.cipher, self.unread_cipher):
            if cipher not in CIPHERS:
                raise ValueError(f"unknown cipher {cipher!r}; known: {', '.join(CIPHERS)}")

    def shared_by(self, targets: int) -> Tuning:
        """The tuning for each of several targets worked on at once: fewer calls under way each, unless asked for."""
        return self if targets == 1 or self.asked else replace(self, stripes=min(self.stripes, 2))

    @classmethod
    def default(cls) -> Tuning:
        """What measured best in general, without measuring here."""
        return cls(stripes=4 if (os.cpu_count() or 1) > 1 else 2)


def choose(cipher: str | None = None, chunk: int | None = None, stripes: int | None = None) -> Tuning:
    """The tuning for this machine; what is given is taken, `cipher` for all passes.

    The cipher of passes that are read back: AES in counter mode where the processor has instructions for
    AES, elsewhere the faster one of it and ChaCha20, measured (some 20 ms). Of others: AES-XTS where it is
    faster still, measured (some 6 ms). Raises ValueError for values outside the limits of `Tuning`.
    """
    base = Tuning.default()
    tuning = replace(
        base, chunk=chunk or base.chunk, stripes=stripes or base.stripes, asked=stripes is not None
    )
    read_back = cipher or _telling(tuning.chunk)
    return replace(tuning, cipher=read_back, unread_cipher=cipher or _quickest(read_back, tuning.chunk))


def has_aes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the first processor lists instructions for AES: in ``flags`` (x86) or ``Features`` (Arm)."""
    try:
        with cpuinfo.open("rb") as lines:
            for name, _, values in (line.partition(b":") for line in lines):
                if name.strip() in (b"flags", b"Features"):
                    return b"aes" in values.split()
    except OSError:
        pass
    return False


def _quickest(other: str, chunk: int) -> str:
    xts, rate = (cipher_rate(name, chunk, BRIEF_PROBE_MS) for name in ("aes-256-xts", other))
    return "aes-256-xts" if xts > rate else other


def _telling(chunk: int) -> str:
    if has_aes():
        return SEAL_CIPHER
    rate = cipher_rate(SEAL_CIPHER, chunk, PROBE_MS)
    if rate >= AES_IN_HARDWARE or cipher_rate("chacha20", chunk, PROBE_MS) <= rate:
        return SEAL_CIPHER
    return "chacha20"


def cipher_rate(cipher: str, chunk: int, milliseconds: int) -> int:
    """Bytes per second of one worker filling chunks with `cipher`, nothing written."""
    from expunge_agent.engine.sources import CIPHERS, KeyedStream

    stream = KeyedStream(cipher, os.urandom(CIPHERS[cipher].key_bytes)).for_worker()
    view = aligned(chunk)
    stream.fill(view, 0)  # the first call pays for loading
    done, began = 0, time.perf_counter_ns()
    while (elapsed := time.perf_counter_ns() - began) < milliseconds * 1_000_000:
        stream.fill(view, done)
        done += chunk
    return done * 1_000_000_000 // elapsed
