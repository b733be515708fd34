"""Giving a file system back what filling it took: its own reserve, and all its space."""

from __future__ import annotations

import os
from collections.abc import Callable

from expunge_agent.core.space_progress import Folder, SpaceProgress
from expunge_agent.devices import fsinfo
from expunge_agent.engine.own_folder import NotOurs, OwnFolder
from expunge_agent.engine.problems import describe

Write = Callable[..., None]


def remove_folder(folder: Folder) -> str:
    """Remove an order's hidden folder with all in it; why it is still there, or empty. None of ours is left alone."""
    try:
        found = OwnFolder.find(folder)
        if found is None:
            return ""
        try:
            found.remove()
        finally:
            found.close()
    except NotOurs as error:
        return f"{error}, and was left alone"
    except OSError as error:
        return f"{folder.path}/{folder.name}: {describe(error)}"
    return ""


def restore_spare(path: str, kind: str, node: str, blocks: int) -> str:
    """Have the file system keep its own reserve again; why that failed, or empty."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fsinfo.set_spare(fd, kind, node, blocks)
        finally:
            os.close(fd)
    except OSError as error:
        return f"its own reserve of {blocks} blocks could not be set again ({describe(error)})"
    return ""


def clean_up(progress: SpaceProgress, write: Write, node: str) -> None:
    """Take everything away that the journal says was made, and journal that it is gone or why it is not."""
    folder, start = progress.folder, progress.start
    if folder is None:
        return
    why = remove_folder(folder)
    if progress.spare is not None and start is not None:
        why = why or restore_spare(folder.path, start.filesystem, node, progress.spare)
    if why:
        write("space-kept", why=why[:4000])
    else:
        write("space-removed")
