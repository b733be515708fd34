"""Small strings of the vault's documents."""

from __future__ import annotations

import secrets
from typing import Annotated

import msgspec

Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""128 random bits, lower-case hexadecimal: of a vault, a key, a root, an object."""
Subject = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}\Z")]
"""What a subject is called. It stays in keystore and receipts after the shredding: better a number than a name."""
SUBJECT_RULE = "1 to 128 of the characters A-Z a-z 0-9 . _ : @ + -, the first a letter or digit"
Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*\Z")]


def new_id() -> str:
    """A fresh `Id`."""
    return secrets.token_hex(16)
