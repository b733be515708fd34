"""Second signatures of receipts, kept aside or not, and the ML-DSA-65 keys of machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """New columns, NULL for what was kept before. No table is made anew: that would drop its triggers."""
    for table in ("receipts", "aside"):
        for name in ("classic_signature", "mldsa65_signature", "mldsa65_key"):
            op.add_column(table, sa.Column(name, sa.LargeBinary, nullable=True))
    op.add_column("machines", sa.Column("mldsa65_key", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    """Evidence is never dropped by a program."""
    raise RuntimeError("this migration cannot be undone; restore a backup")
