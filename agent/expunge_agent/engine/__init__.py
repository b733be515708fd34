"""Direct I/O: sources of bytes, targets, the writer and the verifier."""
