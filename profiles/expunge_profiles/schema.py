"""What a policy may say, and nothing else: the parts of a profile and their rules.

Pure. A `Profile` that exists keeps every rule of this module, however it was made.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from typing import Annotated, ClassVar, Final, Literal, get_args

import msgspec

MAX_PASSES: Final = 64

Level = Literal["clear", "purge"]
"""NIST SP 800-88 r2 §3.1. No pass of today's kinds earns ``purge``; see `Profile`."""
Status = Literal["current", "legacy", "withdrawn", "disputed"]
Medium = Literal["hdd", "ssd", "usb-flash", "file", "virtual", "memory", "unknown"]
"""Rotating drive; ATA, SCSI or NVMe flash; USB stick or SD card; regular file; virtual or cloud disk;
RAM-backed device; none of these could be established."""
PassKind = Literal["fixed", "pattern", "complement", "random-byte", "keyed-stream"]
VerificationKind = Literal["none", "full", "sampled"]
After = Literal["last", "every"]
Rule = Literal["nist-800-88r1"]
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "level": get_args(Level),
    "status": get_args(Status),
    "media": get_args(Medium),
    "kind": get_args(VerificationKind),
    "after": get_args(After),
    "rule": get_args(Rule),
}
"""The words each key may hold."""

Ppm = Annotated[int, msgspec.Meta(ge=1, le=999_999)]
"""Parts per million, strictly between none and all."""
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class ProfileError(ValueError):
    """A policy that breaks a rule: in which file, under which key, for which reason.

    ``source`` and ``key`` are empty where there is none to name. Passes are counted from 1, as in
    ``pass[2].fixed``. The text of the error is one sentence of all three.
    """

    def __init__(self, source: str, key: str, reason: str) -> None:
        super().__init__(source, key, reason)
        self.source = source
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.key, self.reason) if part)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """A part of a policy: immutable, exact keys."""


class Pass(_Part, frozen=True, omit_defaults=True):
    """One overwrite of the whole target; exactly one of the fields is set.

    ``fixed``: one byte in hexadecimal. ``pattern``: 2 to 64 bytes in hexadecimal, repeated without a
    break from offset 0 on. ``complement``: the pass before, every bit turned over. ``random_byte``:
    one byte drawn when the order runs, repeated. ``keyed_stream``: a fresh keyed random stream.
    """

    fixed: str | None = None
    pattern: str | None = None
    complement: bool | None = None
    random_byte: bool | None = None
    keyed_stream: bool | None = None

    _FLAGS: ClassVar[dict[str, str]] = {
        "complement": "complement",
        "random_byte": "random-byte",
        "keyed_stream": "keyed-stream",
    }

    def __post_init__(self) -> None:
        for field, key in self._FLAGS.items():
            if getattr(self, field) is False:
                raise ProfileError("", key, "can only be true; leave the key out instead")
        given = [key for key in get_args(PassKind) if getattr(self, key.replace("-", "_")) is not None]
        if len(given) != 1:
            names = ", ".join(get_args(PassKind))
            found = " and ".join(given) or "none"
            raise ProfileError("", "", f"needs exactly one of {names}, and has {found}")
        # One spelling, so that equal policies have equal digests.
        if self.fixed is not None:
            msgspec.structs.force_setattr(self, "fixed", _hex(self.fixed, "fixed", 1, 1))
        if self.pattern is not None:
            msgspec.structs.force_setattr(self, "pattern", _hex(self.pattern, "pattern", 2, 64))

    @property
    def kind(self) -> PassKind:
        """Which of the five it is."""
        kinds: tuple[PassKind, ...] = get_args(PassKind)
        return next(kind for kind in kinds if getattr(self, kind.replace("-", "_")) is not None)

    @property
    def text(self) -> str:
        """The pass in a few characters: ``00``, ``924924``, ``complement``, ``keyed stream``."""
        return self.fixed or self.pattern or self.kind.replace("-", " ")


class Verification(_Part, frozen=True, omit_defaults=True):
    """What is read back, and after which passes.

    ``sampled`` goes by ``rule`` (``nist-800-88r1``: SP 800-88 r1 §4.7.3) or by a stated confidence:
    with confidence ``confidence_ppm``, at most ``max_unsanitized_ppm`` of the target does not hold
    what was written (999000 and 100: 99.9 % sure of no more than 0.01 %).
    """

    kind: VerificationKind
    after: After | None = None
    rule: Rule | None = None
    confidence_ppm: Ppm | None = None
    max_unsanitized_ppm: Ppm | None = None

    def __post_init__(self) -> None:
        sampling = {
            "rule": self.rule,
            "confidence-ppm": self.confidence_ppm,
            "max-unsanitized-ppm": self.max_unsanitized_ppm,
        }
        given = [key for key, value in sampling.items() if value is not None]
        if self.kind == "none" and self.after is not None:
            raise ProfileError("", "after", "has no meaning where nothing is read back (kind is none)")
        if self.kind != "none" and self.after is None:
            raise ProfileError("", "after", "is missing; write last or every")
        if self.kind != "sampled" and given:
            raise ProfileError("", given[0], f"belongs to kind sampled, and kind is {self.kind}")
        if self.kind == "sampled" and given not in (["rule"], ["confidence-ppm", "max-unsanitized-ppm"]):
            reason = "sampling needs either rule, or confidence-ppm with max-unsanitized-ppm"
            raise ProfileError("", "", f"{reason}; it has {' and '.join(given) or 'neither'}")

    @property
    def text(self) -> str:
        """The verification in a few words: ``verify full after last``."""
        if self.kind == "none":
            return "no verification"
        after = "last" if self.after == "last" else "every pass"
        how: str = self.kind
        if self.rule is not None:
            how += " (NIST SP 800-88 r1)"
        elif self.confidence_ppm is not None and self.max_unsanitized_ppm is not None:
            sure, most = _percent(self.confidence_ppm), _percent(self.max_unsanitized_ppm)
            how += f" ({sure} % sure of at most {most} %)"
        return f"verify {how} after {after}"


