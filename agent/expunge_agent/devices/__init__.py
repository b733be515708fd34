"""Eyes: what this machine has and who uses it. The only package that starts a process."""
