"""How devices that keep keys are reached: PKCS#11 tokens and TPMs. Shared by vault and signing keys."""
