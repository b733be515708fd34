"""The closed table of key holders."""

from __future__ import annotations

from expunge_agent.vault.holders.file import FileHolder
from expunge_agent.vault.holders.port import FileSettings, HolderSettings, KeyHolder, Passphrase, TpmSettings


def open_holder(settings: HolderSettings, vault: str, passphrase: Passphrase) -> KeyHolder:
    """The holder that `settings` name. Raises NotFoundError where its library or device is missing."""
    if isinstance(settings, FileSettings):
        return FileHolder(settings, vault, passphrase)
    if isinstance(settings, TpmSettings):
        from expunge_agent.vault.holders.tpm import TpmHolder

        return TpmHolder(settings, vault, passphrase)
    from expunge_agent.vault.holders.pkcs11 import TokenHolder

    return TokenHolder(settings, vault, passphrase)
