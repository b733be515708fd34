"""Who holds the key that signs receipts: a file, an ssh-agent, a PKCS#11 token, a TPM. One port (`sshsig.Signer`),
a closed table."""
