"""Canonical JSON (RFC 8785), the form in which every signed document is frozen.

Only what the contract needs is allowed: objects, arrays, strings, booleans, null and integers
within ±(2^53 − 1). Larger integers travel as decimal strings (`U64`), floats not at all, so the
number rules of RFC 8785 §3.2.2.3 reduce to plain decimal integers.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

import msgspec

from expunge_agent.errors import DocumentError

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 64

T = TypeVar("T")


class U64(int):
    """An unsigned 64-bit integer that is a decimal string in JSON (sizes, offsets, inodes, counters)."""

    def __new__(cls, value: int | str) -> U64:
        number = int(value)
        if not 0 <= number < 2**64:
            raise ValueError(f"{value} is not an unsigned 64-bit integer")
        return super().__new__(cls, number)


def encode_hook(value: Any) -> Any:
    """msgspec hook: how `U64` is written."""
    if isinstance(value, U64):
        return str(int(value))
    raise NotImplementedError(type(value).__name__)


def decode_hook(kind: type, value: Any) -> Any:
    """msgspec hook: how `U64` is read; one spelling only (``"0"`` or no leading zero)."""
    if kind is U64:
        if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 20:
            raise ValueError("expected a decimal string")
        if value != "0" and value.startswith("0"):
            raise ValueError("expected a decimal string without leading zeros")
        return U64(value)
    raise NotImplementedError(kind.__name__)


def dumps(value: Any) -> bytes:
    """The canonical bytes of `value` (a msgspec struct, or plain JSON values).

    Raises ValueError for floats, integers beyond 2^53 − 1, lone surrogates and NUL.
    """
    plain = msgspec.to_builtins(value, enc_hook=encode_hook, str_keys=True)
    text = json.dumps(_ordered(plain, 0), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def _ordered(value: Any, depth: int) -> Any:
    """`value` with its keys sorted by UTF-16 code units (RFC 8785 §3.2.3)."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {_ordered(key, depth): _ordered(value[key], depth + 1) for key in keys}
    if isinstance(value, list):
        return [_ordered(item, depth + 1) for item in value]
    if isinstance(value, str) and ("\0" in value or not value.isascii()):
        value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
        if "\0" in value:
            raise ValueError("a text holds the character NUL")
    if isinstance(value, float):
        raise ValueError("floats have no place in a signed document")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_SAFE_INTEGER:
        raise ValueError("integers beyond 2^53-1 must be decimal strings")
    return value


def parse(data: bytes, what: str = "document") -> Any:
    """Plain JSON values of `data`, refusing what readers disagree about.

    Refused with DocumentError: duplicate keys, floats, NaN, integers beyond 2^53 − 1, bytes that
    are not UTF-8, a byte order mark, lone surrogates, NUL, nesting deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_float=_no_float,
            parse_int=_safe_int,
            parse_constant=_no_float,
        )
        _ordered(value, 0)  # only for its checks
    except (ValueError, RecursionError) as error:
        raise DocumentError(
            f"The {what} is not valid JSON for this contract: {error}.",
            "It was truncated or edited; get it again from where it was made.",
        ) from error
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} stands twice")
        result[key] = value
    return result


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} is not an integer")


def _safe_int(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise ValueError(f"{text[:20]} is beyond 2^53-1")
    return int(text)


def loads(data: bytes, kind: type[T], what: str = "document") -> T:
    """`data` as a value of `kind`, with exact keys and types. Raises DocumentError."""
    return convert(parse(data, what), kind, what)


def convert(plain: Any, kind: type[T], what: str = "document") -> T:
    """Plain JSON values as a value of `kind`. Raises DocumentError."""
    try:
        return msgspec.convert(plain, kind, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise DocumentError(
            f"The {what} does not fit its format: {error}.",
            "It was edited, or comes from another version of expunge.",
        ) from error


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes of `value`."""
    return sha256_hex(dumps(value))
