"""The vault: data that can be made unreadable later, wherever its copies are, by destroying one key (docs/vault.md)."""
