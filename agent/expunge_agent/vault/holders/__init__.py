"""Who keeps the vault's root key: a file behind a passphrase, a TPM, a PKCS#11 token. One port, a closed table."""
