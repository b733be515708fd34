"""Profiles: named sanitization policies, one TOML file each."""
