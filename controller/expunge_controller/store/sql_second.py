"""Second signatures as columns of the tables of receipts."""

from __future__ import annotations

import dataclasses
from typing import Any

from expunge_agent.protocol.dsse import SecondSignatures
from expunge_controller.store.rows import AsideRow, ReceiptRow


def flat(row: ReceiptRow | AsideRow) -> dict[str, Any]:
    """The columns of a row."""
    second = row.second
    return {
        **{
            field.name: getattr(row, field.name)
            for field in dataclasses.fields(row)
            if field.name != "second"
        },
        "classic_signature": None if second is None else second.classic,
        "mldsa65_signature": None if second is None else second.mldsa65,
        "mldsa65_key": None if second is None else second.mldsa65_key,
    }


def nested(columns: dict[str, Any]) -> dict[str, Any]:
    """The fields of a row."""
    fields = dict(columns)
    classic, mldsa65, key = (
        fields.pop(name) for name in ("classic_signature", "mldsa65_signature", "mldsa65_key")
    )
    there = None not in (classic, mldsa65, key)
    second = SecondSignatures(classic=classic, mldsa65=mldsa65, mldsa65_key=key) if there else None
    return {**fields, "second": second}