class Profile(_Part, frozen=True):
    """One policy: what is written, how often, what is read back, on which media, by whose authority.

    ``level`` is what the policy aims at. Overwriting from the host never earns purge (NIST SP 800-88
    r2), so a profile that asks for it is refused here. ``passes`` are 1 to 64, called
    ``pass`` in files. ``media`` is kept in the order of `Medium`; USB sticks and media of unknown
    kind need two passes at least (NIST SP 800-88; an unknown medium may be such a stick).
    ``seal``: the key of the last pass, a keyed stream, goes into the receipt.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}\Z")]
    version: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    title: Title
    level: Level
    authority: Text
    status: Status
    source: Text
    advice: Text
    media: Annotated[tuple[Medium, ...], msgspec.Meta(min_length=1)]
    passes: Annotated[tuple[Pass, ...], msgspec.Meta(min_length=1, max_length=MAX_PASSES)] = msgspec.field(
        name="pass"
    )
    verification: Verification
    seal: bool = False

    def __post_init__(self) -> None:
        for key in ("title", "authority", "source", "advice"):
            if not getattr(self, key).isprintable():
                raise ProfileError("", key, "holds a line break, control or invisible character")
        if self.level == "purge":
            raise ProfileError("", "level", "overwriting never earns purge (NIST SP 800-88); write clear")
        self._check_passes()
        self._check_media()
        if self.seal and self.passes[-1].kind != "keyed-stream":
            raise ProfileError("", "seal", "needs a keyed stream as the last pass")

    def _check_passes(self) -> None:
        previous: PassKind | None = None
        for number, one in enumerate(self.passes, 1):
            if one.kind == "complement" and previous is None:
                raise ProfileError("", f"pass[{number}].complement", "there is no pass before the first")
            if one.kind == "complement" and previous == "keyed-stream":
                raise ProfileError("", f"pass[{number}].complement", "a keyed stream has no complement here")
            previous = one.kind

    def _check_media(self) -> None:
        for medium in self.media:
            if self.media.count(medium) > 1:
                raise ProfileError("", "media", f"{medium!r} stands twice")
            if medium in ("usb-flash", "unknown") and len(self.passes) < 2:
                raise ProfileError("", "media", f"{medium!r} needs at least two passes (NIST SP 800-88)")
        order = CHOICES["media"]
        msgspec.structs.force_setattr(self, "media", tuple(sorted(self.media, key=order.index)))

    def canonical(self) -> bytes:
        """The policy as canonical JSON: keys as in files and sorted, no space, UTF-8.

        Keys of passes and of the verification that were not given are left out; ``seal`` never is.
        """
        plain = msgspec.to_builtins(self)
        return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical`, 64 lower-case hexadecimal digits: what orders and receipts name."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def summary(self) -> str:
        """The policy on one line: ``2 passes: 00, keyed stream; verify full after last``."""
        runs = [
            (text, len(list(group))) for text, group in itertools.groupby(one.text for one in self.passes)
        ]
        shown = [text if times == 1 else f"{text} ×{times}" for text, times in runs]
        if len(shown) > 8:
            shown = [*shown[:4], "…", shown[-1]]
        count = "1 pass" if len(self.passes) == 1 else f"{len(self.passes)} passes"
        return f"{count}: {', '.join(shown)}; {self.verification.text}"


def _hex(text: str, key: str, least: int, most: int) -> str:
    """`text` in capitals if it spells `least` to `most` bytes, two hexadecimal digits each."""
    if re.fullmatch(r"([0-9A-Fa-f]{2})+", text) and least <= len(text) // 2 <= most:
        return text.upper()
    what = "one byte" if most == 1 else f"{least} to {most} bytes"
    shown = text if len(text) <= 24 else text[:24] + "…"
    raise ProfileError("", key, f"{shown!r} is not {what} in hexadecimal")


def _percent(ppm: int) -> str:
    """Parts per million as a percentage without trailing zeros: 999000 → ``99.9``."""
    return f"{ppm // 10_000}.{ppm % 10_000:04d}".rstrip("0").rstrip(".")
