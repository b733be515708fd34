"""expunge-agent vault create"""

from __future__ import annotations

import os
from pathlib import Path

import click

from expunge_agent.cli.common import print_json
from expunge_agent.cli.vault_common import (
    access_of,
    json_option,
    known,
    now,
    passphrase_option,
    vault_argument,
)
from expunge_agent.errors import UsageError
from expunge_agent.files import explained
from expunge_agent.state import State
from expunge_agent.vault import work
from expunge_agent.vault.access import perform
from expunge_agent.vault.holders.port import FileSettings, HolderSettings, TokenSettings, TpmSettings
from expunge_agent.vault.look import where
from expunge_agent.vault.words import new_id

FIRST_INDEX = 0x01C0_5600
"""Where NV indexes of vaults begin unless told; in the range that the TCG leaves to owners (registry §2.2)."""


class _Index(click.ParamType[int]):
    name = "index"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """A number such as 0x1c05600."""
        if isinstance(value, int):
            return value
        try:
            found = int(str(value), 0)
        except ValueError:
            found = 0
        if not 0x0100_0000 <= found <= 0x01FF_FFFE:
            self.fail("an NV index lies between 0x01000000 and 0x01fffffe.", param, ctx)
        return found


@click.command(name="create")
@vault_argument
@click.option(
    "--holder",
    type=click.Choice(["file", "tpm", "pkcs11"]),
    default="file",
    show_default=True,
    help="Who keeps the root key.",
)
@click.option(
    "--root-folder",
    type=click.Path(path_type=Path),
    help="file: where the root keys lie; keep it out of backups.  [default: in the agent's state folder]",
)
@click.option("--tcti", default="device:/dev/tpmrm0", show_default=True, help="tpm: how it is reached.")
@click.option("--index", type=_Index(), default=FIRST_INDEX, help="tpm: the first of two NV indexes.")
@click.option("--module", type=click.Path(path_type=Path), help="pkcs11: the token's library.")
@click.option("--token", default="", help="pkcs11: the token's label.")
@passphrase_option
@json_option
@click.pass_obj
def create(
    obj: dict[str, object],
    vault: Path,
    holder: str,
    root_folder: Path | None,
    tcti: str,
    index: int,
    module: Path | None,
    token: str,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Make a vault in the folder VAULT."""
    folder, vault_id = vault.absolute(), new_id()
    state = State.create(Path(str(obj["state"])))
    roots = (root_folder or known(obj) / vault_id).absolute()
    if _lies_in(roots, folder):
        raise UsageError(
            "The root keys would lie in the vault, and in every backup of it.", "Name a folder elsewhere."
        )
    for one in (folder, *([roots] if holder == "file" else [])):
        _check_private(one)
    settings = _settings(holder, roots, tcti, index, module, token)
    access = access_of(obj, passphrase_file, new=True)
    perform(work.create, access.job(folder, now(), holder=settings, vault=vault_id, by=state.principal))
    if as_json:
        print_json({"vault": vault_id, "folder": str(folder), "holder": settings})
    else:
        click.echo(f"Vault {vault_id} is in {folder}; root keys: {where(settings)}.")
        if holder == "file":
            click.echo(
                "  Keep that folder out of backups: a copy of a root key, with the passphrase, opens what was "
                "shredded later."
            )
    return 0


def _lies_in(inner: Path, outer: Path) -> bool:
    """Whether `inner` is `outer` or in it, also by way of links and of mounts of the same folder elsewhere."""
    inner, outer = inner.resolve(), outer.resolve()
    if inner.is_relative_to(outer):
        return True
    return outer.exists() and any(one.exists() and one.samefile(outer) for one in (inner, *inner.parents))


def _check_private(folder: Path) -> None:
    with explained(folder):
        if not folder.exists():
            return
        seen = folder.stat()
    if seen.st_uid not in (0, os.geteuid()) or seen.st_mode & 0o022:
        raise UsageError(
            f"{folder} is there already, and others may write in it.",
            f"Name another folder, or make it yours alone: chmod 700 {folder}",
        )


def _settings(
    holder: str, roots: Path, tcti: str, index: int, module: Path | None, token: str
) -> HolderSettings:
    if holder == "file":
        return FileSettings(folder=str(roots))
    if holder == "tpm":
        return TpmSettings(tcti=tcti, index=index)
    if module is None or not token:
        raise UsageError(
            "A PKCS#11 token is named by its library and its label.", "Add --module and --token."
        )
    return TokenSettings(module=str(module.absolute()), token=token)
