"""A controller's database as an earlier version of the program left it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config

from expunge_controller.store import migrate


def scripts() -> Config:
    """Where the migrations lie."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    return config


@contextmanager
def database_at(path: Path, revision: str) -> Iterator[sa.Connection]:
    """A new database at `path`, brought up to migration `revision`; what is put into it is kept."""
    from alembic import command

    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            config = scripts()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            yield connection
    finally:
        engine.dispose()
