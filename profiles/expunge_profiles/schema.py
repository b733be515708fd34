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

from expunge_profiles.techniques import KEYS, OVERWRITE, WORDS, Technique, can_earn

MAX_PASSES: Final = 64

Level = Literal["clear", "purge"]
"""NIST SP 800-88 r2 §3.1. No pass earns ``purge``, only commands of the drive do; see `Profile`."""
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
    "techniques": WORDS,
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
    """What is read back, and after which passes; after a command of the drive it is read back once.

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


class Profile(_Part, frozen=True, kw_only=True):
    """One policy: by which technique, what is written, what is read back, on which media, by whose authority.

    ``level`` is what the policy aims at; on each of its media at least one of its techniques must be able
    to earn it. Overwriting from the host never earns purge (NIST SP 800-88 r2). ``techniques``: all that
    may be used, the preferred ones first; only overwriting where the key is left out. ``passes`` are 1 to
    64, called ``pass`` in files; there are none where overwriting is not allowed. ``media`` is kept in
    the order of `Medium`; to overwrite USB sticks and media of unknown kind takes two passes at least
    (NIST SP 800-88; an unknown medium may be such a stick). ``seal``: the key of the last pass, a keyed
    stream, goes into the receipt.
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
    techniques: Annotated[tuple[Technique, ...], msgspec.Meta(min_length=1)] = (OVERWRITE,)
    passes: Annotated[tuple[Pass, ...], msgspec.Meta(min_length=1, max_length=MAX_PASSES)] = msgspec.field(
        name="pass", default=()
    )
    verification: Verification
    seal: bool = False

    def __post_init__(self) -> None:
        for key in ("title", "authority", "source", "advice"):
            if not getattr(self, key).isprintable():
                raise ProfileError("", key, "holds a line break, control or invisible character")
        self._check_passes()
        self._check_media()
        self._check_techniques()
        if self.seal and (not self.passes or self.passes[-1].kind != "keyed-stream"):
            raise ProfileError("", "seal", "needs a keyed stream as the last pass")

    @property
    def overwrites(self) -> bool:
        """Whether overwriting by the host is among the techniques: only then are there passes."""
        return OVERWRITE in self.techniques

    def _check_techniques(self) -> None:
        for number, word in enumerate(self.techniques, 1):
            if word in self.techniques[: number - 1]:
                raise ProfileError("", f"techniques[{number}]", f"{word!r} stands twice")
            if all(can_earn(word, medium) == "none" for medium in self.media):
                reason = f"{word!r} earns nothing: that a block reads as zeros is no proof that it was erased"
                raise ProfileError("", f"techniques[{number}]", reason)
        if self.level != "purge":
            return
        if self.techniques == (OVERWRITE,):
            raise ProfileError("", "level", "overwriting never earns purge (NIST SP 800-88); write clear")
        for medium in self.media:
            if all(can_earn(word, medium) != "purge" for word in self.techniques):
                reason = f"none of the techniques earns purge on {medium!r} (NIST SP 800-88)"
                raise ProfileError("", "level", f"{reason}; write clear, or change media or techniques")

    def _check_passes(self) -> None:
        if self.overwrites and not self.passes:
            raise ProfileError("", "pass", "is missing")
        if self.passes and not self.overwrites:
            raise ProfileError("", "pass", "belongs to the technique overwrite, which is not in techniques")
        if not self.passes and self.verification.after == "every":
            raise ProfileError("", "verification.after", "there are no passes; write last")
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
            if medium in ("usb-flash", "unknown") and self.overwrites and len(self.passes) < 2:
                raise ProfileError("", "media", f"{medium!r} needs at least two passes (NIST SP 800-88)")
        order = CHOICES["media"]
        msgspec.structs.force_setattr(self, "media", tuple(sorted(self.media, key=order.index)))

    def canonical(self) -> bytes:
        """The policy as canonical JSON: keys as in files and sorted, no space, UTF-8.

        Keys of passes and of the verification that were not given are left out, ``seal`` never is;
        ``techniques`` is left out where it holds overwriting alone, ``pass`` where there is none.
        """
        plain = msgspec.to_builtins(self)
        if self.techniques == (OVERWRITE,):
            del plain["techniques"]
        if not self.passes:
            del plain["pass"]
        return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical`, 64 lower-case hexadecimal digits: what orders and receipts name."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def summary(self) -> str:
        """The policy on one line: ``2 passes: 00, keyed stream; verify full after last``."""
        keys = [word for word in self.techniques if word in KEYS]
        commands = [word for word in self.techniques if word not in (OVERWRITE, *KEYS)]
        named = commands if len(commands) <= 4 else [*commands[:3], "…", commands[-1]]
        parts = [f"commands of the drive: {', '.join(named)}"] if commands else []
        parts += [f"keys only: {', '.join(keys)}"] if keys else []
        if self.overwrites:
            parts.append(self._passes_text() if not commands else f"or {self._passes_text()}")
        return "; ".join([*parts, self.verification.text])

    def _passes_text(self) -> str:
        runs = [
            (text, len(list(group))) for text, group in itertools.groupby(one.text for one in self.passes)
        ]
        shown = [text if times == 1 else f"{text} ×{times}" for text, times in runs]
        if len(shown) > 8:
            shown = [*shown[:4], "…", shown[-1]]
        count = "1 pass" if len(self.passes) == 1 else f"{len(self.passes)} passes"
        return f"{count}: {', '.join(shown)}"


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
