"""Brings the database to this release's tables, and checks that the append-only triggers are as they should be."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from expunge_agent.errors import StateError
from expunge_controller.store.schema import TRIGGERS

HEAD = "0006"
"""The newest migration; a test holds it to the scripts."""


def current(connection: sa.Connection) -> str | None:
    """The database's migration; None for an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def upgrade(connection: sa.Connection) -> None:
    """Run the missing migrations in the transaction of `connection`. Raises StateError for a newer database."""
    version = current(connection)
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise StateError(
            f"The database was made by a newer release (migration {version}; this one knows {HEAD}).",
            "Use that release, or restore a backup from before the upgrade.",
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def assert_append_only(connection: sa.Connection) -> None:
    """Raise StateError when a trigger that keeps evidence is missing, changed, or not ours.

    SQLite drops them without a word when a table is rebuilt, by a migration tool or by hand.
    """
    rows = connection.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    present = {str(row.name): str(row.sql) for row in rows}
    wrong = sorted(
        name for name in present.keys() | TRIGGERS.keys() if present.get(name) != TRIGGERS.get(name)
    )
    if wrong:
        raise StateError(
            f"The triggers that keep the evidence append-only were altered: {', '.join(wrong)}.",
            "Evidence may have been altered too: compare with a backup before you go on.",
        )
